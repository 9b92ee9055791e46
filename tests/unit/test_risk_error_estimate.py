"""The estimated error of the risk: by a coarser solve in every run, and by a finer one on request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from exact.cases import convex
from mfpde import open_run
from mfpde.config import run_file
from mfpde.config.settings import Density, Time, Training
from mfpde.errors import ComputationError, InputError
from mfpde.limit import companion
from mfpde.limit.march import Watch, march
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem, coarsened, refined
from mfpde.limit.timestepping.stepper import Stepper
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


def test_the_estimate_is_of_the_run_and_not_of_the_coarser_solve(tmp_path: Path) -> None:
    """By default: the distance of the risks on 9 and on 6 cells, over 8 − 1."""
    settings = ["density.frame='fixed'", "density.degree=1", "time.tolerance=1e-6"]
    nine = open_run(solve(tmp_path / "9", "density.cells=9", *settings, estimate=False)).history
    loose = [*settings[:-1], "time.tolerance=8e-6"]
    six = open_run(solve(tmp_path / "6", "density.cells=6", *loose, estimate=False)).history
    apart = np.abs(np.array(nine["risk"]) - np.array(six["risk"]))
    assert apart[-1] > 1e-6
    assert np.allclose(nine["risk_error"], apart / 7.0, rtol=1e-10, atol=0.0)


def test_where_few_nodes_are_torn_errors_are_taken_to_fall_with_second_order() -> None:
    """With 10 cells and 7 nearly all of the distance to the coarser risk, and not a seventh: torn clusters."""
    model = replace(convex.neurons(), step=10.0)
    made = Problem(model, convex.two_clusters(), Training(0.1, 2.0), {"neuron": Density(cells=10)}, Time())
    beside = coarsened(made)
    assert beside is not None
    other = Solver(MPI.COMM_SELF, beside.problem)
    solver = Solver(MPI.COMM_SELF, made, companion.Companion(other, beside.resolved, beside.unresolved, needed=False))
    try:
        state = march(solver.stepper, 1.5)
        assert state is not None
        history = solver.report(state, certified=False).history
        apart = abs(history["risk"] - other.flow.potential(other.stepper.at(1.5)).outcome.risk)
    finally:
        solver.close()
        other.close()
    assert history["risk_error"] == pytest.approx(apart / ((10 / 7) ** 2 - 1.0), rel=1e-9)


def test_a_coarser_solve_that_fails_leaves_the_run_alone_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(stepper: Stepper, tau: float, _watch: Watch | None) -> None:
        if tau > 0.4:
            raise ComputationError("not finite at tau = 0.4")
        march(stepper, tau)

    monkeypatch.setattr(companion, "march", fails)
    run = open_run(solve(tmp_path, "density.cells=6", "output.every=0.3", "training.horizon=1", estimate=False))
    assert np.isfinite(run.history["risk_error"]).tolist() == [True, True, False, False, False]
    assert run.summary["outcome"] == "done"
    (line,) = [each for each in run.summary["warnings"] if "not estimated" in each]
    assert "from tau = 0.6 on" in line
    assert "not finite at tau = 0.4" in line
    assert capsys.readouterr().out.count("not estimated") == 1


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


def test_the_coarser_problem_is_coarser_in_every_way() -> None:
    for frame, expected, factor in (("comoving", 12, 8.0), ("lagrangian", 9, 9.0)):
        found = coarsened(problem("density.cells=18", f"density.frame='{frame}'", "time.tolerance=1e-6"))
        assert found is not None
        (density,) = found.problem.densities.values()
        assert (density.cells, found.problem.first) == (expected, pytest.approx(2.0))
        assert (found.resolved, found.unresolved) == pytest.approx((1 / (factor - 1), 1 / ((18 / expected) ** 2 - 1)))
        assert found.problem.time.relative_tolerance == pytest.approx(8e-6)
    fixed = coarsened(problem("time.step=0.1"))
    assert fixed is not None
    assert fixed.problem.time.step == pytest.approx(0.2)


@pytest.mark.parametrize("setting", [f"density.mesh='{ROOT}/meshes/disk.msh'", "density.cells=4"])
def test_some_problems_have_no_coarser_one(setting: str) -> None:
    assert coarsened(problem(setting)) is None


def test_degree_three_on_a_file_cannot_be_made_finer() -> None:
    with pytest.raises(InputError, match=r"density\.degree at most 2"):
        refined(problem(f"density.mesh='{ROOT}/meshes/disk.msh'", "density.degree=3"))


def test_the_first_step_of_the_coarser_solve_is_twice_as_long() -> None:
    """Steps grow from the first one: else those that have not grown to the tolerance would be the same in both."""
    made = problem("density.frame='lagrangian'", "time.tolerance=1e-2")
    beside = coarsened(made)
    assert beside is not None
    first = []
    for each in (made, replace(beside.problem, time=made.time)):
        solver = Solver(MPI.COMM_SELF, each)
        try:
            march(solver.stepper, 1e-3)
            first.append(solver.stepper.history[0].step)
        finally:
            solver.close()
    assert first[1] == pytest.approx(2.0 * first[0], rel=1e-3)
