"""Passes in single precision: the same risk to 1e-6, the same bits on any number of ranks, the rounding estimated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI

import mfpde
from mfpde.config import run_file
from mfpde.errors import InputError
from mfpde.limit.backprop import Backprop
from mfpde.limit.companion import Companion
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem, refined
from mfpde.runs.problem_setup import problem_of
from support.launch import run

CASE = Path(__file__).parents[2] / "runs" / "in-context.toml"
SMALL = ["task.samples=24", "task.context=4", "training.horizon=1", "output.every=0.5", "density.cells=8"]
SINGLE = "training.precision='single'"


def small(precision: str = "single") -> Problem:
    return problem_of(run_file.load(CASE, [*SMALL, f"training.precision='{precision}'"]))


def test_the_risk_is_that_of_double_precision_and_the_estimate_has_the_difference() -> None:
    both = {}
    for precision in ("single", "double"):
        made = small(precision)
        other = Solver(MPI.COMM_SELF, made)
        solver = Solver(MPI.COMM_SELF, made, Companion(other, 1.0, 1.0, needed=False))  # another of no other error
        *_, last = solver.run([0.5, 1.0])
        both[precision] = last.history
        solver.close()
        other.close()

    single, double = both["single"], both["double"]
    apart = abs(single["risk"] - double["risk"])
    assert 0.0 < apart < 1e-6 * double["risk"]
    assert double["risk_error"] == 0.0
    assert 0.0 < single["risk_error"] < 1e-6 * double["risk"]
    assert apart < 30.0 * single["risk_error"]  # the rounding of one pass; the run has had many


def test_sums_over_samples_are_in_double_precision() -> None:
    """The gradient's error is that of single numbers, however many samples there are; accuracies are exact."""
    made = problem_of(run_file.load(None, ["task.samples=90", "model.heads=2", "model.neurons=1", "density.cells=8"]))
    solver = Solver(MPI.COMM_SELF, made)
    moments = solver.flow.moments(solver.stepper.state)
    coarse = Backprop(MPI.COMM_SELF, made.model, made.task.tokens, made.task.targets, single=True)
    found, right = coarse(*moments), solver.flow.backprop(*moments)
    solver.close()

    assert found.accuracy == right.accuracy
    assert 0.0 < abs(found.risk / right.risk - 1.0) < 2e-7
    for mine, exact in zip(found.slopes, right.slopes, strict=True):
        assert mine.dtype == np.float64
        assert np.abs(mine - exact).max() < 1e-6 * np.abs(exact).max()


def test_the_same_bits_on_one_rank_and_on_two(tmp_path: Path) -> None:
    rows = []
    for ranks in (1, 2):
        words = [word for each in (*SMALL, SINGLE) for word in ("--set", each)]
        words += ["--directory", str(tmp_path / f"{ranks}")]
        ended = run("-m", "mfpde.solve", CASE, *words, ranks=ranks, directory=tmp_path)
        assert ended.returncode == 0, ended.stderr
        rows.append((tmp_path / f"{ranks}" / "history.csv").read_text())
    assert rows[0] == rows[1]


def test_a_finer_tolerance_than_single_numbers_have_is_refused_and_the_finer_solve_is_in_double() -> None:
    assert refined(small()).training.precision == "double"
    with pytest.raises(InputError, match=r"time.tolerance = 1e-08: training.precision = 'single' .* at least 1e-06"):
        problem_of(run_file.load(CASE, [*SMALL, SINGLE, "time.tolerance=1e-8"]))


def test_what_determines_a_run_has_its_precision_and_runs_without_one_were_double() -> None:
    plain, double, single = (
        run_file.load(CASE, [*SMALL, *more]).identity() for more in ([], ["training.precision='double'"], [SINGLE])
    )
    assert plain.run_hash == double.run_hash != single.run_hash
    assert plain.problem_hash == single.problem_hash  # finite Transformers of both are the same
    assert single.differences(plain) == ["training.precision = 'not given' there, 'single' here"]


def test_a_head_that_takes_doubles_alone_is_refused() -> None:
    def update(tokens: jax.Array, theta: jax.Array) -> jax.Array:
        if tokens.dtype != jnp.float64:
            raise TypeError("needs float64")
        return theta[1] * jnp.tanh(theta[0] * tokens)

    head = mfpde.Family("attention", 2, update, mfpde.Normal([0.5, 0.0], [0.5, 0.5]), linear=(1,))
    model = mfpde.Transformer([[head]], 2, lambda tokens: tokens[-1, 1:])
    with pytest.raises(InputError, match="the model does not compute in float32: TypeError: needs float64"):
        Solver(MPI.COMM_SELF, replace(small(), model=model))
