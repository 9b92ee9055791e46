"""Figures of a comparison: risk curves with their spread, errors against size, errors against depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfpde.comparison.depth_error import DepthRow
from mfpde.comparison.evidence import Evidence, History
from mfpde.comparison.exponents import SlopeRow
from mfpde.comparison.slopes import Governed
from mfpde.finite.record_files import Record

_BLACK = "#111111"


def colours(count: int) -> list[tuple[float, ...]]:
    """From light to dark, one for each size."""
    return [tuple(mpl.colormaps["viridis"](x)) for x in np.linspace(0.85, 0.1, count)]


def risk_curves(evidence: Evidence, column: str = "risk") -> Figure:
    """A panel a depth: the limit, and mean and spread (5 % to 95 % of seeds) of every M."""
    depths = sorted(evidence.limits)
    figure = Figure(figsize=(5.2 * len(depths), 4.0), layout="constrained")
    panels = figure.subplots(1, len(depths), squeeze=False)[0]
    for axes, layers in zip(panels, depths, strict=True):
        mine = [r for r in evidence.records if r.job.layers == layers and column in r.columns]
        _spread(axes, [r for r in mine if r.job.initial == "sampled"], column)
        for record in [r for r in mine if r.job.initial != "sampled"]:
            size = "×".join(map(str, record.job.size))
            axes.plot(record.tau, record.columns[column], ":", lw=1.2, label=f"{record.job.initial} {size}")
        limit: History = evidence.limits[layers]
        axes.plot(limit["tau"], limit[column], color=_BLACK, lw=1.8, label="limit, M = ∞")
        axes.set(xlabel="τ", ylabel=column.replace("_", " "), title=f"L = {layers}")
        axes.legend(frameon=False, fontsize=8)
    return figure


def _spread(axes: Axes, records: Sequence[Record], column: str) -> None:
    sizes = sorted({r.job.size[0] for r in records})
    for size, colour in zip(sizes, colours(len(sizes)), strict=True):
        mine = [r for r in records if r.job.size[0] == size]
        longest = max(mine, key=lambda r: len(r.tau)).tau
        table = np.array([r.columns[column] for r in mine if len(r.tau) == len(longest)])
        low, high = np.percentile(table, [5.0, 95.0], axis=0)
        axes.fill_between(longest, low, high, color=colour, alpha=0.2, lw=0)
        axes.plot(longest, table.mean(axis=0), color=colour, lw=1.2, marker=".", ms=3, label=f"M = {size}")


def size_errors(rows: Sequence[SlopeRow]) -> Figure:
    """RMS errors against M, each with its exponent; of every kind the row with most sizes, at its last τ."""
    chosen: dict[tuple[str, int], SlopeRow] = {}
    for row in rows:
        best = chosen.get((row.of, row.layers))
        if best is None or (len(row.sizes), row.tau) >= (len(best.sizes), best.tau):
            chosen[row.of, row.layers] = row
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for k, row in enumerate(chosen.values()):
        label = f"{row.of}, L = {row.layers}, τ = {row.tau:g}: {row.slope.value:.2f}"
        axes.loglog(row.sizes, row.errors, "os^vD<>p*"[k % 9] + "-", ms=5, lw=1.2, label=label)
    if chosen:
        sizes = np.array(sorted({m for row in chosen.values() for m in row.sizes}), dtype=float)
        largest = max(row.errors[0] for row in chosen.values())
        axes.loglog(sizes, 1.6 * largest * (sizes / sizes[0]) ** -0.5, "k--", lw=0.9, label="M^(−1/2)")
    axes.set(xlabel="M, units per family and layer", ylabel="root mean square over seeds")
    axes.legend(frameon=False, fontsize=7)
    return figure


def depth_errors(rows: Sequence[DepthRow]) -> Figure:
    """|R_L − R_∞| against L at several τ."""
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.subplots()
    for row, colour in zip(rows, colours(len(rows)), strict=True):
        axes.loglog(row.layers, row.errors, "o-", color=colour, label=f"τ = {row.tau:g}: slope {row.slope:.2f}")
    if rows:
        layers = np.array(rows[0].layers, dtype=float)
        axes.loglog(layers, 1.5 * max(r.errors[0] for r in rows) * layers[0] / layers, "k--", lw=0.9, label="1/L")
    axes.set(xlabel="L, layers", ylabel="|risk − its limit at L = ∞|")
    axes.legend(frameon=False, fontsize=8)
    return figure


def width_or_depth(found: Governed, tau: float) -> Figure:
    """Root mean square errors of several depths against M, and against L·M: where that governs, they fall together."""
    figure = Figure(figsize=(8.4, 3.9), layout="constrained")
    depths = sorted({n for _, n, _ in found.errors})
    fitted = f"M^{found.units.value:.2f} L^{found.layers.value:.2f}"
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("M", "L·M"), strict=True):
        for layers, colour in zip(depths, colours(len(depths)), strict=True):
            mine = sorted((m, e) for m, n, e in found.errors if n == layers)
            places = [m * (layers if name == "L·M" else 1) for m, _ in mine]
            axes.loglog(places, [e for _, e in mine], "o-", color=colour, label=f"L = {layers}")
        ends = np.array(axes.get_xlim())
        top = max(e for _, _, e in found.errors)
        axes.loglog(ends, top * (ends / ends[0]) ** -0.5, "k--", lw=0.9, label=f"({name})^(−1/2)")
        axes.set(xlabel=f"{name}, units per family" + (" and layer" if name == "M" else ", all layers"))
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"Risk at τ = {tau:g}, root mean square over seeds ~ {fitted}", fontsize=10)
    return figure


def save(figures: Mapping[str, Figure], folder: Path) -> dict[str, bytes]:
    """Each as PNG and PDF; returns the PNGs."""
    images = {}
    for name, figure in figures.items():
        for ending in ("png", "pdf"):
            figure.savefig(folder / f"{name}.{ending}", dpi=150)
        images[name] = (folder / f"{name}.png").read_bytes()
    return images
