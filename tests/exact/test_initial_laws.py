"""Initial laws are exact: mass, mean and covariance in every frame, and the risk against independent quadrature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI
from scipy.integrate import quad

import mfpde
from mfpde.config.settings import Density, Time, Training
from mfpde.limit.diagnostics.mesh_diagnostics import diagnose
from mfpde.limit.fem import mesh as meshes
from mfpde.limit.fem.frame import box_frame
from mfpde.limit.fem.law_quadrature import integrate
from mfpde.limit.fem.projection import InitialLaws
from mfpde.limit.fem.space import build_space
from mfpde.limit.lagrangian.grid import build_grid
from mfpde.limit.lagrangian.initial_nodes import initial_nodes
from mfpde.limit.lagrangian.node_sums import moments
from mfpde.limit.lagrangian.node_weights import graded, line_masses, with_tails
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem

MEAN, STD = [0.5, -0.1], [0.5, 0.4]
LAWS = {
    "normal": mfpde.Normal(MEAN, STD),
    "correlated": mfpde.Normal(MEAN, cov=[[0.25, -0.15], [-0.15, 0.2]]),
    "uniform": mfpde.Uniform(MEAN, STD),
    "bump": mfpde.Bump(MEAN, STD),
    "student": mfpde.StudentT(MEAN, STD, 5.0),
    "laplace": mfpde.Laplace(MEAN, STD),
    "mixture": mfpde.Mixture(
        [mfpde.Normal([-0.5, 0.0], [0.2, 0.4]), mfpde.Uniform([1.0, 0.3], [0.3, 0.5])], [0.3, 0.7]
    ),
}
FRAMES = ("fixed", "comoving", "lagrangian")
type Moments = tuple[np.ndarray, np.ndarray, np.ndarray]


def family(law: mfpde.Law) -> mfpde.Family:
    """A family with this law; what it adds does not matter to its moments."""
    linear = (law.dim - 1,) if law.dim > 1 else ()
    return mfpde.Family("unit", law.dim, lambda tokens, theta: theta[-1] * tokens, law, linear)


def start(law: mfpde.Law, density: Density, warned: list[str] | None = None) -> tuple[Moments, float]:
    """Mass, mean and covariance of a discretised law, and its error before it was corrected."""
    unit = family(law)
    if density.frame == "lagrangian":
        nodes, _, error = initial_nodes(build_grid(unit, 1, density))
        assert (nodes.mass >= 0.0).all()
        assert np.isfinite(nodes.log_density[nodes.mass > 0.0]).all()
        return moments(nodes), error

    mesh = meshes.box(MPI.COMM_SELF, law.dim, density.cells, simplex=density.cell_type == "simplex")
    space = build_space(MPI.COMM_SELF, mesh, density.degree, max(density.degree, 1))
    laws = InitialLaws([unit], [density], 1, 1.0)
    part, error = laws.project(space, ([] if warned is None else warned).append)
    found = diagnose(space, part.density, part.frame, np.zeros((*space.nodes.shape[:2], 1)))
    return (found.mass, found.mean, found.covariance), error


def assert_moments(law: mfpde.Law, found: Moments, tolerance: float = 1e-12) -> None:
    mass, mean, covariance = (values[0] for values in found)
    std = np.asarray(law.std)
    assert abs(mass - 1.0) < 1e-13
    assert (np.abs(mean - law.mean) / std).max() < tolerance
    assert (np.abs(covariance - law.covariance) / np.outer(std, std)).max() < tolerance


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", LAWS)
def test_mass_mean_and_covariance_at_default_settings(name: str, frame: str) -> None:
    found, error = start(LAWS[name], Density(frame=frame))  # type: ignore[arg-type]
    assert_moments(LAWS[name], found)
    assert error < {"student": 1e-2, "laplace": 1e-4}.get(name, 2e-5)  # heavy tails are cut


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("law", [
    mfpde.Uniform([0.3], [0.5]), mfpde.Laplace([-0.2, 0.1, 0.4], [0.5, 0.4, 0.3]),
    mfpde.Normal([0.0, 0.1, 0.2], cov=[[0.2, 0.05, 0.0], [0.05, 0.1, 0.03], [0.0, 0.03, 0.3]]),
], ids=["one", "three", "three correlated"])  # fmt: skip
def test_in_one_and_three_dimensions(law: mfpde.Law, frame: str) -> None:
    found, _ = start(law, Density(frame=frame, cells=8))  # type: ignore[arg-type]
    assert_moments(law, found)


@pytest.mark.parametrize("frame", ["fixed", "comoving"])
@pytest.mark.parametrize("cell_type", ["tensor", "simplex"])
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_degrees_and_cells(degree: int, cell_type: str, frame: str) -> None:
    """Polynomials of degree 0 and 1 have other second moments than what they are projected from."""
    density = Density(degree=degree, cell_type=cell_type, frame=frame)  # type: ignore[arg-type]
    for name in ("normal", "uniform"):
        assert_moments(LAWS[name], start(LAWS[name], density)[0])


def test_the_error_before_the_correction() -> None:
    """Constants of width h have h²/6 more variance than their law (Sheppard); for p ≥ 1 only what is cut is missing."""
    law = mfpde.Normal([0.2], [0.5])
    for cells in (24, 48):
        extra = (2.0 * 8.0 / cells) ** 2 / 6.0  # in variances
        assert start(law, Density(degree=0, cells=cells, radius=8.0, frame="comoving"))[1] == pytest.approx(
            extra, rel=1e-9
        )
    for degree in (1, 2):
        assert start(law, Density(degree=degree, cells=24, radius=8.0, frame="comoving"))[1] < 1e-12


def test_a_law_that_few_cells_cannot_have_keeps_its_mass() -> None:
    """Five constants in a fixed box of ten standard deviations have no variance as small as the law's."""
    (mass, mean, covariance), _ = start(LAWS["normal"], Density(degree=0, cells=5, frame="fixed"))
    assert abs(mass[0] - 1.0) < 1e-13
    assert covariance[0, 1, 1] > 1.1 * STD[1] ** 2
    assert abs(mean[0, 0] - MEAN[0]) < 1e-3


@pytest.mark.parametrize("cell_type", ["tensor", "simplex"])
@pytest.mark.parametrize("name", ["uniform", "laplace", "mixture", "normal"])
def test_integrals_over_cells_that_kinks_cut(name: str, cell_type: str) -> None:
    """Moments over a mesh that holds the law, before any correction, on cells with edges nowhere near its kinks."""
    law = LAWS[name]
    mesh = meshes.box(MPI.COMM_SELF, 2, 7, simplex=cell_type == "simplex")
    space = build_space(MPI.COMM_SELF, mesh, 2, 2)
    reach = 14.0 if name == "laplace" else 7.0
    frame = box_frame(np.array([[0.513, -0.093]]), reach * np.array([STD]))
    _, sums = integrate(space, frame, 0, law)
    mean = np.asarray(law.mean) - frame.centre[0]
    second = (law.covariance + np.outer(mean, mean)) / np.outer(reach * np.array(STD), reach * np.array(STD))
    wanted = [1.0, *(mean / (reach * np.array(STD))), second[0, 0], second[0, 1], second[1, 1]]
    found = sums.sum(axis=0) * frame.determinant[0]
    assert np.abs(found - wanted).max() < {"laplace": 1e-6, "normal": 1e-6}.get(name, 1e-9)


def test_what_is_cut_is_made_up_for_and_said() -> None:
    law, warned = LAWS["student"], list[str]()
    found, error = start(law, Density(radius=5.0, frame="comoving"), warned)
    assert_moments(law, found)
    assert 0.05 < error < 0.06
    (line,) = warned
    assert line.startswith("warning: density.radius = 5.0: holds 99.7")
    assert "94.12 % of its variance" in line
    assert start(LAWS["normal"], Density(frame="comoving"), warned)[1] < 2e-5
    assert len(warned) == 1


@pytest.mark.parametrize("frame", FRAMES)
def test_the_summary_has_the_error_also_of_a_run_that_went_on(frame: str, tmp_path: Path) -> None:
    law, seen = LAWS["uniform"], list[object]()
    density = Density(degree=1, cells=8, frame=frame)  # type: ignore[arg-type]
    model = mfpde.Transformer([[q_and_v(law)]], 1, lambda stream: stream[-1])
    for horizon in (0.1, 0.2):
        run = mfpde.solve_limit(model, mfpde.Task(TOKENS, TARGETS), weight_decay=0.1, horizon=horizon, every=0.1,
                                time=Time(step=0.1), density=density, directory=tmp_path, resume=horizon > 0.1,
                                overwrite=horizon == 0.1)  # fmt: skip
        assert run.summary is not None
        seen.append(run.summary["initial_error"])
    assert seen == [start(law, density)[1]] * 2


@pytest.mark.parametrize("count", [24, 25])
@pytest.mark.parametrize("law", [
    mfpde.Uniform([0.1], [0.5]), mfpde.Laplace([0.1], [0.5]), mfpde.StudentT([0.1], [0.5], 4.0),
], ids=["uniform", "laplace", "student"])  # fmt: skip
def test_masses_on_a_line_are_positive_and_of_order_six(law: mfpde.Law, count: int) -> None:
    """∫ρ cos(3θ) over the line, whether kinks are at points or between them."""

    def error(points: int) -> float:
        low, high = 0.1 - 1.3, 0.1 + 1.1
        line = np.linspace(low, high, points)
        masses = line_masses(law, 0, line)
        assert (masses >= 0.0).all()
        breaks = [0.1 + 0.5 * kink for kink in law.kinks if low < 0.1 + 0.5 * kink < high]
        truth = quad(lambda t: float(law.density(np.array([t]))) * np.cos(3.0 * t), low, high, points=breaks or None,
                     epsabs=1e-13, epsrel=1e-13)[0]  # fmt: skip
        return abs(float(masses @ np.cos(3.0 * line)) - truth)

    assert error(count) < 1e-5
    assert error(count) / error(2 * count - 1) > 20.0


@pytest.mark.parametrize("name", LAWS)
def test_the_risk_at_the_start_against_independent_quadrature(name: str) -> None:
    """Units v tanh(q + T) on two tokens, one layer: o = T + E[v tanh(q + T)], with Lagrangian nodes by default."""
    law = LAWS[name]
    expected = risk(law)
    found = start_risk(law, Density(frame="lagrangian"))
    assert abs(found / expected - 1.0) < 1e-6


@pytest.mark.parametrize("df", [2.5, 3.0, 5.0])
def test_the_last_points_of_a_line_hold_the_tails_beyond_it(df: float) -> None:
    """The mass is one, and the variance the law's to order six; half a per cent of it lies beyond the line, or more."""
    law, bend = mfpde.StudentT([0.2], [0.5], df), 3.0

    def error(count: int) -> float:
        line = 0.2 + 5.5 * graded(np.linspace(-1.0, 1.0, count), bend)[0]
        assert line_masses(law, 0, line, bend) @ (line - 0.2) ** 2 < 0.25 * 0.995
        points, masses = with_tails(law, 0, line, bend)
        assert (masses >= 0.0).all()
        assert abs(masses.sum() - 1.0) < 1e-14
        return abs(4.0 * float(masses @ (points - 0.2) ** 2) - 1.0)

    assert error(49) < 2e-6
    assert error(49) / error(97) > 50.0


@pytest.mark.parametrize("name", ["normal", "uniform"])
def test_the_risk_at_the_start_on_meshes(name: str) -> None:
    found = start_risk(LAWS[name], Density(degree=3, cells=32, frame="comoving"))
    assert abs(found / risk(LAWS[name]) - 1.0) < 1e-6


@pytest.mark.parametrize("law", [mfpde.Normal(MEAN, [0.5, 0.0]), mfpde.Uniform([0.5, 0.0], [0.5, 0.0])])
def test_no_width_in_a_linear_coordinate(law: mfpde.Law) -> None:
    """v has one value at the start: nodes coincide there, their density is one in q, and the risk is exact."""
    nodes, _, error = initial_nodes(build_grid(q_and_v(law), 1, Density(frame="lagrangian")))
    mass, mean, covariance = moments(nodes)
    assert error < 2e-6
    assert abs(mass[0] - 1.0) < 1e-13
    assert np.abs(mean[0] - law.mean).max() < 1e-13
    assert np.abs(covariance[0] - law.covariance).max() < 1e-13
    assert np.isfinite(nodes.log_density).all()
    assert abs(start_risk(law, Density(frame="lagrangian")) / risk(law) - 1.0) < 1e-6


def test_no_width_spreads_as_the_flow_has_it() -> None:
    """v(τ) of nodes with one q is −∫G(q): after a step of τ their v is what the potential at the start says."""
    law = mfpde.Normal([0.5, 0.0], [0.5, 0.0])
    solver = solver_of(law, Density(frame="lagrangian"))
    try:
        start = solver.stepper.state
        slope = solver.flow.potential(start).values[0].slope[0]
        assert solver.stepper.advance(0.1)
        part = solver.stepper.state.parts[0]
        report = solver.report(solver.stepper.state, certified=False)
    finally:
        solver.close()
    assert np.abs(part.position[0, :, 1] + 0.1 * slope[:, 1]).max() < 0.1 * np.abs(0.1 * slope[:, 1]).max()
    assert np.isfinite(part.log_density).all()
    assert report.history["risk"] < start_risk(law, Density(frame="lagrangian"))
    assert report.history["boundary_mass"] < 1e-4


@pytest.mark.parametrize("frame", ["fixed", "comoving"])
def test_meshes_refuse_laws_of_no_width(frame: str) -> None:
    with pytest.raises(
        mfpde.InputError, match=r"initial\.unit: std = 0\.0 in layer 0: .* density\.frame = 'lagrangian'"
    ):
        solver_of(mfpde.Normal([0.5, 0.0], [0.5, 0.0]), Density(frame=frame))  # type: ignore[arg-type]
    with pytest.raises(mfpde.InputError, match="in coordinate 'theta_0' in layer 0: must be a finite number above 0"):
        solver_of(mfpde.Zero(), Density(frame="lagrangian"))


TOKENS, TARGETS = np.array([[[0.7]], [[-0.3]]]), np.array([[1.0], [0.4]])


def start_risk(law: mfpde.Law, density: Density) -> float:
    solver = solver_of(law, density)
    try:
        solver.stepper.resolve()
        return float(solver.flow.potential(solver.stepper.state).outcome.risk)
    finally:
        solver.close()


def solver_of(law: mfpde.Law, density: Density) -> Solver:
    model = mfpde.Transformer([[q_and_v(law)]], 1, lambda stream: stream[-1])
    task = mfpde.Task(TOKENS, TARGETS)
    return Solver(MPI.COMM_SELF, Problem(model, task, Training(0.1, 1.0), {"unit": density}, Time(step=0.1)))


def q_and_v(law: mfpde.Law) -> mfpde.Family:
    return mfpde.Family("unit", 2, lambda tokens, theta: theta[1] * jnp.tanh(theta[0] + tokens), law, (1,))


def risk(law: mfpde.Law) -> float:
    outputs = [t + mean_of(law, lambda q, t=t: np.tanh(q + t)) for t in TOKENS.ravel()]  # type: ignore[misc]
    return float(np.mean(0.5 * (np.array(outputs) - TARGETS.ravel()) ** 2))


def mean_of(law: mfpde.Law, unit: Callable[[float], float]) -> float:
    """E[v g(q)], part by part: v's mean given q is affine in q."""
    total = 0.0
    for weight, part in law.parts:
        mean, std, slope = part.mean[0], part.std[0], part.covariance[0, 1] / part.covariance[0, 0]

        def value(s: float, part=part, mean=mean, std=std, slope=slope) -> float:  # type: ignore[no-untyped-def]
            return float(part.standard(np.array(s))) * (part.mean[1] + slope * std * s) * unit(mean + std * s)

        for low, high in ((-part.support, 0.0), (0.0, part.support)):
            total += weight * quad(value, low, high, epsabs=1e-13, epsrel=1e-12, limit=200)[0]
    return total
