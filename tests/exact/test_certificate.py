"""The certificate of stationarity against closed forms, brute force and other measures.

Each value of V here is written out from the residual stream and its co-state, or known in closed form; nothing is taken
from the probes that the certificate uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI

from mfpde.config.settings import Density, Time, Training
from mfpde.limit.certificate.certificate import Certificate, certify, gap_kind
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.problem.datasets import teacher
from mfpde.problem.family import Family
from mfpde.problem.laws import Normal
from mfpde.problem.models.low_dimensional import bilinear_head, linear_head, neuron, softmax_head
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, risk, sample_loss
from support.units import units_of


@contextmanager
def solving(model: Transformer, task: Task, decay: float, density: Density | None = None) -> Iterator[Solver]:
    densities = {f.name: density or Density(degree=2, cells=12, frame="comoving") for f in model.families}
    solver = Solver(MPI.COMM_SELF, Problem(model, task, Training(decay, 100.0), densities, Time(tolerance=1e-5)))
    try:
        yield solver
    finally:
        solver.close()


def certificate(solver: Solver) -> Certificate:
    state = solver.stepper.state
    return certify(solver.flow, state, solver.flow.potential(state))


def last_token(tokens: jax.Array) -> jax.Array:
    return tokens[-1]


@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_linear_head_bounds_what_is_missing_though_the_minimum_is_far_outside_the_mesh(tau: float) -> None:
    """V = (m − s) θ + λ/2 θ²: min = −(m − s)²/(2λ), at θ = 20 where the mesh ends at 0.1; Q* is at a point mass."""
    decay, start, std = 0.1, 0.3, 0.01
    model = Transformer([[linear_head("head", 1, Normal([0.0], [std]))]], 1, last_token)
    task = Task(np.full((1, 1, 1), start), np.full((1, 1), start + 2.0))
    with solving(model, task, decay) as solver:
        if tau:
            solver.stepper.advance(tau)
        report = solver.report(solver.stepper.state)
        found = report.history["gap"]
        assert report.gaps == (("head", 0, found),)
    mean, variance = float(report.moments[0].mean[0]), float(report.moments[0].covariance[0, 0])
    pull = mean - 2.0
    expected = pull * mean + decay / 2 * (mean**2 + variance) + pull**2 / (2 * decay)
    assert found == pytest.approx(expected, rel=1e-9)
    best = 0.5 * decay * 4.0 / (1.0 + decay)  # of ½(m − 2)² + λ/2 m²
    assert found >= report.history["energy"] - best > 0.0
    assert gap_kind(model, task.tokens) == "bound"


def stream_and_costate(model: Transformer, task: Task, measure: list[tuple[np.ndarray, np.ndarray]]) -> list[list]:
    """Per layer and stage (T, P) of every sample, (n, N, D) each; the recursion written out."""
    rows = []
    for t, y in zip(jnp.asarray(task.tokens), jnp.asarray(task.targets), strict=True):
        stream, pull, steps = [t], [], []
        for layer in range(model.layers):
            place = 0
            for stage in model.stages:
                members = [(f, *(jnp.asarray(a[layer]) for a in measure[place + i])) for i, f in enumerate(stage)]

                def onward(s: jax.Array, members: list = members) -> jax.Array:
                    added = [w @ jax.vmap(f.update, (None, 0))(s, p).reshape(len(w), -1) for f, p, w in members]
                    return s + model.step / model.layers * sum(added).reshape(s.shape)

                new, back = jax.vjp(onward, stream[-1])
                stream.append(new)
                pull.append(back)
                steps.append((layer, place))
                place += len(stage)
        costate = jax.grad(lambda s, target=y: sample_loss(model, model.readout(s), target))(stream[-1])
        row = []
        for i in reversed(range(len(steps))):
            row.append((stream[i], costate))
            (costate,) = pull[i](costate)
        rows.append(row[::-1])
    return [[jnp.stack([row[i][k] for row in rows]) for k in range(2)] for i in range(len(rows[0]))]


def potential_at(
    model: Transformer, family: Family, pair: list[jax.Array], theta: np.ndarray, decay: float
) -> np.ndarray:
    """V(θ) = η mean_n⟨P, f(T, θ)⟩ + λ/2 |θ|² at θ (u, d)."""

    def one(tokens: jax.Array, costate: jax.Array) -> jax.Array:
        return jnp.einsum("und,nd->u", jax.vmap(family.update, (None, 0))(tokens, jnp.asarray(theta)), costate)

    data = sum(one(*sample) for sample in zip(*pair, strict=True)) / len(pair[0])
    return model.step * np.asarray(data) + decay / 2 * (theta**2).sum(axis=1)


def tanh_problem() -> tuple[Transformer, Task]:
    """One layer of neurons on scalars, targets that they cannot quite meet."""
    model = Transformer([[neuron("unit", [1.0], [1.0], Normal([0.3, 0.5], [0.4, 0.5]))]], 1, last_token, step=0.7)
    x = np.linspace(-2.0, 2.5, 12)
    return model, Task(x[:, None, None], (x + np.sin(3.0 * x) - 0.5 * x**2)[:, None])


def test_neurons_gap_against_brute_force_and_other_measures() -> None:
    """min V over a fine grid that is far wider than the mesh; gap ≥ Q − Q of the measure at later times."""
    decay = 0.02
    model, task = tanh_problem()
    with solving(model, task, decay) as solver:
        energies, gaps = [], []
        for tau in (0.0, 2.0, 6.0):
            if tau:
                solver.stepper.advance(tau)
            state = solver.stepper.state
            potential = solver.flow.potential(state)
            square, units = solver.flow.moments(state)[2], units_of(solver, state)
            said = certify(solver.flow, state, potential)
            energies.append(potential.energy)
            gaps.append(said.gap)
            pair = stream_and_costate(model, task, units)[0]
            w = np.concatenate([np.linspace(-30.0, 30.0, 120001), np.geomspace(30.0, 3000.0, 400)])
            along = potential_at(model, model.families[0], pair, np.stack([np.ones_like(w), w], axis=1), 0.0)
            brute = float((decay / 2 * w**2 - along**2 / (2 * decay)).min())
            assert said.blocks[0].least <= brute + 1e-12 * abs(brute)
            assert said.blocks[0].least >= brute - 1e-5 * abs(brute)  # the grid's own error
            at_units = potential_at(model, model.families[0], pair, units[0][0][0], 0.0)
            mean = float(at_units @ units[0][1][0] + decay / 2 * square[0].value[0])
            assert said.blocks[0].mean == pytest.approx(mean, rel=1e-9)
        for k in (0, 1):
            assert gaps[k] >= energies[k] - energies[-1] > 0.0
        assert gap_kind(model, task.tokens) == "best found"


@pytest.mark.parametrize(("depth", "bias"), [("residual", True), ("continuum", False)])
def test_no_random_point_is_below_the_minimum(depth: str, bias: bool) -> None:
    """Two stages, three families of up to two nonlinear coordinates, three layers: 10⁵ points in a wide box each.

    A fifth of that in the continuum, where a point costs four times as much.
    """
    rng = np.random.default_rng(4)
    matrix = lambda *shape: rng.normal(size=shape)  # noqa: E731
    laws = [Normal([0.4, 0.2 * k], [0.4, 0.5]) for k in range(3)]
    head = softmax_head("head", matrix(2, 2), matrix(2, 2), laws.__getitem__)
    start = Normal([0.3, 0.5, 0.0], [0.5, 0.4, 0.3]) if bias else Normal([0.3, 0.5], [0.5, 0.4])
    first = neuron("first", matrix(2), matrix(2), start, bias=bias)
    plain = Family("plain", 1, lambda t, p: jnp.sin(2.0 * p[0]) * t, Normal([0.2], [0.5]))
    read = jnp.asarray(matrix(2, 2))
    model = Transformer(
        [[head], [first, plain]], 3, lambda t: jnp.tanh(t[-1] @ read), step=0.6, depth=depth  # type: ignore[arg-type]
    )  # fmt: skip
    task = Task(matrix(6, 3, 2), matrix(6, 2))
    decay = 0.05
    with solving(model, task, decay, Density(degree=2, cells=4, frame="comoving")) as solver:
        said = certificate(solver)
        theta, weights = zip(*units_of(solver, solver.stepper.state), strict=True)
    mean, families = jnp.full(6, 1.0 / 6), model.families
    assert gap_kind(model, task.tokens) == "stationarity"

    @jax.jit
    def by_weights(probes: list[jax.Array]) -> list[jax.Array]:
        def of(zero: list[jax.Array]) -> jax.Array:
            both = [
                (jnp.concatenate([t, p], axis=1), jnp.concatenate([w, z], axis=1))
                for t, w, p, z in zip(theta, weights, probes, zero, strict=True)
            ]
            return risk(model, tuple(both), task.tokens, task.targets, mean)[0]

        return jax.grad(of)([jnp.zeros(p.shape[:2]) for p in probes])

    least = np.full((3, 3), np.inf)
    for _ in range(20 if bias else 4):
        points = [rng.uniform(-30.0, 30.0, size=(5000, f.dim)) * rng.uniform(size=(5000, 1)) ** 2 for f in families]
        for f, q in zip(families, points, strict=True):
            q[:, list(f.linear)] = 1.0
        probes = [jnp.asarray(np.broadcast_to(q, (3, *q.shape))) for q in points]
        for place, (f, q, gradient) in enumerate(zip(families, points, by_weights(probes), strict=True)):
            data, penalty = 3 * np.asarray(gradient), decay / 2 * (np.delete(q, f.linear, axis=1) ** 2).sum(axis=1)
            # the best linear coordinate at each point: no value of V there is lower
            values = penalty + (-(data**2) / (2 * decay) if f.linear else data)
            least[place] = np.minimum(least[place], values.min(axis=1))
    for family, low in zip(families, least, strict=True):
        mine = np.array([b.least for b in said.blocks if b.family == family.name])
        assert (mine <= low + 1e-12 * np.abs(low)).all()
        assert (mine >= low - 0.02 * np.abs(low)).all()  # and not far below what so many points find


def test_gap_falls_with_the_dissipation_on_a_realisable_task() -> None:
    """Training towards a teacher of the same families lowers both by a large factor."""
    unit = neuron("unit", [1.0, 0.3], [0.5, 1.0], Normal([0.2, 0.6], [0.5, 0.5]))
    model = Transformer([[unit]], 2, last_token)
    task = teacher(model, samples=16, tokens=2, channels=2, units=2)
    rows = []
    with solving(model, task, 0.1) as solver:
        for tau in (0.0, 4.0, 16.0):
            if tau:
                solver.stepper.advance(tau)
            rows.append(solver.report(solver.stepper.state).history)
    gaps, lost = ([row[name] for row in rows] for name in ("gap", "dissipation"))
    assert gaps[0] > 3.0 * gaps[1] > 9.0 * gaps[2] > 0.0
    assert lost[0] > lost[1] > lost[2]


def test_unbounded_potentials_have_an_infinite_gap() -> None:
    """λ = 0; and V = c a b + λ/2 (a² + b²), whose minimum is 0 for |c| ≤ λ and −∞ above."""
    model, task = tanh_problem()
    with solving(model, task, 0.0) as solver:
        said = certificate(solver)
        assert said.gap == said.blocks[0].gap == np.inf
    pair = Transformer([[bilinear_head("pair", Normal([0.5, 0.5], [0.3, 0.3]))]], 1, last_token)
    for target, least in ((1.3, 0.0), (3.0, -np.inf)):
        with solving(pair, Task(np.ones((1, 1, 1)), np.full((1, 1), target)), 0.1) as solver:
            pull = 1.0 + 0.25 - target  # c = P: the mean of ab is 1/4
            assert (abs(pull) < 0.1) == (least == 0.0)
            assert certificate(solver).blocks[0].least == pytest.approx(least, abs=1e-12)


def test_a_data_term_that_vanishes_needs_no_decay() -> None:
    """f = 0: V = λ/2 |θ|², also for λ = 0."""
    model = Transformer([[Family("none", 1, lambda t, p: 0.0 * p[0] * t, Normal([0.5], [0.3]))]], 2, last_token)
    task = Task(np.ones((2, 1, 1)), np.zeros((2, 1)))
    for decay in (0.0, 0.2):
        with solving(model, task, decay) as solver:
            report = solver.report(solver.stepper.state)
            assert report.history["gap"] == pytest.approx(2.0 * report.history["penalty"] / 2.0, abs=1e-14)
