"""Training by steps in the limit: exact recursions, finite Transformers whose units are the nodes, and the flow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mpi4py import MPI

from mfpde.config.settings import Density, Optimiser, Time, Training
from mfpde.errors import ComputationError, InputError
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.problem.descent import Descent
from mfpde.problem.family import Family
from mfpde.problem.laws import Normal, Zero
from mfpde.problem.models.low_dimensional import attention_mlp, bilinear, linear
from mfpde.problem.models.value_matrices import value_head
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, Units, risk
from support.units import units_of

METHODS: dict[str, dict[str, Any]] = {
    "sgd": {"method": "sgd"},
    "momentum": {"method": "momentum", "momentum": 0.8},
    "nesterov": {"method": "momentum", "momentum": 0.8, "nesterov": True},
    "adamw": {"method": "adamw", "beta1": 0.8, "beta2": 0.95},
}
type Theta = tuple[np.ndarray, ...]


def solver_of(
    model: Transformer, task: Task, density: Density | None = None, decay: float = 0.1, **method: Any
) -> Solver:
    """A solver of training by steps."""
    training = Training(decay, optimiser=Optimiser(**method))
    densities = {family.name: density or Density() for family in model.families}
    return Solver(MPI.COMM_SELF, Problem(model, task, training, densities, Time()))


def nodes_of(solver: Solver) -> list[np.ndarray]:
    """Per family the nodes' places (L, n, d)."""
    return [part.position for part in solver.stepper.state.parts]  # type: ignore[union-attr]


class Recursion:
    """The four methods by hand, on arrays: θ ← θ − ε (D + λ θ)."""

    def __init__(self, theta: np.ndarray, decay: float, name: str, rate: float) -> None:
        self.theta, self.decay, self.name, self.rate = theta, decay, name, rate
        self.first, self.second, self.count = np.zeros_like(theta), np.zeros_like(theta), 0

    def step(self, g: np.ndarray) -> None:
        self.count += 1
        if self.name == "adamw":
            self.first = 0.8 * self.first + 0.2 * g
            self.second = 0.95 * self.second + 0.05 * g**2
            direction = self.first / (1.0 - 0.8**self.count)
            direction = direction / (np.sqrt(self.second / (1.0 - 0.95**self.count)) + 1e-8)
        elif self.name == "sgd":
            direction = g
        else:
            self.first = 0.8 * self.first + g
            direction = g + 0.8 * self.first if self.name == "nesterov" else self.first
        self.theta = self.theta - self.rate * (direction + self.decay * self.theta)


@pytest.mark.parametrize("name", METHODS)
def test_means_of_linear_heads_obey_the_exact_recursion(name: str) -> None:
    """f = θ: the gradient is the mean of T + θ̄ − y at every θ, so that the law moves as a whole, all layers alike."""
    rng = np.random.default_rng(1)
    task = Task(rng.normal(size=(5, 1, 2)), rng.normal(size=(5, 2)))
    solver = solver_of(linear(2, 3), task, **METHODS[name], learning_rate=0.1, steps=30)
    solver.stepper.advance(solver.stepper.horizon)

    offset = (task.tokens[:, -1] - task.targets).mean(axis=0)
    exact = Recursion(np.zeros(2), 0.1, name, 0.1)
    for _ in range(30):
        exact.step(offset + exact.theta)
    (part,) = solver.stepper.state.parts
    means = np.einsum("ln,lnd->ld", part.mass, part.position)  # type: ignore[union-attr]
    assert np.abs(means - exact.theta).max() <= 1e-10
    assert np.abs(exact.theta).max() > 0.1


def products(layers: int) -> Transformer:
    """f = u v on one channel; the output is the last token."""
    family = Family(
        "heads", nonlinear=1, linear_shape=(1,), initial=Normal([0.5, 0.5], [0.3, 0.3]),
        update=lambda tokens, u, v: jnp.broadcast_to(u[0] * v, tokens.shape),
    )  # fmt: skip
    return Transformer([[family]], layers, lambda tokens: tokens[-1])


@pytest.mark.parametrize("name", METHODS)
def test_bilinear_heads_obey_the_exact_recursion(name: str) -> None:
    """f = u v on one channel: ∇V = (v g, u g) with g the mean of T + (1/L) Σ_ℓ E[uv] − y."""
    rng = np.random.default_rng(2)
    task = Task(rng.normal(size=(5, 1, 1)), 1.0 + rng.normal(size=(5, 1)))
    solver = solver_of(products(2), task, **METHODS[name], learning_rate=0.05, steps=30)
    (start,) = nodes_of(solver)
    mass = solver.stepper.state.parts[0].mass  # type: ignore[union-attr]
    solver.stepper.advance(solver.stepper.horizon)

    exact = Recursion(start, 0.1, name, 0.05)
    offset = float((task.tokens[:, -1] - task.targets).mean())
    for _ in range(30):
        g = offset + float((mass * exact.theta.prod(axis=2)).sum(axis=1).mean())
        exact.step(g * exact.theta[..., ::-1])
    assert np.abs(nodes_of(solver)[0] - exact.theta).max() <= 1e-10
    assert np.abs(exact.theta - start).max() > 0.1


def heads(initial: object, width: int = 2) -> Transformer:
    """Softmax heads with a value matrix, of two layers."""
    rng = np.random.default_rng(4)
    form = rng.normal(size=(1, width, width))
    families = [value_head(f"head_{k}", form * (1 - 2 * k), initial) for k in range(2)]  # type: ignore[arg-type]
    return Transformer([families], 2, lambda tokens: tokens[-1, :1])


@lru_cache
def samples(count: int = 12) -> Task:
    rng = np.random.default_rng(5)
    return Task(rng.normal(size=(count, 3, 2)), rng.normal(size=(count, 1)))


def trained(
    model: Transformer, task: Task, units: Units, descent: Descent, optimiser: optax.GradientTransformation
) -> Theta:
    """Units trained by optax in a plain loop: L/w_j times the gradient of the loss of each batch."""
    theta, weights = tuple(jnp.asarray(t) for t, _ in units), tuple(jnp.asarray(w) for _, w in units)
    shares = np.full(descent.batches.taken, 1.0 / descent.batches.taken)

    @jax.jit
    def advance(theta: Theta, memory: object, tokens: np.ndarray, targets: np.ndarray) -> tuple[Theta, object]:
        def loss(inner: Theta) -> jax.Array:
            return risk(model, tuple(zip(inner, weights, strict=True)), tokens, targets, shares)[0]  # type: ignore[arg-type]

        slopes = jax.grad(loss)(theta)
        slopes = tuple(model.layers * s / w[..., None] for s, w in zip(slopes, weights, strict=True))
        if descent.settings.clip is not None:
            square = sum(jnp.sum(w[..., None] * s**2) for s, w in zip(slopes, weights, strict=True)) / model.layers
            slopes = tuple(s * jnp.minimum(1.0, descent.settings.clip / jnp.sqrt(square)) for s in slopes)
        changes, memory = optimiser.update(slopes, memory, theta)
        return optax.apply_updates(theta, changes), memory

    memory = optimiser.init(theta)
    for step in range(descent.steps):
        chosen = descent.batches.at(step)
        theta, memory = advance(theta, memory, task.tokens[chosen], task.targets[chosen])
    return tuple(np.asarray(t) for t in theta)


@pytest.mark.parametrize("start", ["random", "rule"])
def test_units_at_the_nodes_trained_by_optax_are_the_nodes(start: str) -> None:
    """200 steps of optax's own AdamW with batches, clipping and a cosine, each node evaluated itself."""
    v = Normal([0.0], [0.5]) if start == "random" else Zero()
    model, task = heads((Normal([0.2], [1.0]), v)), samples()
    method: dict[str, Any] = {
        "method": "adamw",
        "learning_rate": 0.03,
        "steps": 200,
        "batch": 4,
        "clip": 0.2,
        "schedule": "cosine",
    }
    solver = solver_of(model, task, Density(nodes=64) if start == "random" else Density(nodes=16), **method)
    descent = solver.problem.descent
    assert descent is not None
    assert not solver.flow.tabulated
    assert solver.problem.replicas == (8 if start == "random" else 1)

    depth = model.layers
    units = tuple((theta[:depth], weights[:depth]) for theta, weights in units_of(solver, solver.stepper.state))
    solver.stepper.advance(solver.stepper.horizon)
    rates = optax.cosine_decay_schedule(0.03, 200)
    found = trained(model, task, units, descent, optax.adamw(rates, weight_decay=0.1))
    for mine, theirs, before in zip(nodes_of(solver), found, units, strict=True):
        assert np.abs(mine[:depth] - theirs).max() <= 1e-10 * np.abs(theirs).max()
        assert np.abs(mine[:depth] - before[0]).max() > 0.3
    assert solver.report(solver.stepper.state).history["step"] == 200.0


def test_a_table_is_within_its_own_accuracy() -> None:
    """The same nodes with a table, whose error the tolerance bounds, and without one."""
    model, task = heads((Normal([0.2], [1.0]), Zero())), samples()
    method: dict[str, Any] = {"method": "sgd", "learning_rate": 0.05, "steps": 60, "batch": 4}
    ends = []
    for nodes in (100, 128):  # more than the table has points: evaluated on it
        solver = solver_of(model, task, Density(nodes=nodes), **method)
        assert solver.flow.tabulated
        units = units_of(solver, solver.stepper.state)
        parts = [(part.position, part.mass) for part in solver.stepper.state.parts]  # type: ignore[union-attr]
        solver.stepper.advance(solver.stepper.horizon)
        found = trained(model, task, tuple(parts), solver.problem.descent, _sgd(0.05, 0.1))  # type: ignore[arg-type]
        ends.append(max(float(np.abs(a - b).max()) for a, b in zip(nodes_of(solver), found, strict=True)))
        assert len(units[0][0][0]) < len(parts[0][1][0])
    assert max(ends) < 5e-4


def _sgd(rate: float, decay: float) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate))


def flow_risk(model: Transformer, task: Task) -> float:
    """R of the gradient flow at τ = 1."""
    training = Training(0.1, horizon=1.0)
    densities = {family.name: Density() for family in model.families}
    solver = Solver(MPI.COMM_SELF, Problem(model, task, training, densities, Time(tolerance=1e-8)))
    *_, last = solver.run([1.0])
    return last.history["risk"]


def stepped_risk(model: Transformer, task: Task, rate: float, density: Density | None = None, **others: Any) -> float:
    """R of all samples after steps to τ = 1."""
    steps = round(1.0 / rate)
    solver = solver_of(model, task, density, method="sgd", learning_rate=rate, steps=steps, **others)
    solver.stepper.advance(solver.stepper.horizon)
    return solver.flow.potential(solver.stepper.state).outcome.risk


def slope_of(rates: Sequence[float], errors: Sequence[float]) -> float:
    return float(np.polyfit(np.log(rates), np.log(errors), 1)[0])


@pytest.mark.parametrize("case", ["bilinear", "attention-mlp", "value-matrices"])
def test_descent_with_all_samples_is_the_flow_to_first_order(case: str) -> None:
    rates, rng = (0.1, 0.05, 0.025, 0.0125), np.random.default_rng(7)
    scalars = Task(rng.normal(size=(6, 1, 1)), 1.0 + rng.normal(size=(6, 1)))
    model, task = {
        "bilinear": (bilinear(2), scalars),
        "attention-mlp": (attention_mlp(2, 2), Task(rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 2)))),
        "value-matrices": (heads((Normal([0.2], [1.0]), Zero())), samples()),
    }[case]
    exact = flow_risk(model, task)
    errors = [abs(stepped_risk(model, task, rate) - exact) for rate in rates]
    assert slope_of(rates, errors) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("sampling", "order", "within"), [("independent", 0.5, 0.1), ("shuffled", 1.0, 0.15)])
def test_batches_tend_to_the_flow_in_root_mean_square(sampling: str, order: float, within: float) -> None:
    """Batches of a quarter: the noise of independent ones falls like √ε, that of shuffled epochs like ε."""
    rates, rng = (0.05, 0.0125), np.random.default_rng(8)
    model, task = bilinear(1), Task(rng.normal(size=(16, 1, 1)), 1.0 + 2.0 * rng.normal(size=(16, 1)))
    exact, errors = flow_risk(model, task), []
    for rate in rates:
        found = [stepped_risk(model, task, rate, batch=4, sampling=sampling, seed=seed) - exact for seed in range(32)]
        errors.append(float(np.sqrt(np.mean(np.square(found)))))
    assert slope_of(rates, errors) == pytest.approx(order, abs=within)


def test_batches_are_those_of_the_method() -> None:
    descent = Descent(Optimiser("sgd", 0.1, epochs=2, batch=5, seed=3), 0.0, 12)
    assert descent.steps == 4
    first, second = np.concatenate([descent.batches.at(0), descent.batches.at(1)]), descent.batches.at(2)
    assert len(set(first.tolist())) == 10
    assert len(second) == 5
    assert second.tolist() != descent.batches.at(0).tolist()
    other = dataclasses.replace(descent, settings=dataclasses.replace(descent.settings, seed=4))
    assert other.batches.at(0).tolist() != descent.batches.at(0).tolist()


def test_rates_of_schedules() -> None:
    def rates(**others: Any) -> list[float]:
        return Descent(Optimiser("sgd", 1.0, steps=6, **others), 0.0, 4).rates.tolist()

    assert rates() == [1.0] * 6
    assert np.allclose(rates(schedule="linear", warmup=2), [0.5, 0.75, 1.0, 0.75, 0.5, 0.25], rtol=1e-14)
    cosine = 0.5 * (1.0 + np.cos(np.pi * np.arange(6) / 6.0))
    assert np.allclose(rates(schedule="cosine"), cosine, rtol=1e-14)


def line_of(**method: Any) -> str:
    with pytest.raises(InputError) as found:
        solver_of(heads((Normal([0.2], [1.0]), Zero())), samples(), **method)
    return str(found.value)


def test_what_does_not_fit_a_method_is_told() -> None:
    steps: dict[str, Any] = {"method": "sgd", "learning_rate": 0.1, "steps": 4}
    assert "must be at most that" in line_of(**steps, batch=13)
    assert "the order of a midpoint rule" in line_of(**steps, density=Density(nodes=129))
    assert "nodes alone carry" in line_of(**steps, density=Density(frame="comoving"))
    assert "nodes alone carry" in line_of(**steps, density=Density(cell_type="simplex"))
    training = Training(0.1, optimiser=Optimiser("sgd", 0.1, steps=4))
    with pytest.raises(InputError, match=r"time\.step = 0\.1: steps are training\.learning_rate long"):
        Problem(bilinear(1), samples(), training, {"bilinear": Density()}, Time(step=0.1))


def test_training_that_diverges_ends_and_names_the_cure() -> None:
    solver = solver_of(heads((Normal([0.2], [1.0]), Zero())), samples(), method="sgd", learning_rate=300.0, steps=40)
    with pytest.raises(ComputationError, match=r"training diverges: .* a smaller training\.learning_rate"):
        solver.stepper.advance(solver.stepper.horizon)
    assert solver.flow.potential(solver.stepper.good).outcome.risk < 1e5


FLAT = {
    "horizon": 1.0, "stationary": 0.1, "temperature": 0.1, "epochs": 2, "schedule": "step", "learning_rate": 0.0,
    "beta1": 0.9, "momentum": 0.9, "batch": -1, "clip": 0.0, "seed": -1,
}  # fmt: skip


@pytest.mark.parametrize("key", FLAT)
def test_settings_that_cannot_be_are_told(key: str) -> None:
    values = {"weight_decay": 0.1, "method": "sgd", "learning_rate": 0.1, "steps": 4, key: FLAT[key]}
    with pytest.raises(InputError, match=rf"training\.{key}"):
        Training.of(values)


def test_the_flow_has_no_optimiser() -> None:
    with pytest.raises(InputError, match=r"training\.batch: is of training by steps"):
        Training.of({"weight_decay": 0.1, "horizon": 1.0, "batch": 4})
    with pytest.raises(InputError, match=r"must be one of 'flow', 'sgd', 'momentum', 'adamw'"):
        Training.of({"weight_decay": 0.1, "method": "adam"})
    assert "method" not in Training.of({"weight_decay": 0.1, "horizon": 1.0, "method": "flow"}).given()


def test_momentum_of_other_methods_is_told() -> None:
    with pytest.raises(InputError, match=r"training\.nesterov: is of the method 'momentum', not of 'adamw'"):
        Optimiser("adamw", 0.1, steps=4, nesterov=True)
