"""A run at a glance: its history above, its densities below; what a notebook shows."""

from __future__ import annotations

from mfpde.figures.blocks import chosen
from mfpde.figures.plots.history import draw_energies, draw_stationarity
from mfpde.figures.plots.overview import SCALED, SmallMultiples
from mfpde.figures.style import StyledFigure, add_title, print_style
from mfpde.output.reader import RunReader

_FAMILIES = 3
_TOP = 2.1  # inches of the history


@print_style
def glance_figure(run: RunReader, tau: float | None = None) -> StyledFigure:
    """Energies and stationarity against τ, and the densities of the first families in all layers.

    Args:
        run: the run.
        tau: of the densities; the last report unless given.

    Raises:
        InputError: for a τ between reports, or a run without reports.
    """
    _, tau = chosen(run, None, tau)
    small = SmallMultiples(run, [tau], run.families[:_FAMILIES])
    figure = StyledFigure(_TOP + small.height())
    upper, lower = figure.subfigures(2, 1, height_ratios=(_TOP, small.height()), squeeze=False)[:, 0]

    edges = {"left": 0.08, "right": 0.985, "bottom": 0.2, "top": 0.88, "wspace": 0.25}
    left, right = upper.subplots(1, 2, gridspec_kw=edges)
    draw_energies(left, run.history)
    draw_stationarity(right, run.history, run.gap)
    for axes in (left, right):
        axes.axvline(tau, color="0.6", linewidth=0.6)

    small.draw(lower, tau)
    rest = len(run.families) - len(small.families)
    more = f"; {rest} more families" if rest else ""
    add_title(lower, rf"densities at $\tau = {tau:.4g}$", note=f"{SCALED}{more}")
    return figure
