"""The history of a run against τ: risk, penalty and energy; the gap; accuracy; conservation and resolution."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from mfpde.figures.blocks import no_report
from mfpde.figures.style import CURVES, OUTLINE, StyledFigure, print_style
from mfpde.output.reader import RunReader
from mfpde.output.records.tables import Column

_SMALLEST = 1e-17  # a logarithmic axis shows zero as this
_SOUNDNESS = ("mass_error", "boundary_mass", "negative_mass", "energy_remainder")


@print_style
def history_figure(run: RunReader) -> StyledFigure:
    """Risk, penalty, energy; stationarity; accuracy or entropy; soundness: four panels over one axis of τ.

    Raises:
        InputError: before the first report.
    """
    table = run.history
    if not len(run.taus):
        raise no_report(run)

    figure = StyledFigure(4.3)
    panels = figure.subplots(2, 2, sharex=True)
    draw_energies(panels[0, 0], table)
    draw_stationarity(panels[0, 1], table, run.gap)
    _draw_generalisation(panels[1, 0], table)
    _draw_soundness(panels[1, 1], table)

    for letter, axes in zip("abcd", panels.flat, strict=True):
        axes.set_title(f"({letter})  {axes.get_title()}", loc="left")
        axes.set_title("")
    for axes in panels[0]:
        axes.set_xlabel("")
    figure.tight_layout(pad=0.4, w_pad=1.2, h_pad=0.9)
    return figure


def draw_energies(axes: Axes, table: Mapping[str, Column]) -> None:
    """Risk, with its estimated error, penalty and energy."""
    axes.set_title("risk, penalty, energy")
    for name in ("energy", "risk", "test_risk", "penalty"):
        _draw_curve(axes, table, name)

    error = np.asarray(table.get("risk_error", ()), dtype=np.float64)
    if np.isfinite(error).any():
        risk, curve = np.asarray(table["risk"], dtype=np.float64), CURVES["risk_error"]
        axes.fill_between(table["tau"], risk - error, risk + error, color=curve.colour, alpha=0.2, label=curve.label)

    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.legend()
    _finish(axes, table)


def draw_stationarity(axes: Axes, table: Mapping[str, Column], gap: Mapping[str, Column]) -> None:
    """Dissipation, and the gap of the run and of each block."""
    axes.set_title("how far from stationary")
    if "step" in table:  # of a method, along which the energy need not fall
        _draw_curve(axes, {"tau": table["tau"], "slope": table["dissipation"]}, "slope")
    else:
        _draw_curve(axes, table, "dissipation")
    _draw_curve(axes, table, "gap")
    if "gap" in gap:
        _draw_curve(axes, {"tau": gap["tau"], "block_gap": gap["gap"]}, "block_gap")

    if _all_positive(axes):
        axes.set_yscale("log")
        axes.legend()
    _finish(axes, table)


def _draw_generalisation(axes: Axes, table: Mapping[str, Column]) -> None:
    """Accuracy on training and test samples; of a task that has none, the entropy of the densities, or the rates."""
    if _draw_curve(axes, table, "accuracy"):
        axes.set_title("accuracy")
        _draw_curve(axes, table, "test_accuracy")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    elif _draw_curve(axes, table, "entropy"):
        axes.set_title("entropy")
    elif _draw_curve(axes, table, "learning_rate"):
        axes.set_title("learning rate")
        axes.set_ylim(bottom=0.0)
    else:
        axes.set_title("entropy: not known of random nodes")
    if axes.get_lines():
        axes.legend()
    _finish(axes, table)


def _draw_soundness(axes: Axes, table: Mapping[str, Column]) -> None:
    """What vanishes in exact arithmetic and on fine cells."""
    axes.set_title("soundness: the smaller the better")
    for name in _SOUNDNESS:
        values = np.abs(np.asarray(table.get(name, ()), dtype=np.float64))
        if len(values):
            _draw_curve(axes, {"tau": table["tau"], name: np.maximum(values, _SMALLEST)}, name)

    if _all_positive(axes):
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend
        axes.legend(ncols=2, columnspacing=0.8, handlelength=1.4, borderpad=0.2, loc="upper center")
    _finish(axes, table)


def _draw_curve(axes: Axes, table: Mapping[str, Column], name: str) -> bool:
    """Draw a column where it is finite; nothing when it never is."""
    values = np.asarray(table.get(name, ()), dtype=np.float64)
    kept = np.isfinite(values)
    if not kept.any():
        return False

    # What few reports have is marked where it is known.
    mark = "" if CURVES[name].mark or (kept.all() and len(kept) > 1) else "o"
    CURVES[name].draw(axes, np.asarray(table["tau"])[kept], values[kept], mark=mark)
    return True


def _finish(axes: Axes, table: Mapping[str, Column]) -> None:
    """What all panels over τ share."""
    axes.set_xlim(0.0, max(float(table["tau"][-1]), 1e-12))
    axes.set_xlabel(r"training time $\tau$")
    axes.grid(alpha=0.25, linewidth=OUTLINE)


def _all_positive(axes: Axes) -> bool:
    """Is there a curve, and every value of every curve above zero?"""
    curves = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.get_lines()]
    return bool(curves) and all(bool((values > 0.0).all()) for values in curves)
