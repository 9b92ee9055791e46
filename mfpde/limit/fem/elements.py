"""The reference elements of density and potential, and their tables at quadrature points."""

from __future__ import annotations

from dataclasses import dataclass

import basix
import numpy as np
from basix import CellType, ElementFamily, LagrangeVariant
from numpy.typing import NDArray

Array = NDArray[np.float64]


def density_element(cell: CellType, degree: int) -> basix.finite_element.FiniteElement:
    """The discontinuous element of the density with its orthonormal basis."""
    return basix.create_element(ElementFamily.P, cell, degree, LagrangeVariant.legendre, basix.DPCVariant.unset, True)


def potential_element(cell: CellType, degree: int) -> basix.finite_element.FiniteElement:
    """The continuous nodal element of the potential."""
    return basix.create_element(ElementFamily.P, cell, degree, LagrangeVariant.gll_warped)


@dataclass(frozen=True)
class ElementTables:
    """Basis functions at quadrature points of the reference cell; q points, i density, j potential, v vertices."""

    points: Array  # (q, d)
    weights: Array  # (q,)
    density: Array  # (q, i)
    density_gradient: Array  # (q, i, d)
    potential: Array  # (q, j)
    potential_gradient: Array  # (q, j, d)
    vertex: Array  # (q, v)


def tabulate(cell: CellType, degree: int, potential_degree: int, exactness: int) -> ElementTables:
    """Tables at the points of a quadrature of the given polynomial exactness."""
    points, weights = basix.make_quadrature(cell, exactness)
    density = density_element(cell, degree).tabulate(1, points)[..., 0]
    potential = potential_element(cell, potential_degree).tabulate(1, points)[..., 0]
    return ElementTables(
        points=points,
        weights=weights,
        density=np.ascontiguousarray(density[0]),
        density_gradient=np.ascontiguousarray(np.moveaxis(density[1:], 0, 2)),
        potential=np.ascontiguousarray(potential[0]),
        potential_gradient=np.ascontiguousarray(np.moveaxis(potential[1:], 0, 2)),
        vertex=vertex_shape(cell, points),
    )


def vertex_shape(cell: CellType, points: Array) -> Array:
    """Shape functions (q, v) of the vertices at points (q, d) of the reference cell."""
    return np.ascontiguousarray(potential_element(cell, 1).tabulate(0, points)[0, :, :, 0])


def jacobian(cell: CellType, vertices: Array, points: Array) -> Array:
    """Jacobians (c, q, d, d) of cells with vertices (c, v, d) at points (q, d) of the reference cell."""
    gradient = potential_element(cell, 1).tabulate(1, points)[1:, :, :, 0]
    return np.einsum("cvi,aqv->cqia", vertices, gradient)
