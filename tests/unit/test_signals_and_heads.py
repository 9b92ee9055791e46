"""MNIST-1D as a task, and the options of heads with value matrices: places, causality, a start at zero."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from mnist1d.data import get_dataset_args, make_dataset

from mfpde.config import run_file
from mfpde.errors import InputError
from mfpde.finite.initial_units import sampled_units
from mfpde.problem.datasets import mnist1d
from mfpde.problem.descent import Descent
from mfpde.problem.laws import Independent, Normal, Zero
from mfpde.problem.model_checks import fingerprint, try_out
from mfpde.problem.models.value_matrices import value_attention, vector_neuron
from mfpde.problem.programs import trace
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import residual_stream

RUNS = Path(__file__).parents[2] / "runs"


@pytest.fixture(scope="module")
def signals() -> Task:
    return mnist1d()


def test_tokens_are_pieces_of_the_published_signals(signals):
    made = make_dataset(get_dataset_args())
    x = (made["x"] - made["x"].mean()) / made["x"].std()
    assert signals.tokens.shape == (4000, 10, 24)
    for token in range(9):
        np.testing.assert_allclose(signals.tokens[:, token, :8], x[:, 4 * token : 4 * token + 8], atol=1e-12)
    assert not signals.tokens[:, :, 8:].any()
    assert not signals.tokens[:, -1].any()

    assert signals.test_targets is not None
    assert (signals.targets.argmax(1) == made["y"]).all()
    assert (signals.test_targets.argmax(1) == made["y_test"]).all()


def test_fewer_signals_are_drawn_from_all_of_them(signals):
    one, same, other = (mnist1d(50, 20, patch=40, stride=1, free=0, seed=seed) for seed in (1, 1, 2))
    assert one.tokens.shape == (50, 2, 40)
    assert (one.tokens == same.tokens).all()
    assert (one.tokens != other.tokens).any()
    first = {tuple(row) for row in signals.tokens[:, 0, :8]}
    assert all(tuple(row[:8]) in first for row in one.tokens[:, 0])
    assert mnist1d(50, 0).test_tokens is None


def test_the_generators_that_a_process_shares_stay_as_they_were():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    mnist1d(10, 0)
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_without_the_package_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mnist1d.data", None)
    with pytest.raises(
        InputError, match=r"^task.name = 'mnist1d': needs the package .* pip install 'mfpde\[signals\]'$"
    ):
        mnist1d()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"samples": 4001}, "task.samples = 4001: must be a whole number, 1 … 4000"),
        ({"test_samples": -1}, "task.test_samples = -1: must be a whole number, 0 … 1000"),
        ({"patch": 41}, "task.patch = 41: must be a whole number, 1 … 40"),
        ({"stride": 0}, "task.stride = 0: must be a whole number, 1 … 40"),
    ],
)
def test_what_no_signals_have(given, line):
    with pytest.raises(InputError) as caught:
        mnist1d(**given)
    assert str(caught.value) == line


TOKENS = np.random.default_rng(0).normal(size=(3, 4, 6))
TASK = Task(TOKENS, np.array([0, 1, 1]))


def mixing(model, head: int, u: float) -> np.ndarray:
    """softmax(u S) of a head whose scores are those of places alone, (N, N), from an identity for a value matrix."""
    theta = jnp.concatenate([jnp.asarray([u]), jnp.eye(6).ravel()])
    added = model.stages[0][head].update(jnp.asarray(TOKENS[0]), theta)
    return np.linalg.lstsq(TOKENS[0].T, np.asarray(added).T, rcond=None)[0].T


def test_what_the_scores_of_places_depend_on():
    model = value_attention(TASK, heads=2, neurons=0, layers=1, query="all", content=0.0, places="mixed", contrast=1.0)
    relative, absolute = (np.log(mixing(model, head, 0.5)) for head in (0, 1))
    np.testing.assert_allclose(absolute - absolute[:1], 0.0, atol=1e-9)
    apart = relative[:, 1:] - relative[:, :-1]  # without the softmax's own sum
    np.testing.assert_allclose(apart[1:, 1:], apart[:-1, :-1], atol=1e-9)
    assert np.abs(apart[1:] - apart[:-1]).max() > 0.1

    causal = value_attention(TASK, heads=1, neurons=0, layers=1, query="all", places="any", causal=True)
    weights = mixing(causal, 0, 0.5)
    np.testing.assert_allclose(np.triu(weights, 1), 0.0, atol=1e-12)
    np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-12)


def test_a_start_at_zero_adds_nothing():
    model = value_attention(TASK, heads=2, neurons=2, layers=2, query="all", spread=0.0)
    try_out(model, TASK)
    assert isinstance(model.families[0].initial[1], Zero)
    units = sampled_units(model, 3, 0)
    np.testing.assert_array_equal(residual_stream(model, units, jnp.asarray(TOKENS[0])), TOKENS[0])


def test_options_of_heads_that_there_are_not():
    for given, line in (
        ({"places": "near"}, "model.places = 'near': must be one of"),
        ({"content": -1.0}, "model.content = -1.0: must be a finite number, at least 0"),
        ({"spread": -1.0}, "model.spread = -1.0: must be a finite number, at least 0"),
    ):
        with pytest.raises(InputError, match=f"^{line}"):
            value_attention(TASK, **given)


@pytest.mark.parametrize("name", ["digits-adamw", "mnist1d", "text"])
def test_the_run_files_build(name):
    run = run_file.load(RUNS / f"{name}.toml", ["task.samples=256", "task.test_samples=8"])
    model, task = run.build()
    descent = Descent.of(run.training, task.samples)
    assert descent is not None
    assert descent.batches.taken <= 256
    assert all(set(family.law(0).degenerate) == set(family.linear) for family in model.families)
    assert run.question.endswith("?")


def test_a_value_matrix_is_checked_without_its_covariance(monkeypatch):
    """2,304 entries have five million covariances: minutes for a hundred families."""
    monkeypatch.setattr(Independent, "covariance", property(lambda _: pytest.fail("a dense covariance")))
    model = value_attention(TASK, heads=1, neurons=1, layers=2, query="all", spread=0.0)
    assert isinstance(model.families[0].law(0), Independent)
    assert model.families[0].law(0).diagonal
    try_out(model, TASK)
    fingerprint(model, TASK)
    assert not Independent([Normal([0.0, 0.0], cov=[[1.0, 0.5], [0.5, 1.0]]), Zero()]).diagonal


def test_neurons_of_other_offsets_share_a_program():
    start = Normal([1.0], [1.0]), Normal([0.0], [1.0])
    forms = [
        trace(vector_neuron("n", np.full((1, 6), shift), start, shift).update, jnp.asarray(TOKENS[0]), jnp.ones(7)).form
        for shift in (0.1, 0.2)
    ]
    assert forms[0] == forms[1]
