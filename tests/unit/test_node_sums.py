"""Sums over nodes: the same bits wherever whole blocks are cut apart, and the moments that they give."""

from __future__ import annotations

import numpy as np
import pytest

from mfpde.config.settings import Density
from mfpde.limit.lagrangian.grid import LagrangianGrid, build_grid
from mfpde.limit.lagrangian.initial_nodes import initial_nodes
from mfpde.limit.lagrangian.node_sums import BLOCK, applied, distance, moments, products, weighted
from mfpde.limit.lagrangian.resolution import distortion, distortion_share, nested
from mfpde.parallel.exact_sum import Share, pack, unpack
from mfpde.problem.family import Family
from mfpde.problem.laws import Normal

LAYERS, NODES, DIM = 2, 5 * BLOCK + 7, 3


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Masses (L, n) and values (L, n, d)."""
    rng = np.random.default_rng(0)
    return rng.uniform(size=(LAYERS, NODES)) / NODES, rng.normal(size=(LAYERS, NODES, DIM))


@pytest.mark.parametrize("cut", [0, BLOCK, 4 * BLOCK, NODES])
def test_two_ranks_have_together_the_bits_of_one(cut: int) -> None:
    """The levels of the sum of any two lots of whole blocks; and the sum itself."""
    mass, values = drawn()
    whole = weighted(mass, values)
    lots = weighted(mass[:, :cut], values[:, :cut]) + weighted(mass[:, cut:], values[:, cut:])
    assert (lots.levels == whole.levels).all()
    assert np.abs(whole.value - np.einsum("ln,lnc->lc", mass, values)).max() < 1e-15


def test_matrices_and_products() -> None:
    """Coordinate by coordinate what products of matrices are."""
    _, values = drawn()
    matrix = np.random.default_rng(1).normal(size=(LAYERS, DIM, DIM))
    assert np.abs(applied(matrix, values) - np.einsum("lij,lnj->lni", matrix, values)).max() < 1e-14
    assert (products(values) == np.einsum("lni,lnj->lnij", values, values).reshape(LAYERS, NODES, -1)).all()


def test_a_linear_map_comes_after_the_sum_over_ranks() -> None:
    """A share's form is applied to what all ranks have, once, and may change the shape."""
    terms = np.arange(6.0).reshape(2, 3)
    one, other = (Share(pack([factor * terms]).reshape(3, 2, 3), lambda total: total.sum(axis=0)) for factor in (1, 10))
    (found,) = unpack(pack([one]) + pack([other]), [one])
    assert (found == 11.0 * terms.sum(axis=0)).all()
    assert ((one + other).value == found).all()


def bent(bend: float) -> tuple[LagrangianGrid, np.ndarray, float]:
    """A grid, the moments of its nodes, and the distortion after a shear and a bend of so much."""
    law = Normal([0.2, -0.1], [0.5, 0.4])
    family = Family("heads", 2, lambda tokens, theta: theta[1] * tokens * theta[0], law, linear=(1,))
    grid = build_grid(family, 1, Density(cells=8, frame="lagrangian"))
    part = initial_nodes(grid)[0]
    q, v = np.moveaxis(part.position, 2, 0)
    part.position[..., 1] = 0.3 * v + 2.0 * q + bend * q**3
    _, mean, covariance = moments(part)
    _, off = nested(grid, part)
    assert off < 1e-3
    assert distance((np.ones(1), mean, covariance), moments(part)) == 0.0
    return grid, covariance, distortion(grid, distortion_share(grid, part, mean + 0.3).value)


def test_the_distortion_is_what_no_affine_map_explains() -> None:
    """Zero for a shear; for q ↦ q³ the part of it that is orthogonal to 1 and q, 6 σ⁶ of its variance."""
    assert bent(0.0)[2] < 1e-6
    _, covariance, torn = bent(0.5)
    left = 0.5**2 * _left_of_cubes(0.2, 0.5)
    assert torn == pytest.approx(np.sqrt(left / np.trace(covariance[0])), rel=1e-3)


def _left_of_cubes(mean: float, std: float) -> float:
    """Variance of q³ that no line explains, q = m + σz normal: that of 3mσ²(z² − 1) + σ³(z³ − 3z)."""
    return 9.0 * mean**2 * std**4 * 2.0 + std**6 * 6.0
