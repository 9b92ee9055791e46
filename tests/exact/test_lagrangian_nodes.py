"""Densities carried by the flow: exact solutions, the energy law, the table, and remaps that conserve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from scipy.integrate import solve_ivp

from exact.closed_forms import SHORT, bilinear, decay, linear
from exact.wasserstein import atoms, sliced, spread
from mfpde.config.settings import Density, Time, Training
from mfpde.limit.backprop import Backprop
from mfpde.limit.diagnostics.cell_masses import NodeCells, divided, integrals, scaled
from mfpde.limit.diagnostics.lagrangian_diagnostics import diagnose_nodes, snapshot_nodes
from mfpde.limit.lagrangian import remap as remaps
from mfpde.limit.lagrangian.grid import LagrangianGrid, build_grid
from mfpde.limit.lagrangian.initial_nodes import PATIENCE, initial_nodes
from mfpde.limit.lagrangian.interpolation import _solved
from mfpde.limit.lagrangian.node_sums import moments
from mfpde.limit.lagrangian.remap import DEFECT, remap
from mfpde.limit.lagrangian.remap import renew as renewed
from mfpde.limit.lagrangian.resolution import distortion, distortion_share
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.limit.state import NodesPart
from mfpde.limit.tables.tabulated_nodes import Field
from mfpde.problem.family import Family
from mfpde.problem.laws import Normal
from mfpde.problem.models.low_dimensional import attention
from mfpde.problem.product_laws import Bump
from mfpde.problem.tasks import Task

LAGRANGIAN = {"frame": "lagrangian", "positivity": "scheme", "potential_degree": 4}
CASES = {
    "decay 1-D": (decay(1), 6),
    "decay of a bump 2-D": (decay(2, Bump), 5),
    "linear 1-D": (linear(1), 5),
    "linear 2-D": (linear(2), 4),
    "linear 3-D": (linear(3), 4),
    "bilinear": (bilinear(), 6),
}


@pytest.mark.parametrize("name", CASES)
def test_nodes_masses_and_densities_follow_their_equations(name: str) -> None:
    """Moments, risk, and the density at every node, exact but for the time error of order 3."""
    case, cells = CASES[name]
    density = Density(cells=cells, **LAGRANGIAN)  # type: ignore[arg-type]
    training = Training(weight_decay=case.clock.decay, horizon=case.clock.horizon)
    problem = Problem(case.model(), case.task, training, {case.family.name: density}, Time(step=SHORT.horizon / 80))
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        start = solver.stepper.state.parts[0]
        assert solver.stepper.advance(case.clock.horizon)
        report = solver.report(solver.stepper.state, certified=False)
        end = solver.stepper.state.parts[0]
    finally:
        solver.close()
    _, mean, covariance = moments(start)
    answer = case.answer(mean, covariance)
    mass, mean, covariance = moments(end)
    assert np.abs(mass - 1.0).max() < 1e-14
    assert (end.mass == start.mass).all()
    assert (end.mass >= 0.0).all()
    assert np.abs(mean - answer.mean).max() < 3e-6 * np.abs(answer.mean).max()
    assert np.abs(covariance - answer.covariance).max() < 3e-6 * np.abs(answer.covariance).max()
    assert abs(report.history["risk"] / answer.risk - 1.0) < 3e-6
    assert abs(report.history["energy_remainder"]) < 1e-12 * report.history["dissipation"]
    assert report.history["negative_mass"] == 0.0
    assert report.history["min_density"] >= 0.0
    for layer, exact in enumerate(answer.density):
        truth = exact(end.position[layer])
        # the nodes of `end` started from discrete moments, `exact` from the law's
        assert np.abs(np.exp(end.log_density[layer]) - truth).max() < 1e-5 * truth.max()
    if name.startswith("decay"):
        assert np.abs(end.position * case.clock.growth - start.position).max() < 1e-6


def in_context(cells: int, tolerance: float | None = None, step: float | None = None, **more: object) -> Solver:
    """Attention heads on random tokens, two layers: V is not quadratic."""
    rng = np.random.default_rng(3)
    task = Task(rng.normal(size=(12, 4, 2)), 6.0 * rng.normal(size=(12, 1)))
    model = attention(channels=2, layers=2, seed=1)
    density = Density(cells=cells, **LAGRANGIAN, **more)  # type: ignore[arg-type]
    problem = Problem(model, task, Training(0.1, 4.0), {"attention": density}, Time(step=step, tolerance=tolerance))
    return Solver(MPI.COMM_SELF, problem)


@pytest.fixture(scope="module")
def evolved() -> Solver:
    """At τ = 0.8."""
    solver = in_context(8, tolerance=1e-5, remap=False)
    state = solver.stepper.state
    assert solver.flow.limited(state) is state  # no mesh, and so nothing that positivity = "scheme" could limit
    assert solver.stepper.advance(0.8)
    return solver


def test_energy_law_to_rounding(evolved: Solver) -> None:
    """dQ/dτ by the chain rule through the table is −Σ m|∇V|²/L, and is what the energy does."""
    report = evolved.report(evolved.stepper.state, certified=False).history
    assert report["dissipation"] > 1e-3
    assert abs(report["energy_remainder"]) < 1e-12 * report["dissipation"]
    state = evolved.stepper.state
    rate = evolved.flow.rate(state)
    energies = []
    for shift in (-1e-4, 1e-4):
        moved = tuple(
            replace(now, position=now.position + shift * of.position)
            for now, of in zip(state.parts, rate.parts, strict=True)
        )
        energies.append(evolved.flow.potential(replace(state, parts=moved)).energy)
    slope = (energies[1] - energies[0]) / 2e-4
    assert abs(slope + report["dissipation"]) < 1e-6 * report["dissipation"]


def test_the_table_against_the_nodes_themselves(evolved: Solver) -> None:
    """The risk with a unit at every node is approached by tables as fast as polynomials of degree 7 do it."""
    material, nodes = evolved.flow.discretisations[0].grid, evolved.stepper.state.parts[0]
    model, task = evolved.problem.model, evolved.problem.task
    each = replace(model, stages=[[replace(family, linear=()) for family in stage] for stage in model.stages])
    truth = Backprop(MPI.COMM_SELF, each, task.tokens, task.targets).evaluate([nodes.position], [nodes.mass]).risk
    errors = []
    for count in (16, 24, 36, 96):
        far = replace(nodes, low=nodes.low + 1e3, count=np.array([count]))
        table = material.fit_table(far)  # it is made anew
        found = evolved.flow.backprop.evaluate([material.points(table)], [material.weights(table)]).risk
        errors.append(abs(found - truth))
    assert errors[-1] < 1e-7
    assert np.log(errors[0] / errors[2]) / np.log(36 / 16) > 4.0


@pytest.mark.parametrize("width", [1e-3, 1e-6, 1e-12])
def test_derivatives_at_nodes_of_a_density_that_has_collapsed(evolved: Solver, width: float) -> None:
    """All nodes are as good as in one point: V is smooth there, and so are what the table says of ∇V and ΔV."""
    state = evolved.stepper.state
    material, nodes = evolved.flow.discretisations[0].grid, state.parts[0]
    _, mean, _ = moments(nodes)
    shrunk = replace(nodes, position=mean[:, None] + width * (nodes.position - mean[:, None]))
    seen = [evolved.flow.potential(now).values[0] for now in (
        replace(state, parts=(shrunk,)), replace(state, parts=(material.fit_table(shrunk),))
    )]  # fmt: skip
    for name in ("slope", "laplacian"):
        wide, narrow = (getattr(field, name) for field in seen)
        assert np.ptp(narrow, axis=1).max() < 1e-6 + 10.0 * np.ptp(wide, axis=1).max()
        assert np.abs(narrow - wide).max() < 1e-4


def test_a_table_of_two_linear_coordinates_against_sums_over_nodes() -> None:
    """V = v₁ sin q + v₂ q² + 0.3 |θ|²/2 and its derivatives at the nodes; weights of the table against the nodes'."""
    law = Normal([0.2, -0.1, 0.4], [0.5, 0.4, 0.3])
    family = Family("heads", 3, lambda tokens, theta: theta[1:] * tokens * theta[0], law, linear=(1, 2))
    material = build_grid(family, 1, Density(cells=2, **LAGRANGIAN))  # type: ignore[arg-type]
    nodes = material.with_points(initial_nodes(material)[0], material.most)
    distinct = material.points(nodes)[0]
    (q, v, w), at = nodes.position[0].T, distinct[:, 0]
    table = np.stack([np.sin(at), at**2], axis=1).ravel()
    seen = material.field(nodes, table[None], 0.3)
    decay = 0.3 * nodes.position[0]
    slope = np.stack([v * np.cos(q) + 2.0 * w * q, np.sin(q), q**2], axis=1) + decay
    assert np.abs(seen.value[0] - (v * np.sin(q) + w * q**2 + 0.15 * (q**2 + v**2 + w**2))).max() < 1e-9
    assert np.abs(seen.slope[0] - slope).max() < 1e-8
    assert np.abs(seen.laplacian[0] - (-v * np.sin(q) + 2.0 * w + 0.9)).max() < 1e-6
    direct = float(nodes.mass[0] @ (v * np.sin(q) + w * q**2))
    assert abs(float(material.weights(nodes).value[0] @ table) - direct) < 1e-9


def test_density_is_mass_over_the_determinant() -> None:
    """V = v tanh q + …, not quadratic: log ρ carried by ΔV against ρ̂/det ∇X of the nodes' own map, to second order."""
    errors = []
    for cells in (8, 16):
        material, start = prescribed(cells)
        end = carry(material, start, np.tanh, 0.7)
        grid = [np.linspace(-1.0, 1.0, n) for n in material.shape]
        position = end.position.reshape(*material.shape, 2)
        jacobian = np.stack([np.gradient(position, axis, axis=a, edge_order=2) for a, axis in enumerate(grid)], axis=-1)
        by_map = end.mass / material.quadrature / np.linalg.det(jacobian).reshape(1, -1)
        errors.append(np.abs(by_map - np.exp(end.log_density)).max())
    assert 1.7 < np.log2(errors[0] / errors[1]) < 2.5


def prescribed(cells: int) -> tuple[LagrangianGrid, NodesPart]:
    """A family in (q, v), linear in v, one layer."""
    law = Normal([0.2, -0.1], [0.5, 0.4])
    family = Family("heads", 2, lambda tokens, theta: theta[1] * tokens * theta[0], law, linear=(1,))
    material = build_grid(family, 1, Density(cells=cells, **LAGRANGIAN))  # type: ignore[arg-type]
    return material, initial_nodes(material)[0]


def carry(
    material: LagrangianGrid, start: NodesPart, force: Callable[[np.ndarray], np.ndarray], tau: float
) -> NodesPart:
    """The nodes after τ in V = v G(q) + 0.1 |θ|²/2."""
    shape, size = start.position.shape, start.position.size
    wide = replace(start, low=np.full((1, 1), -4.0), spacing=np.full((1, 1), 8.0 / 96.0), count=np.array([97]))
    gradient = force(material.points(wide)[..., 0])

    def at(flat: np.ndarray) -> NodesPart:
        return replace(wide, position=flat[:size].reshape(shape), log_density=flat[size:].reshape(shape[:2]))

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        seen = material.field(at(flat), gradient, 0.1)
        return np.concatenate([-seen.slope.ravel(), seen.laplacian.ravel()])

    begin = np.concatenate([start.position.ravel(), start.log_density.ravel()])
    return at(solve_ivp(slope, (0.0, tau), begin, method="DOP853", rtol=1e-7, atol=1e-9).y[:, -1])


def test_a_remap_conserves_and_is_positive_and_of_high_order() -> None:
    """Mass, mean and covariance to rounding; the density against characteristics traced back, its error and defect."""
    errors, defects = [], []
    for cells in (8, 12):
        material, start = prescribed(cells)
        end = carry(material, start, np.tanh, 0.6)
        fresh, defect = remap(material, end)
        defects.append(defect)
        for old, new in zip(moments(end), moments(fresh), strict=True):
            assert np.abs(old - new).max() < 1e-13
        assert (fresh.mass >= 0.0).all()
        inside = np.exp(fresh.log_density) > 1e-3
        exact = trace_back(fresh.position[0], 0.6)
        errors.append(np.abs(fresh.log_density - exact)[inside].max())
    assert errors[1] < errors[0] / 3.0
    assert defects[1] < defects[0]
    assert defects[1] < 1e-4


def renew(material: LagrangianGrid, part: NodesPart) -> NodesPart:
    """`remap.renew` at the distortion of the nodes."""
    sums = distortion_share(material, part, np.zeros(part.position.shape[::2])).value
    return renewed(material, part, distortion(material, sums))


def trace_back(theta: np.ndarray, tau: float) -> np.ndarray:
    """log ρ (n,) at θ (n, 2) after τ in V = v tanh q + 0.1 |θ|²/2, from the law by characteristics."""
    law = Normal([0.2, -0.1], [0.5, 0.4])
    count = len(theta)

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        q, v = flat[:count], flat[count : 2 * count]
        t = np.tanh(q)
        laplacian = -2.0 * v * t * (1.0 - t**2) + 0.2
        return np.concatenate([v * (1.0 - t**2) + 0.1 * q, t + 0.1 * v, laplacian])

    begin = np.concatenate([theta[:, 0], theta[:, 1], np.zeros(count)])
    end = solve_ivp(slope, (0.0, tau), begin, method="DOP853", rtol=1e-11, atol=1e-13).y[:, -1].reshape(3, count)
    return np.asarray(np.log(law.density(end[:2].T)) + end[2])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_systems_of_a_remap_are_solved_with_pivots(size: int) -> None:
    """Random ones, one whose first pivot is zero, and one that has no solution."""
    draw = np.random.default_rng(size)
    for number in range(20):
        matrix, right = draw.normal(size=(size, size)), draw.normal(size=size)
        if size > 1 and number == 0:
            matrix[0, 0] = 0.0
        expected = np.linalg.solve(matrix, right)
        assert _solved(matrix, right)
        assert np.abs(right - expected).max() < 1e-11 * np.abs(expected).max()
    assert not _solved(np.zeros((size, size)), np.ones(size))


def test_affine_flows_need_no_remap_and_others_get_one_while_it_is_resolved() -> None:
    """Shrinking and shearing is no reason; what tears is remapped once, as late as it can be, and too late never."""
    material, start = prescribed(24)
    shear = np.array([[0.3, 0.0], [0.8, 0.4]])
    sheared = replace(start, position=start.position @ shear.T)
    assert renew(material, sheared) is sheared
    now, made = start, []
    for _ in range(10):
        now = carry(material, now, lambda q: np.tanh(2.0 * q), 0.1)
        fresh = renew(material, now)
        if np.abs(fresh.position - now.position).max() > 0.1:
            made.append(remap(material, now)[1])
        now = fresh
    assert len(made) >= 1
    assert max(made) <= DEFECT
    late = carry(material, start, lambda q: 2.0 * np.sin(4.0 * q), 2.0)
    refused = renew(material, late)
    assert (refused.position == late.position).all()
    assert np.isinf(refused.patience[0])
    assert renew(material, refused) is refused


@pytest.mark.parametrize(("defect", "patience"), [(1.01, np.inf), (0.99, PATIENCE), (0.01, 1.1)])
def test_the_defect_of_a_remap_decides(defect: float, patience: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the largest one there is no remap any more, far below it there is time, and between them it is made."""
    material, start = prescribed(24)
    monkeypatch.setattr(remaps, "remap", lambda _grid, part: (part, defect * DEFECT))
    assert renewed(material, start, 1.0).patience[0] == pytest.approx(patience)


def test_a_run_with_a_remap_keeps_what_it_must() -> None:
    """The energy does not rise but for a remap's own change, masses stay, and the risk is that of a finer grid."""
    risks = []
    for cells in (16, 20):
        solver = in_context(cells, tolerance=1e-5)
        start = solver.stepper.state.parts[0]
        assert solver.stepper.advance(2.5)
        report = solver.report(solver.stepper.state, certified=True)
        nodes = solver.stepper.state.parts[0]
        assert not (nodes.mass == start.mass).all()  # there was one
        assert np.abs(nodes.mass.sum(axis=1) - 1.0).max() < 1e-14
        assert report.history["gap"] > 0.0
        risks.append(report.history["risk"])
    assert abs(risks[1] - risks[0]) < 2e-5 * risks[1]


def test_what_is_written_is_nowhere_negative(evolved: Solver) -> None:
    """Cells between nodes with the nodes' values: multilinear, so that between them nothing is below the least."""
    state = evolved.stepper.state
    potential = evolved.flow.potential(state)
    material, nodes = evolved.flow.discretisations[0].grid, state.parts[0]
    seen = potential.values[0]
    snapshot = snapshot_nodes(material, nodes, seen)
    assert snapshot.degree == 1
    assert snapshot.density.min() > 0.0
    said = diagnose_nodes(material, nodes, seen)
    corners = snapshot.points
    x, y = corners[..., 0], corners[..., 1]
    area = 0.5 * np.abs(
        (x[..., 3] - x[..., 0]) * (y[..., 2] - y[..., 1]) - (x[..., 2] - x[..., 1]) * (y[..., 3] - y[..., 0])
    )
    mass = (area * snapshot.density.mean(axis=2)).sum(axis=1)
    assert np.abs(mass - said.mass).max() < 5e-3
    assert np.abs((area * snapshot.density.mean(axis=2) * x.mean(axis=2)).sum(axis=1) - said.mean[:, 0]).max() < 5e-3
    _, weights = atoms(snapshot, 1)
    assert abs(weights.sum() - 1.0) < 1e-12


def test_cells_between_torn_nodes_hold_no_more_than_their_mass() -> None:
    """The density at the corners of a cell says nothing of a cell that has become large: its mass is at its ends."""
    material, start = prescribed(12)
    late = carry(material, start, lambda q: 2.0 * np.sin(4.0 * q), 2.0)
    nothing = Field(np.zeros(late.mass.shape), np.zeros(late.position.shape), np.zeros(late.mass.shape))
    snapshot = snapshot_nodes(material, late, nothing)
    assert material.nodes < snapshot.density.shape[1] < 3 * material.nodes
    points, mass = atoms(snapshot, 0)
    assert abs(mass.sum() - 1.0) < 1e-3  # some cells have folded
    far = sliced(points, mass, late.position[0], late.mass[0])
    assert far.max() < 2e-2 * spread(late.position[0], late.mass[0])


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_torn_cells_have_their_mass_at_their_ends(dim: int) -> None:
    """One cell of unit size of which a part f is full: W₁ to atoms at its corners falls with f, as f times its size."""
    corners = (np.arange(2**dim)[:, None] >> np.arange(dim) & 1).astype(np.float64)
    corners[:, 0] *= 2.0  # the longest direction
    held = np.where(corners[:, 0] > 0.0, 0.5, 1.5)[None, None]  # a quarter of the mass at one end

    def missed(part: float) -> float:
        density = np.full((1, 1, 2**dim), 0.5 / part)
        whole = NodeCells(corners[None, None], density, held, corners[None, None], np.array([7]))
        made = divided(whole, 1)
        assert made.number.tolist() == [21, 22, 23]
        assert np.allclose(made.fields, made.points, rtol=0.0, atol=1e-15)  # what is affine stays as it is
        masses = integrals(made.points, scaled(made))[0]
        assert np.allclose(masses, [0.75, 0.0, 0.25], rtol=1e-13, atol=0.0)
        middles = made.points[0, :, :, 0].mean(axis=1)
        return float(np.abs(middles - [0.0, 1.0, 2.0]) @ masses)

    assert missed(0.05) == pytest.approx(0.05 * 2.0 * 0.5 * (0.75**2 + 0.25**2), rel=1e-12)
    assert missed(0.05) / missed(0.0125) == pytest.approx(4.0, rel=1e-12)
