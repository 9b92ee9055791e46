"""Finite Transformers by the steps of a method, against recursions in NumPy and against optax in a plain loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mfpde.comparison.effects import effects
from mfpde.config.settings import Optimiser, Training
from mfpde.errors import ComputationError, InputError
from mfpde.finite.flow import make_flow
from mfpde.finite.initial_units import sampled_units, tensor_units
from mfpde.finite.jobs import Job, Method
from mfpde.finite.methods import TrainingSnapshot, gradient_descent
from mfpde.finite.optimiser_steps import optimiser_steps
from mfpde.finite.training import TrainerCache
from mfpde.problem.datasets import scalars, teacher
from mfpde.problem.descent import Descent
from mfpde.problem.laws import Normal
from mfpde.problem.models import low_dimensional as models
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, Units, risk

DECAY, RATE, STEPS, WARMUP, CLIP = 0.3, 0.07, 50, 6, 0.4
METHODS: dict[str, dict[str, Any]] = {
    "sgd": {"method": "sgd"},
    "momentum": {"method": "momentum", "momentum": 0.8},
    "nesterov": {"method": "momentum", "momentum": 0.8, "nesterov": True},
    "adamw": {"method": "adamw", "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-2},
}
BATCHES = {"batch": 4, "seed": 5}
CASES: dict[str, dict[str, Any]] = {
    "all samples": {},
    "batches": {**BATCHES, "schedule": "linear", "warmup": WARMUP, "clip": CLIP},
    "independent batches": {**BATCHES, "sampling": "independent", "schedule": "cosine", "clip": 2.0 * CLIP},
}


def descent_of(task: Task, steps: int = STEPS, **settings: Any) -> Descent:
    return Descent(Optimiser(learning_rate=RATE, steps=steps, **settings), DECAY, task.samples)


def trained(model: Transformer, task: Task, units: Units, descent: Descent, reports=(0, 7, STEPS)) -> TrainingSnapshot:
    """The last of several reports, among them one that is no multiple of the steps of a call."""
    trainer = optimiser_steps(make_flow(model, task, DECAY, units, piece=3), descent)  # batches in pieces, with padding
    return list(trainer.snapshots(units, [float(descent.taus[k]) for k in reports]))[-1]


def rate(step: int, settings: Optimiser) -> float:
    """ε_k, written down again."""
    if step < settings.warmup:
        return RATE / settings.warmup + step / settings.warmup * (RATE - RATE / settings.warmup)
    part = (step - settings.warmup) / (STEPS - settings.warmup)
    return (
        RATE * {"constant": 1.0, "linear": 1.0 - part, "cosine": 0.5 * (1.0 + np.cos(np.pi * part))}[settings.schedule]
    )


def recursion(start: np.ndarray, gradient, descent: Descent) -> np.ndarray:
    """θ (L, d) after all steps; clipped in the measure, decay decoupled, Adam's moments corrected for their start."""
    own, theta = descent.settings, start.copy()
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for k in range(STEPS):
        g = gradient(theta, descent.batches.at(k))
        if own.clip is not None:
            g = g * min(1.0, own.clip / np.sqrt((g**2).sum() / len(g)))
        move = g
        if own.method == "momentum":
            first = own.momentum * first + g
            move = g + own.momentum * first if own.nesterov else first
        if own.method == "adamw":
            first = own.beta1 * first + (1.0 - own.beta1) * g
            second = own.beta2 * second + (1.0 - own.beta2) * g**2
            mean, square = first / (1.0 - own.beta1 ** (k + 1)), second / (1.0 - own.beta2 ** (k + 1))
            move = mean / (np.sqrt(square) + own.epsilon)
        theta = theta - rate(k, own) * (move + DECAY * theta)
    return theta


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_means_of_linear_heads_follow_their_recursion(method, case):
    """All units of a layer have one gradient, η (x̄_B + (η/L) Σ m − ȳ_B): their mean moves alone, whatever they are."""
    laws = [Normal([0.3], [0.4]), Normal([-0.5], [0.6]), Normal([1.1], [0.2])]
    family = replace(models.linear(layers=3).families[0], initial=laws.__getitem__)
    model, task = replace(models.linear(layers=3), stages=[[family]], step=0.7), scalars(samples=10, seed=3)
    descent, units = descent_of(task, **METHODS[method], **CASES[case]), sampled_units(model, 5, 1)
    x, y = task.tokens[:, 0, 0], task.targets[:, 0]

    def gradient(means: np.ndarray, batch: np.ndarray) -> np.ndarray:
        return np.full_like(means, 0.7 * np.mean(x[batch] + 0.7 * means.mean() - y[batch]))

    end = trained(model, task, units, descent)
    exact = recursion(np.asarray(units[0][0]).mean(axis=1), gradient, descent)
    np.testing.assert_allclose(np.asarray(end.units[0][0]).mean(axis=1), exact, rtol=0, atol=1e-10)
    assert end.risk == pytest.approx(0.5 * np.mean((x + 0.7 * exact.mean() - y) ** 2), abs=1e-10)
    assert end.tau == descent.taus[-1] == pytest.approx(sum(rate(k, descent.settings) for k in range(STEPS)), rel=1e-12)
    assert end.steps == STEPS


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_equal_units_of_bilinear_heads_follow_their_recursion(method, case):
    """T ← T (1 + (η/L) a b): the gradient of a is L ∂R/∂a = η b mean_B((o − y) o) / (1 + (η/L) a b)."""
    layers, step = 3, 0.9
    model, task = replace(models.bilinear(layers=layers), step=step), scalars(samples=10, seed=4)
    descent = descent_of(task, **METHODS[method], **CASES[case])
    start = np.array([[0.5, 0.4], [-0.3, 0.6], [0.8, 0.2]])
    units = ((jnp.asarray(np.repeat(start[:, None], 4, axis=1)), jnp.full((layers, 4), 0.25)),)
    x, y = task.tokens[:, 0, 0], task.targets[:, 0]

    def output(theta: np.ndarray) -> np.ndarray:
        return x * np.prod(1.0 + step / layers * theta.prod(axis=1))

    def gradient(theta: np.ndarray, batch: np.ndarray) -> np.ndarray:
        o = output(theta)[batch]
        share = step * np.mean((o - y[batch]) * o) / (1.0 + step / layers * theta.prod(axis=1))
        return share[:, None] * theta[:, ::-1]

    end, exact = trained(model, task, units, descent), recursion(start, gradient, descent)
    np.testing.assert_allclose(np.asarray(end.units[0][0]), np.repeat(exact[:, None], 4, axis=1), rtol=0, atol=1e-10)
    assert end.risk == pytest.approx(0.5 * np.mean((output(exact) - y) ** 2), abs=1e-10)


def attention_task() -> tuple[Transformer, Task]:
    model = replace(models.attention_mlp(channels=3, layers=2, bias=True), step=1.5)
    return model, teacher(model, samples=9, tokens=3, channels=3)


def optax_alone(model: Transformer, task: Task, units: Units, descent: Descent) -> list[np.ndarray]:
    """optax's own optimisers in a plain loop on M units of each family.

    The loss times L·M has the gradients; |g|² in the measure is the sum over all numbers, over L·M.
    """
    own, weights = descent.settings, [w for _, w in units]
    size, tokens, targets = model.layers * weights[0].shape[1], jnp.asarray(task.tokens), jnp.asarray(task.targets)

    def loss(parameters, batch):
        inner = tuple(zip(parameters, weights, strict=True))
        share = jnp.full(len(batch), size / len(batch))
        return risk(model, inner, tokens[batch], targets[batch], share)[0]

    if own.method == "adamw":
        rule = optax.adamw(descent.schedule, own.beta1, own.beta2, own.epsilon, weight_decay=DECAY)
    else:
        momentum = own.momentum if own.method == "momentum" else None
        rule = optax.sgd(descent.schedule, momentum, nesterov=bool(own.nesterov))
    if own.clip is not None:
        rule = optax.chain(optax.clip_by_global_norm(own.clip * np.sqrt(size)), rule)

    parameters = tuple(theta for theta, _ in units)
    state, slopes = rule.init(parameters), jax.jit(jax.grad(loss))
    for k in range(descent.steps):
        moves, state = rule.update(slopes(parameters, descent.batches.at(k)), state, parameters)
        if own.method != "adamw":
            moves = tuple(move - descent.rates[k] * DECAY * p for move, p in zip(moves, parameters, strict=True))
        parameters = optax.apply_updates(parameters, moves)
    return [np.asarray(theta) for theta in parameters]


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("method", METHODS)
def test_steps_are_those_of_optax_on_the_loss_times_layers_and_units(method, clip):
    model, task = attention_task()
    schedule = {"schedule": "cosine", "warmup": WARMUP, "clip": clip}
    descent, units = descent_of(task, **METHODS[method], **BATCHES, **schedule), sampled_units(model, 6, 2)
    end = trained(model, task, units, descent)
    for (theta, _), expected in zip(end.units, optax_alone(model, task, units, descent), strict=True):
        np.testing.assert_allclose(np.asarray(theta), expected, rtol=0, atol=1e-12)
    moved = max(float(jnp.abs(a - b).max()) for (a, _), (b, _) in zip(end.units, units, strict=True))
    assert moved > 0.1


def test_plain_steps_on_all_samples_are_those_of_the_flow():
    model, task = attention_task()
    units, descent = sampled_units(model, 4, 0), descent_of(task, method="sgd", steps=20)
    euler = gradient_descent(make_flow(model, task, DECAY, units), RATE)
    expected = list(euler.snapshots(units, [20 * RATE]))[-1]
    found = trained(model, task, units, descent, reports=(20,))
    assert found.risk == pytest.approx(expected.risk, rel=1e-13)
    assert found.energy == pytest.approx(expected.energy, rel=1e-13)
    assert (found.steps, found.tau) == (expected.steps, pytest.approx(expected.tau))


@pytest.mark.parametrize("method", METHODS)
def test_a_unit_of_twice_the_weight_is_two_units(method):
    model, task = attention_task()
    descent = descent_of(task, **METHODS[method], **BATCHES, clip=CLIP)
    four, three = sampled_units(model, 4, 3), []
    for theta, _ in four:
        three.append((theta[:, :3], jnp.tile(jnp.array([0.5, 0.25, 0.25]), (model.layers, 1))))
    four = tuple((jnp.concatenate([theta[:, :1], theta[:, :3]], axis=1), weights) for theta, weights in four)

    one, other = trained(model, task, four, descent), trained(model, task, tuple(three), descent)
    assert one.risk == pytest.approx(other.risk, rel=1e-12)
    assert one.penalty == pytest.approx(other.penalty, rel=1e-12)
    for (theta, _), (merged, _) in zip(one.units, other.units, strict=True):
        np.testing.assert_allclose(np.asarray(theta[:, 1:]), np.asarray(merged), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_units_of_no_weight_stay(method):
    model, task = models.linear(layers=2), scalars(samples=4)
    theta, weights = jnp.ones((2, 2, 1)), jnp.array([[1.0, 0.0], [1.0, 0.0]])
    end = trained(model, task, ((theta, weights),), descent_of(task, **METHODS[method]))
    assert jnp.all(end.units[0][0][:, 0] != 1.0)
    assert jnp.all(end.units[0][0][:, 1] == 1.0)


@pytest.mark.parametrize("method", METHODS)
def test_reports_change_nothing(method):
    """The method's state goes on from one report to the next, also past the steps of one call of the program."""
    model, task = models.bilinear(), scalars(samples=9)
    units, descent = sampled_units(model, 3, 0), descent_of(task, 150, **METHODS[method], **BATCHES)
    few, many = (trained(model, task, units, descent, reports) for reports in ((150,), (1, 2, 40, 64, 149, 150)))
    np.testing.assert_array_equal(np.asarray(few.units[0][0]), np.asarray(many.units[0][0]))
    assert few.risk == many.risk


def test_a_record_has_the_columns_of_all_samples():
    model, task = attention_task()
    tested = replace(task, test_tokens=task.tokens[:2], test_targets=task.targets[:2])
    settings = Optimiser(learning_rate=RATE, epochs=3, **METHODS["adamw"], **BATCHES)
    cache = TrainerCache.of(model, tested, Training(DECAY, optimiser=settings))
    descent = Descent(settings, DECAY, task.samples)
    times = [float(descent.taus[k]) for k in (0, 2, 6)]
    record = cache.train(Job("gauss", (2,), 2, 0, Method(None, 0.0, "adamw")), times, times[1:])
    np.testing.assert_array_equal(record.columns["steps"], [0, 2, 6])
    np.testing.assert_array_equal(record.tau, times)
    np.testing.assert_array_equal(record.kept, times[1:])
    end = trained(model, task, tensor_units("gauss", model, 2), descent, (6,))
    assert record.columns["risk"][-1] == pytest.approx(end.risk, rel=1e-13)
    assert record.columns["test_risk"][-1] != record.columns["risk"][-1]
    assert record.job.name == "gauss-2-layers-2-adamw-seed-0"


def test_the_effect_of_a_learning_rate_is_after_equally_many_steps():
    """Against Transformers trained with both learning rates; the changed one has τ of its own."""
    model, task = attention_task()
    optimiser = Optimiser(learning_rate=RATE, steps=12, **METHODS["momentum"], **BATCHES)
    training = Training(DECAY, optimiser=optimiser)
    descents = [Descent(replace(optimiser, learning_rate=f * RATE), DECAY, task.samples) for f in (1.0, 1.1)]
    job = Job("sampled", (5,), 2, 0, Method(None, 0.0, "momentum"))
    times = [float(descents[0].taus[k]) for k in (0, 5, 12)]
    record = TrainerCache.of(model, task, training).train(job, times, times[-1:])
    found = effects(record, model, task, training, 0.1)
    assert set(found) == {"weight_decay", "step", "learning_rate"}
    before, after = (trained(model, task, job.units(model), descent, (5, 12)).risk for descent in descents)
    effect = found["learning_rate"]
    assert effect.risk[0] == 0.0
    assert effect.risk[-1] == pytest.approx(after - before, abs=1e-13)
    assert effect.of_risk(times[-1]) > 1e-5
    np.testing.assert_array_equal(effect.tau, times)


def test_mistakes_and_failures_are_named():
    model, task = models.bilinear(), scalars(samples=4)
    units, descent = sampled_units(model, 2, 0), descent_of(task, method="sgd")
    trainer = optimiser_steps(make_flow(model, task, DECAY, units), descent)
    with pytest.raises(InputError, match=r"τ = 0.1: no step ends there; the nearest ends at 0.07"):
        list(trainer.snapshots(units, [0.0, 0.1]))
    hot = Descent(Optimiser(method="sgd", learning_rate=1e3, steps=200), DECAY, task.samples)
    with pytest.raises(ComputationError, match="not finite"):
        list(optimiser_steps(make_flow(model, task, DECAY, units), hot).snapshots(units, [float(hot.taus[-1])]))
