"""A run that ends at stationarity: when, exactly there, and what it says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exact.test_certificate import solving
from mfpde import Density, Family, Normal, Run, Task, Time, Transformer, solve_limit

STILL = Family(
    "none", 2, lambda t, p: 0.0 * p[0] * t, lambda layer: Normal([0.5, 0.2 + layer], [0.3 + 0.1 * layer, 0.4])
)
DECAY, STEP = 0.5, 1.0 / 32


def decaying(folder: Path, frame: str, **training: Any) -> Run:
    """f = 0 in two layers of different laws: ρ shrinks to the origin as e^{−λτ}."""
    model = Transformer([[STILL]], 2, lambda t: t[-1])
    density = Density(degree=2, cells=12 if frame == "fixed" else 6, frame=frame)  # type: ignore[arg-type]
    return solve_limit(
        model, Task(np.ones((1, 1, 1)), np.zeros((1, 1))), weight_decay=DECAY, density=density,
        time=Time(step=STEP), directory=folder, **training,
    )  # fmt: skip


def said(run: Run) -> dict[str, Any]:
    return dict(json.loads((run.directory / "summary.json").read_text()))


@pytest.mark.parametrize(("frame", "number"), [("fixed", 0.15), ("comoving", 0.05)])
def test_it_ends_at_the_step_where_the_dissipation_is_known_to_fall_below(
    tmp_path: Path, frame: str, number: float
) -> None:
    """(1/L) Σ ∫ρ|∇V|² = λ² e^{−2λτ} (1/L) Σ E|θ|²: the first step's end at which that is at most the number."""
    second = np.mean([0.5**2 + (0.2 + k) ** 2 + (0.3 + 0.1 * k) ** 2 + 0.4**2 for k in (0, 1)])
    exact = np.log(DECAY**2 * second / number) / (2.0 * DECAY)
    run = decaying(tmp_path / "run", frame, stationary=number, every=0.5)
    end = float(np.ceil(exact / STEP)) * STEP
    assert abs(exact / STEP - round(exact / STEP)) > 0.1  # not a matter of rounding
    assert list(run.history["tau"]) == [*np.arange(0.0, end, 0.5), end]
    assert end % 0.5 != 0.0
    last = run.history["dissipation"][-1]
    assert number * np.exp(-2.0 * DECAY * STEP) < last <= number
    assert said(run)["ended"] == "stationary"
    assert said(run)["stationary"] == pytest.approx(last, rel=1e-2)  # |ρ| and ρ: the Gaussian is cut, and undershoots
    assert np.isfinite(run.history["gap"][-1])

    whole = decaying(tmp_path / "whole", frame, horizon=end, every=0.5)
    assert said(whole)["ended"] == "horizon"
    assert said(whole)["stationary"] is None
    for column in ("energy", "dissipation", "entropy", "steps", "gap"):
        assert run.history[column][-1] == pytest.approx(whole.history[column][-1], rel=1e-12), column
    sweeps = [int(said(r)["right_hand_sides"]) for r in (run, whole)]
    assert sweeps[0] - sweeps[1] <= 1  # to know it at the end


def test_it_ends_at_a_report_at_the_start_or_at_the_horizon(tmp_path: Path) -> None:
    at_report = decaying(tmp_path / "report", "comoving", stationary=0.2, horizon=2.0, every=STEP)
    assert said(at_report)["ended"] == "stationary"
    assert np.isfinite(at_report.history["gap"][-1])
    assert (np.diff(at_report.history["tau"]) == STEP).all()
    start = decaying(tmp_path / "start", "comoving", stationary=10.0)
    assert list(start.history["tau"]) == [0.0]
    assert said(start)["ended"] == "stationary"
    assert np.isfinite(start.history["gap"][0])
    bounded = decaying(tmp_path / "bounded", "comoving", stationary=0.05, horizon=0.25, estimate_error=True)
    assert bounded.history["tau"][-1] == 0.25
    assert said(bounded)["ended"] == "horizon"
    assert np.isfinite(bounded.history["risk_error"]).all()


def test_with_temperature_it_ends_by_the_dissipation_of_diffusion_too(tmp_path: Path) -> None:
    """Ornstein–Uhlenbeck: (1/L) Σ ∫ρ|∇(V + β⁻¹ log ρ)|² is known; that of V alone goes to λβ⁻¹d: no end by it."""
    temperature, number = 0.2, 0.1

    def exact(tau: float) -> float:
        total = 0.0
        for mean, std in ((0.5, 0.3), (0.2, 0.4), (0.5, 0.4), (1.2, 0.4)):
            least = temperature / DECAY
            variance = least + (std**2 - least) * np.exp(-2.0 * DECAY * tau)
            drift = DECAY - temperature / variance
            total += (DECAY * mean) ** 2 * np.exp(-2.0 * DECAY * tau) + drift**2 * variance
        return total / 2.0

    taus = STEP * np.arange(65)
    (k,) = np.flatnonzero(np.diff(np.array([exact(tau) for tau in taus]) <= number)) + 1
    assert exact(taus[k]) < 0.99 * number < 1.01 * number < exact(taus[k - 1])  # not a matter of the mesh
    model = Transformer([[STILL]], 2, lambda t: t[-1])
    run = solve_limit(
        model, Task(np.ones((1, 1, 1)), np.zeros((1, 1))), weight_decay=DECAY, temperature=temperature,
        density=Density(degree=2, cells=16, frame="comoving"), time=Time(step=STEP), stationary=number, horizon=2.0,
        every=2.0, directory=tmp_path / "run",
    )  # fmt: skip
    assert said(run)["ended"] == "stationary"
    assert run.history["tau"][-1] == taus[k]
    assert said(run)["stationary"] == pytest.approx(exact(taus[k]), rel=5e-3)
    assert DECAY * temperature * 2 > number


def test_undershoots_do_not_pass_for_stationarity() -> None:
    """The number that ends a run is (1/L) Σ ∫|ρ||∇V|² in the quadrature of the dissipation."""
    with solving(Transformer([[STILL]], 2, lambda t: t[-1]), Task(np.ones((1, 1, 1)), np.zeros((1, 1))), DECAY,
                 Density(degree=2, cells=5, frame="fixed")) as solver:  # fmt: skip
        solver.stepper.advance(3.0)
        state = solver.stepper.state
        rate = solver.flow.rate(state)
        number = float(solver.flow.dissipation(state, rate).value)
        history = solver.report(state).history
        (group,) = solver.flow.discretisations
        space, tables = group.space, group.space.tables
        theta = state.parts[0].frame.theta(space.points(tables.vertex))
        values = np.einsum("qi,cib->cqb", tables.density, state.parts[0].density)
        weight = tables.weights * space.scale_at(tables.points)
        square = DECAY**2 * (theta**2).sum(axis=2)
        total, signed = (np.einsum("cq,cqb,cqb->", weight, rho, square) / 2 for rho in (np.abs(values), values))
    assert history["negative_mass"] > 0.01
    assert number == pytest.approx(total, rel=1e-12)
    assert number == pytest.approx(history["dissipation"], rel=1e-12)
    assert number > 1.01 * signed > 0.0
