"""Wasserstein distances between the units of a finite Transformer and the density of the limit.

W₁ is the least mean distance over which mass must be moved to turn one measure into the other. The sliced distance is
the mean of W₁ over random directions: it needs sorting only, and falls like M^(−1/2) for M independent units in any
dimension. The exact one falls like M^(−1/2) for d = 1, (log M/M)^(1/2) for d = 2, M^(−1/d) for d ≥ 3.
Source: Fournier and Guillin, Probability Theory and Related Fields 162, 2015; computed by POT (Flamary et al., JMLR 22,
2021).
"""

from __future__ import annotations

import warnings
from functools import cache
from types import ModuleType

import basix
import numpy as np
from numpy.typing import NDArray

from mfpde.output.fields.lattice import KINDS, element, gradients, tabulate
from mfpde.output.fields.snapshot import Snapshot

Array = NDArray[np.float64]
_NEGLIGIBLE = 1e-6  # mass of all nodes that are left out together
_EXTRA = 1  # points per direction beyond those that integrate the polynomial
_ABOVE = 1.3  # by which a bound exceeds the largest value seen in a cell
DIRECTIONS = 32  # of a sliced distance


@cache
def _pot() -> ModuleType:
    """POT, which warns about its own docstrings the first time it is compiled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        import ot  # noqa: PLC0415  (a second of importing that only distances need)
    return ot


def nodes(snapshot: Snapshot, layer: int) -> tuple[Array, Array]:
    """A density as weighted points: quadrature points of its cells, for the mass that is positive, normalised.

    Args:
        snapshot: of a family.
        layer: from 0.

    Returns:
        θ (k, d) and weights (k,), which are positive and sum to 1; nodes of next to no mass are left out.
    """
    points, weights = _quadrature(snapshot)
    theta, measure = _at(snapshot, layer, points)
    mass = (measure * weights).ravel()

    order = np.argsort(mass)
    kept = order[np.cumsum(mass[order]) > _NEGLIGIBLE * mass.sum()]
    return theta.reshape(-1, snapshot.dim)[kept], mass[kept] / mass[kept].sum()


def draws(snapshot: Snapshot, layer: int, count: int, rng: np.random.Generator) -> Array:
    """Independent draws θ (count, d) from the positive part of a density, by rejection.

    A cell is drawn by the bound of ρ|det J| in it, a point uniformly in the reference cell, and kept with probability
    ρ|det J| over the bound.

    Args:
        snapshot: of a family.
        layer: from 0.
        count: how many.
        rng: where the draws come from.
    """
    points = np.concatenate([_quadrature(snapshot)[0], element(snapshot.cell, snapshot.degree).points])
    bound = _ABOVE * _at(snapshot, layer, points)[1].max(axis=1)

    found: list[Array] = []
    while sum(map(len, found)) < count:
        chosen = rng.choice(len(bound), size=4 * count + 16, p=bound / bound.sum())
        reference = _uniform(snapshot, len(chosen), rng)

        basis = tabulate(snapshot.cell, snapshot.degree, reference)
        slopes = gradients(snapshot.cell, snapshot.degree, reference)
        jacobian = np.einsum("amn,mnd->mda", slopes, snapshot.points[layer][chosen])
        density = np.einsum("mn,mn->m", basis, snapshot.density[layer][chosen])
        good = rng.uniform(size=len(chosen)) * bound[chosen] < density * np.abs(np.linalg.det(jacobian))
        found.append(np.einsum("mn,mnd->md", basis[good], snapshot.points[layer][chosen[good]]))
    return np.concatenate(found)[:count]


def sliced(theta: Array, weights: Array, other: Array, others: Array, seed: int = 0) -> float:
    """Mean over random directions of W₁ between two weighted sets of points; W₁ itself for d = 1.

    Args:
        theta: (u, d).
        weights: (u,), of sum 1.
        other: (k, d).
        others: (k,), of sum 1.
        seed: of the directions.
    """
    ot = _pot()
    if theta.shape[1] == 1:
        return float(ot.wasserstein_1d(theta[:, 0], other[:, 0], weights, others, p=1))
    return float(ot.sliced_wasserstein_distance(theta, other, weights, others, DIRECTIONS, p=1, seed=seed))


def exact(theta: Array, other: Array) -> float:
    """W₁ between two sets of equally many or different numbers of equally heavy points (u, d) and (k, d)."""
    ot = _pot()
    if theta.shape[1] == 1:
        return float(ot.wasserstein_1d(theta[:, 0], other[:, 0], p=1))
    cost = ot.dist(theta, other, metric="euclidean")
    return float(ot.emd2(np.full(len(theta), 1.0 / len(theta)), np.full(len(other), 1.0 / len(other)), cost))


def rate(units: Array, dim: int) -> Array:
    """How the exact W₁ of M independent units falls, up to a constant: M^(−1/2), (log M/M)^(1/2), M^(−1/d)."""
    if dim == 1:
        return units**-0.5
    return np.sqrt(np.log(units) / units) if dim == 2 else units ** (-1.0 / dim)


def _quadrature(snapshot: Snapshot) -> tuple[Array, Array]:
    """Points and weights in the reference cell."""
    return basix.make_quadrature(getattr(basix.CellType, snapshot.cell), 3 * snapshot.degree + 2 * _EXTRA)


def _at(snapshot: Snapshot, layer: int, points: Array) -> tuple[Array, Array]:
    """θ (c, q, d) and max(ρ, 0)|det J| (c, q) of all cells at points of the reference cell."""
    geometry = snapshot.points[layer]
    basis = tabulate(snapshot.cell, snapshot.degree, points)
    jacobian = np.einsum("aqn,cnd->cqda", gradients(snapshot.cell, snapshot.degree, points), geometry)
    density = np.einsum("qn,cn->cq", basis, snapshot.density[layer])
    measure = np.maximum(density, 0.0) * np.abs(np.linalg.det(jacobian))
    return np.einsum("qn,cnd->cqd", basis, geometry), measure


def _uniform(snapshot: Snapshot, count: int, rng: np.random.Generator) -> Array:
    """Uniform draws (count, d) in the reference cell."""
    if KINDS[snapshot.cell].tensor:
        return rng.uniform(size=(count, snapshot.dim))
    spacings = rng.exponential(size=(count, snapshot.dim + 1))
    return (spacings / spacings.sum(axis=1, keepdims=True))[:, :-1]
