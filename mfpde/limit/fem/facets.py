"""Facets: tables and geometry on them, and which cell lies across."""

from __future__ import annotations

from dataclasses import dataclass

import basix
import numpy as np
from basix import CellType
from dolfinx import mesh as dmesh
from numpy.typing import NDArray

from mfpde.limit.fem.elements import density_element, jacobian, potential_element, vertex_shape

Array = NDArray[np.float64]
Index = NDArray[np.int32]
_SAME = 1e-10  # points of a reference facet closer than this are one


@dataclass(frozen=True)
class Facets:
    """Tables and geometry on the local facets of every cell; f local facets, q points of each, o orientations.

    The two sides of a facet number its quadrature points each in their own way; `permutation` pairs them.
    """

    neighbour: Index  # (c, f): the cell across; -1 on the mesh boundary, or where this rank does not know it
    facet: Index  # (c, f): which local facet of the neighbour it is
    order: Index  # (c, f): its orientation o against ours
    permutation: Index  # (o, q): the neighbour's point that meets ours
    weights: Array  # (q,)
    normal: Array  # (f, d): outward in the reference cell, scaled with the surface element
    density: Array  # (f, q, i)
    potential_gradient: Array  # (f, q, j, d)
    vertex: Array  # (f, q, v)
    inverse_jacobian: Array  # (c, g, d, d); g = 1 on affine cells, else f·q
    scale: Array  # (c, g): |det J|


def build_facets(
    mesh: dmesh.Mesh, cell: CellType, degree: int, potential_degree: int, vertices: Array, affine: bool
) -> Facets:
    """Tables of every local facet, and what lies across it."""
    dim = mesh.topology.dim
    corners = np.asarray(basix.topology(cell)[dim - 1], dtype=np.int64)  # (local facets, facet vertices)
    kind = basix.cell.subentity_types(cell)[dim - 1][0]
    exactness = max(2 * degree + potential_degree - 1, 1)
    t, weights = basix.make_quadrature(kind, exactness) if dim > 1 else (np.zeros((1, 0)), np.ones(1))
    points = np.concatenate([_facet_points(basix.geometry(cell)[own], t) for own in corners])
    by_facet = (len(corners), len(weights), -1)

    gradient = np.moveaxis(potential_element(cell, potential_degree).tabulate(1, points)[1:, :, :, 0], 0, 2)
    at_points = jacobian(cell, vertices, points[:1] if affine else points)

    neighbour, facet, orientation = _across(mesh, corners)
    views, order = np.unique(orientation.reshape(-1, corners.shape[1]), axis=0, return_inverse=True)
    return Facets(
        neighbour=neighbour,
        facet=facet,
        order=order.reshape(neighbour.shape).astype(np.int32),
        permutation=_permutations(basix.geometry(kind) if dim > 1 else np.zeros((1, 0)), views, t),
        weights=np.asarray(weights, dtype=np.float64),
        normal=basix.cell.facet_outward_normals(cell) * _facet_scale(cell)[:, None],
        density=density_element(cell, degree).tabulate(0, points)[0, :, :, 0].reshape(by_facet),
        potential_gradient=gradient.reshape(*by_facet, dim),
        vertex=vertex_shape(cell, points).reshape(by_facet),
        inverse_jacobian=np.ascontiguousarray(np.linalg.inv(at_points)),
        scale=np.ascontiguousarray(np.abs(np.linalg.det(at_points))),
    )


def _across(mesh: dmesh.Mesh, corners: NDArray[np.int64]) -> tuple[Index, Index, Index]:
    """Per cell and local facet: the cell across (-1: none), its local facet, and how that one is turned.

    The orientation (c, f, v) gives for each vertex of the facet, in the order of this cell, its place in the order of
    the neighbour.
    """
    dim, dofs = mesh.topology.dim, mesh.geometry.dofmaps[0]
    number = mesh.topology.connectivity(dim, dim - 1).array.reshape(len(dofs), len(corners))  # (c, f)
    neighbour = np.full(number.shape, -1, dtype=np.int32)
    facet = np.zeros(number.shape, dtype=np.int32)
    orientation = np.zeros((*number.shape, corners.shape[1]), dtype=np.int32)
    orientation[:] = np.arange(corners.shape[1])

    # A facet number that occurs twice joins two cells.
    by_facet = np.argsort(number, axis=None, kind="stable")
    twice = np.flatnonzero(np.diff(number.ravel()[by_facet]) == 0)
    sides = np.stack([by_facet[twice], by_facet[twice + 1]])
    for (c, f), (n, g) in ([np.divmod(s, number.shape[1]) for s in pair] for pair in (sides, sides[::-1])):
        neighbour[c, f], facet[c, f] = n, g
        ours, theirs = dofs[c[:, None], corners[f]], dofs[n[:, None], corners[g]]
        orientation[c, f] = np.argmax(ours[:, :, None] == theirs[:, None, :], axis=2)
    return neighbour, facet, orientation


def _permutations(corner: Array, views: Index, t: Array) -> Index:
    """Per orientation (o, v) and facet point (q, d−1), its number on the other side; corner (v, d−1) of the facet.

    Raises:
        ValueError: for a quadrature that is not symmetric.
    """
    rows = []
    for view in views:
        distance = np.abs(_facet_points(corner[view], t)[:, None] - t).max(axis=2, initial=0.0)
        if (distance.min(axis=1) > _SAME).any():
            raise ValueError("a quadrature of facets that depends on the order of their vertices")
        rows.append(distance.argmin(axis=1))
    return np.array(rows, dtype=np.int32).reshape(len(views), len(t))


def _facet_points(corner: Array, t: Array) -> Array:
    """Facet coordinates t (q, d−1) mapped to the cell, with the facet's vertices (v, d) in the order given."""
    return corner[0] + t @ (corner[1 : t.shape[1] + 1] - corner[0])


def _facet_scale(cell: CellType) -> Array:
    """The surface element of each reference facet against its own reference coordinates."""
    if cell == CellType.interval:
        return np.ones(2)
    jacobians = basix.cell.facet_jacobians(cell)
    return np.sqrt(np.linalg.det(np.swapaxes(jacobians, 1, 2) @ jacobians))
