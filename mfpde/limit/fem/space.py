"""The pair of finite-element spaces on one mesh: density ρ_h in DG_p, potential V_h in CG_k.

The density's basis on the reference cell is orthonormal (Legendre), so that on affine cells the mass matrix is |det J|
times the identity. The potential needs no dof map: its nodal values are a function of θ, so two cells that share a
node compute the same value. Source: docs/equations.md; Hesthaven & Warburton, *Nodal DG Methods*, ch. 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import basix
import numpy as np
from basix import CellType, ElementFamily, LagrangeVariant
from dolfinx import mesh as dmesh
from mpi4py import MPI
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int32]
_BATCH = 2**19  # numbers of a batch of cells, 4 MB
_SAME = 1e-10  # points of a reference facet closer than this are one


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


@dataclass(frozen=True)
class Space:
    """DG_p and CG_k on a mesh, this rank's part: c cells (owned first, then ghosts), i, j, q, v as in the tables."""

    mesh: dmesh.Mesh
    cell: CellType
    degree: int
    potential_degree: int
    owned: int
    vertices: Array  # (c, v, d)
    inverse_jacobian: Array  # (c, g, d, d)
    scale: Array  # (c, g): |det J|
    inverse_mass: Array  # (c, 1, 1) on affine cells (the factor of the identity), else (c, i, i)
    moment: Array  # (1, j, i) on affine cells (times the scale), else (c, j, i): ∫ φ_j ψ_i
    nodes: Array  # (c, j, d): potential nodes in the reference mesh
    boundary: NDArray[np.bool_]  # (owned,): does the cell have a facet on the mesh boundary?
    tables: ElementTables
    facets: Facets

    @property
    def comm(self) -> MPI.Intracomm:
        """The mesh's communicator."""
        return self.mesh.comm

    @property
    def dim(self) -> int:
        """d."""
        return int(self.vertices.shape[2])

    @property
    def affine(self) -> bool:
        """Are all cells of the whole mesh affine images of the reference cell?"""
        return self.inverse_mass.shape[1:] == (1, 1)

    @property
    def size(self) -> int:
        """Density unknowns of one cell and block."""
        return int(self.tables.density.shape[1])

    @property
    def global_cells(self) -> int:
        """Cells of the whole mesh."""
        return int(self.mesh.topology.index_map(self.dim).size_global)

    @property
    def cell_order(self) -> NDArray[np.int64]:
        """(owned,) the number of each owned cell in an order that does not depend on the ranks."""
        return np.asarray(self.mesh.topology.original_cell_index[: self.owned], dtype=np.int64)

    def batches(self, numbers: int) -> Iterator[slice]:
        """The owned cells in batches, for what takes so many numbers a cell; one that is empty if there are none."""
        count = max(1, _BATCH // numbers)
        for first in range(0, max(1, self.owned), count):
            yield slice(first, min(first + count, self.owned))

    def part(self, cells: slice) -> Space:
        """Some of the owned cells as a space of its own, for integrals cell by cell; its mesh and facets are of all."""
        return replace(
            self, owned=cells.stop - cells.start, vertices=self.vertices[cells], nodes=self.nodes[cells],
            inverse_jacobian=self.inverse_jacobian[cells], scale=self.scale[cells], boundary=self.boundary[cells],
            inverse_mass=self.inverse_mass[cells], moment=self.moment if self.affine else self.moment[cells],
        )  # fmt: skip

    def points(self, vertex: Array, count: int | None = None) -> Array:
        """Reference-mesh coordinates (count, q, d) of points given by vertex shape functions (q, v)."""
        cells = slice(0, self.owned if count is None else count)
        return np.einsum("qv,cvd->cqd", vertex, self.vertices[cells])

    def scale_at(self, points: Array) -> Array:
        """|det J| (owned, q) at points (q, d) of the reference cell."""
        return np.asarray(np.abs(np.linalg.det(_jacobian(self.cell, self.vertices[: self.owned], points))))

    def inverse_jacobian_at(self, points: Array) -> Array:
        """Inverse Jacobians (owned, q, d, d) at points (q, d) of the reference cell."""
        return np.linalg.inv(_jacobian(self.cell, self.vertices[: self.owned], points))

    def invert_mass(self, residual: Array) -> Array:
        """M⁻¹ r for all owned cells; (owned, i, b) -> same."""
        if self.affine:
            return residual * self.inverse_mass[: self.owned]
        return np.asarray(np.matmul(self.inverse_mass[: self.owned], residual))


def build_space(mesh: dmesh.Mesh, degree: int, potential_degree: int) -> Space:
    """Tables, geometry and facets of the pair DG_degree, CG_potential_degree; collective.

    The quadrature is exact to degree 2p + k − 1, that is for ∫ρ ∇V·∇ψ on affine simplices.
    """
    topology, dim = mesh.topology, mesh.topology.dim
    for pair in ((dim - 1, dim), (dim, dim - 1), (dim - 1, 0)):
        topology.create_connectivity(*pair)
    cell = getattr(CellType, topology.cell_name())

    tables = tabulate(cell, degree, potential_degree, max(2 * degree + potential_degree - 1, potential_degree, 1))
    dofs = mesh.geometry.dofmaps[0]
    vertices = np.ascontiguousarray(mesh.geometry.x[dofs][:, :, :dim])
    jacobian = _jacobian(cell, vertices, tables.points)
    spread = np.abs(jacobian - jacobian[:, :1]).max(initial=0.0) / max(np.abs(jacobian).max(initial=0.0), 1e-300)
    affine = mesh.comm.allreduce(spread < 1e-12, op=MPI.LAND)

    # On affine cells one point stands for all of the cell.
    if affine:
        jacobian = jacobian[:, :1]
    inverse, scale = np.linalg.inv(jacobian), np.abs(np.linalg.det(jacobian))

    node_shape = _vertex_shape(cell, potential_element(cell, potential_degree).points)
    return Space(
        mesh=mesh,
        cell=cell,
        degree=degree,
        potential_degree=potential_degree,
        owned=int(topology.index_map(dim).size_local),
        vertices=vertices,
        inverse_jacobian=np.ascontiguousarray(inverse),
        scale=np.ascontiguousarray(scale),
        inverse_mass=_inverse_mass(tables, scale, affine),
        moment=_moment(cell, degree, potential_degree, vertices, affine),
        nodes=np.einsum("jv,cvd->cjd", node_shape, vertices),
        boundary=_touches_boundary(mesh),
        tables=tables,
        facets=_facets(mesh, cell, degree, potential_degree, vertices, affine),
    )


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
        vertex=_vertex_shape(cell, points),
    )


def _vertex_shape(cell: CellType, points: Array) -> Array:
    return np.ascontiguousarray(potential_element(cell, 1).tabulate(0, points)[0, :, :, 0])


def _jacobian(cell: CellType, vertices: Array, points: Array) -> Array:
    gradient = potential_element(cell, 1).tabulate(1, points)[1:, :, :, 0]
    return np.einsum("cvi,aqv->cqia", vertices, gradient)


def _inverse_mass(tables: ElementTables, scale: Array, affine: bool) -> Array:
    if affine:
        return np.ascontiguousarray(1.0 / scale[:, :, None])
    mass = np.einsum("q,cq,qi,qj->cij", tables.weights, scale, tables.density, tables.density)
    return np.linalg.inv(mass)


def _moment(cell: CellType, degree: int, potential_degree: int, vertices: Array, affine: bool) -> Array:
    """∫ φ_j ψ_i, by a quadrature that is exact on affine and on multilinear cells."""
    tables = tabulate(cell, degree, potential_degree, degree + potential_degree + 2)
    if affine:
        return np.einsum("q,qj,qi->ji", tables.weights, tables.potential, tables.density)[None]
    scale = np.abs(np.linalg.det(_jacobian(cell, vertices, tables.points)))
    return np.einsum("q,cq,qj,qi->cji", tables.weights, scale, tables.potential, tables.density)


def _touches_boundary(mesh: dmesh.Mesh) -> NDArray[np.bool_]:
    topology = mesh.topology
    owned = topology.index_map(topology.dim).size_local
    touches = np.zeros(owned, dtype=bool)
    cells = topology.connectivity(topology.dim - 1, topology.dim)
    for facet in dmesh.exterior_facet_indices(topology):
        touches[[c for c in cells.links(facet) if c < owned]] = True
    return touches


def _facets(
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
    jacobian = _jacobian(cell, vertices, points[:1] if affine else points)

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
        vertex=_vertex_shape(cell, points).reshape(by_facet),
        inverse_jacobian=np.ascontiguousarray(np.linalg.inv(jacobian)),
        scale=np.ascontiguousarray(np.abs(np.linalg.det(jacobian))),
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
