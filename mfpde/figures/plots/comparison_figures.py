"""Figures of a comparison: risk curves with their spread, errors against size, errors against depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from mfpde.comparison.depth_error import DepthRow
from mfpde.comparison.evidence import Evidence
from mfpde.comparison.exponents import SlopeRow
from mfpde.comparison.slopes import Governed
from mfpde.figures.style import CURVES, FINITE_WIDTH, StyledFigure, screen_style, size_colours
from mfpde.finite.record_files import Record

Array = NDArray[np.float64]

_SPREAD = (5.0, 95.0)  # per cent of the seeds
_MARKS = "os^vD<>p*"  # of kinds of error


@screen_style
def risk_curves(evidence: Evidence, column: str = "risk") -> StyledFigure:
    """A panel a depth: the limit, and mean and spread (5 % to 95 % of seeds) of every M."""
    depths = sorted(evidence.limits)
    figure = StyledFigure(4.0, 5.2 * len(depths), style="screen", layout="constrained")
    panels = figure.subplots(1, len(depths), squeeze=False)[0]
    for axes, layers in zip(panels, depths, strict=True):
        records = [r for r in evidence.records if r.job.layers == layers and column in r.columns]
        _draw_spread(axes, [r for r in records if r.job.initial == "sampled"], column)
        for record in [r for r in records if r.job.initial != "sampled"]:
            size = "×".join(map(str, record.job.size))
            label = f"{record.job.initial} {size}"
            axes.plot(record.tau, record.columns[column], ":", linewidth=FINITE_WIDTH, label=label)

        limit = evidence.limits[layers]
        CURVES["limit"].draw(axes, limit["tau"], limit[column])
        axes.set(xlabel="τ", ylabel=column.replace("_", " "), title=f"L = {layers}")
        axes.legend()

    return figure


def _draw_spread(axes: Axes, records: Sequence[Record], column: str) -> None:
    """Mean and spread over seeds, for each M; seeds that ended before the others are left out."""
    sizes = sorted({r.job.size[0] for r in records})
    for size, colour in zip(sizes, size_colours(len(sizes)), strict=True):
        alike = [r for r in records if r.job.size[0] == size]
        longest = max(alike, key=lambda r: len(r.tau)).tau
        table = np.array([r.columns[column] for r in alike if len(r.tau) == len(longest)])
        low, high = np.percentile(table, _SPREAD, axis=0)
        axes.fill_between(longest, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(
            longest, table.mean(axis=0), color=colour, linewidth=FINITE_WIDTH, marker=".", markersize=3,
            label=f"M = {size}",
        )  # fmt: skip


@screen_style
def size_errors(rows: Sequence[SlopeRow]) -> StyledFigure:
    """RMS errors against M, each with its exponent; of every kind the row with most sizes, at its last τ."""
    chosen: dict[tuple[str, int], SlopeRow] = {}
    for row in rows:
        best = chosen.get((row.of, row.layers))
        if best is None or (len(row.sizes), row.tau) >= (len(best.sizes), best.tau):
            chosen[row.of, row.layers] = row

    figure = StyledFigure(4.4, 6.4, style="screen", layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(chosen.values()):
        label = f"{row.of}, L = {row.layers}, τ = {row.tau:g}: {row.slope.value:.2f}"
        mark = _MARKS[number % len(_MARKS)]
        axes.plot(row.sizes, row.errors, f"{mark}-", markersize=5, linewidth=FINITE_WIDTH, label=label)
    if chosen:
        sizes = np.array(sorted({m for row in chosen.values() for m in row.sizes}), dtype=float)
        largest = max(row.errors[0] for row in chosen.values())
        _draw_power(axes, sizes, 1.6 * largest, -0.5, "M^(−1/2)")

    axes.set(xlabel="M, units per family and layer", ylabel="root mean square over seeds", xscale="log", yscale="log")
    axes.legend(fontsize=7)
    return figure


@screen_style
def depth_errors(rows: Sequence[DepthRow]) -> StyledFigure:
    """|R_L − R_∞| against L at several τ."""
    figure = StyledFigure(4.0, 5.6, style="screen", layout="constrained")
    axes = figure.subplots()
    for row, colour in zip(rows, size_colours(len(rows)), strict=True):
        axes.plot(row.layers, row.errors, "o-", color=colour, label=f"τ = {row.tau:g}: slope {row.slope:.2f}")
    if rows:
        layers = np.array(rows[0].layers, dtype=float)
        _draw_power(axes, layers, 1.5 * max(row.errors[0] for row in rows), -1.0, "1/L")

    axes.set(xlabel="L, layers", ylabel="|risk − its limit at L = ∞|", xscale="log", yscale="log")
    axes.legend()
    return figure


@screen_style
def width_or_depth(found: Governed, tau: float) -> StyledFigure:
    """RMS errors of several depths against M, and against L·M: where that governs, the curves coincide."""
    figure = StyledFigure(3.9, 8.4, style="screen", layout="constrained")
    depths = sorted({n for _, n, _ in found.errors})
    largest = max(error for _, _, error in found.errors)
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("M", "L·M"), strict=True):
        axes.set(xscale="log", yscale="log")
        for layers, colour in zip(depths, size_colours(len(depths)), strict=True):
            points = sorted((m, error) for m, n, error in found.errors if n == layers)
            places = [m * (layers if name == "L·M" else 1) for m, _ in points]
            axes.plot(places, [error for _, error in points], "o-", color=colour, label=f"L = {layers}")
        _draw_power(axes, np.array(axes.get_xlim()), largest, -0.5, f"({name})^(−1/2)")
        axes.set_xlabel(f"{name}, units per family" + (" and layer" if name == "M" else ", all layers"))
        axes.legend()

    fitted = f"M^{found.units.value:.2f} L^{found.layers.value:.2f}"
    figure.suptitle(f"Risk at τ = {tau:g}, root mean square over seeds ~ {fitted}")
    return figure


def _draw_power(axes: Axes, x: Array, first: float, exponent: float, label: str) -> None:
    """The power law that theory expects, through `first` at the least x."""
    CURVES["theory"].draw(axes, x, first * (x / x[0]) ** exponent, label=label)
