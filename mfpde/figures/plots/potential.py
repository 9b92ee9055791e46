"""The potential of a family in every layer, its minimisers marked, and where the density is."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.figures import style
from mfpde.figures.blocks import blocks_of, chosen, theta_name, window
from mfpde.figures.minimisers import Minimisers, minimisers
from mfpde.figures.panels import colour_bar, layer_grid, name_axes, name_layers
from mfpde.figures.raster import Raster, mass_levels, rasterise, union, within_mesh
from mfpde.figures.style import StyledFigure, add_title, print_style, symbol
from mfpde.output.fields.snapshot import Snapshot
from mfpde.output.reader import RunReader

Array = NDArray[np.float64]

_PIXELS, _LINE_PIXELS = 160, 600
_CONTOURS = 14  # of V
_MASS = (0.9, 0.5)  # contours that hold these shares of the mass
_ROOM = 0.12  # around a minimiser, of the window of the density
_MARKS = {"deepest": ("*", style.ORANGE, 8.0), "local": ("o", "white", 3.5), "outside": ("^", style.RED, 5.0)}


@print_style
def potential_figure(run: RunReader, family: str | None = None, tau: float | None = None) -> StyledFigure:
    """V(θ) of a family in every layer, with the contours of the density that hold 50 % and 90 % of its mass.

    A star marks the least V on the mesh, rings other local minimisers; a triangle stands where V still falls towards
    the outside of the mesh. The gap takes the minimum over all of R^d.

    Args:
        run: the run.
        family: of one or two coordinates; the first unless given.
        tau: of a report; the last unless given.

    Raises:
        InputError: for an unknown family or one of three coordinates, a τ between reports, or a run without reports.
    """
    name, tau = chosen(run, family, tau)
    snapshot = run.snapshot(tau=tau, family=name)
    if snapshot.dim > 2:
        raise InputError(f"family {name!r}: has {snapshot.dim} coordinates; its potential is drawn for one or two")

    found = [minimisers(snapshot, layer) for layer in range(snapshot.layers)]
    dense = window(snapshot, [block.until(tau) for block in blocks_of(run, snapshot)])
    box = _around_minimisers(snapshot, dense, found)
    figure = (_curves if snapshot.dim == 1 else _contours)(snapshot, box, found)
    add_title(figure, rf"{name}: potential $V$ of {theta_name(snapshot)} at $\tau = {tau:.4g}$")
    return figure


def _around_minimisers(snapshot: Snapshot, box: Array, found: list[Minimisers]) -> Array:
    """The window of the density, enlarged to show the deepest minimisers with some room around them."""
    room = _ROOM * np.ptp(box, axis=1)
    deepest = [np.stack([one.theta[0] - room, one.theta[0] + room], axis=-1) for one in found]
    return within_mesh(union([box, *deepest]), snapshot)


def _contours(snapshot: Snapshot, box: Array, found: list[Minimisers]) -> StyledFigure:
    """d = 2: filled contours, each layer with its own bar of colours."""
    rows, across = layer_grid(snapshot.layers)
    side = min(1.6, 5.4 / across)
    height = 0.3 + rows * (side + 1.0)
    figure = StyledFigure(height)
    grid = figure.add_gridspec(
        rows, across, left=0.085, right=0.98, top=1 - 0.5 / height, bottom=0.8 / height, wspace=0.1, hspace=1.0 / side
    )

    for layer in range(snapshot.layers):
        row, column = divmod(layer, across)
        axes = figure.add_subplot(grid[row, column])
        _draw_potential(axes, rasterise(snapshot, layer, box, _PIXELS), -0.46 / side)
        _mark_minimisers(axes, found[layer], box, found[layer].theta)
        axes.set(title=f"layer {layer}", xlim=tuple(box[0]), ylim=tuple(box[1]))
        name_axes(axes, snapshot, (0, 1), y=column == 0)

    return figure


def _draw_potential(axes: Axes, raster: Raster, below: float) -> None:
    """V in colours whose steps hold equal areas, so that valleys show beside steep walls, and contours of the mass."""
    values = raster.potential.T
    finite = values[np.isfinite(values)]
    levels = np.unique(np.quantile(finite, np.linspace(0.0, 1.0, _CONTOURS) ** 1.5))
    if len(levels) < 2:  # a constant
        levels = levels[0] + np.array([0.0, 1e-12])
    norm = BoundaryNorm(levels, 256)
    drawn = axes.contourf(*raster.axes, values, levels=levels, cmap=style.POTENTIAL_MAP, norm=norm)

    density = np.maximum(raster.density.T, 0.0)
    if heights := sorted(set(mass_levels(density, _MASS))):
        axes.contour(*raster.axes, density, levels=heights, colors="white", linewidths=0.8)

    bar = colour_bar(drawn, axes, (0.0, below, 1.0, 0.06))
    for place, level, side in ((0.0, levels[0], "left"), (1.0, levels[-1], "right")):
        bar.ax.text(
            place, -0.3, f"{level:.2g}", transform=bar.ax.transAxes, ha=side, va="top", fontsize=style.NOTE_SIZE
        )


def _mark_minimisers(axes: Axes, found: Minimisers, box: Array, places: Array, colour: Any = None) -> None:
    """Star, rings, triangle, see `potential_figure`; the deepest on top.

    Args:
        axes: to draw into.
        found: the minimisers (k) of a layer.
        box: the window; what lies outside is left out.
        places: where each is drawn, (k, 2).
        colour: of all of them; that of the mark unless given.
    """
    for k in reversed(range(len(places))):
        if ((found.theta[k] >= box[:, 0]) & (found.theta[k] <= box[:, 1])).all():
            kind = "outside" if not found.inside[k] else "local" if k else "deepest"
            mark, own, size = _MARKS[kind]
            axes.plot(
                *places[k], mark, color=own if colour is None else colour, markersize=size, markeredgecolor="black",
                markeredgewidth=0.6, clip_on=False, zorder=5,
            )  # fmt: skip


def _curves(snapshot: Snapshot, box: Array, found: list[Minimisers]) -> StyledFigure:
    """d = 1: one curve a layer, and its minimisers."""
    figure = StyledFigure(2.6)
    axes = figure.subplots()
    for layer, colour in enumerate(style.depth_colours(snapshot.layers)):
        raster = rasterise(snapshot, layer, box, _LINE_PIXELS)
        axes.plot(raster.axes[0], raster.potential, color=colour, label=f"layer {layer}")
        places = np.column_stack([found[layer].theta, found[layer].value])
        _mark_minimisers(axes, found[layer], box, places, colour)

    axes.set(xlabel=symbol(snapshot.coordinates[0]), ylabel="$V$", xlim=tuple(box[0]))
    name_layers(axes)
    figure.tight_layout(pad=0.4, rect=(0, 0, 1, 0.92))
    return figure
