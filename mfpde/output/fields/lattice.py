"""Cells with Lagrange points as basix numbers them, and as VTK does.

VTK has cells of its own for degree 1 and 2, whose points are numbered as in its Lagrange cells of any degree. When it
clips, slices or contours Lagrange quadrilaterals, hexahedra and curves, it reads their cell arrays out of bounds
(`vtkHigherOrderQuadrilateral::Clip` looks for the grid's number of a cell in arrays of this cell alone; 9.2 to 9.7).

Source of VTK's order: its own index functions, so that no table of ours can disagree with the library that reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import basix
import numpy as np
from numpy.typing import NDArray
from vtkmodules.vtkCommonDataModel import (
    VTK_BIQUADRATIC_QUAD,
    VTK_HEXAHEDRON,
    VTK_LAGRANGE_CURVE,
    VTK_LAGRANGE_HEXAHEDRON,
    VTK_LAGRANGE_QUADRILATERAL,
    VTK_LAGRANGE_TETRAHEDRON,
    VTK_LAGRANGE_TRIANGLE,
    VTK_LINE,
    VTK_QUAD,
    VTK_QUADRATIC_EDGE,
    VTK_QUADRATIC_TRIANGLE,
    VTK_TETRA,
    VTK_TRIANGLE,
    VTK_TRIQUADRATIC_HEXAHEDRON,
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
    """One of the five cells.

    Attributes:
        name: in basix.
        dim: its dimension.
        vtk: types in VTK of degree 1, of degree 2 and of any degree.
        tensor: is it a product of intervals?
    """

    name: str
    dim: int
    vtk: tuple[int, int, int]
    tensor: bool


KINDS = {
    kind.name: kind
    for kind in (
        CellKind("interval", 1, (VTK_LINE, VTK_QUADRATIC_EDGE, VTK_LAGRANGE_CURVE), tensor=True),
        CellKind("triangle", 2, (VTK_TRIANGLE, VTK_QUADRATIC_TRIANGLE, VTK_LAGRANGE_TRIANGLE), tensor=False),
        CellKind("quadrilateral", 2, (VTK_QUAD, VTK_BIQUADRATIC_QUAD, VTK_LAGRANGE_QUADRILATERAL), tensor=True),
        # VTK_QUADRATIC_TETRA finds a point to 1e-5 of its size only, and Lagrange simplices are cut correctly
        CellKind("tetrahedron", 3, (VTK_TETRA, VTK_LAGRANGE_TETRAHEDRON, VTK_LAGRANGE_TETRAHEDRON), tensor=False),
        CellKind("hexahedron", 3, (VTK_HEXAHEDRON, VTK_TRIQUADRATIC_HEXAHEDRON, VTK_LAGRANGE_HEXAHEDRON), tensor=True),
    )
}


def vtk_type(cell: str, degree: int) -> int:
    """VTK's number of a cell's type."""
    return KINDS[cell].vtk[min(degree, 3) - 1]


def can_have_cell_arrays(degree: int) -> bool:
    """Do VTK's filters keep the cell arrays of cells of this degree, whatever their shape?"""
    return degree <= 2


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
    """The cell's name and degree from VTK's type and the number of points.

    Lagrange cells of degree 1 and 2 are in files of earlier versions.

    Raises:
        InputError: when no cell is like that.
    """
    for kind in KINDS.values():
        for degree in range(1, 8):
            if vtk in (vtk_type(kind.name, degree), kind.vtk[-1]) and element(kind.name, degree).dim == size:
                return kind.name, degree
    raise InputError(f"density file: no cell of VTK type {vtk} has {size} points")


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
