"""The finite Transformer: its units, the gradient of its energy, its flow."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from mfpde.errors import ComputationError, InputError
from mfpde.finite.flow import make_flow, split
from mfpde.finite.initial_units import sampled_units, tensor_units
from mfpde.finite.methods import gradient_descent, runge_kutta
from mfpde.problem.datasets import in_context_regression, scalars, teacher
from mfpde.problem.laws import Law, Normal
from mfpde.problem.models import low_dimensional as models
from mfpde.problem.product_laws import Bump, Uniform
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer


def with_laws(model: Transformer, initial) -> Transformer:
    return replace(model, stages=[[replace(f, initial=initial) for f in stage] for stage in model.stages])


def linear_by_layer(step: float = 0.7) -> Transformer:
    laws = [Normal([0.3], [0.4]), Bump([-0.5], [0.6]), Uniform([1.1], [0.2])]
    return replace(with_laws(models.linear(layers=3), laws.__getitem__), step=step)


def last(snapshots):
    return list(snapshots)[-1]


@pytest.mark.parametrize("make", [lambda m: sampled_units(m, 5, 1), lambda m: tensor_units("gauss", m, 4, 3.0)])
def test_velocity_is_the_slope_of_the_energy(make):
    model = replace(models.attention_mlp(channels=3, layers=3, bias=True), step=0.6)
    task = teacher(model, samples=5, tokens=3, channels=3)
    units = make(model)
    flow = make_flow(model, task, 0.3, units, piece=2)  # three pieces, the last one padded
    parameters, weights = split(units)
    energy = jax.jit(lambda p: flow.energy(p, weights))
    velocity = flow.velocity(parameters, weights)
    rng = np.random.default_rng(0)
    for _ in range(6):
        family = rng.integers(len(parameters))
        layer, unit, axis = (int(rng.integers(n)) for n in parameters[family].shape)
        size = 1e-4

        def shifted(sign, family=family, place=(layer, unit, axis), size=size):
            moved = parameters[family].at[place].add(sign * size)
            return float(energy(tuple(moved if c == family else p for c, p in enumerate(parameters))))

        slope = (8 * (shifted(1) - shifted(-1)) - (shifted(2) - shifted(-2))) / (12 * size)
        expected = -model.layers / float(weights[family][layer, unit]) * slope
        rounding = 1e-13 * model.layers / (float(weights[family][layer, unit]) * size)
        assert float(velocity[family][layer, unit, axis]) == pytest.approx(expected, rel=1e-8, abs=1e-9 + 10 * rounding)


def test_pieces_change_nothing():
    model, task = models.attention(), in_context_regression(samples=7, context=3)
    units = sampled_units(model, 4, 0)
    whole, split_up = (make_flow(model, task, 0.1, units, piece=size) for size in (7, 3))
    parameters, weights = split(units)
    assert split_up.tokens.shape[:2] == (3, 3)
    for name in ("energy", "risk", "velocity"):
        both = zip(*(jax.tree.leaves(getattr(f, name)(parameters, weights)) for f in (whole, split_up)), strict=True)
        for one, other in both:
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def linear_heads_exact(model: Transformer, task: Task, means, decay: float, tau: float):
    """Layer means and risk: m_ℓ' = −η(x̄ + (η/L) Σ m − ȳ) − λ m_ℓ, whatever the laws' shapes."""
    layers, step = model.layers, model.step
    x, y = task.tokens[:, 0, 0], task.targets[:, 0]
    matrix = -(step**2) / layers * np.ones((layers, layers)) - decay * np.eye(layers)
    rest = np.linalg.solve(matrix, np.full(layers, step * (x.mean() - y.mean())))
    found = rest + expm(tau * matrix) @ (means - rest)
    return found, 0.5 * np.mean((x + step * found.mean() - y) ** 2)


@pytest.mark.parametrize("make", [lambda m: tensor_units("gauss", m, 20, 6.0), lambda m: sampled_units(m, 3, 5)])
def test_linear_heads_follow_their_closed_form(make):
    model, decay, tau = linear_by_layer(), 0.3, 1.5
    task = scalars(samples=4, seed=3)
    units = make(model)
    theta, weights = np.asarray(units[0][0])[..., 0], np.asarray(units[0][1])
    means = (weights * theta).sum(axis=1)
    end = last(runge_kutta(make_flow(model, task, decay, units), 1e-11).snapshots(units, [0.4, tau]))
    exact, risk = linear_heads_exact(model, task, means, decay, tau)
    spread = (theta - means[:, None]) * np.exp(-decay * tau)
    np.testing.assert_allclose(np.asarray(end.units[0][0])[..., 0], exact[:, None] + spread, atol=1e-9)
    assert end.risk == pytest.approx(risk, abs=1e-10)
    squares = (weights * (exact[:, None] + spread) ** 2).sum()
    assert end.penalty == pytest.approx(0.5 * decay / 3 * squares, abs=1e-10)


def test_gradient_descent_approaches_the_flow_with_first_order():
    model, task = linear_by_layer(), scalars(samples=4)
    units = sampled_units(model, 3, 0)
    flow = make_flow(model, task, 0.2, units)
    exact = last(runge_kutta(flow, 1e-10).snapshots(units, [1.0])).risk
    errors = [
        abs(last(gradient_descent(flow, rate).snapshots(units, [0.5, 1.0])).risk - exact) for rate in (0.05, 0.025)
    ]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("law", "moment"), [(Normal, 3.0), (Uniform, 1.8), (Bump, 33.0 / 13.0)])
def test_quadrature_units_have_the_moments_of_the_law(law, moment):
    model = with_laws(models.bilinear(layers=2), law([0.3, -0.2], [0.5, 2.0]))
    for units, close in ((tensor_units("gauss", model, 40, 9.0), 1e-10), (tensor_units("grid", model, 201, 9.0), 5e-4)):
        theta, weights = (np.asarray(a) for a in units[0])
        z = (theta - [0.3, -0.2]) / [0.5, 2.0]
        assert weights.sum(axis=1) == pytest.approx(1.0, abs=1e-14)
        assert (weights >= 0.0).all()
        for power, value in ((1, 0.0), (2, 1.0), (4, moment)):
            found = np.einsum("lu,lud->ld", weights, z**power)
            np.testing.assert_allclose(found, value, atol=close)


def test_a_grid_of_units_converges_exponentially():
    model, task = models.attention(layers=2), in_context_regression(samples=3, context=2)

    def risk(points: int) -> float:
        units = tensor_units("grid", model, points, 6.0)
        return last(runge_kutta(make_flow(model, task, 0.1, units), 1e-9).snapshots(units, [1.0])).risk

    fine = risk(25)
    errors = [abs(risk(points) - fine) for points in (9, 17)]
    assert errors[1] < errors[0] / 100  # twice the points; second order would give a quarter
    assert errors[1] < 1e-6


def test_sampled_units_are_reproducible_nested_and_independent():
    model = models.attention_mlp(layers=2)
    small, large = (sampled_units(model, count, 7) for count in (3, 6))
    np.testing.assert_array_equal(small[0][0], large[0][0][:, :3])
    assert not np.array_equal(small[0][0][0], small[0][0][1])
    assert not np.array_equal(small[0][0], sampled_units(model, 3, 8)[0][0])
    np.testing.assert_array_equal(small[0][1], np.full((2, 3), 1.0 / 3.0))


def test_units_of_no_weight_stay():
    model, task = models.linear(layers=2), scalars(samples=2)
    theta, weights = jnp.ones((2, 2, 1)), jnp.array([[1.0, 0.0], [1.0, 0.0]])
    velocity = make_flow(model, task, 0.5, ((theta, weights),)).velocity((theta,), (weights,))[0]
    assert jnp.all(velocity[:, 0] != 0.0)
    assert jnp.all(velocity[:, 1] == 0.0)


def test_mistakes_and_failures_are_named():
    model, task = models.bilinear(), scalars(samples=2)
    units = sampled_units(model, 2, 0)
    flow = make_flow(model, task, 0.1, units)
    with pytest.raises(InputError, match="no test samples"):
        make_flow(model, task, 0.1, units, test=True)
    with pytest.raises(InputError, match="increase"):
        next(gradient_descent(flow, 0.1).snapshots(units, [1.0, 1.0]))
    with pytest.raises(InputError, match="learning rate"):
        gradient_descent(flow, 0.0)
    with pytest.raises(InputError, match="tolerance"):
        runge_kutta(flow, -1.0)
    with pytest.raises(ComputationError, match="not finite"):
        list(gradient_descent(make_flow(model, task, 1e3, units), 1.0).snapshots(units, [500.0]))


def test_a_law_of_ones_own_needs_no_registration():
    class Laplace(Law):
        def standard(self, s):
            return np.exp(-np.sqrt(2.0) * np.abs(s)) / np.sqrt(2.0)

        def draw(self, rng, shape):
            return rng.laplace(scale=np.sqrt(0.5), size=shape)

    theta, weights = tensor_units("gauss", with_laws(models.linear(), Laplace([0.0], [1.0])), 10, 5.0)[0]
    assert theta.shape == (3, 10, 1)
    assert float(weights.sum()) == pytest.approx(3.0)
