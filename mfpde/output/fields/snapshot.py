"""One family's density, potential and velocity at one τ, at Lagrange points in true θ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Piece:
    """Which cells of a density one rank holds, where no rank holds them all.

    Attributes:
        ranks: those that hold cells, increasing.
        cells: number of each cell in the mesh's own order, (cells,).
    """

    ranks: tuple[int, ...]
    cells: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a density file holds; L layers, n Lagrange points a cell, d coordinates of θ.

    Points belong to one cell each, so that the jumps of a discontinuous density are kept. Within a cell they stand in
    the order of basix's equispaced Lagrange element.

    Attributes:
        family: name of the family.
        coordinates: names of θ's d coordinates.
        cell: "interval", "triangle", "quadrilateral", "tetrahedron" or "hexahedron".
        degree: of the Lagrange polynomials, max(p, 1).
        points: θ, (L, cells, n, d).
        density: ρ in θ coordinates, (L, cells, n).
        potential: V, (L, cells, n).
        velocity: −∇_θ V, (L, cells, n, d).
        piece: which cells these are; None where they are all, in the mesh's own order.
    """

    family: str
    coordinates: tuple[str, ...]
    cell: str
    degree: int
    points: Array
    density: Array
    potential: Array
    velocity: Array
    piece: Piece | None = None

    @property
    def layers(self) -> int:
        """L."""
        return int(self.points.shape[0])

    @property
    def dim(self) -> int:
        """d."""
        return int(self.points.shape[3])

    def select(self, cells: NDArray[np.int64], piece: Piece | None) -> Snapshot:
        """These cells, in this order."""
        return replace(
            self, points=self.points[:, cells], density=self.density[:, cells], potential=self.potential[:, cells],
            velocity=self.velocity[:, cells], piece=piece,
        )  # fmt: skip


def merged(pieces: Sequence[Snapshot]) -> Snapshot:
    """All cells of the pieces of one density, in the mesh's own order.

    Args:
        pieces: at least one; every cell in one of them.
    """
    first = pieces[0]
    numbers = np.concatenate([each.piece.cells for each in pieces if each.piece is not None])
    every = replace(
        first,
        points=np.concatenate([each.points for each in pieces], axis=1),
        density=np.concatenate([each.density for each in pieces], axis=1),
        potential=np.concatenate([each.potential for each in pieces], axis=1),
        velocity=np.concatenate([each.velocity for each in pieces], axis=1),
    )
    return every.select(np.argsort(numbers), None)
