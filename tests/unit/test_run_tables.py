"""What the tables say of a run is true to the end: all trial steps, parts of a whole, and sums of squares."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mfpde
from exact.test_identities import random_state, some_model, some_solver, some_task
from mfpde import Run, open_run
from mfpde.config import run_file
from mfpde.config.settings import Density
from mfpde.errors import ComputationError
from mfpde.limit.backprop import Backprop
from mfpde.limit.diagnostics import reporter
from mfpde.limit.diagnostics.mesh_diagnostics import diagnose
from mfpde.limit.gradient_flow import GradientFlow
from mfpde.output.records.report import BlockMoments
from mfpde.runs.limit_run import RunOptions, execute

CASE = Path(__file__).parents[1] / "exact" / "cases" / "linear.toml"
SETTINGS = ("density.cells=6", "output.every=0.25", "training.horizon=1")


def solve(folder: Path, *settings: str, resume: bool = False) -> Run:
    execute(run_file.load(CASE, [*SETTINGS, *settings], str(folder / "run")), RunOptions(resume=resume))
    return open_run(folder / "run")


def test_steps_after_the_last_report_stand_in_the_table_when_the_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From τ = 0.5 on every step is rejected, until there is none left: no report comes, but the steps are there."""
    right = GradientFlow.error
    monkeypatch.setattr(
        GradientFlow, "error", lambda self, state, *rest: 10.0 if state.tau >= 0.5 else right(self, state, *rest)
    )
    with pytest.raises(ComputationError, match="the step collapsed to"):
        solve(tmp_path)
    run = open_run(tmp_path / "run")
    assert run.taus.tolist() == [0.0, 0.25, 0.5]
    steps = run.steps
    rejected = steps["accepted"] == 0
    assert (steps["tau"][rejected] == 0.5).sum() > 10
    assert steps["step"][rejected].min() < 1e-10
    assert steps["step"][~rejected].sum() == pytest.approx(0.5, rel=1e-12)


def test_counts_of_a_run_are_whole_numbers(tmp_path: Path) -> None:
    """In tables and in summary.json, of the flow and of training by steps."""
    flow = solve(tmp_path / "flow", "training.horizon=0.25")
    head = mfpde.Family("head", 1, lambda tokens, v: v * tokens, mfpde.Normal([0.2], [0.5]), (0,))
    model = mfpde.Transformer([[head]], 1, lambda tokens: tokens[-1])
    task = mfpde.Task(np.ones((4, 2, 1)), np.ones((4, 1)))
    sgd = mfpde.Optimiser("sgd", learning_rate=0.1, steps=4)
    by_steps = mfpde.solve_limit(model, task, weight_decay=0.1, optimiser=sgd, every=2, directory=tmp_path / "steps")
    assert by_steps.history["step"].tolist() == [0, 2, 4]

    for run, counts in ((flow, ("steps",)), (by_steps, ("steps", "step"))):
        assert all(run.history[name].dtype == np.int64 for name in counts)
        assert all(run.timings[name].dtype == np.int64 for name in ("right_hand_sides", "passes"))
        said = run.summary
        assert said is not None
        assert {type(said[name]) for name in (*counts, "right_hand_sides", "passes", "unknowns")} == {int}
        assert said["steps"] == run.history["steps"][-1]
        texts = (run.directory / "history.csv").read_text() + (run.directory / "timings.csv").read_text()
        assert f",{said['steps']}," in texts


@pytest.mark.parametrize("good", [True, False])
def test_steps_before_a_report_that_fails_stand_in_the_table(
    good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report at 0.5 loses mass; that of the last sound state may come or not."""
    right = reporter.check_mass

    def lost(tau: float, block: BlockMoments) -> None:
        if tau >= 0.5 or (tau > 0.25 and not good):
            raise ComputationError("mass lost")
        right(tau, block)

    monkeypatch.setattr(reporter, "check_mass", lost)
    with pytest.raises(ComputationError, match="mass lost"):
        solve(tmp_path)
    run = open_run(tmp_path / "run")
    steps = run.steps
    assert steps["step"][steps["accepted"] == 1].sum() == pytest.approx(0.5, rel=1e-12)
    assert (np.diff(steps["tau"][steps["accepted"] == 1]) > 0.0).all()  # and none stands there twice


@pytest.mark.parametrize("slow", [(Backprop, "__call__"), (GradientFlow, "transport")])
def test_parts_of_the_time_do_not_exceed_the_whole(
    slow: tuple[type, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sweeps and transport in a report are counted once, where they take nearly all the time; so after going on."""
    right = getattr(*slow)

    def late(*words: Any, **named: Any) -> Any:
        time.sleep(0.05)
        return right(*words, **named)

    monkeypatch.setattr(*slow, late)
    solve(tmp_path)
    run = solve(tmp_path, "training.horizon=1.5", resume=True)
    timings = run.timings
    parts = timings["sweep"] + timings["transport"] + timings["output"]
    assert (parts <= timings["wall"]).all()
    for name in ("wall", "sweep", "transport", "output"):
        assert (np.diff(timings[name]) >= 0.0).all()
        assert timings[name][-1] > 0.0
        assert run.summary[name] == timings[name][-1]


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_a_dissipation_is_a_sum_of_squares(temperature: float) -> None:
    """Whatever sign the density has: what the energy law has changes its own, and one of two is negative."""
    solver = some_solver(some_model(0, "squared"), some_task(0), Density(degree=1, cells=4, frame="fixed", radius=2.0))
    try:
        state = random_state(solver, 0)
        for elements, part, values in solver.flow.each(state, solver.flow.potential(state)):
            one, other = (
                diagnose(elements.space, sign * part.density, part.frame, values, temperature) for sign in (1.0, -1.0)
            )
            assert (one.dissipation > 0.0).all()
            assert one.dissipation == pytest.approx(other.dissipation, rel=1e-12)
            assert one.descent == pytest.approx(other.descent if temperature else -other.descent, rel=1e-12)
            assert (np.abs(one.descent) <= one.dissipation * (1.0 + 1e-12)).all()
    finally:
        solver.close()
