"""A run at a glance: its history above, its densities below; what a notebook shows."""

from __future__ import annotations

from mfpde.figures import style
from mfpde.figures.blocks import chosen
from mfpde.figures.plots.history import history_panels
from mfpde.figures.plots.overview import Small
from mfpde.figures.style import Page, styled
from mfpde.output.reader import RunReader

_FAMILIES = 3
_TOP = 2.1  # inches of the history


@styled
def glance_figure(run: RunReader, tau: float | None = None) -> Page:
    """Energies and stationarity against τ, and the densities of the first families in all layers.

    Args:
        run: the run.
        tau: of the densities; the last report unless given.

    Raises:
        InputError: for a τ between reports, or a run without reports.
    """
    _, tau = chosen(run, None, tau)
    small = Small(run, [tau], run.families[:_FAMILIES])
    page = Page(_TOP + small.height())
    upper, lower = page.subfigures(2, 1, height_ratios=(_TOP, small.height()), squeeze=False)[:, 0]
    left, right = upper.subplots(
        1, 2, gridspec_kw={"left": 0.08, "right": 0.985, "bottom": 0.2, "top": 0.88, "wspace": 0.25}
    )
    history_panels(run, left, right)
    for axes in (left, right):
        axes.axvline(tau, color="0.6", linewidth=0.6)
    small.draw(lower, tau)
    rest = len(run.families) - len(small.families)
    more = f"; {rest} more families" if rest else ""
    style.entitle(lower, rf"densities at $\tau = {tau:.4g}$", note=f"each panel scaled to its own maximum{more}")
    return page
