"""The parts of density and potential figures: an image in a plane, the moments over it, names of axes, colour bars."""

from __future__ import annotations

import itertools
import math
from typing import Any

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from mfpde.figures import style
from mfpde.figures.blocks import Block
from mfpde.figures.raster import Raster, rasterise
from mfpde.output.fields.snapshot import Snapshot

Array = NDArray[np.float64]

DECADES = 4  # of the logarithmic colours
_VOLUME = 72  # pixels a direction for d = 3
_ACROSS = 4  # layers side by side
_MOST_NAMED = 8  # layers in a legend
_RINGS: dict[float, Any] = {1.0: "-", 2.0: (0, (3, 2))}  # standard deviations, and the line of their ellipse
_HALO = [effects.withStroke(linewidth=2.0, foreground="white", alpha=0.85)]


type Plane = tuple[int, int]
"""Two coordinates of θ: the horizontal and the vertical one."""


def planes(dim: int) -> list[Plane]:
    """All pairs of coordinates; d ≥ 2."""
    return list(itertools.combinations(range(dim), 2))


def layer_grid(layers: int) -> tuple[int, int]:
    """Rows and columns of panels for so many layers, four side by side at most."""
    rows = math.ceil(layers / _ACROSS)
    return rows, math.ceil(layers / rows)


def name_axes(axes: Axes, snapshot: Snapshot, plane: Plane, *, x: bool = True, y: bool = True) -> None:
    """Coordinates and tick labels along x and y, or neither where a neighbour in the same column or row has them."""
    style.show_tick_labels(axes, x=x, y=y)
    axes.set_xlabel(style.symbol(snapshot.coordinates[plane[0]]) if x else "")
    axes.set_ylabel(style.symbol(snapshot.coordinates[plane[1]]) if y else "")


def name_layers(axes: Axes) -> None:
    """A legend of the layers' curves, where it has room for them."""
    if len(axes.get_legend_handles_labels()[1]) <= _MOST_NAMED:
        axes.legend()


def colour_bar(
    drawn: ScalarMappable, axes: Axes, place: tuple[float, float, float, float], label: str = ""
) -> Colorbar:
    """A bar beside or below a panel, whose size it leaves alone.

    Args:
        drawn: what has the colours.
        axes: the panel.
        place: left, bottom, width and height in the panel's own coordinates; a wide bar is horizontal, without ticks.
        label: what the colours mean.
    """
    wide = place[2] > place[3]
    bar = axes.figure.colorbar(
        drawn,
        cax=axes.inset_axes(place),
        orientation="horizontal" if wide else "vertical",
        ticks=[] if wide else None,
        label=label,
    )
    bar.outline.set_linewidth(style.OUTLINE)
    return bar


def raster_of(snapshot: Snapshot, layer: int, box: Array, pixels: int) -> Raster:
    """A raster of `pixels` a direction in the plane, of fewer in space."""
    return rasterise(snapshot, layer, box, pixels if snapshot.dim < 3 else min(pixels, _VOLUME))


def in_plane(raster: Raster, plane: Plane) -> Array:
    """ρ, or its marginal for d = 3, in a plane: (up, across); what is negative is shown as zero."""
    return np.asarray(np.maximum(raster.marginal(*plane), 0.0).T)


def draw_density(axes: Axes, values: Array, plane: Plane, box: Array, norm: Normalize) -> AxesImage:
    """The density as an image over θ."""
    (left, right), (bottom, top) = box[list(plane)]
    return axes.imshow(
        values, origin="lower", extent=(left, right, bottom, top), aspect="auto", cmap=style.density_map(), norm=norm,
        interpolation="antialiased", zorder=0,
    )  # fmt: skip


class MomentOverlay:
    """Path of the mean, its last place, and the ellipses of one and two standard deviations, over an image."""

    def __init__(self, axes: Axes, block: Block, plane: Plane, width: float = 0.9) -> None:
        """Draw the moments of a block's last report; the axes keep their limits.

        Args:
            axes: those of the image.
            block: the moments.
            plane: that of the image.
            width: of the lines.
        """
        axes.set_autoscale_on(False)
        stroke: dict[str, Any] = {"color": style.BLUE, "path_effects": _HALO}
        (self._path,) = axes.plot([], [], "-", linewidth=width, **stroke)
        (self._dot,) = axes.plot(
            [], [], "o", color=style.BLUE, markersize=2.6, markeredgecolor="white", markeredgewidth=0.5
        )
        self._rings = [
            axes.plot([], [], linestyle=line, linewidth=0.8 * width, **stroke)[0] for line in _RINGS.values()
        ]
        self._plane = plane
        self.move(block)

    def move(self, block: Block) -> None:
        """Show the moments of another report."""
        mean = block.mean[:, list(self._plane)]
        self._path.set_data(mean[:, 0], mean[:, 1])
        self._dot.set_data(mean[-1:, 0], mean[-1:, 1])
        for deviations, ring in zip(_RINGS, self._rings, strict=True):
            ring.set_data(*block.ellipse(deviations, self._plane).T)


def log_norm(top: float) -> LogNorm:
    """Logarithmic colours over a few decades below the largest density."""
    top = top if top > 0.0 else 1.0
    return LogNorm(top * 10.0**-DECADES, top, clip=True)
