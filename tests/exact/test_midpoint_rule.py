"""The rule for laws that are random in few coordinates: moments, and how fast it converges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from mfpde.limit.sampled.midpoint_rule import has_rule, law_rule
from mfpde.output.clouds.midpoint_lattice import rule_size
from mfpde.problem.laws import Law, Normal, Zero, independent, repeated
from mfpde.problem.mixtures import Mixture
from mfpde.problem.product_laws import Uniform

LAWS: dict[str, Law] = {
    "normal": Normal([0.3, -0.2], [0.5, 2.0]),
    "correlated": Normal([0.3, -0.2], cov=[[0.5, 0.2], [0.2, 0.4]]),
    "uniform": Uniform([1.0], [0.5]),
    "graph": independent([Normal([0.3], [0.5]), repeated(Zero(), 4)]),
}


@pytest.mark.parametrize("name", LAWS)
def test_rules_have_the_moments_of_their_laws(name: str) -> None:
    law = LAWS[name]
    points, mass = law_rule(law, 16)
    mean = mass @ points
    covariance = (points - mean).T @ (mass[:, None] * (points - mean))
    assert has_rule(law)
    assert len(points) == rule_size(law.uniforms, 16) <= 16**law.uniforms
    assert np.abs(mean - law.mean).max() <= 1e-13
    assert np.abs(covariance - law.covariance).max() <= 1e-13


def test_laws_that_are_random_in_many_coordinates_have_no_rule() -> None:
    assert not has_rule(Normal([0.0] * 4, [1.0] * 4))
    assert not has_rule(Mixture([Normal([0.0], [1.0]), Normal([1.0], [1.0])], [1.0, 1.0]))
    assert not has_rule(independent([Mixture([Normal([0.0], [1.0]), Normal([1.0], [1.0])], [1.0, 1.0]), Zero()]))


NORMAL = Normal([0.0], [1.0])


@pytest.mark.parametrize(("order", "within"), [(8, 2e-2), (16, 2e-3), (24, 2e-4), (48, 1e-6)])
def test_smooth_functions_are_integrated_to_what_lies_beyond_the_rule(order: int, within: float) -> None:
    """E x⁴ = 3, E cos 2x = e⁻²; a rule of equal weights would have the kurtosis of a uniform law."""
    points, mass = law_rule(NORMAL, order)
    assert abs(mass @ points[:, 0] ** 4 - 3.0) <= 3.0 * within
    assert abs(mass @ np.cos(2.0 * points[:, 0]) - np.exp(-2.0)) <= within


def test_a_jump_costs_the_spacing() -> None:
    """E 1{x > a} for many a, root mean square: order one in n. The rule of Gauss has a half: √n times the error."""
    jumps, orders = np.linspace(-1.0, 1.0, 400), [16, 32, 64, 128]

    def error(points: np.ndarray, mass: np.ndarray) -> float:
        found = (mass * (points > jumps[:, None])).sum(axis=1)
        return float(np.sqrt(np.mean((found - ndtr(-jumps)) ** 2)))

    def slope(errors: list[float]) -> float:
        return float(np.polyfit(np.log(orders), np.log(errors), 1)[0])

    ours, gauss = [], []
    for order in orders:
        points, mass = law_rule(NORMAL, order)
        ours.append(error(points[:, 0], mass))
        nodes, weights = np.polynomial.hermite_e.hermegauss(order)
        gauss.append(error(nodes, weights / weights.sum()))
    assert -1.0 <= slope(ours) <= -0.75  # the rule reaches farther with n, so that n points are a little more apart
    assert slope(gauss) == pytest.approx(-0.5, abs=0.05)
    assert all(mine < other for mine, other in zip(ours, gauss, strict=True))
