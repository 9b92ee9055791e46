"""The Vision Transformer as families: against one written directly, its symmetry, its gradient; class attention."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI

from mfpde.config import run_file
from mfpde.errors import InputError
from mfpde.finite.flow import make_flow, split
from mfpde.finite.initial_units import sampled_units
from mfpde.finite.methods import gradient_descent
from mfpde.limit.solver import Solver
from mfpde.problem.datasets import digits, embedded_digits
from mfpde.problem.family import integrate
from mfpde.problem.laws import Normal
from mfpde.problem.model_checks import check_family, try_out
from mfpde.problem.models.low_dimensional import class_head, softmax_head
from mfpde.problem.models.vision import vision_transformer
from mfpde.problem.transformer import residual_stream
from mfpde.runs.problem_setup import problem_of
from mfpde.solve import main

RUNS = Path(__file__).parents[2] / "runs"
WIDTH, KEY, HIDDEN, HEADS, LAYERS = 5, 2, 3, 3, 2


@pytest.fixture(scope="module")
def task():
    return embedded_digits(width=WIDTH, samples=24, test_samples=8)


@pytest.fixture(scope="module")
def model(task):
    return vision_transformer(task, key=KEY, hidden=HIDDEN, layers=LAYERS)


def test_the_seed_draws_other_images():
    one, other = (embedded_digits(width=WIDTH, samples=24, test_samples=8, seed=seed) for seed in (0, 1))
    assert (one.targets != other.targets).any()
    assert one.classification


def norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)


def softmax(x: np.ndarray) -> np.ndarray:
    grown = np.exp(x - x.max(-1, keepdims=True))
    return grown / grown.sum(-1, keepdims=True)


def by_hand(x: np.ndarray, attention: np.ndarray, mlp: np.ndarray) -> np.ndarray:
    """Textbook layers: heads concatenated into Q, K, V (D, Mk) and O (Mk, D), one MLP of Mh hidden neurons."""
    for heads, blocks in zip(attention, mlp, strict=True):  # (M, d) of a layer
        cut = heads[:, : 3 * WIDTH * KEY].reshape(HEADS, 3, WIDTH, KEY)
        query, keys, value = cut.transpose(1, 2, 0, 3).reshape(3, WIDTH, HEADS * KEY)
        out = heads[:, 3 * WIDTH * KEY :].reshape(HEADS * KEY, WIDTH)
        y = norm(x)
        q, k, v = ((y @ w).reshape(len(x), HEADS, KEY).transpose(1, 0, 2) for w in (query, keys, value))
        mixed = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(KEY)) @ v  # (M, N, k)
        x = x + mixed.transpose(1, 0, 2).reshape(len(x), -1) @ out / (LAYERS * HEADS)
        inward = blocks[:, : WIDTH * HIDDEN].reshape(HEADS, WIDTH, HIDDEN).transpose(1, 0, 2).reshape(WIDTH, -1)
        bias = blocks[:, WIDTH * HIDDEN : WIDTH * HIDDEN + HIDDEN].ravel()
        outward = blocks[:, WIDTH * HIDDEN + HIDDEN :].reshape(HEADS * HIDDEN, WIDTH)
        z = norm(x) @ inward + bias
        x = x + 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))) @ outward / (LAYERS * HEADS)
    return x


def test_units_side_by_side_are_multi_head_attention_and_an_mlp(task, model):
    try_out(model, task)
    units = sampled_units(model, HEADS, 3)
    got = np.asarray(residual_stream(model, units, jnp.asarray(task.tokens[0])))
    expected = by_hand(task.tokens[0], *(np.asarray(theta) for theta, _ in units))
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert np.abs(got - task.tokens[0]).max() > 0.1


def test_the_tokens_are_what_the_embedding_makes_of_all_channels(task):
    raw = digits(10, 24, 8, centred=True)
    assert task.tokens.shape == (24, 5, WIDTH)
    assert task.test_tokens is not None
    assert task.test_tokens.shape == (8, 5, WIDTH)
    assert (task.targets == raw.targets).all()
    embedding = np.linalg.lstsq(raw.tokens.reshape(-1, 25), task.tokens.reshape(-1, WIDTH), rcond=None)[0]
    np.testing.assert_allclose(raw.tokens @ embedding, task.tokens, atol=1e-9)


def test_tokens_in_another_order_end_in_that_order(task, model):
    """Attention sees places only through the embedding, not through the order of rows."""
    units, order = sampled_units(model, HEADS, 1), np.array([3, 0, 4, 2, 1])
    tokens = jnp.asarray(task.tokens[1])
    ends = residual_stream(model, units, tokens), residual_stream(model, units, tokens[order])
    np.testing.assert_allclose(ends[0][order], ends[1], atol=1e-12)
    assert float(jnp.abs(ends[0] - ends[1]).max()) > 0.1


def test_velocity_of_every_matrix_is_the_slope_of_the_energy(task, model):
    units = sampled_units(model, 2, 0)
    flow = make_flow(model, task, 0.1, units)
    parameters, weights = split(units)
    velocity = flow.velocity(parameters, weights)
    energy = jax.jit(lambda p: flow.energy(p, weights))
    size = WIDTH * KEY
    places = [(0, 1, 1, k * size + 3) for k in range(4)] + [(1, 0, 1, 2), (1, 0, 0, WIDTH * HIDDEN + 1), (1, 1, 0, -2)]
    for family, layer, unit, axis in places:
        h = 1e-4

        def shifted(sign, place=(layer, unit, axis), family=family, h=h):
            moved = parameters[family].at[place].add(sign * h)
            return float(energy(tuple(moved if c == family else p for c, p in enumerate(parameters))))

        slope = -LAYERS * 2 * (shifted(1) - shifted(-1)) / (2 * h)
        assert float(velocity[family][layer, unit, axis]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_meshes_take_few_parameters_and_say_what_takes_more(tmp_path, capsys):
    where, frame = tmp_path / "new", "density.frame='comoving'"
    words = ["--set", "task.samples=10", "--set", frame, "--directory", str(where)]
    code = main([str(RUNS / "vision-transformer.toml"), *words])
    told = capsys.readouterr().err
    assert code == 2
    assert told.count("\n") == 1
    assert (
        "family 'attention' has dim = 256; a density on a mesh takes at most 3 parameters; for more there are" in told
    )
    assert not where.exists()


def test_the_limit_of_a_vision_transformer_by_random_nodes():
    """Heads of 192 nonlinear parameters: the energy falls as fast as the dissipation says."""
    small = ["task.samples=12", "task.test_samples=4", "model.layers=2", "density.nodes=32", "time.tolerance=1e-2"]
    problem = problem_of(run_file.load(RUNS / "vision-transformer.toml", small), trial=False)
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        risk = solver.flow.potential(solver.stepper.state).outcome.risk
        solver.stepper.advance(0.05)
        history = solver.report(solver.stepper.state, certified=False).history
    finally:
        solver.close()
    assert history["risk"] < risk
    assert abs(history["energy_remainder"]) < 1e-10 * history["dissipation"]


@pytest.mark.parametrize(
    "bad", ["model.key=0", "model.hidden=-1", "task.width=1", "model.gain='big'", "task.centred=1"]
)
def test_bad_values_are_named(bad):
    with pytest.raises(InputError, match=bad.partition("=")[0]):
        run_file.load(RUNS / "vision-transformer.toml", [bad]).build()


def test_through_a_class_head_only_the_last_token_looks():
    rng = np.random.default_rng(0)
    w, u, tokens = rng.normal(size=(3, 3)), rng.normal(size=(3, 3)), jnp.asarray(rng.normal(size=(4, 3)))
    law = Normal([0.5, 0.0], [0.5, 0.5])
    one, every = class_head("one", w, u, law), softmax_head("every", w, u, law)
    check_family(one, tokens)  # its fast integral, too
    theta, weights = jnp.asarray(rng.normal(size=(5, 2))), jnp.asarray(rng.normal(size=5))
    looked, all_looked = (np.asarray(integrate(f, tokens, theta, weights)) for f in (one, every))
    np.testing.assert_allclose(looked[-1], all_looked[-1], rtol=1e-12)
    assert not looked[:-1].any()


def test_more_heads_end_with_a_smaller_loss(task, model):
    """The sweep of Figure 1 in small: the mean over seeds, and far more than its own error."""
    ends = {}
    for heads in (1, 16):
        runs = []
        for seed in range(3):
            units = sampled_units(model, heads, seed)
            flow = make_flow(model, task, 0.001, units)
            runs.append(list(gradient_descent(flow, 0.1).snapshots(units, [0.0, 3.0])))
        assert all(end.risk < start.risk for start, end in runs)
        ends[heads] = np.array([end.risk for _, end in runs])
    apart = ends[1].mean() - ends[16].mean()
    assert apart > 2.0 * np.sqrt((ends[1].var(ddof=1) + ends[16].var(ddof=1)) / 3)
