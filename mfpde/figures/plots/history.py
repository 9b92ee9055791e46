"""The history of a run against τ: risk, penalty and energy; the gap; accuracy; what conservation and steps say."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.figures import style
from mfpde.figures.style import Page, styled
from mfpde.output.reader import RunReader
from mfpde.output.records.tables import Column

Array = NDArray[np.float64]

_SMALLEST = 1e-17  # a logarithmic axis shows zero as this


def history_panels(run: RunReader, energies: Axes, stationarity: Axes) -> None:
    """The two panels that say most, in axes that are given."""
    table = run.history
    _energies(energies, table)
    _stationarity(stationarity, table, run.gap)
    for axes in (energies, stationarity):
        axes.set_xlim(0.0, max(float(table["tau"][-1]), 1e-12))
        axes.set_xlabel(r"training time $\tau$")
        axes.grid(alpha=0.25, linewidth=0.4)


@styled
def history_figure(run: RunReader) -> Page:
    """Risk, penalty, energy; stationarity; accuracy or test risk; soundness: four panels over one axis of τ.

    Raises:
        InputError: before the first report.
    """
    table = run.history
    if not len(run.taus):
        raise InputError(f"run directory {run.directory}: holds no report yet; there is nothing to draw")
    page = Page(4.3)
    panels = page.subplots(2, 2, sharex=True)
    _energies(panels[0, 0], table)
    _stationarity(panels[0, 1], table, run.gap)
    _generalisation(panels[1, 0], table)
    _soundness(panels[1, 1], table)
    for letter, axes in zip("abcd", panels.flat, strict=True):
        axes.set_title(f"({letter})  {axes.get_title()}", loc="left")
        axes.set_title("")
        axes.set_xlim(0.0, max(float(table["tau"][-1]), 1e-12))
        axes.grid(alpha=0.25, linewidth=0.4)
    for axes in panels[1]:
        axes.set_xlabel(r"training time $\tau$")
    page.tight_layout(pad=0.4, w_pad=1.2, h_pad=0.9)
    return page


def _line(axes: Axes, table: Mapping[str, Column], name: str, label: str, colour: str, dashes: str = "-") -> bool:
    """Draw a column where it is finite; nothing when it never is."""
    if name not in table:
        return False
    values = np.asarray(table[name], dtype=np.float64)
    kept = np.isfinite(values)
    if not kept.any():
        return False
    mark = "" if kept.all() and len(kept) > 1 else "o"  # of what few reports have, where it is known
    axes.plot(
        np.asarray(table["tau"])[kept],
        values[kept],
        dashes,
        color=colour,
        label=label,
        marker=mark,
        markersize=3.5,
        clip_on=not mark,
    )
    return True


def _energies(axes: Axes, table: Mapping[str, Column]) -> None:
    axes.set_title("risk, penalty, energy")
    _line(axes, table, "energy", "energy", style.BLACK, "--")
    _line(axes, table, "risk", "risk", style.BLUE)
    _line(axes, table, "test_risk", "risk on test samples", style.SKY, ":")
    _line(axes, table, "penalty", "penalty", style.ORANGE, "-.")
    error = np.asarray(table.get("risk_error", ()), dtype=np.float64)
    if np.isfinite(error).any():
        risk = np.asarray(table["risk"], dtype=np.float64)
        axes.fill_between(
            table["tau"], risk - error, risk + error, color=style.BLUE, alpha=0.2, label="estimated error of the risk"
        )
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.legend()


def _stationarity(axes: Axes, table: Mapping[str, Column], gap: Mapping[str, Column]) -> None:
    axes.set_title("how far from stationary")
    _line(axes, table, "dissipation", r"dissipation $-\partial_\tau$ energy", style.GREEN)
    _line(axes, table, "gap", "gap", style.RED)
    if len(gap.get("tau", ())):
        values = np.asarray(gap["gap"], dtype=np.float64)
        kept = np.isfinite(values)
        axes.plot(
            np.asarray(gap["tau"])[kept],
            values[kept],
            "_",
            color=style.PURPLE,
            clip_on=False,
            label="gap of each layer and family",
        )
    if _positive(axes):
        axes.set_yscale("log")
        axes.legend()


def _generalisation(axes: Axes, table: Mapping[str, Column]) -> None:
    if _line(axes, table, "accuracy", "on training samples", style.BLUE):
        axes.set_title("accuracy")
        _line(axes, table, "test_accuracy", "on test samples", style.SKY, ":")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.legend()
    else:
        axes.set_title("entropy")
        _line(axes, table, "entropy", r"$\frac{1}{L}\sum\int\rho\,\log\rho\;d\theta$", style.BLUE)
        axes.legend()


def _soundness(axes: Axes, table: Mapping[str, Column]) -> None:
    axes.set_title("soundness: the smaller the better")
    shown = (
        ("mass_error", "mass error", style.BLACK, "-"),
        ("boundary_mass", "mass at the boundary", style.GREEN, "--"),
        ("negative_mass", "negative mass", style.RED, "-."),
        ("energy_remainder", "energy remainder", style.PURPLE, ":"),
    )
    for name, label, colour, dashes in shown:
        values = np.abs(np.asarray(table.get(name, ()), dtype=np.float64))
        if len(values):
            _line(axes, {"tau": table["tau"], name: np.maximum(values, _SMALLEST)}, name, label, colour, dashes)
    if _positive(axes):
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend
        axes.legend(ncols=2, columnspacing=0.8, handlelength=1.4, borderpad=0.2, loc="upper center")


def _positive(axes: Axes) -> bool:
    """Is there a curve, and every value of every curve above zero?"""
    curves = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.get_lines()]
    return bool(curves) and all(bool((values > 0.0).all()) for values in curves)
