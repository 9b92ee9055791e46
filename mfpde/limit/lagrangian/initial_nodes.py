"""Initial laws at the nodes of uniform grids around their means, with their mass, mean and covariance.

Each rank places its own nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.limit.fem.frame import roots
from mfpde.limit.fem.law_coverage import Held
from mfpde.limit.lagrangian.grid import LagrangianGrid
from mfpde.limit.lagrangian.node_sums import applied, distance, moments, summed, weighted
from mfpde.limit.lagrangian.node_weights import line_masses, with_tails
from mfpde.limit.state import NodesPart
from mfpde.parallel.agreement import agree
from mfpde.parallel.reductions import reduce_over_ranks
from mfpde.problem.laws import Law

Array = NDArray[np.float64]
REACH = 5.5  # half-width of the grid in standard deviations, unless the law's support is narrower
PATIENCE = 0.05  # the distortion of a grid that needs no other (`limit.lagrangian.remap`)
_INWARDS = 1e-13  # by which a density that jumps at the ends of its support is taken further inside


def initial_nodes(grid: LagrangianGrid, margin: float = 1.0) -> tuple[NodesPart, Held, float]:
    """The initial laws at the nodes of a grid around each layer's mean; collective.

    Args:
        grid: of one family.
        margin: by which the grid is wider than the settings say, but for laws of bounded support.

    Returns:
        The nodes, what their grids hold of the laws, and by how much mass, mean and covariance were off before they
        were corrected: the largest over layers, in standard deviations.

    Raises:
        InputError: on every rank, when a law has no mass there.
    """
    placed = agree(lambda: [_at_nodes(grid, law, margin) for law in grid.laws])
    laws = grid.laws
    position, density, mass = (np.stack(arrays) for arrays in zip(*placed, strict=True))
    total, held = _held(grid, laws, position, mass)
    if not (total > 0.0).all():
        raise InputError(
            f"initial.{grid.family.name}: the law has no mass at the nodes; enlarge density.radius or density.cells"
        )

    with np.errstate(divide="ignore"):
        log = np.log(density / total[:, None])
    count = np.array(grid.least, dtype=np.int64)
    table = np.zeros((grid.layers, len(count)))
    flat = np.array([np.diag(np.isin(np.arange(law.dim), law.degenerate)) for law in laws]).astype(np.float64)
    patience = np.array([PATIENCE if grid.remapped and not flat.any() else np.inf])
    raw = NodesPart(position, log, mass / total[:, None], table, table, count, patience)

    mean, covariance = np.array([law.mean for law in laws]), np.stack([law.covariance for law in laws])
    made = moments(raw, grid.comm)
    apart = distance((total, mean, covariance + flat), (made[0], made[1], made[2] + flat))
    error = max(float(np.abs(total - 1.0).max()), apart)
    return grid.fit_table(with_moments(raw, made, (mean, covariance), grid.family.linear)), held, error


def with_moments(
    part: NodesPart, made: tuple[Array, Array, Array], wanted: tuple[Array, Array], linear: Sequence[int]
) -> NodesPart:
    """Nodes moved by the affine map that gives them another mean (L, d) and covariance (L, d, d).

    With Σ = K Kᵀ as it should be and K'K'ᵀ as it is the map is X ↦ m + K K'⁻¹ (X − m'), and log ρ falls by log det K
    K'⁻¹. In coordinates in which no node is to have any distance from the mean the map is the identity. Nodes whose
    covariance is not positive definite stay.

    Args:
        part: the nodes.
        made: their mass, mean and covariance.
        wanted: the mean and covariance that they are to have.
        linear: coordinates in which the update is linear.
    """
    (_, wrong, found), (mean, covariance) = made, wanted
    flat = (covariance == 0.0).all(axis=2)[:, :, None] * np.eye(covariance.shape[1])
    try:
        turn = roots(covariance + flat, linear) @ np.linalg.inv(roots(found + flat, linear))
    except np.linalg.LinAlgError:
        return part
    position = mean[:, None] + applied(turn, part.position - wrong[:, None])
    log = part.log_density - np.log(np.linalg.det(turn))[:, None]
    return replace(part, position=position, log_density=log)


def _at_nodes(grid: LagrangianGrid, law: Law, margin: float) -> tuple[Array, Array, Array]:
    """Positions (n, d), densities (n,) and masses (n,) of a law, of whose mass the grid may hold only a part."""
    mean = np.asarray(law.mean)
    if law.correlated:
        root = roots(law.covariance[None], grid.family.linear)[0]
        reach = margin * (np.full(law.dim, REACH) if grid.reach is None else np.asarray(grid.reach))
        theta = mean + applied(root, reach * grid.reference)
        density = law.density(theta)
        return theta, density, density * grid.quadrature * grid.stretch * np.prod(reach * np.diag(root))

    low, high = _box(grid, law, margin)
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    lines = [m + h * line for m, h, (line, _) in zip(middle, half, grid.lines, strict=True)]
    tails = grid.reach is None and law.tails > 1.0 and law.product and law.smooth
    if tails:
        tailed = [with_tails(law, axis, line, grid.bend) for axis, line in enumerate(lines)]
        lines, along = [line for line, _ in tailed], [masses for _, masses in tailed]
    theta = np.stack([line[place] for line, place in zip(lines, grid.index, strict=True)], axis=-1)
    volume = grid.quadrature * grid.stretch * np.prod(np.where(half > 0.0, half, 0.5))
    if tails:
        mass = _product(grid, along)
    else:
        mass = np.asarray(sum(weight * _masses(grid, part, theta, lines, volume) for weight, part in law.parts))

    # A node beside a jump may have a mass where the density is zero: that of the cell around it.
    density = law.density(mean + (1.0 - _INWARDS) * (theta - mean))
    return theta, np.where((density == 0.0) & (mass > 0.0), mass / volume, density), mass


def _masses(grid: LagrangianGrid, law: Law, theta: Array, lines: Sequence[Array], volume: Array) -> Array:
    """Masses (n,) of a law that is no mixture."""
    if not law.product:
        return law.density(theta) * volume
    return _product(grid, [line_masses(law, axis, line, grid.bend) for axis, line in enumerate(lines)])


def _product(grid: LagrangianGrid, along: Sequence[Array]) -> Array:
    """Masses (n,) from those in each direction."""
    return reduce(np.multiply, [masses[place] for masses, place in zip(along, grid.index, strict=True)])


def _box(grid: LagrangianGrid, law: Law, margin: float) -> tuple[Array, Array]:
    """The corners (d,) of the initial grid."""
    if grid.reach is None:
        return law.box(margin * REACH * max(part.tails for _, part in law.parts), within_support=True)
    low, high = law.box(np.inf, within_support=True)
    half = margin * np.asarray(grid.reach) * np.asarray(law.std)
    return np.maximum(low, np.asarray(law.mean) - half), np.minimum(high, np.asarray(law.mean) + half)


def is_cut(grid: LagrangianGrid, law: Law) -> bool:
    """Has a law mass beyond the initial grid, as settings have it?"""
    return law.correlated or not np.allclose(_box(grid, law, 1.0), law.box(np.inf, within_support=True))


def _held(grid: LagrangianGrid, laws: Sequence[Law], position: Array, mass: Array) -> tuple[Array, Held]:
    """The mass (L,) of all nodes, and what the grids hold of the laws; two reductions."""
    mean, std = np.array([law.mean for law in laws])[:, None], np.array([law.std for law in laws])
    terms = np.concatenate([np.ones_like(position[..., :1]), (position - mean) ** 2], axis=2)
    (sums,) = summed(grid.comm, [weighted(mass, terms)])
    variance = np.where(std > 0.0, sums[:, 1:], 1.0) / np.where(std > 0.0, std, 1.0) ** 2

    ends = np.stack([x.min(axis=1, initial=np.inf) for x in (position, -position)])
    low, high = reduce_over_ranks(grid.comm, ends, MPI.MIN)
    widest = grid.per_cell * (-high - low) / (np.array(grid.shape) - 1.0)
    std = np.where(std > 0.0, std, np.inf)
    return sums[:, 0], Held(sums[:, 0], variance.min(axis=1), (widest / std).max(axis=1))
