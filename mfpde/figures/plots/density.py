"""One family at one τ, its layers side by side: linear and logarithmic colours, marginals, moments."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.gridspec import GridSpec, SubplotSpec
from numpy.typing import NDArray

from mfpde.figures import panels, style
from mfpde.figures.blocks import Block, blocks_of, chosen, theta_name, window
from mfpde.figures.raster import Raster, midpoints, rasterise
from mfpde.figures.style import StyledFigure, add_title, print_style, symbol
from mfpde.output.fields.snapshot import Snapshot
from mfpde.output.reader import RunReader

Array = NDArray[np.float64]

_PIXELS = 220
_LINE_PIXELS = 1200  # for d = 1
_COARSE = {1: 1000, 2: 100, 3: 30}  # pixels a direction, for the negative mass
_NOTED = 0.005  # of the mass: from here on a note says that so much is negative
_SIDE = 0.24  # of an image, for a marginal beside it


@print_style
def density_figure(run: RunReader, family: str | None = None, tau: float | None = None) -> StyledFigure:
    """The density of a family in every layer.

    d = 2: ρ(θ) with both marginals, once with linear and once with logarithmic colours. d = 3: the marginal in each of
    the three coordinate planes, likewise. d = 1: ρ over (θ, depth) likewise, and a curve a layer. Values below zero are
    drawn as zero; `negative_mass` measures them. Over it: the path of the mean up to here, and the ellipses of one
    (solid) and two (dashed) standard deviations.

    Args:
        run: the run.
        family: the first unless given.
        tau: of a report; the last unless given.

    Raises:
        InputError: for an unknown family, a τ between reports, or a run without reports.
    """
    name, tau = chosen(run, family, tau)
    snapshot = run.snapshot(tau=tau, family=name)
    blocks = [block.until(tau) for block in blocks_of(run, snapshot)]
    box = window(snapshot, blocks)

    figure = _over_depth(snapshot, blocks, box) if snapshot.dim == 1 else _LayerSheet(snapshot, blocks, box).figure()
    title = rf"{name}: density of {theta_name(snapshot)} at $\tau = {tau:.4g}$"
    add_title(figure, title, note=_negative_note(snapshot, box))
    return figure


def _negative_note(snapshot: Snapshot, box: Array) -> str:
    """What the picture does not show, where it matters: the share of negative mass in the file."""
    rasters = [rasterise(snapshot, layer, box, _COARSE[snapshot.dim]) for layer in range(snapshot.layers)]
    most = max(float(np.maximum(-raster.density, 0.0).sum() * np.prod(raster.pixel)) for raster in rasters)
    return f"below zero and drawn as zero: up to {100 * most:.1f} % of the mass" if most >= _NOTED else ""


def _over_depth(snapshot: Snapshot, blocks: list[Block], box: Array) -> StyledFigure:
    """d = 1: linear and logarithmic colours over (θ, depth), each layer a band of depth 1/L, and a curve a layer."""
    rasters = [rasterise(snapshot, layer, box, _LINE_PIXELS) for layer in range(snapshot.layers)]
    shown = np.maximum([raster.density for raster in rasters], 0.0)
    theta, top = symbol(snapshot.coordinates[0]), float(shown.max())
    figure = StyledFigure(3.1)
    left, middle, right = figure.subplots(1, 3, gridspec_kw={"width_ratios": (1.25, 1.25, 1.0)})

    for axes, norm, label in ((left, Normalize(0.0, top), "density"), (middle, panels.log_norm(top), "density, log")):
        drawn = axes.imshow(
            shown, origin="lower", extent=(*box[0], 0.0, 1.0), aspect="auto", cmap=style.density_map(), norm=norm
        )
        _mark_deviations(axes, blocks)
        axes.set(xlabel=theta, ylabel="depth", ylim=(0, 1))
        bar = figure.colorbar(drawn, ax=axes, label=label, pad=0.03, fraction=0.08)
        bar.outline.set_linewidth(style.OUTLINE)

    places = midpoints(box[0], _LINE_PIXELS)
    for layer, (curve, colour) in enumerate(zip(shown, style.depth_colours(len(shown)), strict=True)):
        right.plot(places, curve, color=colour, linewidth=1.0, label=f"layer {layer}")
    right.set(xlabel=theta, ylabel="density", xlim=tuple(box[0]), ylim=(0, None))
    panels.name_layers(right)

    figure.tight_layout(pad=0.4, rect=(0, 0, 1, 0.92))
    return figure


def _mark_deviations(axes: Axes, blocks: list[Block]) -> None:
    """Mean and one standard deviation to each side, in the middle of each layer's band."""
    depth = midpoints((0.0, 1.0), len(blocks))
    mean = np.array([block.mean[-1, 0] for block in blocks])
    deviation = np.sqrt([max(block.covariance[-1, 0, 0], 0.0) for block in blocks])
    axes.errorbar(mean, depth, xerr=deviation, fmt="o", color=style.BLUE, markersize=3, elinewidth=0.9, capsize=2)


class _LayerSheet:
    """The figure for d = 2 and d = 3: layers side by side, each with every plane in linear and logarithmic colours."""

    def __init__(self, snapshot: Snapshot, blocks: list[Block], box: Array) -> None:
        self._snapshot, self._blocks, self._box = snapshot, blocks, box
        self._flat = snapshot.dim == 2
        self._planes = panels.planes(snapshot.dim)
        self._rasters = [panels.raster_of(snapshot, layer, box, _PIXELS) for layer in range(snapshot.layers)]

        # One scale of colours for all layers, so that they can be compared.
        images = [[panels.in_plane(raster, plane) for raster in self._rasters] for plane in self._planes]
        self._tops = [float(np.max(image)) for image in images]

    def figure(self) -> StyledFigure:
        """Draw everything."""
        rows, across = panels.layer_grid(self._snapshot.layers)
        images = 2 * len(self._planes) + (_SIDE if self._flat else 0.0)  # above each other, in heights of an image
        height = 0.4 + rows * (min(1.45, 4.6 / across) * images + 0.62)
        figure = StyledFigure(height)
        grid = GridSpec(
            rows, across, figure=figure, left=0.085, right=0.875, top=1 - 0.5 / height, bottom=0.4 / height,
            hspace=0.62 / (height / rows - 0.62), wspace=0.08 if self._flat else 0.12,
        )  # fmt: skip

        for layer in range(self._snapshot.layers):
            row, column = divmod(layer, across)
            last = column == across - 1 or layer == self._snapshot.layers - 1
            self._draw_layer(figure, grid[row, column], layer, first=column == 0, last=last)

        return figure

    def _draw_layer(self, figure: StyledFigure, place: SubplotSpec, layer: int, *, first: bool, last: bool) -> None:
        """The images of one layer, each plane with linear, then with logarithmic colours.

        Args:
            figure: to draw into.
            place: of the layer.
            layer: its number.
            first: does it stand at the left, where the coordinates are named?
            last: does it stand at the right, where the bars of colours are?
        """
        raster = self._rasters[layer]
        top, images = _with_marginals(figure, place, raster) if self._flat else _stacked(figure, place)
        top.set_title(f"layer {layer}")
        for row, axes in enumerate(images):
            plane, largest, log = self._planes[row // 2], self._tops[row // 2], row % 2 == 1
            norm = panels.log_norm(largest) if log else Normalize(0.0, largest)
            drawn = panels.draw_density(axes, panels.in_plane(raster, plane), plane, self._box, norm)
            panels.MomentOverlay(axes, self._blocks[layer], plane)
            panels.name_axes(axes, self._snapshot, plane, x=log, y=first)
            if last:
                label = ("density" if self._flat else "marginal") + (", log" if log else "")
                panels.colour_bar(drawn, axes, (1.38 if self._flat else 1.04, 0.0, 0.06, 1.0), label)


def _with_marginals(figure: StyledFigure, place: SubplotSpec, raster: Raster) -> tuple[Axes, list[Axes]]:
    """d = 2: a marginal above two images, the other marginal beside the first; the upmost panel, and the images'."""
    grid = place.subgridspec(3, 2, height_ratios=(_SIDE, 1, 1), width_ratios=(1, _SIDE), hspace=0.1, wspace=0.06)
    above, beside = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 1])
    _draw_marginal(above, raster, 0, upright=False)
    _draw_marginal(beside, raster, 1, upright=True)
    return above, [figure.add_subplot(grid[row, 0]) for row in (1, 2)]


def _stacked(figure: StyledFigure, place: SubplotSpec) -> tuple[Axes, list[Axes]]:
    """d = 3: two images for each of the coordinate planes, below each other; the upmost panel, and all of them."""
    count = 2 * len(panels.planes(3))
    grid = place.subgridspec(count, 1, hspace=0.36)
    images = [figure.add_subplot(grid[row]) for row in range(count)]
    return images[0], images


def _draw_marginal(axes: Axes, raster: Raster, kept: int, *, upright: bool) -> None:
    """A one-dimensional marginal, filled, without an axis of its own: its integral is the mass."""
    values, places, limits = np.maximum(raster.marginal(kept), 0.0), raster.axes[kept], tuple(raster.box[kept])
    if upright:
        axes.fill_betweenx(places, 0.0, values, color=style.BLUE, alpha=0.35, linewidth=0)
        axes.plot(values, places, color=style.BLUE, linewidth=0.8)
        axes.set(ylim=limits, xlim=(0, None), xticks=[])
    else:
        axes.fill_between(places, 0.0, values, color=style.BLUE, alpha=0.35, linewidth=0)
        axes.plot(places, values, color=style.BLUE, linewidth=0.8)
        axes.set(xlim=limits, ylim=(0, None), yticks=[])

    axes.spines["bottom" if upright else "left"].set_visible(False)
    axes.tick_params(left=upright, bottom=not upright, labelleft=False, labelbottom=False)
