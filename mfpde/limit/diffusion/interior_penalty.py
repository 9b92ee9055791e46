"""The symmetric interior penalty form of ∇·(D ∇ρ̂), for all blocks at once, each with its own constant D.

In a frame θ = c + A ξ the Laplacian of ρ is ∇_ξ·(D ∇_ξ ρ̂) with D = A⁻¹A⁻ᵀ. For ρ̂, ψ ∈ DG_p, p ≥ 1,

    a(ρ̂, ψ) = Σ_K ∫_K D∇ρ̂·∇ψ − Σ_F ∫_F ( {D∇ρ̂}·n ⟦ψ⟧ + {D∇ψ}·n ⟦ρ̂⟧ ) + Σ_F ∫_F σ_F (nᵀDn) ⟦ρ̂⟧ ⟦ψ⟧

over interior facets F; on the mesh boundary the flux is zero. Every term is linear in D, the penalty too: one set of
tables of the reference cell serves all blocks, frames and steps, and no matrix is assembled.

**Penalty.** With w = D^½∇ρ̂ and s² = nᵀDn, |D∇ρ̂·n| ≤ |w| s. Let C_{K,F} be a constant of the trace inequality
∫_F v² ≤ C_{K,F} ∫_K v² for the polynomials v that components of ∇ρ̂ are, and Λ the largest of
Σ_{F⊂∂K} ∫_F v²/C_{K,F} over ∫_K v². Then σ_F = max_K Λ C_{K,F} gives, by Young's inequality, for every D

    a(ρ̂, ρ̂) ≥ ¼ Σ_K ∫_K D∇ρ̂·∇ρ̂ + ⅓ Σ_F ∫_F σ_F s² ⟦ρ̂⟧² ≥ 0.

The constants are largest eigenvalues. On affine cells C_{K,F} = c_F |F|/|K| with c_F and Λ of the reference cell and
the span of gradients there; on multilinear ones they are computed cell by cell, for the polynomials that components of
det J ∇ρ̂ are. Sources: Arnold, *SIAM J. Numer. Anal.* 19 (1982); Warburton & Hesthaven, *Comput. Methods Appl.
Mech. Engrg.* 192 (2003), for the trace inequality; Epshteyn & Rivière, *J. Comput. Appl. Math.* 206 (2007).
"""

from __future__ import annotations

from typing import NamedTuple

import basix
import numpy as np

from mfpde.limit.diffusion.interior_penalty_kernels import Array, Index, facet_terms, normal_flux, volume_flux
from mfpde.limit.fem.elements import density_element, potential_element
from mfpde.limit.fem.space import Space
from mfpde.limit.transport.transport import Transport

_CHUNK = 512  # columns, so that what is between two products stays in the cache
_DEPENDENT = 1e-10  # singular values below this fraction of the largest are zero up to rounding


class Coefficients(NamedTuple):
    """D and the geometry; g points (1 on affine cells), r = f·g points on facets, columns l: cell × block."""

    inside: Array  # (g, a, k, l): |det J| J⁻¹ D J⁻ᵀ of owned cells
    through: Array  # (r, a, l): |det J| J⁻¹ D J⁻ᵀ n̂ of all cells: with ∇̂ρ̂ it gives D∇ρ̂·n on the facet
    penalty: Array  # (r, l): σ_F nᵀDn of owned cells, with the facet's surface element


class _Tables(NamedTuple):
    """Basis functions of the reference cell, q points inside, f·q on facets."""

    gradient: Array  # (q·a, i)
    weights: Array  # (q,)
    value: Array  # (f·q, i)
    slope: Array  # (f·q·a, i)
    facet_weights: Array  # (f·q,)


class InteriorPenalty:
    """The form on a space, applied to coefficients of all blocks."""

    def __init__(self, transport: Transport, sigma: float | None = None) -> None:
        """Tables and penalties; no communication.

        Args:
            transport: of the density, for its space and its exchange between ranks.
            sigma: σ_F of all facets; by default the least that is known to make the form coercive.
        """
        self.space = transport.space
        self._transport = transport
        self._tables = _tables(self.space)
        self._rows = (len(self._tables.gradient), len(self._tables.value), len(self._tables.slope))
        self._across = _across(self.space)
        self._normal = _normals(self.space)
        self._penalty = _penalties(self.space, self._normal, sigma)

    def coefficients(self, metric: Array) -> Coefficients:
        """The coefficients for D (b, d, d)."""
        space, facets = self.space, self.space.facets
        inside = _pull_back(space.inverse_jacobian, space.scale, metric)
        at_facets = inside if space.affine else _pull_back(facets.inverse_jacobian, facets.scale, metric)

        count, points = facets.normal.shape[0], 1 if space.affine else len(facets.weights)
        normal = np.repeat(facets.normal, points, axis=0)  # (r, k)
        if space.affine:
            through = np.einsum("akcb,rk->racb", at_facets[0], normal)
        else:
            through = np.einsum("rakcb,rk->racb", at_facets.reshape(count * points, *at_facets.shape[1:]), normal)

        mine = slice(0, space.owned)
        square = np.einsum("crk,bkl,crl->rcb", self._normal[mine], metric, self._normal[mine], optimize=True)

        return Coefficients(
            np.ascontiguousarray(inside[:, :, :, mine]).reshape(*inside.shape[:3], -1),
            np.ascontiguousarray(through).reshape(*through.shape[:2], -1),
            (self._penalty[mine].T[..., None] * square).reshape(len(square), -1),
        )

    def apply(self, coefficients: Coefficients, density: Array) -> Array:
        """a(ρ̂, ψ_i) on owned cells (owned, i, b), for ρ̂ (owned, i, b); one neighbour exchange."""
        return self._apply(coefficients, self._transport.ghosted(density), alone=False)

    def diagonal(self, coefficients: Coefficients) -> Array:
        """The blocks a(ψ_j, ψ_i) of each cell with itself, (owned, b, i, j); no communication."""
        space, blocks = self.space, self._transport.blocks
        out = np.empty((space.owned, blocks, space.size, space.size))
        for j in range(space.size):
            unit = np.zeros((len(space.vertices), space.size, blocks))
            unit[:, j] = 1.0
            out[..., j] = np.moveaxis(self._apply(coefficients, unit, alone=True), 1, 2)
        return out

    def _apply(self, coefficients: Coefficients, density: Array, alone: bool) -> Array:
        space, tables = self.space, self._tables
        blocks, owned = density.shape[2], space.owned
        columns = np.ascontiguousarray(density.transpose(1, 0, 2)).reshape(space.size, -1)
        value = tables.value @ columns
        flux, out = np.empty_like(value), np.empty((space.size, owned * blocks))
        step = max(1, _CHUNK // blocks)

        for first in range(0, len(density), step):
            here = slice(first * blocks, min(first + step, len(density)) * blocks)
            normal_flux(coefficients.through[..., here], tables.slope @ columns[:, here], flux[:, here])

        for first in range(0, owned, step):
            cells = slice(first, min(first + step, owned))
            here = slice(cells.start * blocks, cells.stop * blocks)
            weighted, jumps, slopes = (np.empty((rows, here.stop - here.start)) for rows in self._rows)
            volume_flux(tables.weights, coefficients.inside[..., here], tables.gradient @ columns[:, here], weighted)
            facet_terms(
                tables.facet_weights, coefficients.penalty[:, here], coefficients.through[..., here],
                self._across[:, cells], blocks, here.start, value, flux, alone, jumps, slopes,
            )  # fmt: skip
            out[:, here] = tables.gradient.T @ weighted + tables.value.T @ jumps + tables.slope.T @ slopes

        return np.ascontiguousarray(out.reshape(space.size, owned, blocks).transpose(1, 0, 2))


def _tables(space: Space) -> _Tables:
    element, facets = density_element(space.cell, space.degree), space.facets
    points = (facets.vertex @ basix.geometry(space.cell)).reshape(-1, space.dim)
    slope = element.tabulate(1, points)[1:, :, :, 0]  # (a, f·q, i)
    return _Tables(
        gradient=np.ascontiguousarray(np.swapaxes(space.tables.density_gradient, 1, 2)).reshape(-1, space.size),
        weights=space.tables.weights,
        value=facets.density.reshape(-1, space.size),
        slope=np.ascontiguousarray(np.moveaxis(slope, 0, 1)).reshape(-1, space.size),
        facet_weights=np.tile(facets.weights, facets.normal.shape[0]),
    )


def _across(space: Space) -> Index:
    """(f·q, c) place of the same point as seen from the other side, cell × (f·q) + point; −1 without one."""
    facets = space.facets
    count, points = facets.normal.shape[0], len(facets.weights)
    row = facets.facet[:, :, None].astype(np.int64) * points + facets.permutation[facets.order]
    place = facets.neighbour[:, :, None].astype(np.int64) * (count * points) + row
    flat = np.where(facets.neighbour[:, :, None] < 0, -1, place).reshape(len(row), count * points)
    return np.ascontiguousarray(flat.T)


def _pull_back(inverse: Array, scale: Array, metric: Array) -> Array:
    """|det J| J⁻¹ D J⁻ᵀ (g, a, k, c, b)."""
    return np.einsum("cg,cgam,bmn,cgkn->gakcb", scale, inverse, metric, inverse, optimize=True)


def _normals(space: Space) -> Array:
    """The normals |det J| J⁻ᵀ n̂ of the mesh, whose length is the surface element, (c, f·g, d)."""
    facets = space.facets
    count, points = facets.normal.shape[0], 1 if space.affine else len(facets.weights)
    normal = np.repeat(facets.normal, points, axis=0)
    inverse, scale = facets.inverse_jacobian, facets.scale
    if space.affine:
        inverse, scale = np.repeat(inverse[:, :1], count, axis=1), np.repeat(scale[:, :1], count, axis=1)
    return np.einsum("cr,crak,ra->crk", scale, inverse, normal)


def _penalties(space: Space, normal: Array, given: float | None) -> Array:
    """σ_F over the surface element (c, f·g), zero where no cell lies across; equal on both sides of a facet."""
    facets = space.facets
    count, points = facets.normal.shape[0], 1 if space.affine else len(facets.weights)
    length = np.sqrt((normal**2).sum(axis=2)).reshape(-1, count, points)
    functions = _GradientSpace(space)

    if given is not None:
        mine = np.full((len(normal), count), given)
    elif space.affine:
        alone, together = functions.constants(functions.weights, functions.facet_weights)
        mine = together * alone * length[:, :, 0] / space.scale[:, :1]
    else:
        mine = np.array([_of_cell(functions, vertices) for vertices in space.vertices]).reshape(-1, count)

    theirs = mine[facets.neighbour, facets.facet]
    sigma = np.where(facets.neighbour < 0, 0.0, np.maximum(mine, theirs))
    return (sigma[:, :, None] / length).reshape(len(normal), count * points)


def _of_cell(functions: _GradientSpace, vertices: Array) -> Array:
    """Λ C_{K,F} (f,) of one multilinear cell with vertices (v, d): ∇ρ̂ is a polynomial over det J."""
    inside, on = (np.einsum("vi,...av->...ia", vertices, slope) for slope in (functions.shape, functions.facet_shape))
    scale = np.abs(np.linalg.det(on))
    normal = scale[..., None] * np.einsum("fsak,fa->fsk", np.linalg.inv(on), functions.normal)
    length = np.sqrt((normal**2).sum(axis=2))
    alone, together = functions.constants(
        functions.weights / np.abs(np.linalg.det(inside)), functions.facet_weights * length / scale**2
    )
    return together * alone


class _GradientSpace:
    """The polynomials on the reference cell that contain the components of ∇ρ̂ (on multilinear cells, of det J ∇ρ̂)."""

    def __init__(self, space: Space) -> None:
        cell, dim, affine = space.cell, space.dim, space.affine
        degree = space.degree if affine else space.degree + dim - 1
        exactness = 2 * degree + (0 if affine else 2)

        points, self.weights = basix.make_quadrature(cell, exactness)
        kind = basix.cell.subentity_types(cell)[dim - 1][0]
        t, weights = basix.make_quadrature(kind, exactness) if dim > 1 else (np.zeros((1, 0)), np.ones(1))
        corners = [basix.geometry(cell)[own] for own in basix.topology(cell)[dim - 1]]
        sides = [corner[0] + t @ (corner[1 : t.shape[1] + 1] - corner[0]) for corner in corners]
        self.facet_weights = np.tile(weights, (len(sides), 1))  # (f, s)
        self.normal = space.facets.normal

        vertex = potential_element(cell, 1)
        self.shape = np.moveaxis(vertex.tabulate(1, points)[1:, :, :, 0], 1, 0)  # (q, a, v)
        self.facet_shape = np.stack([np.moveaxis(vertex.tabulate(1, side)[1:, :, :, 0], 1, 0) for side in sides])

        element = density_element(cell, degree)

        def values(at: Array) -> Array:
            if not affine:
                return element.tabulate(0, at)[0, :, :, 0]
            return np.concatenate(list(element.tabulate(1, at)[1:, :, :, 0]), axis=1)

        self.inside = values(points)  # (q, m)
        self.on = np.stack([values(side) for side in sides])  # (f, s, m)

    def constants(self, weights: Array, facet_weights: Array) -> tuple[Array, float]:
        """C_F (f,) and Λ for quadrature weights (q,) inside and (f, s) on the facets."""
        _, size, axes = np.linalg.svd(np.sqrt(weights)[:, None] * self.inside, full_matrices=False)
        kept = size > _DEPENDENT * size[0]
        basis = axes[kept].T / size[kept]  # orthonormal in ∫_K
        on = np.sqrt(facet_weights)[..., None] * (self.on @ basis)
        alone = np.linalg.norm(on, ord=2, axis=(1, 2)) ** 2
        joint = (on / np.sqrt(alone)[:, None, None]).reshape(-1, len(size[kept]))
        return alone, float(np.linalg.norm(joint, ord=2) ** 2)
