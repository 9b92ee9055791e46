"""Cells with Lagrange points as basix numbers them, and as VTK does.

VTK has cells of its own for degree 1 and 2, whose points are numbered as in its Lagrange cells of any degree. When it
clips, slices or contours Lagrange quadrilaterals, hexahedra and curves, it reads their cell arrays out of bounds
(`vtkHigherOrderQuadrilateral::Clip` looks for the grid's number of a cell in arrays of this cell alone; 9.2 to 9.7).

Source of VTK's order: its own index functions, so that no table of ours can disagree with the library that reads it;
only the corners of the cells of Lagrangian nodes stand here, as importing VTK takes 0.3 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import basix
import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class CellKind:
    """One of the five cells.

    Attributes:
        dim: its dimension.
        types: in VTK, of degree 1, of degree 2 and of any degree.
        tensor: is it a product of intervals?
    """

    dim: int
    types: tuple[int, int, int]
    tensor: bool


KINDS = {
    "interval": CellKind(1, (3, 21, 68), tensor=True),
    "triangle": CellKind(2, (5, 22, 69), tensor=False),
    "quadrilateral": CellKind(2, (9, 28, 70), tensor=True),
    # VTK_QUADRATIC_TETRA locates a point to 1e-5 of its size only, and Lagrange simplices are cut correctly
    "tetrahedron": CellKind(3, (10, 71, 71), tensor=False),
    "hexahedron": CellKind(3, (12, 29, 72), tensor=True),
}
_AROUND = {"quadrilateral": [0, 1, 3, 2], "hexahedron": [0, 1, 3, 2, 4, 5, 7, 6]}  # corners of sides in VTK's order


def vtk_type(cell: str, degree: int) -> int:
    """VTK's number of a cell's type."""
    return KINDS[cell].types[min(degree, 3) - 1]


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
def degree_of(number: int, size: int) -> tuple[str, int]:
    """The cell's name and degree from VTK's number of its type and the count of its points.

    Lagrange cells of degree 1 and 2 are in files of earlier versions.

    Raises:
        InputError: when no cell is like that.
    """
    for cell, kind in KINDS.items():
        for degree in range(1, 8):
            if number in (vtk_type(cell, degree), kind.types[-1]) and element(cell, degree).dim == size:
                return cell, degree
    raise InputError(f"density file: no cell of VTK type {number} has {size} points")


@cache
def vtk_order(cell: str, degree: int) -> Index:
    """The permutation π (n,) with x_vtk = x_basix[π]: basix's number of the point that comes k-th in VTK."""
    places = np.rint(element(cell, degree).points * degree).astype(int)
    order = np.empty(len(places), dtype=np.int64)
    if degree == 1:
        order[:] = _AROUND.get(cell, range(len(places)))
    else:
        order[[_vtk_index(cell, degree, tuple(map(int, place))) for place in places]] = np.arange(len(places))
    order.flags.writeable = False
    return order


def _vtk_index(cell: str, degree: int, place: tuple[int, ...]) -> int:
    """VTK's number of the lattice point at place/degree in the reference cell."""
    from vtkmodules import vtkCommonDataModel as vtk  # noqa: N813, PLC0415  (named like a class; slow)

    barycentric = (*place, degree - sum(place))
    match cell:
        case "interval":
            return {0: 0, degree: 1}.get(place[0], place[0] + 1)
        case "triangle":
            return int(vtk.vtkLagrangeTriangle.Index(barycentric, degree))
        case "tetrahedron":
            return int(vtk.vtkLagrangeTetra.Index(barycentric, degree))
        case "quadrilateral":
            return int(vtk.vtkLagrangeQuadrilateral.PointIndexFromIJK(place[0], place[1], (degree,) * 2))
        case _:
            return int(vtk.vtkLagrangeHexahedron.PointIndexFromIJK(place[0], place[1], place[2], (degree,) * 3))
