"""Stationary states of a convex energy against its minimum, found by an independent convex programme."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from mpi4py import MPI

from exact.convex_programme import Programme, slopes_minimum
from mfpde import open_run
from mfpde.config.run_file import load
from mfpde.config.settings import Density, Time, Training
from mfpde.limit.certificate.certificate import gap_kind
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.runs.limit_run import execute

sys.path.insert(0, str(Path(__file__).parent / "cases"))

from convex import INPUTS, neurons, one_slope, slopes


@pytest.mark.parametrize(
    ("frame", "decay", "stationary", "near"),
    [("comoving", 0.1, 1e-6, 1e-4), ("lagrangian", 0.1, 1e-9, 1e-6), ("lagrangian", 0.03, 1e-7, 5e-3)],
)
def test_neurons_in_one_basin_reach_the_minimum_and_the_gap_bounds_what_is_missing(
    frame: Literal["comoving", "lagrangian"], decay: float, stationary: float, near: float
) -> None:
    """a tanh(w x) from N(1, 0.2²): at stationarity energy, place and mass of the cluster are the programme's."""
    model, task = neurons(mean=1.0, std=0.2), one_slope()
    best = Programme(INPUTS, np.asarray(task.targets)[:, 0], decay).solve()
    assert best.gap < 1e-12
    assert list(best.mass) == [1.0]  # one cluster
    assert gap_kind(model, task.tokens) == "best found"

    training = Training(decay, horizon=400.0, stationary=stationary)
    density = {
        "comoving": Density(degree=2, cells=12, radius=4.0, frame="comoving"),
        "lagrangian": Density(cells=8, frame="lagrangian"),
    }[frame]
    densities = {"neuron": density}
    solver = Solver(MPI.COMM_SELF, Problem(model, task, training, densities, Time(tolerance=1e-4)))
    try:
        reports = [solver.report(solver.stepper.state)]
        for tau in (1.0, 4.0, 16.0, 400.0):
            solver.stepper.advance(tau)
            reports.append(solver.report(solver.stepper.state))
        assert solver.ending()["ended"] == "stationary"
    finally:
        solver.close()

    excess = np.array([report.history["energy"] for report in reports]) - best.energy
    gap = np.array([report.history["gap"] for report in reports])
    assert excess[0] > 0.05 * best.energy
    assert abs(excess[-1]) < 5e-3 * best.energy  # the signed density is no measure: it could be below
    assert (gap > excess - 1e-12).all()
    assert gap[-1] < 1.05 * excess[-1] + 1e-9  # for one cluster it becomes the excess itself
    (cluster,) = reports[-1].moments
    assert cluster.mass == pytest.approx(1.0, abs=1e-12)
    assert cluster.mean == pytest.approx([best.a[0], best.w[0]], abs=near)
    assert np.trace(cluster.covariance) < 1e-2
    assert np.trace(reports[0].moments[0].covariance) > 0.07  # it has contracted by then


def test_the_stationary_energy_falls_with_weight_decay_and_the_risk_faster() -> None:
    """tanh(w x) can meet tanh(1.2 x) exactly: Q* ~ λ, R ~ λ² as λ → 0, and every energy is the programme's minimum."""
    task, decays, ends = one_slope(), (1e-2, 3e-3), []
    for decay in decays:
        training = Training(decay, horizon=2000.0, stationary=1e-10)
        densities = {"slope": Density(cells=24, radius=4.0, frame="lagrangian")}
        solver = Solver(MPI.COMM_SELF, Problem(slopes(), task, training, densities, Time(tolerance=1e-3)))
        try:
            start = solver.report(solver.stepper.state).history
            solver.stepper.advance(2000.0)
            end = solver.report(solver.stepper.state).history
            assert solver.ending()["ended"] == "stationary"
        finally:
            solver.close()
        best = slopes_minimum(INPUTS, np.asarray(task.targets)[:, 0], decay)[0]
        assert end["gap"] < 1e-5 * best
        assert -1e-6 * best < end["energy"] - best < end["gap"] + 1e-6 * best  # the programme's grid costs 1e-7 of it
        assert start["energy"] - best > 10.0 * best
        ends.append((end["energy"], end["risk"]))
    energy, risk = np.diff(np.log(ends), axis=0)[0] / np.diff(np.log(decays))
    assert 0.9 < energy < 1.1
    assert 1.5 < risk < 2.0


def test_heads_and_neurons_in_three_layers_end_by_themselves_with_a_gap_that_goes_to_zero(tmp_path: Path) -> None:
    """Two stages and three layers: no bound, but zero at a minimiser; it falls with the dissipation."""
    settings = [
        "training.weight_decay=0.1", "training.stationary=1e-5", "training.horizon=200.0", "output.every=2.0",
        "density.cells=8", 'density.frame="lagrangian"',
    ]  # fmt: skip
    execute(load(Path(__file__).parent / "cases/teacher.toml", settings, str(tmp_path / "run")))
    run = open_run(tmp_path / "run")
    gap = run.history["gap"][np.isfinite(run.history["gap"])]
    assert json.loads((run.directory / "summary.json").read_text())["ended"] == "stationary"
    assert (np.diff(gap) < 0.0).all()
    assert 0.0 < gap[-1] < 0.1 * gap[0]
    assert (np.diff(run.history["energy"]) < 0.0).all()
    assert not run.history["negative_mass"].any()
