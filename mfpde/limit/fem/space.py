"""The pair of finite-element spaces on one mesh: density ρ_h in DG_p, potential V_h in CG_k.

The density's basis on the reference cell is orthonormal (Legendre), so that on affine cells the mass matrix is |det J|
times the identity. The potential needs no dof map: its nodal values are a function of θ, so two cells that share a
node compute the same value. Source: docs/equations.md; Hesthaven & Warburton, *Nodal DG Methods*, ch. 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from basix import CellType
from dolfinx import mesh as dmesh
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit.fem.elements import ElementTables, jacobian, potential_element, tabulate, vertex_shape
from mfpde.limit.fem.facets import Facets, build_facets

Array = NDArray[np.float64]
_BATCH = 2**19  # numbers of a batch of cells, 4 MB


@dataclass(frozen=True)
class Space:
    """DG_p and CG_k on a mesh, this rank's part: c cells (owned first, then ghosts), i, j, q, v as in the tables."""

    comm: MPI.Intracomm
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
        """|det J| (owned, q) at points (q, d) of the reference cell; on affine cells one number stands for all."""
        if self.affine:
            return np.broadcast_to(self.scale[: self.owned, :1], (self.owned, len(points)))
        return np.asarray(np.abs(np.linalg.det(jacobian(self.cell, self.vertices[: self.owned], points))))

    def inverse_jacobian_at(self, points: Array) -> Array:
        """Inverse Jacobians (owned, q, d, d) at points (q, d) of the reference cell."""
        return np.linalg.inv(jacobian(self.cell, self.vertices[: self.owned], points))

    def invert_mass(self, residual: Array) -> Array:
        """M⁻¹ r for all owned cells; (owned, i, b) -> same."""
        if self.affine:
            return residual * self.inverse_mass[: self.owned]
        return np.asarray(np.matmul(self.inverse_mass[: self.owned], residual))


def build_space(comm: MPI.Intracomm, mesh: dmesh.Mesh, degree: int, potential_degree: int) -> Space:
    """Tables, geometry and facets of the pair DG_degree, CG_potential_degree; collective.

    The quadrature is exact to degree 2p + k − 1, that is for ∫ρ ∇V·∇ψ on affine simplices.

    Args:
        comm: the communicator that the mesh was made on. Collectives use it and never `mesh.comm`, DOLFINx's own copy:
            mpi4py's collectives of objects leave a lock at a communicator, and deadlock when a copy that has one is
            freed with its mesh while an exception is on its way up.
        mesh: the reference mesh.
        degree: p.
        potential_degree: k.
    """
    topology, dim = mesh.topology, mesh.topology.dim
    for pair in ((dim - 1, dim), (dim, dim - 1), (dim - 1, 0)):
        topology.create_connectivity(*pair)
    cell = getattr(CellType, topology.cell_name())

    tables = tabulate(cell, degree, potential_degree, max(2 * degree + potential_degree - 1, potential_degree, 1))
    dofs = mesh.geometry.dofmaps[0]
    vertices = np.ascontiguousarray(mesh.geometry.x[dofs][:, :, :dim])
    at_points = jacobian(cell, vertices, tables.points)
    spread = np.abs(at_points - at_points[:, :1]).max(initial=0.0) / max(np.abs(at_points).max(initial=0.0), 1e-300)
    affine = comm.allreduce(spread < 1e-12, op=MPI.LAND)

    # On affine cells one point stands for all of the cell.
    if affine:
        at_points = at_points[:, :1]
    inverse, scale = np.linalg.inv(at_points), np.abs(np.linalg.det(at_points))

    node_shape = vertex_shape(cell, potential_element(cell, potential_degree).points)
    return Space(
        comm=comm,
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
        facets=build_facets(mesh, cell, degree, potential_degree, vertices, affine),
    )


def monomials(xi: Array) -> Array:
    """{1, ξ, ξξᵀ (upper triangle)} (..., r) at points ξ (..., d)."""
    upper = np.triu_indices(xi.shape[-1])
    return np.concatenate([np.ones_like(xi[..., :1]), xi, xi[..., upper[0]] * xi[..., upper[1]]], axis=-1)


def cell_moments(space: Space) -> Array:
    """∫_K ψ_i {1, ξ, ξξᵀ} (owned, r, i)."""
    fine = tabulate(space.cell, space.degree, 1, space.degree + 4)
    measure = fine.weights * space.scale_at(fine.points)
    functions = monomials(space.points(fine.vertex))
    return np.ascontiguousarray(np.swapaxes(np.matmul(fine.density.T, measure[..., None] * functions), 1, 2))


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
    scale = np.abs(np.linalg.det(jacobian(cell, vertices, tables.points)))
    return np.einsum("q,cq,qj,qi->cji", tables.weights, scale, tables.potential, tables.density)


def _touches_boundary(mesh: dmesh.Mesh) -> NDArray[np.bool_]:
    topology = mesh.topology
    owned = topology.index_map(topology.dim).size_local
    touches = np.zeros(owned, dtype=bool)
    cells = topology.connectivity(topology.dim - 1, topology.dim)
    for facet in dmesh.exterior_facet_indices(topology):
        touches[[c for c in cells.links(facet) if c < owned]] = True
    return touches
