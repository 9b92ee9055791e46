"""A snapshot on a regular grid of θ: the polynomial of each cell evaluated there, zero outside the mesh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.output.fields.evaluator import Evaluator
from mfpde.output.fields.snapshot import Snapshot

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Raster:
    """One layer on a box of θ that is cut into equal pixels; values at their midpoints.

    Attributes:
        box: lower and upper end along each coordinate, (d, 2).
        axes: midpoints along each coordinate, d arrays.
        density: ρ (n_1, …, n_d) as the file holds it, zero outside the mesh.
        potential: V (n_1, …, n_d), nan outside the mesh.
    """

    box: Array
    axes: tuple[Array, ...]
    density: Array
    potential: Array

    @property
    def pixel(self) -> Array:
        """Side lengths of a pixel, (d,)."""
        return np.array([(high - low) / len(axis) for (low, high), axis in zip(self.box, self.axes, strict=True)])

    def marginal(self, *kept: int) -> Array:
        """∫ ρ over the coordinates that are not kept, by the midpoint rule over the box.

        Args:
            kept: coordinates of the result, in ascending order.
        """
        over = tuple(k for k in range(len(self.axes)) if k not in kept)
        return np.asarray(self.density.sum(axis=over) * np.prod(self.pixel[list(over)]))


def rasterise(snapshot: Snapshot, layer: int, box: Array, count: int) -> Raster:
    """Evaluate ρ and V of one layer on count^d pixels of the box (d, 2)."""
    axes = tuple(midpoints(interval, count) for interval in box)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    density, potential = Evaluator(snapshot, layer)(points.reshape(-1, snapshot.dim))
    return Raster(box, axes, density.reshape(points.shape[:-1]), potential.reshape(points.shape[:-1]))


def midpoints(interval: Sequence[float] | Array, count: int) -> Array:
    """Of `count` equal parts of an interval, (count,)."""
    low, high = interval
    return low + (high - low) * (np.arange(count) + 0.5) / count


def mesh_box(snapshot: Snapshot, layers: tuple[int, ...] | None = None) -> Array:
    """The smallest box (d, 2) that holds the meshes of these layers, of all unless given."""
    points = snapshot.points if layers is None else snapshot.points[list(layers)]
    return np.stack([points.min(axis=(0, 1, 2)), points.max(axis=(0, 1, 2))], axis=-1)


def union(boxes: Sequence[Array]) -> Array:
    """The smallest box (d, 2) that holds all of these."""
    stacked = np.stack(boxes)
    return np.stack([stacked[..., 0].min(axis=0), stacked[..., 1].max(axis=0)], axis=-1)


def within_mesh(box: Array, snapshot: Snapshot) -> Array:
    """The part of a box (d, 2) in which a layer can have values."""
    mesh = mesh_box(snapshot)
    return np.stack([np.maximum(box[:, 0], mesh[:, 0]), np.minimum(box[:, 1], mesh[:, 1])], axis=-1)


def mass_levels(density: Array, shares: Sequence[float]) -> list[float]:
    """The values above which these shares of the mass lie, for a density on pixels of one size; none without mass."""
    ordered = np.sort(density.ravel())[::-1]
    mass = np.cumsum(ordered)
    if not mass[-1] > 0.0:
        return []
    places = [min(int(np.searchsorted(mass, share * mass[-1])), len(ordered) - 1) for share in shares]
    return [float(ordered[place]) for place in places]
