"""One family at one τ, its layers side by side: linear and logarithmic colours, marginals, moments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from mfpde.figures import style
from mfpde.figures.blocks import Block, block, chosen, names, window
from mfpde.figures.panels import Plane, flat, image, log_norm, overlay, planes, raster_of
from mfpde.figures.plots.line import line_page
from mfpde.figures.raster import Raster, rasterise
from mfpde.figures.style import Page, entitle, quiet, styled, symbol
from mfpde.output.fields.snapshot import Snapshot
from mfpde.output.reader import RunReader

Array = NDArray[np.float64]

_ACROSS = 4  # layers side by side
_PIXELS = 220
_WORTH_A_WORD = 0.005  # of the mass, negative
_COARSE = {1: 1000, 2: 100, 3: 30}  # pixels a direction
_SIDE = 0.24  # of an image, for a marginal beside it


@styled
def density_figure(run: RunReader, family: str | None = None, tau: float | None = None) -> Page:
    """The density of a family in every layer.

    d = 2: ρ(θ) with both marginals, once with linear and once with logarithmic colours. d = 3: the marginal in each of
    the three coordinate planes, likewise. d = 1: ρ over (θ, depth) likewise, and a curve a layer. Values below zero are
    drawn as zero; `negative_mass` says how much there is of them. Over it: the path of the mean up to here, and the
    ellipses of one (line) and two (dashes) standard deviations.

    Args:
        run: the run.
        family: the first unless given.
        tau: of a report; the last unless given.

    Raises:
        InputError: for an unknown family, a τ between reports, or a run without reports.
    """
    name, tau = chosen(run, family, tau)
    snapshot = run.snapshot(tau=tau, family=name)
    blocks = [block(run, name, layer, snapshot.dim).until(tau) for layer in range(snapshot.layers)]
    box = window(snapshot, blocks)
    page = line_page(snapshot, blocks, box) if snapshot.dim == 1 else _Sheet(snapshot, blocks, box).page()
    entitle(page, rf"{name}: density of {names(snapshot)} at $\tau = {tau:.4g}$", note=_below_zero(snapshot, box))
    return page


def _below_zero(snapshot: Snapshot, box: Array) -> str:
    """What the picture does not show, where it matters: the share of mass below zero in the file."""
    rasters = [rasterise(snapshot, layer, box, _COARSE[snapshot.dim]) for layer in range(snapshot.layers)]
    most = max(float(np.maximum(-one.density, 0.0).sum() * np.prod(one.pixel)) for one in rasters)
    return f"below zero and drawn as zero: up to {100 * most:.1f} % of the mass" if most >= _WORTH_A_WORD else ""


@dataclass(frozen=True, eq=False)
class _Sheet:
    """The page for d = 2 and d = 3: blocks of up to four layers under each other."""

    snapshot: Snapshot
    blocks: list[Block]
    box: Array

    def page(self) -> Page:
        """Draw everything."""
        layers, flat_space = self.snapshot.layers, self.snapshot.dim == 2
        rasters = [raster_of(self.snapshot, layer, self.box, _PIXELS) for layer in range(layers)]
        rows = math.ceil(layers / _ACROSS)
        across = math.ceil(layers / rows)
        lines = 2 + _SIDE if flat_space else 2 * len(planes(3))
        height = 0.4 + rows * (min(1.45, 4.6 / across) * lines + 0.62)
        page = Page(height)
        grid = GridSpec(
            rows, across, figure=page, left=0.085, right=0.875, top=1 - 0.5 / height, bottom=0.4 / height,
            hspace=0.62 / (height / rows - 0.62), wspace=0.08 if flat_space else 0.12,
        )  # fmt: skip
        tops = {
            plane: max(float(flat(raster, plane).max()) for raster in rasters) for plane in planes(self.snapshot.dim)
        }
        for layer, raster in enumerate(rasters):
            row, column = divmod(layer, across)
            last = column == across - 1 or layer == layers - 1
            (self._square if flat_space else self._stack)(
                page, grid[row, column], layer, raster, tops, column == 0, last
            )
        return page

    def _square(
        self,
        page: Page,
        spec: SubplotSpec,
        layer: int,
        raster: Raster,
        tops: dict[Plane, float],
        first: bool,
        last: bool,
    ) -> None:
        """d = 2: a marginal above, linear colours with the other marginal beside, logarithmic colours."""
        (plane,) = planes(2)
        grid = spec.subgridspec(3, 2, height_ratios=(_SIDE, 1, 1), width_ratios=(1, _SIDE), hspace=0.1, wspace=0.06)
        top, side = page.add_subplot(grid[0, 0]), page.add_subplot(grid[1, 1])
        _marginal(top, raster, plane.across, upright=False)
        _marginal(side, raster, plane.up, upright=True)
        top.set_title(f"layer {layer}")
        for row, norm in ((1, Normalize(0.0, tops[plane])), (2, log_norm(tops[plane]))):
            axes = page.add_subplot(grid[row, 0])
            drawn = self._image(axes, layer, raster, plane, norm)
            quiet(axes, x=row == 2, y=first)
            axes.set_xlabel(symbol(self.snapshot.coordinates[0]) if row == 2 else "")
            axes.set_ylabel(symbol(self.snapshot.coordinates[1]) if first else "")
            if last:
                _bar(page, axes, drawn, 1.38, "density" if row == 1 else "density, log")

    def _stack(
        self,
        page: Page,
        spec: SubplotSpec,
        layer: int,
        raster: Raster,
        tops: dict[Plane, float],
        first: bool,
        last: bool,
    ) -> None:
        """d = 3: the marginals in the coordinate planes, each with both kinds of colours."""
        shown = planes(3)
        grid = spec.subgridspec(2 * len(shown), 1, hspace=0.36)
        for row in range(2 * len(shown)):
            plane, log = shown[row // 2], row % 2 == 1
            axes = page.add_subplot(grid[row])
            drawn = self._image(
                axes, layer, raster, plane, log_norm(tops[plane]) if log else Normalize(0.0, tops[plane])
            )
            quiet(axes, x=log, y=first)
            if row == 0:
                axes.set_title(f"layer {layer}")
            axes.set_xlabel(symbol(self.snapshot.coordinates[plane.across]) if log else "")
            axes.set_ylabel(symbol(self.snapshot.coordinates[plane.up]) if first else "")
            if last:
                _bar(page, axes, drawn, 1.04, "marginal, log" if log else "marginal")

    def _image(self, axes: Axes, layer: int, raster: Raster, plane: Plane, norm: Normalize) -> AxesImage:
        drawn = image(axes, flat(raster, plane), plane, self.box, norm)
        overlay(axes, self.blocks[layer], plane)
        return drawn


def _marginal(axes: Axes, raster: Raster, kept: int, *, upright: bool) -> None:
    """A one-dimensional marginal, filled, without an axis of its own: its integral is the mass."""
    values, places = np.maximum(raster.marginal(kept), 0.0), raster.axes[kept]
    (axes.fill_betweenx if upright else axes.fill_between)(
        places, 0.0, values, color=style.BLUE, alpha=0.35, linewidth=0
    )
    axes.plot(*((values, places) if upright else (places, values)), color=style.BLUE, linewidth=0.8)
    limits = tuple(raster.box[kept])
    axes.set(**({"ylim": limits, "xlim": (0, None)} if upright else {"xlim": limits, "ylim": (0, None)}))
    axes.spines["left" if not upright else "bottom"].set_visible(False)
    axes.tick_params(left=upright, bottom=not upright, labelleft=False, labelbottom=False)
    axes.set_xticks([]) if upright else axes.set_yticks([])


def _bar(page: Page, axes: Axes, drawn: AxesImage, place: float, label: str) -> None:
    """A colour bar to the right of an image, whose size it leaves alone."""
    bar = page.colorbar(drawn, cax=axes.inset_axes((place, 0.0, 0.06, 1.0)))
    bar.outline.set_linewidth(0.4)
    bar.set_label(label)
