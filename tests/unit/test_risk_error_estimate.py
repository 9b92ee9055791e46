"""The step history, the finer problem, and the end of a run whose estimated error is too large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfpde import open_run
from mfpde.config import run_file
from mfpde.errors import ComputationError, InputError
from mfpde.limit.specification import Problem, refined
from mfpde.runs.limit_run import RunOptions, execute

CASE = Path(__file__).parents[1] / "exact" / "cases" / "linear.toml"
ROOT = Path(__file__).parents[2]


def solve(folder: Path, *settings: str, estimate: bool = True) -> Path:
    execute(run_file.load(CASE, list(settings), str(folder / "run")), RunOptions(estimate_error=estimate))
    return folder / "run"


def test_the_estimate_fills_its_column(tmp_path: Path) -> None:
    run = open_run(solve(tmp_path, "density.cells=6"))
    assert np.isfinite(run.history["risk_error"]).all()
    assert run.history["risk_error"][-1] > 0.0


def test_an_error_above_the_bound_ends_the_run_after_its_report(tmp_path: Path) -> None:
    with pytest.raises(ComputationError, match=r"estimated risk error .* is above time\.risk_error = 1e-12"):
        solve(tmp_path, "density.cells=6", "time.risk_error=1e-12")
    run = open_run(tmp_path / "run")
    assert run.history["risk_error"][-1] > 1e-12
    assert str(run.summary["outcome"]).startswith("ComputationError: the estimated risk error")


def test_steps_are_told_and_reports_are_met_exactly(tmp_path: Path) -> None:
    run = open_run(solve(tmp_path, "density.cells=6", "output.every=0.3", "training.horizon=1", estimate=False))
    steps = run.steps
    accepted = steps["accepted"] == 1
    assert np.allclose(np.cumsum(steps["step"][accepted])[:-1], steps["tau"][accepted][1:], rtol=0, atol=1e-12)
    assert run.taus.tolist() == [0.0, 0.3, 0.6, 3 * 0.3, 1.0]
    for tau in run.taus[1:]:
        assert np.abs(steps["tau"] + steps["step"] - tau)[accepted].min() < 1e-12
    assert accepted.sum() == run.history["steps"][-1]
    assert set(steps["bound"]) <= {"error", "cfl", "report"}
    assert (steps["error"][accepted] <= 1e-5).all()


def problem(*settings: str) -> Problem:
    run = run_file.load(CASE, list(settings))
    model, task = run.build()
    return Problem(model, task, run.training, {f.name: run.densities(f.name) for f in model.families}, run.time)


def test_the_finer_problem_is_finer_in_every_way() -> None:
    coarse = problem("density.cells=10", "density.degree=2")
    fine = refined(coarse)
    (density,) = fine.densities.values()
    assert (density.degree, density.cells, fine.margin) == (3, 12, 1.2)
    assert fine.time.relative_tolerance == pytest.approx(0.1 * coarse.time.relative_tolerance)
    (density,) = refined(problem("density.cells=10", "density.degree=3")).densities.values()
    assert (density.degree, density.cells) == (3, 18)
    assert refined(problem("time.step=0.1")).time.step == 0.05


def test_degree_three_on_a_file_cannot_be_made_finer() -> None:
    with pytest.raises(InputError, match=r"density\.degree at most 2"):
        refined(problem(f"density.mesh='{ROOT}/meshes/disk.msh'", "density.degree=3"))
