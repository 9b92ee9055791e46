"""Lagrange cells as basix numbers their points, and as VTK does.

Source of VTK's order: its own index functions, so that no table of ours can disagree with the library that reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import basix
import numpy as np
from numpy.typing import NDArray
from vtkmodules.vtkCommonDataModel import (
    VTK_LAGRANGE_CURVE,
    VTK_LAGRANGE_HEXAHEDRON,
    VTK_LAGRANGE_QUADRILATERAL,
    VTK_LAGRANGE_TETRAHEDRON,
    VTK_LAGRANGE_TRIANGLE,
    vtkLagrangeHexahedron,
    vtkLagrangeQuadrilateral,
    vtkLagrangeTetra,
    vtkLagrangeTriangle,
)

from mfpde.errors import InputError

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class CellKind:
    """One of the five cells: its name in basix, dimension, number in VTK, and whether it is a product of intervals."""

    name: str
    dim: int
    vtk: int
    tensor: bool


KINDS = {
    kind.name: kind
    for kind in (
        CellKind("interval", 1, VTK_LAGRANGE_CURVE, tensor=True),
        CellKind("triangle", 2, VTK_LAGRANGE_TRIANGLE, tensor=False),
        CellKind("quadrilateral", 2, VTK_LAGRANGE_QUADRILATERAL, tensor=True),
        CellKind("tetrahedron", 3, VTK_LAGRANGE_TETRAHEDRON, tensor=False),
        CellKind("hexahedron", 3, VTK_LAGRANGE_HEXAHEDRON, tensor=True),
    )
}


@cache
def element(cell: str, degree: int) -> basix.finite_element.FiniteElement:
    """The equispaced Lagrange element of a cell, degree ≥ 1."""
    return basix.create_element(basix.ElementFamily.P, basix.CellType[cell], degree, basix.LagrangeVariant.equispaced)


def tabulate(cell: str, degree: int, points: Array) -> Array:
    """The Lagrange polynomials (m, n) at points (m, d) of the reference cell."""
    return np.asarray(element(cell, degree).tabulate(0, points)[0, :, :, 0])


def gradients(cell: str, degree: int, points: Array) -> Array:
    """Their derivatives (d, m, n) at points (m, d) of the reference cell."""
    return np.asarray(element(cell, degree).tabulate(1, points)[1:, :, :, 0])


def insideness(cell: str, points: Array) -> Array:
    """Smallest distance-like coordinate (m,) of reference points (m, d): ≥ 0 inside the closed reference cell."""
    lower = points.min(axis=1)
    upper = (1.0 - points).min(axis=1) if KINDS[cell].tensor else 1.0 - points.sum(axis=1)
    return np.asarray(np.minimum(lower, upper))


@cache
def degree_of(vtk: int, size: int) -> tuple[str, int]:
    """The cell's name and degree from VTK's number and the number of points.

    Raises:
        InputError: when no Lagrange cell is like that.
    """
    for kind in KINDS.values():
        for degree in range(1, 8):
            if kind.vtk == vtk and element(kind.name, degree).dim == size:
                return kind.name, degree
    raise InputError(f"density file: no Lagrange cell of VTK type {vtk} has {size} points")


@cache
def vtk_order(cell: str, degree: int) -> Index:
    """The permutation π (n,) with x_vtk = x_basix[π]: basix's number of the point that comes k-th in VTK."""
    places = np.rint(element(cell, degree).points * degree).astype(int)
    order = np.empty(len(places), dtype=np.int64)
    order[[_vtk_index(cell, degree, tuple(map(int, place))) for place in places]] = np.arange(len(places))
    order.flags.writeable = False
    return order


def _vtk_index(cell: str, degree: int, place: tuple[int, ...]) -> int:
    """VTK's number of the lattice point at place/degree in the reference cell."""
    barycentric = (*place, degree - sum(place))
    match cell:
        case "interval":
            return {0: 0, degree: 1}.get(place[0], place[0] + 1)
        case "triangle":
            return int(vtkLagrangeTriangle.Index(barycentric, degree))
        case "tetrahedron":
            return int(vtkLagrangeTetra.Index(barycentric, degree))
        case "quadrilateral":
            return int(vtkLagrangeQuadrilateral.PointIndexFromIJK(place[0], place[1], (degree,) * 2))
        case _:
            return int(vtkLagrangeHexahedron.PointIndexFromIJK(place[0], place[1], place[2], (degree,) * 3))
