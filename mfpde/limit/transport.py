"""The discontinuous Galerkin transport of the density: upwinding by the local Lax–Friedrichs flux.

In reference coordinates ξ of a frame θ = c + A ξ the density ρ̂ moves with

    û = −A⁻¹A⁻ᵀ ∇_ξ V − A⁻¹ċ − A⁻¹Ȧ ξ

and the scheme finds ∂_τ ρ̂ ∈ DG_p such that for every cell K and test function ψ

    ∫_K ψ ∂_τ ρ̂ = ∫_K ρ̂ û·∇ψ − ∫_∂K ψ F,     F = {ρ̂ û}·n + ½ a (ρ̂⁻ − ρ̂⁺),  a = max(|û⁻·n|, |û⁺·n|),

with F = 0 on the mesh boundary. Source: mathematics.md, section 4; Cockburn & Shu, *J. Sci. Comput.* 16 (2001).

Memory: every array that differs between blocks (layer × family) has the block as its last, contiguous index, and the
innermost loops run over blocks. Geometry and tables are shared by all blocks.
"""

from __future__ import annotations

import numpy as np
from dolfinx import la
from numba import njit
from numpy.typing import NDArray

from mfpde.limit.frame import Motion, VelocityMoments
from mfpde.limit.space import Space

Array = NDArray[np.float64]
_EMPTY = 1e-9  # a cell with less mass holds none: it does not bound the time step


class Transport:
    """The right-hand side on one space for a fixed number of blocks; owns the ghosted copy of the density."""

    def __init__(self, space: Space, blocks: int) -> None:
        self.space = space
        self.blocks = blocks
        index_map = space.mesh.topology.index_map(space.dim)
        self._ghosted = la.vector(index_map, space.size * blocks, np.float64)
        self._density: Array = self._ghosted.array.reshape(-1, space.size, blocks)

    def rate(self, density: Array, potential: Array, motion: Motion) -> tuple[Array, Array]:
        """∂_τ ρ̂ and the speed that bounds the time step; one neighbour exchange.

        Args:
            density: coefficients (owned, i, b).
            potential: nodal values on all cells (c, j, b).
            motion: metric and frame velocity of the blocks.

        Returns:
            The rate (owned, i, b), and per block (b,) the largest over this rank's cells of Σ_facets ∮a / |K|: an
            explicit step must stay below a constant over it. Cells whose mass is below 1e-9 do not count: what a
            larger step amplifies there is nothing, and it counts as soon as it is something.
        """
        space, tables, facets = self.space, self.space.tables, self.space.facets
        self._density[: space.owned] = density
        self._ghosted.scatter_forward()
        residual = np.zeros_like(self._density)
        speed = np.zeros((len(self._density), self.blocks))
        metric, drift, stretch = (
            np.ascontiguousarray(np.moveaxis(x, 0, -1)) for x in (motion.metric, motion.drift, motion.stretch)
        )
        moving = bool(np.any(drift) or np.any(stretch))
        frame = (metric, drift, stretch, moving)
        _interior(
            self._density[: space.owned], potential, residual, space.vertices, space.inverse_jacobian, space.scale,
            tables.weights, tables.density, tables.density_gradient, tables.potential_gradient, tables.vertex, *frame,
        )  # fmt: skip
        _across_facets(
            self._density, potential, residual, speed, space.vertices, facets.cells, facets.table,
            facets.inverse_jacobian, facets.normal, facets.weights, facets.density, facets.potential_gradient,
            facets.vertex, *frame,
        )  # fmt: skip
        volume = space.scale[: space.owned] @ (np.array([tables.weights.sum()]) if space.affine else tables.weights)
        fastest = np.zeros(self.blocks)
        _fastest(density, speed, volume, fastest)
        return space.invert_mass(residual[: space.owned]), fastest

    def velocity_moments(self, density: Array, potential: Array, metric: Array) -> VelocityMoments:
        """This rank's share of the integrals that tell a co-moving frame where to go; no communication.

        Args:
            density: coefficients (owned, i, b).
            potential: nodal values on all cells (c, j, b).
            metric: D, shape (b, d, d).
        """
        space, tables, dim = self.space, self.space.tables, self.space.dim
        sums = np.zeros((1 + 2 * dim + 2 * dim * dim, self.blocks))
        _velocity_moments(
            np.ascontiguousarray(density), potential, space.vertices, space.inverse_jacobian, space.scale,
            tables.weights, tables.density, tables.potential_gradient, tables.vertex,
            np.ascontiguousarray(np.moveaxis(metric, 0, -1)), sums,
        )  # fmt: skip
        return unpack_moments(sums)


def unpack_moments(sums: Array) -> VelocityMoments:
    """The inverse of `pack_moments`."""
    rows, blocks = sums.shape
    dim = next(d for d in (1, 2, 3) if 1 + 2 * d + 2 * d * d == rows)
    mass, mean, velocity, second, shear = np.split(sums, np.cumsum([1, dim, dim, dim * dim]))
    square = (dim, dim, blocks)
    return VelocityMoments(
        mass[0], mean.T, np.moveaxis(second.reshape(square), 2, 0), velocity.T, np.moveaxis(shear.reshape(square), 2, 0)
    )


def pack_moments(moments: VelocityMoments) -> Array:
    """All sums in one array (rows, b), for one reduction."""
    blocks = len(moments.mass)
    second, shear = (np.moveaxis(m, 0, 2).reshape(-1, blocks) for m in (moments.second, moments.shear))
    return np.concatenate([moments.mass[None], moments.mean.T, moments.velocity.T, second, shear])


@njit(cache=True)
def _fastest(density, speed, volume, fastest):  # type: ignore[no-untyped-def]
    """The largest speed/|K| (b,) over owned cells that hold mass: ∫_K |ρ̂| ≤ |K| (Σ_i ρ̂_i²)^½ by orthonormality."""
    cells, size, blocks = density.shape
    square = np.empty(blocks)
    for c in range(cells):
        square[:] = 0.0
        for i in range(size):
            for b in range(blocks):
                square[b] += density[c, i, b] ** 2
        least = (_EMPTY / volume[c]) ** 2
        for b in range(blocks):
            if square[b] > least:
                fastest[b] = max(fastest[b], speed[c, b] / volume[c])


@njit(cache=True, fastmath={"contract"})
def _velocity_moments(  # type: ignore[no-untyped-def]
    density, potential, vertices, inverse_jacobian, scale, weights, table, potential_table, vertex_table, metric, sums
):  # fmt: skip
    """sums (rows, b) += ∫ρ̂ {1, ξ, û₀, ξξᵀ, û₀ξᵀ} over owned cells."""
    cells, size, blocks = density.shape
    dim = vertices.shape[2]
    gradient, local, velocity = np.empty((dim, blocks)), np.empty((dim, blocks)), np.empty((dim, blocks))
    value, coordinates, rest = np.empty(blocks), np.empty(dim), np.empty((dim, dim, blocks))
    affine = scale.shape[1] == 1
    for c in range(cells):
        for q in range(weights.size):
            g = 0 if affine else q
            _gradient(potential[c], potential_table[q], inverse_jacobian[c, g], local, gradient)
            _position(vertices[c], vertex_table[q], coordinates)
            _velocity(gradient, coordinates, metric, local, rest, False, velocity)
            value[:] = 0.0
            for i in range(size):
                for b in range(blocks):
                    value[b] += table[q, i] * density[c, i, b]
            for b in range(blocks):
                value[b] *= weights[q] * scale[c, g]
                sums[0, b] += value[b]
            for k in range(dim):
                for b in range(blocks):
                    sums[1 + k, b] += value[b] * coordinates[k]
                    sums[1 + dim + k, b] += value[b] * velocity[k, b]
                for m in range(dim):
                    row = 1 + 2 * dim + k * dim + m
                    for b in range(blocks):
                        sums[row, b] += value[b] * coordinates[k] * coordinates[m]
                        sums[row + dim * dim, b] += value[b] * velocity[k, b] * coordinates[m]


@njit(cache=True, fastmath={"contract"})
def _velocity(gradient, coordinates, metric, drift, stretch, moving, velocity):  # type: ignore[no-untyped-def]
    """û (d, b) at one point from ∇_ξ V (d, b) and ξ (d,)."""
    dim, blocks = velocity.shape
    for i in range(dim):
        velocity[i, :] = 0.0
        for k in range(dim):
            for b in range(blocks):
                velocity[i, b] -= metric[i, k, b] * gradient[k, b]
        if moving:
            for b in range(blocks):
                velocity[i, b] -= drift[i, b]
            for k in range(dim):
                for b in range(blocks):
                    velocity[i, b] -= stretch[i, k, b] * coordinates[k]


@njit(cache=True, fastmath={"contract"})
def _gradient(potential, table, inverse, local, gradient):  # type: ignore[no-untyped-def]
    """∇_ξ V (d, b) at one point from a cell's nodal values (j, b); `local` (d, b) is scratch."""
    nodes, blocks = potential.shape
    dim = gradient.shape[0]
    for a in range(dim):
        local[a, :] = 0.0
        for j in range(nodes):
            for b in range(blocks):
                local[a, b] += table[j, a] * potential[j, b]
    for k in range(dim):
        gradient[k, :] = 0.0
        for a in range(dim):
            for b in range(blocks):
                gradient[k, b] += inverse[a, k] * local[a, b]


@njit(cache=True, fastmath={"contract"})
def _position(vertices, shape, coordinates):  # type: ignore[no-untyped-def]
    for k in range(coordinates.size):
        coordinates[k] = 0.0
        for v in range(shape.size):
            coordinates[k] += shape[v] * vertices[v, k]


@njit(cache=True, fastmath={"contract"})
def _interior(  # type: ignore[no-untyped-def]
    density, potential, residual, vertices, inverse_jacobian, scale, weights, table, gradient_table,
    potential_table, vertex_table, metric, drift, stretch, moving,
):  # fmt: skip
    """residual += ∫_K ρ̂ û·∇ψ for every owned cell."""
    cells, size, blocks = density.shape
    points, dim = weights.size, vertices.shape[2]
    gradient, local, velocity = np.empty((dim, blocks)), np.empty((dim, blocks)), np.empty((dim, blocks))
    value, coordinates = np.empty(blocks), np.empty(dim)
    affine = scale.shape[1] == 1
    for c in range(cells):
        for q in range(points):
            g = 0 if affine else q
            inverse = inverse_jacobian[c, g]
            _gradient(potential[c], potential_table[q], inverse, local, gradient)
            if moving:
                _position(vertices[c], vertex_table[q], coordinates)
            _velocity(gradient, coordinates, metric, drift, stretch, moving, velocity)
            value[:] = 0.0
            for i in range(size):
                for b in range(blocks):
                    value[b] += table[q, i] * density[c, i, b]
            weight = weights[q] * scale[c, g]
            for a in range(dim):
                local[a, :] = 0.0
                for k in range(dim):
                    for b in range(blocks):
                        local[a, b] += inverse[a, k] * velocity[k, b]
                for b in range(blocks):
                    local[a, b] *= weight * value[b]
            for i in range(size):
                for a in range(dim):
                    for b in range(blocks):
                        residual[c, i, b] += gradient_table[q, i, a] * local[a, b]


@njit(cache=True, fastmath={"contract"})
def _across_facets(  # type: ignore[no-untyped-def]
    density, potential, residual, speed, vertices, cells, tables, inverse_jacobian, normals, weights, table,
    potential_table, vertex_table, metric, drift, stretch, moving,
):  # fmt: skip
    """residual −= ∮ ψ F on both sides of every interior facet, and the facets' share of the speed."""
    size, blocks = density.shape[1], density.shape[2]
    dim = vertices.shape[2]
    gradient, local, velocity = np.empty((dim, blocks)), np.empty((dim, blocks)), np.empty((dim, blocks))
    value, through, flux = np.empty((2, blocks)), np.empty((2, blocks)), np.empty(blocks)
    coordinates = np.empty(dim)
    affine = normals.shape[1] == 1
    for f in range(cells.shape[0]):
        for q in range(weights.size):
            g = 0 if affine else q
            for side in range(2):
                c, t = cells[f, side], tables[f, side]
                _gradient(potential[c], potential_table[t, q], inverse_jacobian[f, side, g], local, gradient)
                if moving:
                    _position(vertices[c], vertex_table[t, q], coordinates)
                _velocity(gradient, coordinates, metric, drift, stretch, moving, velocity)
                value[side, :] = 0.0
                for i in range(size):
                    for b in range(blocks):
                        value[side, b] += table[t, q, i] * density[c, i, b]
                through[side, :] = 0.0
                for k in range(dim):
                    for b in range(blocks):
                        through[side, b] += normals[f, g, k] * velocity[k, b]
            for b in range(blocks):
                a = max(abs(through[0, b]), abs(through[1, b]))
                mean = 0.5 * (value[0, b] * through[0, b] + value[1, b] * through[1, b])
                flux[b] = weights[q] * (mean + 0.5 * a * (value[0, b] - value[1, b]))
                speed[cells[f, 0], b] += weights[q] * a
                speed[cells[f, 1], b] += weights[q] * a
            for side in range(2):
                sign = 1.0 - 2.0 * side
                c, t = cells[f, side], tables[f, side]
                for i in range(size):
                    factor = sign * table[t, q, i]
                    for b in range(blocks):
                        residual[c, i, b] -= factor * flux[b]
