"""Diagnostics of a density on a mesh: mass, moments in θ, entropy, dissipation, and signs of trouble.

Everything is an integral over the mesh in reference coordinates with ρ̂ = |det A| ρ, moments too: in θ the variance of a
density many standard deviations away from zero would be the difference of large numbers. One reduction of sums and
one of minima for all blocks of a space.
"""

from __future__ import annotations

import basix
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit.diagnostics.block_diagnostics import BlockDiagnostics
from mfpde.limit.diffusion.entropy import flux_dissipation
from mfpde.limit.fem.elements import ElementTables, density_element, potential_element, tabulate
from mfpde.limit.fem.frame import Frame
from mfpde.limit.fem.space import Space
from mfpde.parallel import reductions
from mfpde.parallel.exact_sum import Share, pack, share_of, unpack

Array = NDArray[np.float64]


def diagnose(
    space: Space, density: Array, frame: Frame, potential: Array, temperature: float = 0.0
) -> BlockDiagnostics:
    """Integrals of ρ̂ (owned, i, b) over the whole mesh; collective, equal on every rank."""
    shares, smallest = list[Share](), np.full(density.shape[2], np.inf)
    fine = tabulate(space.cell, space.degree, space.potential_degree, 2 * space.degree + 4)

    for cells in space.batches(len(fine.weights) * density.shape[2] * space.dim):
        per_cell, least = _of_cells(space.part(cells), fine, density[cells], frame, potential[cells], temperature)
        found = [share_of(terms, axes=(0,)) for terms in per_cell]
        shares = [a + b for a, b in zip(shares, found, strict=True)] if shares else found
        smallest = np.minimum(smallest, least)

    parts = unpack(reductions.sum_over_ranks(space.comm, pack(shares)), shares)
    mass, first, second, entropy, descent, dissipated, negative, boundary, tail, norm = parts
    mean = first / mass[:, None]
    covariance = second / mass[:, None, None] - mean[:, :, None] * mean[:, None, :]
    overall = np.empty_like(smallest)
    space.comm.Allreduce(smallest, overall, op=MPI.MIN)

    return BlockDiagnostics(
        mass=mass,
        mean=frame.centre + np.einsum("bij,bj->bi", frame.matrix, mean),
        covariance=frame.matrix @ covariance @ np.swapaxes(frame.matrix, 1, 2),
        entropy=entropy,
        dissipation=dissipated,
        descent=descent,
        negative_mass=negative,
        boundary_mass=boundary,
        resolution=np.sqrt(tail / norm),
        min_density=overall,
    )


def _of_cells(
    space: Space, fine: ElementTables, density: Array, frame: Frame, potential: Array, temperature: float
) -> tuple[list[Array], Array]:
    """What is summed over cells, each (owned, b, …), and min ρ̂ (b,)."""
    values = np.einsum("qi,cib->cqb", fine.density, density)
    measure = fine.weights * space.scale_at(fine.points)  # (c, q)
    xi = space.points(fine.vertex)  # (c, q, d)
    weighted = measure[..., None] * values
    log = np.log(np.maximum(values / frame.determinant, np.finfo(float).tiny))
    square = space.scale_at(fine.points).mean(axis=1)[:, None, None] * density**2  # (c, i, b)

    per_cell = [
        weighted.sum(axis=1),
        np.einsum("cqb,cqk->cbk", weighted, xi),
        np.einsum("cqb,cqk,cql->cbkl", weighted, xi, xi),
        np.where(values > 0.0, weighted * log, 0.0).sum(axis=1),
        *_dissipations(space, density, frame, potential, temperature),
        np.maximum(-weighted, 0.0).sum(axis=1),
        weighted[space.boundary].sum(axis=1),
        square[:, top_modes(space)].sum(axis=1),
        square.sum(axis=1),
    ]
    return per_cell, _smallest(space, density, values)


def top_modes(space: Space) -> NDArray[np.bool_]:
    """(i,) which functions of the density's basis are orthogonal to the polynomials of degree p − 1."""
    if space.degree == 0:
        return np.ones(1, dtype=bool)
    points, weights = basix.make_quadrature(space.cell, 2 * space.degree)
    low, high = (
        density_element(space.cell, p).tabulate(0, points)[0, :, :, 0] for p in (space.degree - 1, space.degree)
    )
    return np.asarray(np.abs(np.einsum("q,qi,qj->ij", weights, low, high)).max(axis=0) < 1e-10)


def dissipation(
    space: Space,
    density: Array,
    frame: Frame,
    potential: Array,
    temperature: float = 0.0,
    *,
    absolute: bool = False,
) -> Array:
    """∫_K ρ|∇_θ(V + β⁻¹ log ρ)|² of this rank's cells, (owned, b), with the transport's volume quadrature.

    With that quadrature the energy law holds to rounding where β⁻¹ = 0 (docs/equations.md); `limit.diffusion.entropy`
    has the other case. The report's dissipation and the number that ends a run at stationarity both come from here.

    Args:
        space: the space.
        density: coefficients (owned, i, b).
        frame: of the blocks.
        potential: nodal values on all cells (c, j, b).
        temperature: β⁻¹.
        absolute: with |ρ| for ρ, which undershoots cannot lower; so it is anyway where β⁻¹ > 0.
    """
    return _dissipations(space, density, frame, potential, temperature)[absolute]


def _dissipations(
    space: Space, density: Array, frame: Frame, potential: Array, temperature: float
) -> tuple[Array, Array]:
    """With ρ and with |ρ|; see `dissipation`."""
    tables = space.tables
    inverse = space.inverse_jacobian[: space.owned]
    local = np.einsum("qja,cjb->cqab", tables.potential_gradient, potential[: space.owned])
    if space.affine:
        gradient = np.einsum("cak,cqab->cqkb", inverse[:, 0], local)
    else:
        gradient = np.einsum("cqak,cqab->cqkb", inverse, local)

    if temperature > 0.0:
        dissipated = flux_dissipation(space, density, frame, gradient, temperature)
        return dissipated, dissipated

    square = np.einsum("cqkb,bkl,cqlb->cqb", gradient, frame.metric, gradient, optimize=True)
    values = np.einsum("qi,cib->cqb", tables.density, density)
    measure = tables.weights * space.scale_at(tables.points)
    signed, size = (np.einsum("cq,cqb,cqb->cb", measure, rho, square) for rho in (values, np.abs(values)))
    return signed, size


def _smallest(space: Space, density: Array, values: Array) -> Array:
    """min ρ̂ (b,) over all points of `values` (c, q, b) and the potential's nodes."""
    nodes = potential_element(space.cell, space.potential_degree).points
    table = density_element(space.cell, space.degree).tabulate(0, nodes)[0, :, :, 0]
    at_nodes = np.einsum("ji,cib->cjb", table, density)
    return np.minimum(values.min(axis=(0, 1), initial=np.inf), at_nodes.min(axis=(0, 1), initial=np.inf))
