"""Nodes that a run writes: they are its state, with identities that hold at every node."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI

import mfpde
from mfpde.config.settings import Density, Time, Training
from mfpde.limit.sampled.sampled_nodes import SampledNodes, SeparateNodes
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.output.clouds.midpoint_lattice import between
from mfpde.output.clouds.vtp_reader import read_vtp
from mfpde.output.clouds.vtp_writer import write_vtp

DECAY, HORIZON = 0.1, 0.2
NODES = {"separate": 64, "tabled": 1024, "ruled": 16}


def head(name: str, v: mfpde.Law) -> mfpde.Family:
    """Softmax attention with a value matrix of 2 × 2."""

    def update(tokens: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
        return jax.nn.softmax(u[0] * tokens @ tokens.T, axis=1) @ tokens @ v

    return mfpde.Family(
        name, nonlinear=1, linear_shape=(2, 2), update=update, initial=(mfpde.Normal(0.5, 0.5), v)
    )  # fmt: skip


def bent() -> mfpde.Family:
    """Neurons in which nothing is linear."""
    return mfpde.Family(
        "bent", 2, lambda tokens, theta: jnp.tanh(theta[0] * tokens + theta[1]), mfpde.Normal([0.2, 0.0], [0.5, 0.5])
    )


def model() -> mfpde.Transformer:
    wide = mfpde.Normal(0.1, 0.5)
    families = [head("separate", wide), head("tabled", wide), head("ruled", mfpde.Zero()), bent()]
    return mfpde.Transformer([families], 2, lambda tokens: tokens[-1, :1])


def task() -> mfpde.Task:
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(6, 3, 2))
    return mfpde.Task(tokens, np.tanh(tokens[:, 0, :1] * tokens[:, -1, 1:]))


@pytest.fixture(scope="module")
def solver():
    densities = {name: Density(nodes=count) for name, count in {**NODES, "bent": 64}.items()}
    solver = Solver(MPI.COMM_SELF, Problem(model(), task(), Training(DECAY, HORIZON), densities, Time(tolerance=1e-4)))
    assert solver.stepper.advance(HORIZON)
    yield solver
    solver.close()


@pytest.fixture(scope="module")
def clouds(solver, tmp_path_factory):
    """By family, the nodes of the report, as they are read back."""
    folder, found = tmp_path_factory.mktemp("clouds"), {}
    for nodes in solver.report(solver.stepper.state).clouds:
        write_vtp(folder / f"{nodes.family}.vtp", nodes)
        found[nodes.family] = read_vtp(folder / f"{nodes.family}.vtp")
    return found


def test_what_is_read_is_the_state(solver, clouds):
    """Every number of every node of all layers and replicas, exactly."""
    state = solver.stepper.state
    potential = solver.flow.potential(state)
    kinds = {}
    for each, part, field in solver.flow.each(state, potential):
        nodes, grid = clouds[each.grid.family.name], each.grid
        kinds[nodes.family] = type(each)
        assert nodes.layers == 2
        assert grid.replicas == 8
        for replica in range(8):
            mine = nodes.replica == replica
            assert mine.sum() == grid.nodes
            for layer in range(2):
                block = 2 * replica + layer
                theta, slope = part.position[block], field.slope[block]
                assert np.array_equal(nodes.u[layer, mine], theta[:, grid.family.nonlinear_axes])
                assert np.array_equal(nodes.v[layer, mine].reshape(grid.nodes, -1), theta[:, grid.family.linear])
                assert np.array_equal(nodes.velocity_u[layer, mine], -slope[:, grid.family.nonlinear_axes])
                flat = nodes.velocity_v[layer, mine].reshape(grid.nodes, -1)
                assert np.array_equal(flat, -slope[:, grid.family.linear])
                assert np.array_equal(nodes.potential[layer, mine], field.value[block])
                assert np.array_equal(8.0 * nodes.mass[layer, mine], part.mass[block])
    assert kinds == {
        "separate": SeparateNodes, "tabled": SampledNodes, "ruled": SeparateNodes, "bent": SeparateNodes,
    }  # fmt: skip


def test_masses_of_all_replicas_are_one(clouds):
    for nodes in clouds.values():
        assert np.abs(nodes.mass.sum(axis=1) - 1.0).max() < 1e-14


@pytest.mark.parametrize("family", NODES)
def test_the_potential_is_linear_in_v_beside_weight_decay(clouds, family):
    """V = ⟨v, G(u)⟩ + λ/2 (|u|² + |v|²) at every node, with G from −∇V: no table between, or one of G itself."""
    nodes = clouds[family]
    product = (nodes.v * nodes.gradient).sum(axis=(2, 3))
    squares = (nodes.u**2).sum(axis=2) + (nodes.v**2).sum(axis=(2, 3))
    assert np.abs(nodes.potential - product - 0.5 * DECAY * squares).max() < 1e-12
    assert np.abs(product).max() > 1e-4
    assert nodes.weight_decay == DECAY


def test_nodes_at_one_u_have_one_gradient(clouds):
    """G is a function of u alone: nodes in pairs (u, v), (u, −v) at the start still have almost the same u."""
    nodes = clouds["tabled"]
    order = np.argsort(nodes.u[0, nodes.replica == 0, 0])
    u = nodes.u[0, nodes.replica == 0, 0][order]
    gradient = nodes.gradient[0, nodes.replica == 0][order]
    steep = np.abs(np.diff(gradient, axis=0)).max(axis=(1, 2)) / np.maximum(np.diff(u), 1e-9)
    assert (
        np.quantile(steep, 0.99) < 2.0
    )  # where neighbours in u had gradients of their own it would be in the hundreds


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    density = {name: mfpde.Density(nodes=count) for name, count in {**NODES, "bent": 64}.items()}
    return mfpde.solve_limit(
        model(), task(), weight_decay=DECAY, horizon=HORIZON, every=HORIZON, density=density,
        directory=tmp_path_factory.mktemp("runs") / "run",
    )  # fmt: skip


@pytest.mark.parametrize("family", NODES)
def test_the_density_of_u_is_that_of_the_pictures(run, family):
    """The same kernel: what the .vtu has at every point, of random nodes and between those of a midpoint rule."""
    nodes, snapshot = (read(tau=HORIZON, family=family) for read in (run.nodes, run.snapshot))
    assert nodes.rule == ((1, 16) if family == "ruled" else (0, 0))
    assert snapshot.coordinates == ("u_0",)
    for layer in range(2):
        points, expected = snapshot.points[layer, :, :, 0].ravel(), snapshot.density[layer].ravel()
        found = nodes.density(layer, "u_0", points)
        assert np.abs(found - expected).max() < 1e-12 * expected.max()
        between = np.linspace(points.min() - 1.0, points.max() + 1.0, 333)
        expected = run.density(tau=HORIZON, family=family, layer=layer, theta=between[:, None])
        assert np.abs(nodes.density(layer, "u_0", between) - expected).max() < 1e-12 * expected.max()


def test_the_density_of_two_coordinates_is_that_of_the_pictures(run):
    nodes, snapshot = (read(tau=HORIZON, family="bent") for read in (run.nodes, run.snapshot))
    assert snapshot.coordinates == ("theta_0", "theta_1")
    points, expected = snapshot.points[1].reshape(-1, 2), snapshot.density[1].ravel()
    found = nodes.density(1, ["theta_0", "theta_1"], points)
    assert np.abs(found - expected).max() < 1e-12 * expected.max()


@pytest.mark.parametrize("family", NODES)
def test_moments_integrate_to_the_mean_of_v(run, family):
    """∫ B(u) du, of a midpoint rule that of the law between its points, linear there and right to some per cent."""
    nodes = run.nodes(tau=HORIZON, family=family)
    for layer in range(2):
        v, mass = nodes.v[layer].reshape(-1, 4), nodes.mass[layer]
        exact = mass @ v
        if nodes.rule[1]:
            v, mass = between(v[nodes.replica == 0], *nodes.rule)
            assert np.abs(mass @ v - exact).max() < 0.15 * np.abs(exact).max()
        u = np.linspace(nodes.u[layer].min() - 2.0, nodes.u[layer].max() + 2.0, 20001)
        total = nodes.moment(layer, u).sum(axis=0).ravel() * (u[1] - u[0])
        assert np.abs(total - mass @ v).max() < 1e-6 * np.abs(v).max()


def test_files_of_nodes_stand_beside_those_of_densities(run):
    folder = Path(run.directory)
    assert run.clouds == run.families == ("separate", "tabled", "ruled", "bent")
    assert sorted(path.name for path in folder.glob("nodes_*")) == [f"nodes_{name}.pvd" for name in sorted(run.clouds)]
    assert len(list((folder / "nodes").iterdir())) == 2 * len(run.clouds)
