"""One family's density, potential and velocity at one τ, at Lagrange points in true θ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FIELDS = ("points", "density", "potential", "velocity")  # arrays of a snapshot, (L, cells, …)
LARGEST_FILE = 2.0**30  # bytes, before it is compressed
# bytes of a point in a file: three coordinates, two scalars and a vector, its number; its layer compresses to nothing
_POINT = 72


def in_pieces(ranks: int, points: float) -> bool:
    """Is a density of so many points, of all layers and cells, written in pieces by so many ranks?"""
    return ranks > 1 and _POINT * points > LARGEST_FILE


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
        selected: dict[str, Any] = {name: getattr(self, name)[:, cells] for name in FIELDS}
        return replace(self, **selected, piece=piece)


def merged(pieces: Sequence[Snapshot]) -> Snapshot:
    """All cells of the pieces of one density, in the mesh's own order.

    Args:
        pieces: at least one; every cell in one of them.
    """
    numbers = np.concatenate([each.piece.cells for each in pieces if each.piece is not None])
    every: dict[str, Any] = {name: np.concatenate([getattr(each, name) for each in pieces], axis=1) for name in FIELDS}
    return replace(pieces[0], **every).select(np.argsort(numbers), None)
