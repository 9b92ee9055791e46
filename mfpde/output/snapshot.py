"""One family's density, potential and velocity at one τ, at Lagrange points in true θ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


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
    """

    family: str
    coordinates: tuple[str, ...]
    cell: str
    degree: int
    points: Array
    density: Array
    potential: Array
    velocity: Array

    @property
    def layers(self) -> int:
        """L."""
        return int(self.points.shape[0])

    @property
    def dim(self) -> int:
        """d."""
        return int(self.points.shape[3])
