"""Temperature above zero against what is known: Ornstein–Uhlenbeck, the Gibbs fixed point, the energy law, the gap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI

from exact.closed_forms import LAYERS, Clock, decay, gaussian, ornstein_uhlenbeck, run
from exact.test_certificate import last_token, potential_at, stream_and_costate, tanh_problem
from exact.test_identities import DECAY, some_model, some_task
from mfpde.config.settings import Density, Time, Training
from mfpde.limit.certificate.certificate import certify
from mfpde.limit.fem.elements import tabulate
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.output.records.report import Report
from mfpde.problem.family import Family
from mfpde.problem.laws import Normal
from mfpde.problem.models.low_dimensional import linear_head
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer
from support.units import units_of

CLOCK, TEMPERATURE = Clock(decay=0.8, horizon=0.6), 0.15
RADIUS = {"fixed": 2.4, "comoving": 6.0}


def solver_of(model: Transformer, task: Task, training: Training, density: Density, time: Time) -> Solver:
    densities = {family.name: density for family in model.families}
    return Solver(MPI.COMM_SELF, Problem(model, task, training, densities, time))


@pytest.mark.parametrize("frame", ["fixed", "comoving"])
@pytest.mark.parametrize("dim", [1, 2])
def test_ornstein_uhlenbeck_moments(dim: int, frame: str) -> None:
    """p = k = 2: mean and covariance of every layer are exact but for the step's error and what the box cuts off."""
    density = Density(degree=2, cells=16, frame=frame, radius=RADIUS[frame])  # type: ignore[arg-type]
    found = run(ornstein_uhlenbeck(dim, TEMPERATURE, CLOCK), density, Time(step=CLOCK.horizon / 40))
    assert np.abs(found.stop.mass - 1.0).max() < 1e-12
    assert found.moment_error() < 3e-6


@pytest.mark.parametrize(
    ("dim", "degree", "cell_type", "cells"),
    [
        (1, 1, "tensor", (24, 48)),
        pytest.param(1, 2, "tensor", (16, 32), marks=pytest.mark.slow),
        pytest.param(2, 1, "tensor", (20, 30), marks=pytest.mark.slow),
        (2, 2, "simplex", (10, 15)),
    ],
)
def test_order_of_the_density(dim: int, degree: int, cell_type: str, cells: tuple[int, int]) -> None:
    """L² order p + 1 in a fixed frame."""
    errors = []
    for n in cells:
        density = Density(
            degree=degree, potential_degree=2, cells=n, cell_type=cell_type, frame="fixed", radius=2.4,  # type: ignore[arg-type]
        )  # fmt: skip
        found = run(ornstein_uhlenbeck(dim, TEMPERATURE, CLOCK), density, Time(step=CLOCK.horizon / 60))
        errors.append(found.density_error())
    assert np.log(errors[0] / errors[1]) / np.log(cells[1] / cells[0]) > degree + 0.8


@pytest.mark.parametrize("frame", ["fixed", "comoving"])
def test_order_in_time(frame: str) -> None:
    """The moments' error at fixed steps has slope 3; the frames' equation is coupled to the density's."""
    density = Density(degree=2, cells=24, frame=frame, radius={"fixed": 3.0, "comoving": 8.0}[frame])  # type: ignore[arg-type]
    case = ornstein_uhlenbeck(1, TEMPERATURE, Clock(decay=0.8, horizon=1.2))
    errors = [run(case, density, Time(step=case.clock.horizon / n)).moment_error() for n in (24, 48)]
    assert 2.7 < np.log2(errors[0] / errors[1]) < 3.5, errors


def test_the_frame_carries_a_gaussian() -> None:
    """Ornstein–Uhlenbeck from a Gaussian: ρ̂ stays where it is while (c, A) follow; a larger box would hold any time."""
    case = ornstein_uhlenbeck(2, TEMPERATURE, Clock(decay=0.8, horizon=2.0))
    density = Density(degree=2, cells=16, radius=6.0, frame="comoving")
    solver = solver_of(case.model(), case.task, Training(0.8, 2.0, TEMPERATURE), density, Time(tolerance=1e-6))
    try:
        start = solver.stepper.state
        assert solver.stepper.advance(2.0)
        end = solver.stepper.state
        assert np.abs(end.parts[0].density - start.parts[0].density).max() < 5e-3 * np.abs(start.parts[0].density).max()
        before, after = (np.diagonal(s.parts[0].frame.matrix, axis1=1, axis2=2) for s in (start, end))
        assert np.abs(after / before - 1.0).max() > 0.2
        report = solver.report(end)
        variance = np.array([m.covariance for m in report.moments])
        exact = sum(-0.5 * np.linalg.slogdet(2.0 * np.pi * np.e * v)[1] for v in variance) / LAYERS
        assert report.history["entropy"] == pytest.approx(exact, abs=1e-4)
        columns = report.history
        assert columns["energy"] == columns["risk"] + columns["penalty"] + TEMPERATURE * columns["entropy"]
    finally:
        solver.close()


# The Gibbs fixed point: one layer of tanh(θ T), one coordinate, several samples.

X, Y = np.array([0.6, -1.1, 1.7, 0.3]), np.array([1.5, -0.9, 1.2, 0.8])
STEP, LAMBDA, HEAT = 0.8, 1.0, 0.3


def gibbs_problem() -> tuple[Transformer, Task]:
    unit = Family("unit", 1, lambda tokens, theta: jnp.tanh(theta[0] * tokens), Normal([0.5], [0.6]))
    return Transformer([[unit]], 1, last_token, step=STEP), Task(X[:, None, None], Y[:, None])


@dataclass(frozen=True)
class Gibbs:
    """The solution of ρ ∝ exp(−V[ρ]/β⁻¹): V and ρ as functions of θ, the risk and the free energy."""

    output: np.ndarray
    partition: float

    def potential(self, theta: np.ndarray) -> np.ndarray:
        data = STEP * np.tanh(theta[..., None] * X) @ (self.output - Y) / len(X)
        return np.asarray(data + 0.5 * LAMBDA * theta**2)

    def density(self, theta: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-self.potential(theta) / HEAT) / self.partition)

    @property
    def risk(self) -> float:
        return float(0.5 * np.mean((self.output - Y) ** 2))

    @property
    def energy(self) -> float:
        """R + λ/2 ∫θ²dρ + β⁻¹ ∫ρ log ρ, with log ρ = −V/β⁻¹ − log Z."""
        theta, h = GRID
        rho = self.density(theta)
        entropy = float((rho * (-self.potential(theta) / HEAT - np.log(self.partition))).sum() * h)
        return self.risk + 0.5 * LAMBDA * float((rho * theta**2).sum() * h) + HEAT * entropy


GRID = np.linspace(-9.0, 9.0, 6001), 18.0 / 6000


@cache
def gibbs() -> Gibbs:
    """By damped iteration of o = x + η ∫tanh(θ x) dρ[o] on a fine grid, to rounding."""
    theta, h = GRID
    output = X.copy()
    for _ in range(500):
        rho = np.exp(-Gibbs(output, 1.0).potential(theta) / HEAT)
        z = float(rho.sum() * h)
        new = X + STEP * (np.tanh(theta[:, None] * X) * rho[:, None]).sum(axis=0) * h / z
        if np.abs(new - output).max() < 1e-15:
            return Gibbs(output, z)
        output = output + 0.5 * (new - output)
    raise AssertionError("the fixed point was not found")


@cache
def settled(degree: int, cells: int) -> tuple[float, tuple[Report, ...]]:
    """L² error of the density long after the start, and reports on the way."""
    model, task = gibbs_problem()
    density = Density(degree=degree, potential_degree=2, cells=cells, frame="fixed", radius=3.6)
    solver = solver_of(model, task, Training(LAMBDA, 16.0, HEAT), density, Time(tolerance=1e-5))
    try:
        reports = [solver.report(solver.stepper.state)]
        for tau in (0.5, 2.0, 16.0):
            assert solver.stepper.advance(tau)
            reports.append(solver.report(solver.stepper.state))
        state, space = solver.stepper.state, solver.flow.discretisations[0].space
        fine = tabulate(space.cell, degree, 1, 2 * degree + 4)
        theta = state.parts[0].frame.theta(space.points(fine.vertex))[:, :, 0, 0]
        measure = 3.6 * fine.weights * space.scale_at(fine.points)
        got = np.einsum("qi,ci->cq", fine.density, state.parts[0].density[..., 0]) / 3.6
        return float(np.sqrt((measure * (got - gibbs().density(theta)) ** 2).sum())), tuple(reports)
    finally:
        solver.close()


@pytest.mark.parametrize(("degree", "cells"), [pytest.param(1, (48, 96), marks=pytest.mark.slow), (2, (12, 24))])
def test_order_at_the_gibbs_fixed_point(degree: int, cells: tuple[int, int]) -> None:
    """Density of order p + 1; the risk at least as good."""
    (wrong, first), (less, then) = (settled(degree, n) for n in cells)
    assert np.log2(wrong / less) > degree + 0.8
    risks = [abs(reports[-1].history["risk"] - gibbs().risk) for reports in (first, then)]
    assert np.log2(risks[0] / risks[1]) > degree + 0.8 or risks[1] < 1e-8
    assert risks[1] < 1e-4


def test_free_energy_falls_to_its_least_and_the_gap_bounds_what_is_missing() -> None:
    """Q falls at every report; gap ≥ Q − Q* by convexity, and both vanish with the mesh and time."""
    _, reports = settled(2, 24)
    energy, gap = (np.array([r.history[name] for r in reports]) for name in ("energy", "gap"))
    assert (np.diff(energy) < 0.0).all()
    excess = energy - gibbs().energy
    assert (gap[:3] >= excess[:3]).all()
    assert (excess[:2] > 1e-2).all()
    assert abs(excess[-1]) < 1e-5
    assert abs(gap[-1]) < 1e-5


# The energy law.


def remainder(degree: int, cells: int, frame: str) -> float:
    """|dQ_h/dτ + dissipation| over the dissipation, a little after the start."""
    radius = {"fixed": 3.0, "comoving": 6.0}[frame]
    density = Density(degree=degree, potential_degree=2, cells=cells, frame=frame, radius=radius)  # type: ignore[arg-type]
    solver = solver_of(some_model(3), some_task(3), Training(DECAY, 1.0, 0.2), density, Time(step=0.01))
    try:
        columns = solver.report(solver.stepper.state, certified=False).history
        return abs(columns["energy_remainder"]) / columns["dissipation"]
    finally:
        solver.close()


@pytest.mark.parametrize("frame", ["fixed", "comoving"])
@pytest.mark.parametrize("degree", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_order_of_the_remainder(degree: int, frame: str) -> None:
    """With entropy no energy law is exact; what the reported one lacks has order p + 1 or better."""
    cells = (16, 24, 32)
    errors = [remainder(degree, n, frame) for n in cells]
    assert -np.polyfit(np.log(cells), np.log(errors), 1)[0] > degree + 0.8, errors


# The certificate.


def gap_of(model: Transformer, task: Task, decay: float, temperature: float, density: Density) -> tuple[float, Report]:
    solver = solver_of(model, task, Training(decay, 1.0, temperature), density, Time(step=0.1))
    try:
        state = solver.stepper.state
        report = solver.report(state)
        assert report.history["gap"] == certify(solver.flow, state, solver.flow.potential(state)).gap
        return report.history["gap"], report
    finally:
        solver.close()


@pytest.mark.parametrize("dim", [1, 2])
def test_gap_of_gaussians_is_their_relative_entropy(dim: int) -> None:
    """f = 0: β⁻¹ KL(N(m, Σ) ‖ N(0, β⁻¹/λ I)), the mean over layers; nothing here is linear, the integral is a sum."""
    case = decay(dim, clock=CLOCK)
    found, report = gap_of(
        case.model(), case.task, 0.8, TEMPERATURE, Density(degree=3, cells=24, radius=6.5, frame="comoving")
    )
    expected, ratio = 0.0, 0.8 / TEMPERATURE
    for block in report.moments:
        spread = np.trace(block.covariance) + block.mean @ block.mean
        relative = 0.5 * (ratio * spread - dim - np.linalg.slogdet(ratio * block.covariance)[1])
        expected += TEMPERATURE * relative / LAYERS
    assert found == pytest.approx(expected, rel=2e-4)


def test_gap_of_a_linear_head() -> None:
    """V = (m − s) θ + λ/2 θ², all of it integrated exactly; the Gibbs law lies outside the mesh."""
    lam, start, std = 0.1, 0.3, 0.05
    model = Transformer([[linear_head("head", 1, Normal([0.0], [std]))]], 1, last_token)
    task = Task(np.full((1, 1, 1), start), np.full((1, 1), start + 2.0))
    found, report = gap_of(model, task, lam, 0.01, Density(degree=3, cells=24, radius=6.5, frame="comoving"))
    variance = report.moments[0].covariance[0, 0]
    relative = 0.5 * (lam / 0.01 * (variance + 20.0**2) - 1.0 - np.log(lam / 0.01 * variance))
    assert found == pytest.approx(0.01 * relative, rel=1e-5)


def test_gap_of_neurons_against_a_grid() -> None:
    """∫e^{−βV} over (a, w): a integrated exactly, w summed, against a sum over a wide fine grid of both."""
    model, task = tanh_problem()
    lam, heat = 0.3, 0.4
    density = Density(degree=2, cells=16, frame="comoving")
    solver = solver_of(model, task, Training(lam, 1.0, heat), density, Time(step=0.1))
    try:
        state = solver.stepper.state
        potential = solver.flow.potential(state)
        block = certify(solver.flow, state, potential).blocks[0]
        units = units_of(solver, state)
    finally:
        solver.close()
    (pair,) = stream_and_costate(model, task, units)
    a, w = np.linspace(-16.0, 16.0, 321), np.linspace(-16.0, 16.0, 641)
    grid = np.stack(np.meshgrid(a, w, indexing="ij"), axis=-1).reshape(-1, 2)
    values = potential_at(model, model.families[0], pair, grid, lam)
    free = -heat * np.log(np.exp(-values / heat).sum() * (a[1] - a[0]) * (w[1] - w[0]))
    assert block.least == pytest.approx(free, rel=1e-7)


def test_without_weight_decay_the_gap_is_infinite() -> None:
    """e^{−βV} has no finite integral."""
    case = decay(1, clock=CLOCK)
    found, _ = gap_of(case.model(), case.task, 0.0, TEMPERATURE, Density(degree=1, cells=12, frame="comoving"))
    assert found == np.inf


def test_gaussian_helper() -> None:
    """What the comparisons above lean on integrates to one."""
    theta, h = np.linspace(-5.0, 5.0, 2001), 0.005
    assert gaussian(theta[:, None], np.array([0.3]), np.array([[0.2]])).sum() * h == pytest.approx(1.0)
