"""Identities that hold to rounding: the energy law, the discrete gradient, the potential as a finite model has it.

Each compares the solver with something computed another way: a directional derivative of the energy, difference
quotients, the gradient of a finite Transformer in its units' parameters, and the depth recursion written out.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi4py import MPI

from mfpde.config.settings import Density, Time, Training
from mfpde.limit.backprop import Backprop
from mfpde.limit.diagnostics.mesh_diagnostics import dissipation
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.limit.state import State
from mfpde.problem.laws import Normal
from mfpde.problem.models.low_dimensional import neuron, softmax_head
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, risk, sample_loss
from support.units import units_of

TOKENS, CHANNELS, LAYERS, STEP, DECAY = 3, 2, 3, 0.6, 0.3


def some_model(seed: int, loss: str = "squared", depth: str = "residual") -> Transformer:
    """Two stages, two families in the second, laws that differ between layers."""
    rng = np.random.default_rng(seed)
    matrix = lambda *shape: rng.normal(size=shape)  # noqa: E731
    laws = [Normal([0.4, 0.2 * k], [0.4, 0.5]) for k in range(LAYERS)]
    head = softmax_head("head", matrix(2, 2), matrix(2, 2), laws.__getitem__)
    first = neuron("first", matrix(2), matrix(2), Normal([0.3, 0.5], [0.5, 0.4]))
    second = neuron("second", matrix(2), matrix(2), Normal([-0.2, 0.3], [0.4, 0.4]), activation="gelu")
    read = jnp.asarray(matrix(2, 2))
    return Transformer(
        [[head], [first, second]], LAYERS, lambda t: t[-1] @ read, loss=loss, step=STEP, depth=depth  # type: ignore[arg-type]
    )  # fmt: skip


def some_task(seed: int, samples: int = 5) -> Task:
    """Random tokens; targets that are probabilities, so that both losses take them."""
    rng = np.random.default_rng(seed + 100)
    targets = rng.uniform(size=(samples, 2))
    return Task(rng.normal(size=(samples, TOKENS, CHANNELS)), targets / targets.sum(axis=1, keepdims=True))


def some_solver(model: Transformer, task: Task, density: Density) -> Solver:
    densities = {family.name: density for family in model.families}
    return Solver(MPI.COMM_SELF, Problem(model, task, Training(DECAY, 1.0), densities, Time(step=0.1)))


def random_state(solver: Solver, seed: int) -> State:
    """Densities of any sign, of mass about one."""
    rng = np.random.default_rng(seed)
    state = solver.stepper.state
    parts = [replace(part, density=part.density + 0.3 * rng.normal(size=part.density.shape)) for part in state.parts]
    return replace(state, parts=tuple(parts))


def energy_along(solver: Solver, state: State, change: list[np.ndarray]) -> float:
    """d/dε of R + penalty at ρ + ε·change, by forward differentiation of the risk and linearity of the penalty."""
    points, weights, _ = solver.flow.moments(state)
    parts = [replace(part, density=density) for part, density in zip(state.parts, change, strict=True)]
    _, tangent, square = solver.flow.moments(replace(state, parts=tuple(parts)))
    task, model = solver.problem.task, solver.problem.model
    mean = jnp.full(task.samples, 1.0 / task.samples)

    def of(w: tuple[jax.Array, ...]) -> jax.Array:
        units = tuple(f.units(q, m) for f, q, m in zip(model.families, points, w, strict=True))  # type: ignore[arg-type]
        return risk(model, units, task.tokens, task.targets, mean)[0]  # type: ignore[arg-type]

    at, along = (tuple(jnp.asarray(share.value) for share in shares) for shares in (weights, tangent))
    slope = jax.jvp(of, (at,), (along,))[1]
    return float(slope) + DECAY / (2 * model.layers) * float(sum(s.value.sum() for s in square))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    degree=st.integers(1, 3),
    below=st.integers(0, 1),
    cell=st.sampled_from(["tensor", "simplex"]),
    loss=st.sampled_from(["squared", "cross_entropy"]),
    depth=st.sampled_from(["residual", "continuum"]),
)
def test_energy_law_and_mass(seed: int, degree: int, below: int, cell: str, loss: str, depth: str) -> None:
    """dQ/dτ = −(1/L) Σ ∫ρ|∇V|² to 1e-10 and no mass is made, for any ρ_h with p ≥ 1, k ≤ p in a fixed frame."""
    density = Density(
        degree=degree, potential_degree=max(1, degree - below), cells=4, cell_type=cell, frame="fixed", radius=2.0  # type: ignore[arg-type]
    )  # fmt: skip
    solver = some_solver(some_model(seed, loss, depth), some_task(seed), density)
    try:
        state = random_state(solver, seed)
        potential = solver.flow.potential(state)
        rate = solver.flow.transport(state, potential)
        slope = energy_along(solver, state, [part.density for part in rate.parts])
        lost = scale = 0.0
        for g, (elements, part, values) in enumerate(solver.flow.each(state, potential)):
            space = elements.space
            lost += dissipation(space, part.density, part.frame, values).sum() / LAYERS
            ones = np.einsum(
                "q,qi,cq->ci", space.tables.weights, space.tables.density, space.scale_at(space.tables.points)
            )
            per_cell = np.einsum("ci,cib->cb", ones, rate.parts[g].density)
            assert np.abs(per_cell.sum(axis=0)).max() <= 1e-13 * np.abs(per_cell).sum()
            scale += dissipation(space, np.abs(part.density), part.frame, values).sum() / LAYERS
        assert abs(slope + lost) <= 1e-10 * max(abs(slope), abs(lost), 1e-3 * abs(scale))
        assert abs(solver.flow.energy_rate(state, potential, rate) - slope) <= 1e-10 * max(
            abs(slope), 1e-3 * abs(scale)
        )
    finally:
        solver.close()


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_gradient_has_taylor_remainder_two(loss: str) -> None:
    """R(w + εd) − R(w) − ε⟨∂R/∂w, d⟩ = O(ε²) for the sweep's L ∂R/∂w."""
    solver = some_solver(some_model(3, loss), some_task(3), Density(cells=4, frame="fixed", radius=2.0))
    try:
        points, shares, square = solver.flow.moments(solver.stepper.state)
        outcome = solver.flow.backprop(points, shares, square)
        assert outcome.gradient is not None
        rng = np.random.default_rng(0)
        weights = solver.flow.backprop.sum_over_ranks(shares)
        direction = [rng.normal(size=w.shape) * np.abs(w).max() for w in weights]
        first = sum(float((g * d).sum()) for g, d in zip(outcome.gradient, direction, strict=True)) / LAYERS

        def remainder(size: float) -> float:
            moved = [w + size * d for w, d in zip(weights, direction, strict=True)]
            return abs(solver.flow.backprop.evaluate(points, moved).risk - outcome.risk - size * first)

        slope = np.log10(remainder(1e-3) / remainder(1e-4))
        assert 1.95 < slope < 2.05
    finally:
        solver.close()


def test_potential_gradient_is_a_finite_models_gradient() -> None:
    """∇V at the places of units equals (L/w)·∂Q/∂θ of the finite Transformer with the same measure, to 1e-9.

    The limit side probes V = L ∂R/∂w + λ/2 |θ|² with units of weight zero around each place (differences of order 6).
    The finite side differentiates the loss in the *parameters of the units*: it shares f and nothing of the moments.
    """
    model, task = some_model(5), some_task(5)
    rng = np.random.default_rng(1)
    atoms = [np.stack([f.law(k).sample(rng, 4) for k in range(LAYERS)]) for f in model.families]  # (L, 4, 2)
    weights = [rng.uniform(0.1, 0.4, size=(LAYERS, 4)) for _ in model.families]
    size, offsets, stencil = 5e-3, np.array([-3, -2, -1, 1, 2, 3]), np.array([-1, 9, -45, 45, -9, 1]) / 60.0
    shifts = size * offsets[:, None, None] * np.eye(2)  # (6, 2, 2): offset, direction, coordinate
    probes = [(a[:, :, None, None] + shifts).reshape(LAYERS, -1, 2) for a in atoms]
    theta = [np.concatenate(pair, axis=1) for pair in zip(atoms, probes, strict=True)]
    padded = [np.concatenate([w, np.zeros((LAYERS, 48))], axis=1) for w in weights]
    any_theta = replace(model, stages=[[replace(f, linear=()) for f in stage] for stage in model.stages])
    outcome = Backprop(MPI.COMM_SELF, any_theta, task.tokens, task.targets)(theta, padded, [np.zeros(LAYERS)] * 3)
    assert outcome.gradient is not None
    finite = finite_gradient(model, task, atoms, weights)
    for gradient, probe, atom, weight, by_units in zip(outcome.gradient, probes, atoms, weights, finite, strict=True):
        potential = gradient[:, 4:] + DECAY / 2 * (probe**2).sum(axis=2)
        slope = np.einsum("s,lusk->luk", stencil / size, potential.reshape(LAYERS, 4, 6, 2))
        expected = LAYERS / weight[:, :, None] * by_units + DECAY * atom
        assert np.abs(slope - expected).max() <= 1e-9 * np.abs(expected).max()


def finite_gradient(
    model: Transformer, task: Task, theta: list[np.ndarray], weights: list[np.ndarray]
) -> list[np.ndarray]:
    """∂R/∂θ of the finite Transformer with units θ (L, 4, 2) of the given weights, every sum written out."""

    def output(theta: list[jax.Array], tokens: jax.Array) -> jax.Array:
        for layer in range(LAYERS):
            for places in ((0,), (1, 2)):
                added = jnp.zeros_like(tokens)
                for place in places:
                    for j in range(4):
                        added += weights[place][layer, j] * model.families[place].update(tokens, theta[place][layer, j])
                tokens = tokens + STEP / LAYERS * added
        return model.readout(tokens)

    def risk_of(theta: list[jax.Array]) -> jax.Array:
        samples = zip(jnp.asarray(task.tokens), jnp.asarray(task.targets), strict=True)
        return jnp.mean(jnp.stack([sample_loss(model, output(theta, t), y) for t, y in samples]))

    return [np.asarray(g) for g in jax.jit(jax.grad(risk_of))([jnp.asarray(t) for t in theta])]


def test_nodal_potential_is_the_depth_recursions() -> None:
    """V_h at its nodes is η mean_n ⟨P_{ℓ,r+1}, f(T_{ℓ,r}, θ)⟩ + λ/2 |θ|², T and P from the recursion written out.

    The measure is that of the solver's own signed units.
    """
    model, task = some_model(7), some_task(7, samples=3)
    solver = some_solver(model, task, Density(degree=1, cells=2, frame="fixed", radius=2.0))
    try:
        state = random_state(solver, 7)
        values = solver.flow.potential(state).values[0]
        theta, weights = zip(*units_of(solver, state), strict=True)
        group = solver.flow.discretisations[0]
        nodes = state.parts[0].frame.theta(group.space.nodes)

        def stage_sum(t: jax.Array, layer: int, r: int) -> jax.Array:
            total, places = jnp.zeros_like(t), ((0,), (1, 2))[r]
            for place in places:
                for p, w in zip(theta[place][layer], weights[place][layer], strict=True):
                    total += w * model.families[place].update(t, jnp.asarray(p))
            return total

        expected = np.zeros((3, LAYERS, *nodes.shape[:2]))
        for t, y in zip(jnp.asarray(task.tokens), jnp.asarray(task.targets), strict=True):
            steps = [(layer, r) for layer in range(LAYERS) for r in range(2)]
            stream, pull = [t], []
            for layer, r in steps:
                new, back = jax.vjp(lambda s, k=layer, q=r: s + STEP / LAYERS * stage_sum(s, k, q), stream[-1])
                stream.append(new)
                pull.append(back)
            costate = jax.grad(lambda s, target=y: sample_loss(model, model.readout(s), target))(stream[-1])
            for i in reversed(range(len(steps))):
                layer, r = steps[i]
                for place in ((0,), (1, 2))[r]:
                    block = place * LAYERS + layer
                    update = jax.vmap(model.families[place].update, (None, 0))
                    flat = jnp.asarray(np.moveaxis(nodes[..., block], 2, 2).reshape(-1, 2))
                    pairing = jnp.einsum("und,nd->u", update(stream[i], flat), costate)
                    expected[place, layer] += STEP / task.samples * np.asarray(pairing).reshape(nodes.shape[:2])
                (costate,) = pull[i](costate)
        for place in range(3):
            for layer in range(LAYERS):
                block = place * LAYERS + layer
                square = (nodes[..., block] ** 2).sum(axis=2)
                got = values[..., block] - DECAY / 2 * square
                assert np.abs(got - expected[place, layer]).max() <= 1e-11 * np.abs(expected).max()
    finally:
        solver.close()
