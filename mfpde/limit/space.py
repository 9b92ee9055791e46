"""The pair of finite-element spaces on one mesh: density ρ_h in DG_p, potential V_h in CG_k.

The density's basis on the reference cell is orthonormal (Legendre), so that on affine cells the mass matrix is |det J|
times the identity. The potential needs no dof map: its nodal values are a function of θ, so two cells that share a
node compute the same value. Source: mathematics.md, section 4; Hesthaven & Warburton, *Nodal DG Methods*, ch. 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import basix
import numpy as np
from basix import CellType, ElementFamily, LagrangeVariant
from dolfinx import mesh as dmesh
from mpi4py import MPI
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int32]


def density_element(cell: CellType, degree: int) -> basix.finite_element.FiniteElement:
    """The discontinuous element of the density with its orthonormal basis."""
    return basix.create_element(ElementFamily.P, cell, degree, LagrangeVariant.legendre, basix.DPCVariant.unset, True)


def potential_element(cell: CellType, degree: int) -> basix.finite_element.FiniteElement:
    """The continuous nodal element of the potential."""
    return basix.create_element(ElementFamily.P, cell, degree, LagrangeVariant.gll_warped)


@dataclass(frozen=True)
class Tables:
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
    """Interior facets with at least one cell of this rank; side 0 owns the normal, f facets, t tables, s sides.

    A table is a local facet seen through one of the permutations of its vertices: both sides then meet the same
    quadrature points in the same order.
    """

    cells: Index  # (f, 2)
    table: Index  # (f, 2)
    weights: Array  # (q,)
    density: Array  # (t, q, i)
    potential_gradient: Array  # (t, q, j, d)
    vertex: Array  # (t, q, v)
    inverse_jacobian: Array  # (f, 2, g, d, d); g = 1 on affine cells, else q
    normal: Array  # (f, g, d), scaled with the surface element


@dataclass(frozen=True)
class Space:
    """DG_p and CG_k on a mesh, this rank's part: c cells (owned first, then ghosts), i, j, q, v as in `Tables`."""

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
    tables: Tables
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


def tabulate(cell: CellType, degree: int, potential_degree: int, exactness: int) -> Tables:
    """Tables at the points of a quadrature of the given polynomial exactness."""
    points, weights = basix.make_quadrature(cell, exactness)
    density = density_element(cell, degree).tabulate(1, points)[..., 0]
    potential = potential_element(cell, potential_degree).tabulate(1, points)[..., 0]
    return Tables(
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


def _inverse_mass(tables: Tables, scale: Array, affine: bool) -> Array:
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
    """Pair the two sides of every interior facet, and tabulate each way of seeing a facet that occurs."""
    dim, owned = mesh.topology.dim, mesh.topology.index_map(mesh.topology.dim).size_local
    corners = np.asarray(basix.topology(cell)[dim - 1], dtype=np.int64)  # (local facets, facet vertices)
    cells, local, order = _pairs(mesh, corners, owned)
    views, table = np.unique(
        np.column_stack([local.reshape(-1, 1), order.reshape(-1, corners.shape[1])]), axis=0, return_inverse=True
    )
    table = table.reshape(-1, 2)
    kind = basix.cell.subentity_types(cell)[dim - 1][0]
    exactness = max(2 * degree + potential_degree - 1, 1)
    t, weights = basix.make_quadrature(kind, exactness) if dim > 1 else (np.zeros((1, 0)), np.ones(1))
    corner = basix.geometry(cell)
    reference = [_facet_points(corner[view[1:]], t) for view in views] or [np.zeros((len(weights), dim))]
    gradients = [potential_element(cell, potential_degree).tabulate(1, x)[1:, :, :, 0] for x in reference]
    shapes = np.stack([_vertex_shape(cell, x) for x in reference])
    sample = np.stack([x[:1] if affine else x for x in reference])  # (t, g, d)
    shape_gradient = np.stack([potential_element(cell, 1).tabulate(1, x)[1:, :, :, 0] for x in sample])
    jacobian = np.einsum("fsvi,fsagv->fsgia", vertices[cells], shape_gradient[table])
    inverse = np.linalg.inv(jacobian)
    outward = basix.cell.facet_outward_normals(cell) * _facet_scale(cell)[:, None]  # (local facets, d)
    normal = np.abs(np.linalg.det(jacobian[:, 0]))[..., None] * np.einsum(
        "fgai,fa->fgi", inverse[:, 0], outward[local[:, 0]]
    )
    return Facets(
        cells=np.ascontiguousarray(cells, dtype=np.int32),
        table=np.ascontiguousarray(table, dtype=np.int32),
        weights=np.asarray(weights, dtype=np.float64),
        density=np.stack([density_element(cell, degree).tabulate(0, x)[0, :, :, 0] for x in reference]),
        potential_gradient=np.ascontiguousarray(np.moveaxis(np.stack(gradients), 1, 3)),
        vertex=shapes,
        inverse_jacobian=np.ascontiguousarray(inverse),
        normal=np.ascontiguousarray(normal),
    )


def _pairs(mesh: dmesh.Mesh, corners: NDArray[np.int64], owned: int) -> tuple[NDArray, NDArray, NDArray]:
    """Cells (f, 2), local facets (f, 2) and, per side, cell-local vertices (f, 2, v) in the order of side 0."""
    dim, dofs = mesh.topology.dim, mesh.geometry.dofmaps[0]
    to_cells = mesh.topology.connectivity(dim - 1, dim)
    to_facets = mesh.topology.connectivity(dim, dim - 1)
    cells, local, order = [], [], []
    for facet in range(to_cells.num_nodes):
        pair = to_cells.links(facet)
        if len(pair) != 2 or min(pair) >= owned:
            continue
        sides = [int(np.flatnonzero(to_facets.links(c) == facet)[0]) for c in pair]
        first = dofs[pair[0]][corners[sides[0]]]
        second = [int(np.flatnonzero(dofs[pair[1]] == vertex)[0]) for vertex in first]
        cells.append(pair)
        local.append(sides)
        order.append([corners[sides[0]], second])
    width = corners.shape[1]
    return (
        np.array(cells, dtype=np.int64).reshape(-1, 2),
        np.array(local, dtype=np.int64).reshape(-1, 2),
        np.array(order, dtype=np.int64).reshape(-1, 2, width),
    )


def _facet_points(corner: Array, t: Array) -> Array:
    """Facet coordinates t (q, d−1) carried to the cell, with the facet's vertices (v, d) in the order given."""
    return corner[0] + t @ (corner[1 : t.shape[1] + 1] - corner[0])


def _facet_scale(cell: CellType) -> Array:
    """The surface element of each reference facet against its own reference coordinates."""
    if cell == CellType.interval:
        return np.ones(2)
    jacobians = basix.cell.facet_jacobians(cell)
    return np.sqrt(np.linalg.det(np.swapaxes(jacobians, 1, 2) @ jacobians))
