"""What density figures are made of: one image of a density in a plane, and what is drawn over it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from mfpde.figures import style
from mfpde.figures.blocks import Block
from mfpde.figures.raster import Raster, rasterise
from mfpde.output.fields.snapshot import Snapshot

Array = NDArray[np.float64]

DECADES = 4  # of the logarithmic colours
_VOLUME = 72  # pixels a direction for d = 3
_HALO = [effects.withStroke(linewidth=2.0, foreground="white", alpha=0.85)]


@dataclass(frozen=True)
class Plane:
    """Two coordinates of θ: the horizontal and the vertical one."""

    across: int
    up: int

    @property
    def pair(self) -> tuple[int, int]:
        """(across, up)."""
        return self.across, self.up

    def extent(self, box: Array) -> tuple[float, float, float, float]:
        """Of an image, from a box (d, 2)."""
        (x0, x1), (y0, y1) = box[self.across], box[self.up]
        return float(x0), float(x1), float(y0), float(y1)


def planes(dim: int) -> list[Plane]:
    """All pairs of coordinates; d ≥ 2."""
    return [Plane(i, j) for i, j in itertools.combinations(range(dim), 2)]


def raster_of(snapshot: Snapshot, layer: int, box: Array, pixels: int) -> Raster:
    """A raster of `pixels` a direction in the plane, of fewer in space."""
    return rasterise(snapshot, layer, box, pixels if snapshot.dim < 3 else min(pixels, _VOLUME))


def flat(raster: Raster, plane: Plane) -> Array:
    """ρ, or its marginal for d = 3, in a plane: (up, across), what is negative shown as zero."""
    return np.asarray(np.maximum(raster.marginal(*plane.pair), 0.0).T)


def image(axes: Axes, values: Array, plane: Plane, box: Array, norm: Normalize) -> AxesImage:
    """The density as an image over θ."""
    return axes.imshow(
        values, origin="lower", extent=plane.extent(box), aspect="auto", cmap=style.density_map(), norm=norm,
        interpolation="antialiased", zorder=0,
    )  # fmt: skip


@dataclass
class Overlay:
    """Path of the mean, its last place, and the ellipses of one and two standard deviations; can be moved in τ."""

    path: Line2D
    dot: Line2D
    rings: tuple[Line2D, Line2D]

    def move(self, block: Block, plane: Plane) -> None:
        """Show the moments of the block's last report."""
        mean = block.mean[:, list(plane.pair)]
        self.path.set_data(mean[:, 0], mean[:, 1])
        self.dot.set_data(mean[-1:, 0], mean[-1:, 1])
        for deviations, ring in zip((1.0, 2.0), self.rings, strict=True):
            ring.set_data(*block.ellipse(deviations, plane.pair).T)


def overlay(axes: Axes, block: Block, plane: Plane, width: float = 0.9) -> Overlay:
    """Draw the moments over an image; the axes keep their limits."""
    axes.set_autoscale_on(False)
    (path,) = axes.plot([], [], "-", color=style.BLUE, linewidth=width, path_effects=_HALO)
    (dot,) = axes.plot([], [], "o", color=style.BLUE, markersize=2.6, markeredgecolor="white", markeredgewidth=0.5)
    rings = tuple(
        axes.plot([], [], linestyle=dashes, color=style.BLUE, linewidth=0.8 * width, path_effects=_HALO)[0]
        for dashes in ("-", (0, (3, 2)))
    )
    made = Overlay(path, dot, (rings[0], rings[1]))
    made.move(block, plane)
    return made


def log_norm(top: float) -> LogNorm:
    """Logarithmic colours over a few decades below the largest density."""
    top = top if top > 0.0 else 1.0
    return LogNorm(top * 10.0**-DECADES, top, clip=True)
