"""The density of one or two coordinates of many points, smoothed by a Gaussian kernel, and means over the mass there.

Mass, and mass times values, are spread linearly onto the points of a lattice and smoothed there; between those points
all is linear. Source: Silverman, *Density Estimation* (1986), section 4.3 for the width of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CELLS = {1: 128, 2: 48}  # of a lattice in each direction
_BEYOND = 4.5  # widths of the kernel by which lattices reach beyond the points; it ends at four
_FAINT = 1e-9  # of the largest density: below, means are those of all points


@dataclass(frozen=True, eq=False)
class Smoothed:
    """Mass on a lattice of n points a direction, d = 1 or 2 coordinates; k values.

    Attributes:
        low: the lattice's first point, (d,).
        spacing: of its points, (d,).
        mass: smoothed, at its points, (n,) or (n, n); their sum is that of the points.
        sums: mass times values, smoothed likewise, (n, k) or (n, n, k).
        mean: of the values over the mass of all points, (k,).
    """

    low: Array
    spacing: Array
    mass: Array
    sums: Array
    mean: Array

    @property
    def density(self) -> Array:
        """ρ at the lattice's points."""
        return np.asarray(self.mass / self.spacing.prod())

    @property
    def fields(self) -> Array:
        """∫ values dρ over the other coordinates at the lattice's points, (…, k)."""
        return np.asarray(self.sums / self.spacing.prod())

    @property
    def means(self) -> Array:
        """Of the values over the mass at the lattice's points, (…, k)."""
        faint = _FAINT * self.mass.max()
        return np.asarray((self.sums + faint * self.mean) / (self.mass + faint)[..., None])

    @property
    def places(self) -> Array:
        """The lattice's points, (n, 1) or (n, n, 2)."""
        lines = [self.low[a] + self.spacing[a] * np.arange(count) for a, count in enumerate(self.mass.shape)]
        return np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)

    def between(self, values: Array, at: Array) -> Array:
        """Values at the lattice's points, (n,) or (n, n) and more axes, at other points (q, d); zero outside."""
        dim = len(self.low)
        place = (at - self.low) / self.spacing
        cells = np.array(self.mass.shape) - 1
        inside = ((place >= 0.0) & (place <= cells)).all(axis=1)
        found = np.zeros((len(at), *values.shape[dim:]))
        for index, share in _corners(place[inside], cells):
            found[inside] += share.reshape(-1, *[1] * (values.ndim - dim)) * values[index]
        return found


def smooth(points: Array, values: Array, share: Array) -> Smoothed:
    """Smooth the density of points; the kernel is the narrower, the more of them there are.

    Args:
        points: (p, d), d = 1 or 2.
        values: at the points, (p, k).
        share: their masses, (p,), with sum 1.
    """
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415  (slow to import)

    dim = points.shape[1]
    cells, count = CELLS[dim], 1.0 / (share**2).sum()  # as many of equal masses would be as even
    spread = np.sqrt(share @ (points - share @ points) ** 2)
    width = np.maximum(spread, 1e-12) * (4.0 / ((dim + 2.0) * count)) ** (1.0 / (dim + 4.0))
    low, high = points.min(axis=0) - _BEYOND * width, points.max(axis=0) + _BEYOND * width
    spacing = (high - low) / cells

    weights = np.concatenate([np.ones((len(points), 1)), values], axis=1) * share[:, None]
    sums = np.zeros((cells + 1,) * dim + (weights.shape[1],))
    for index, part in _corners((points - low) / spacing, np.full(dim, cells)):
        np.add.at(sums, index, part[:, None] * weights)

    found = gaussian_filter(sums, [*(width / spacing), 0.0], mode="constant")
    return Smoothed(low, spacing, found[..., 0], found[..., 1:], share @ values)


def _corners(place: Array, cells: NDArray[np.int64]) -> Iterator[tuple[tuple[NDArray[np.int64], ...], Array]]:
    """Of the cells that hold places (p, d), in spacings, one corner after the other: its index, and its share (p,)."""
    first = np.minimum(place.astype(np.int64), cells - 1)
    for corner in range(2 ** len(cells)):
        upper = np.array([corner >> axis & 1 for axis in range(len(cells))])
        yield tuple((first + upper).T), np.where(upper, place - first, 1.0 - (place - first)).prod(axis=1)
