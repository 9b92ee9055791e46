"""The potential of a family in every layer, its minimisers marked, and where the density is."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.figures import style
from mfpde.figures.blocks import block, chosen, names, window
from mfpde.figures.minimisers import Minimisers, minimisers
from mfpde.figures.raster import Raster, mesh_box, rasterise
from mfpde.figures.style import Page, entitle, quiet, styled, symbol
from mfpde.output.fields.snapshot import Snapshot
from mfpde.output.reader import RunReader

Array = NDArray[np.float64]

_ACROSS = 4
_PIXELS = 160
_LINES = 14  # contours of V
_MASS = (0.9, 0.5)  # contours that hold these shares of the mass


@styled
def potential_figure(run: RunReader, family: str | None = None, tau: float | None = None) -> Page:
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
    blocks = [block(run, name, layer, snapshot.dim).until(tau) for layer in range(snapshot.layers)]
    found = [minimisers(snapshot, layer) for layer in range(snapshot.layers)]
    box = _window(snapshot, window(snapshot, blocks), found)
    page = (_lines if snapshot.dim == 1 else _fields)(snapshot, box, found)
    entitle(page, rf"{name}: potential $V$ of {names(snapshot)} at $\tau = {tau:.4g}$")
    return page


def _window(snapshot: Snapshot, box: Array, found: list[Minimisers]) -> Array:
    """The window of the density, enlarged to show the minimisers with some room around them."""
    places = np.concatenate([one.theta[:1] for one in found])
    room = 0.12 * np.ptp(box, axis=1)
    low = np.minimum(box[:, 0], places.min(axis=0) - room)
    high = np.maximum(box[:, 1], places.max(axis=0) + room)
    mesh = mesh_box(snapshot)
    return np.stack([np.maximum(low, mesh[:, 0]), np.minimum(high, mesh[:, 1])], axis=-1)


def _fields(snapshot: Snapshot, box: Array, found: list[Minimisers]) -> Page:
    """d = 2: filled contours, each layer with its own bar of colours."""
    rows = math.ceil(snapshot.layers / _ACROSS)
    across = math.ceil(snapshot.layers / rows)
    side = min(1.6, 5.4 / across)
    height = 0.3 + rows * (side + 1.0)
    page = Page(height)
    grid = page.add_gridspec(
        rows, across, left=0.085, right=0.98, top=1 - 0.5 / height, bottom=0.8 / height, wspace=0.1, hspace=1.0 / side
    )
    for layer in range(snapshot.layers):
        row, column = divmod(layer, across)
        axes = page.add_subplot(grid[row, column])
        _field(page, axes, rasterise(snapshot, layer, box, _PIXELS), -0.46 / side)
        _mark(axes, found[layer], box)
        axes.set_title(f"layer {layer}")
        axes.set_xlabel(symbol(snapshot.coordinates[0]))
        quiet(axes, x=True, y=column == 0)
        axes.set_ylabel(symbol(snapshot.coordinates[1]) if column == 0 else "")
    return page


def _field(page: Page, axes: Axes, raster: Raster, below: float) -> None:
    """V in colours whose steps hold equal areas, so that valleys show beside steep walls."""
    values = raster.potential.T
    finite = values[np.isfinite(values)]
    levels = np.unique(np.quantile(finite, np.linspace(0.0, 1.0, _LINES) ** 1.5))
    if len(levels) < 2:  # a constant
        levels = levels[0] + np.array([0.0, 1e-12])
    drawn = axes.contourf(*raster.axes, values, levels=levels, cmap=style.POTENTIAL_MAP, norm=_steps(levels))
    density = np.maximum(raster.density.T, 0.0)
    heights = _heights(density)
    if len(heights):
        axes.contour(*raster.axes, density, levels=heights, colors="white", linewidths=0.8)
    bar = page.colorbar(drawn, cax=axes.inset_axes((0.0, below, 1.0, 0.06)), orientation="horizontal", ticks=[])
    bar.outline.set_linewidth(0.4)
    for place, level, side in ((0.0, levels[0], "left"), (1.0, levels[-1], "right")):
        bar.ax.text(place, -0.3, f"{level:.2g}", transform=bar.ax.transAxes, ha=side, va="top", fontsize=6.5)


def _steps(levels: Array) -> object:
    return style.mpl.colors.BoundaryNorm(levels, 256)


def _heights(density: Array) -> Array:
    """Values of ρ above which these shares of the mass lie, in ascending order."""
    ordered = np.sort(density.ravel())[::-1]
    mass = np.cumsum(ordered)
    if not mass[-1] > 0.0:
        return np.zeros(0)
    return np.unique([ordered[min(np.searchsorted(mass, share * mass[-1]), len(ordered) - 1)] for share in _MASS])


def _mark(axes: Axes, found: Minimisers, box: Array) -> None:
    """Star, rings, triangle: see `potential_figure`."""
    edge = {"markeredgecolor": "black", "markeredgewidth": 0.6, "clip_on": False, "zorder": 5}
    inside, outside = found.theta[found.inside], found.theta[~found.inside]
    best = inside[:1] if found.inside[0] else inside[:0]
    rest = inside[len(best) :]
    rest = rest[((rest >= box[:, 0]) & (rest <= box[:, 1])).all(axis=1)]
    axes.plot(*rest.T, "o", color="white", markersize=3.5, **edge)  # type: ignore[arg-type]
    axes.plot(*best.T, "*", color=style.ORANGE, markersize=8, **edge)  # type: ignore[arg-type]
    axes.plot(*outside.T, "^", color=style.RED, markersize=5, **edge)  # type: ignore[arg-type]
    axes.set(xlim=tuple(box[0]), ylim=tuple(box[1]))


def _lines(snapshot: Snapshot, box: Array, found: list[Minimisers]) -> Page:
    """d = 1: one curve a layer, and its minimisers."""
    page = Page(2.6)
    axes = page.subplots()
    colours = style.mpl.colormaps["viridis_r"](np.linspace(0.12, 1.0, snapshot.layers))
    for layer, colour in enumerate(colours):
        raster = rasterise(snapshot, layer, box, 600)
        axes.plot(raster.axes[0], raster.potential, color=colour, label=f"layer {layer}")
        for k, (theta, value) in enumerate(zip(found[layer].theta[:, 0], found[layer].value, strict=True)):
            mark = ("*" if k == 0 else "o") if found[layer].inside[k] else "^"
            if box[0, 0] <= theta <= box[0, 1]:
                axes.plot(
                    theta,
                    value,
                    mark,
                    color=colour,
                    markersize=8 if mark == "*" else 4,
                    markeredgecolor="black",
                    markeredgewidth=0.6,
                )
    axes.set(xlabel=symbol(snapshot.coordinates[0]), ylabel="$V$", xlim=tuple(box[0]))
    if snapshot.layers <= 8:
        axes.legend()
    page.tight_layout(pad=0.4, rect=(0, 0, 1, 0.92))
    return page
