"""Depth: the error against L = ∞ has order 1 for residual layers and order 2 for cells of a continuous depth."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI

from mfpde.config.settings import Density, Time, Training
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.problem.laws import Normal
from mfpde.problem.models.low_dimensional import bilinear_head, neuron, softmax_head
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, residual_stream

type Depth = Literal["residual", "continuum"]
HORIZON, STEP = 0.5, 1.3


def task() -> Task:
    rng = np.random.default_rng(4)
    return Task(rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 2)))


def model(layers: int, depth: Depth) -> Transformer:
    """Two stages, and laws that vary with depth: a cell's law is that of its midpoint."""
    rng = np.random.default_rng(7)

    def law(layer: int) -> Normal:
        t = (layer + 0.5) / layers
        return Normal([0.4 + 0.5 * t, 0.6 * np.sin(2.0 * t)], [0.4, 0.4 + 0.1 * t])

    head = softmax_head("head", rng.normal(size=(2, 2)), rng.normal(size=(2, 2)), law)
    unit = neuron("unit", rng.normal(size=2), rng.normal(size=2), law)
    return Transformer([[head], [unit]], layers, lambda tokens: tokens[-1], step=STEP, depth=depth)


def risk(layers: int, depth: Depth) -> float:
    """Risk at the horizon; the discretisation in θ and τ is the same for all depths, and drops out of differences."""
    made = model(layers, depth)
    densities = {family.name: Density(cells=6, frame="comoving") for family in made.families}
    problem = Problem(made, task(), Training(0.1, HORIZON), densities, Time(step=HORIZON / 20))
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        assert solver.stepper.advance(HORIZON)
        return solver.flow.potential(solver.stepper.state).outcome.risk
    finally:
        solver.close()


@pytest.fixture(scope="module")
def limit() -> float:
    """L = ∞: the continuum at 32 and 64 cells, extrapolated by its order 2."""
    coarse, fine = risk(32, "continuum"), risk(64, "continuum")
    return fine + (fine - coarse) / 3.0


@pytest.mark.parametrize(("depth", "order", "within"), [("residual", 1.0, 0.15), ("continuum", 2.0, 0.3)])
def test_order_in_depth(limit: float, depth: Depth, order: float, within: float) -> None:
    """Slope over L = 4, 8, 16 of the risk's error at the horizon."""
    layers = np.array([4, 8, 16])
    errors = [abs(risk(int(n), depth) - limit) for n in layers]
    assert abs(-np.polyfit(np.log(layers), np.log(errors), 1)[0] - order) <= within


def test_a_depth_cell_is_crossed_to_fourth_order() -> None:
    """f = a b T in one family and constant density: dT/dt = η E[ab] T, so that T_L = exp(η E[ab]) T_0."""
    theta, weights = jnp.array([[1.0, 0.7], [0.5, -0.4]]), jnp.array([0.5, 0.5])
    growth = STEP * float((weights * theta.prod(axis=1)).sum())
    product = bilinear_head("product", Normal([0.0, 0.0], [1.0, 1.0]))
    errors = []
    for layers in (2, 4):
        made = Transformer([[product]], layers, lambda tokens: tokens[-1], step=STEP, depth="continuum")
        units = ((jnp.tile(theta, (layers, 1, 1)), jnp.tile(weights, (layers, 1))),)
        errors.append(abs(float(residual_stream(made, units, jnp.ones((1, 1)))[0, 0]) - np.exp(growth)))
    assert 3.7 < np.log2(errors[0] / errors[1]) < 4.3
