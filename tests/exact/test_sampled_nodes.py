"""Random nodes against exact solutions: families with many linear coordinates, whose moments obey an ODE."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI
from scipy.integrate import solve_ivp
from scipy.optimize import minimize_scalar

from mfpde.config import run_file
from mfpde.config.settings import Density, Time, Training
from mfpde.errors import ComputationError, InputError
from mfpde.finite.flow import make_flow, split
from mfpde.limit.certificate.certificate import certify
from mfpde.limit.sampled.cloud import NodeCloud
from mfpde.limit.sampled.sequences import Kind, law_points
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.problem.family import Family
from mfpde.problem.laws import Normal, independent
from mfpde.problem.mixtures import Mixture
from mfpde.problem.models.value_matrices import value_head
from mfpde.problem.product_laws import Uniform
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer
from mfpde.runs.problem_setup import problem_of

RUN = Path(__file__).resolve().parents[2] / "runs" / "in-context.toml"
LAYERS, DECAY, HORIZON = 2, 0.1, 1.0


@dataclass(frozen=True)
class Bilinear:
    """f(T, (u, v)) = u v on one token of m channels: V = u ⟨v, g⟩ + λ/2 (u² + |v|²) with g the mean of T − y."""

    m: int
    mean: float = 0.0  # of every entry of v

    @property
    def law(self) -> tuple[Normal, Normal]:
        return Normal([0.8], [0.5]), Normal([self.mean], [0.5])

    def model(self) -> Transformer:
        family = Family(
            "heads", nonlinear=1, linear_shape=(self.m,), initial=self.law,
            update=lambda tokens, u, v: jnp.broadcast_to(u[0] * v, tokens.shape),
        )  # fmt: skip
        return Transformer([[family]], LAYERS, lambda tokens: tokens[-1])

    def task(self) -> Task:
        rng = np.random.default_rng(3)
        target = rng.normal(size=self.m) / np.sqrt(self.m)
        noise = rng.normal(size=(4, self.m)) / np.sqrt(self.m)
        return Task((0.3 * noise)[:, None], target + 0.2 * noise[::-1])

    def exact(self) -> tuple[float, np.ndarray]:
        """R and the second moments E[θθᵀ] (1 + m, 1 + m) at the horizon: θ' = −A θ in each of the equal layers."""
        task, m = self.task(), self.m
        mean = np.concatenate([[0.8], np.full(m, self.mean)])
        start = np.diag(np.full(m + 1, 0.25)) + np.outer(mean, mean)
        offset = (task.tokens[:, 0] - task.targets).mean(axis=0)

        def slope(_: float, flat: np.ndarray) -> np.ndarray:
            second = flat.reshape(m + 1, m + 1)
            matrix = DECAY * np.eye(m + 1)
            matrix[0, 1:] += offset + second[0, 1:]
            matrix[1:, 0] += offset + second[0, 1:]
            return -(matrix @ second + second @ matrix).ravel()

        end = solve_ivp(slope, (0.0, HORIZON), start.ravel(), rtol=1e-11, atol=1e-13).y[:, -1].reshape(m + 1, m + 1)
        missed = task.tokens[:, 0] + end[0, 1:] - task.targets
        return 0.5 * float((missed**2).sum(axis=1).mean()), end

    def solved(self, nodes: int) -> tuple[np.ndarray, np.ndarray]:
        """R of each replica, and E[uv] over all nodes."""
        problem = Problem(
            self.model(), self.task(), Training(DECAY, HORIZON), {"heads": Density(nodes=nodes)},
            Time(tolerance=1e-6),
        )  # fmt: skip
        solver = Solver(MPI.COMM_SELF, problem)
        try:
            solver.stepper.advance(HORIZON)
            theta = solver.stepper.state.parts[0].position
            return solver.flow.potential(solver.stepper.state).outcome.risks, (theta[..., :1] * theta[..., 1:]).mean(
                (0, 1)
            )
        finally:
            solver.close()


@pytest.mark.parametrize(("m", "mean"), [(6, 0.0), (6, 0.3), (64, 0.0)])
def test_families_with_many_linear_coordinates_against_their_ode(m: int, mean: float) -> None:
    """With means and covariances matched a bilinear flow, which is determined by them, has the errors of its steps."""
    case = Bilinear(m, mean)
    risk, second = case.exact()
    risks, product = case.solved(4096)
    assert np.abs(risks / risk - 1.0).max() < 1e-6
    assert np.abs(product - second[0, 1:]).max() < 1e-6 * np.abs(second[0, 1:]).max()


@pytest.mark.parametrize(("m", "paired"), [(6, True), (64, True), (6, False), (64, False)])
def test_points_are_more_even_than_drawn_ones(m: int, paired: bool) -> None:
    """Errors of E[u⟨v, g⟩], in pairs of E[⟨v, g⟩²], fall with a slope near −0.8 and those of drawn points near −0.5."""
    law = independent([Normal([0.5], [1.0]), Normal([0.0] * m, [1.0] * m)])
    direction = np.random.default_rng(5).normal(size=m)
    direction /= np.linalg.norm(direction)
    counts, slopes = [64, 256, 1024], {}
    kinds: list[Kind] = ["drawn", "sobol", "lattice"]
    for kind in kinds:
        spreads = []
        for count in counts:
            rngs = [np.random.default_rng([k, count]) for k in range(60)]
            points = [law_points(law, count, range(1, m + 1), rng, kind, paired=paired, matched=False) for rng in rngs]
            other = (x[:, 1:] @ direction if paired else x[:, 0] for x in points)
            spreads.append(np.std([np.mean(y * (x[:, 1:] @ direction)) for x, y in zip(points, other, strict=True)]))
        slopes[kind] = np.polyfit(np.log(counts), np.log(spreads), 1)[0]
    assert slopes["sobol"] < -0.65
    assert -0.65 < slopes["drawn"] < -0.35


def test_points_have_the_mean_and_covariance_of_their_law_where_there_are_enough() -> None:
    """In pairs, and without; too few points stay as they are."""
    law = independent([Uniform([0.4], [0.7]), Normal([0.0] * 5, [0.3] * 5)])
    for paired in (True, False):
        points = law_points(law, 64, range(1, 6), np.random.default_rng(0), paired=paired)
        assert np.abs(points.mean(axis=0) - np.asarray(law.mean)).max() < 1e-14
        assert np.abs(np.cov(points.T, ddof=0) - law.covariance).max() < 1e-14
    few = law_points(law, 8, range(1, 6), np.random.default_rng(0))
    assert np.abs(np.cov(few.T, ddof=0) - law.covariance).max() > 1e-3
    assert np.abs(few[:, 1:].mean(axis=0)).max() < 1e-15


def test_random_nodes_against_a_grid_of_nodes() -> None:
    """In-context regression, s = m = 1, to τ = 1: within three error bars, and these below 1e-4."""
    run = run_file.load(RUN, ["training.horizon=1.0", "task.samples=32"])
    problem = problem_of(run, trial=False)
    grid = ends(problem)
    cloud = ends(dataclasses.replace(problem, densities={"attention": Density(nodes=4096)}))
    error = cloud.std(ddof=1) / np.sqrt(len(cloud))
    assert abs(cloud.mean() - grid[0]) < 3.0 * error
    assert 0.0 < error < 1e-4


def ends(problem: Problem) -> np.ndarray:
    """R of each replica at the horizon."""
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        solver.stepper.advance(problem.training.horizon)
        return solver.flow.potential(solver.stepper.state).outcome.risks
    finally:
        solver.close()


def test_nodes_with_a_table_and_nodes_that_are_units_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same nodes of the same heads follow the same flow, to the accuracy of tables and steps."""
    run = run_file.load(RUN, ["training.horizon=1.0", "task.samples=16", "model.layers=2", "density.nodes=1024"])
    problem = problem_of(run, trial=False)
    with_table = ends(problem)
    monkeypatch.setattr(NodeCloud, "tabled", False)
    alone = ends(problem)
    assert np.abs(alone / with_table - 1.0).max() < 1e-5


def neurons(m: int, nonlinear: int = 1) -> tuple[Transformer, Task]:
    """f(T, (u, v)) = tanh(Σ_k u_k T_k) v on one token of m channels, in one layer."""
    rng = np.random.default_rng(8)
    family = Family(
        "neurons", nonlinear=nonlinear, linear_shape=(m,), initial=(Normal([0.3], [0.7]), Normal([0.0], [0.5])),
        update=lambda tokens, u, v: jnp.tanh(tokens[:, :nonlinear] @ u)[:, None] * v,
    )  # fmt: skip
    model = Transformer([[family]], 1, lambda tokens: tokens[-1])
    return model, Task(rng.normal(size=(5, 1, m)), rng.normal(size=(5, m)))


@pytest.mark.parametrize(("m", "tabled"), [(5, True), (5, False), (40, True)])
def test_the_gap_with_many_linear_coordinates_against_brute_force(
    m: int, tabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """∫V dρ − min V with V from the residuals of the task, summed by hand over the nodes of the first replica."""
    if not tabled:
        monkeypatch.setattr(NodeCloud, "tabled", False)
    (model, task), decay = neurons(m), 0.4
    problem = Problem(model, task, Training(decay, 1.0), {"neurons": Density(nodes=512)}, Time(tolerance=1e-6))
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        solver.stepper.advance(0.5)
        state = solver.stepper.state
        found = certify(solver.flow, state, solver.flow.potential(state)).blocks[0]
        theta = state.parts[0].position[0]
    finally:
        solver.close()

    x, (u, v) = task.tokens[:, 0, 0], (theta[:, :1], theta[:, 1:])
    missed = task.tokens[:, 0] + np.tanh(u * x).T @ v / len(theta) - task.targets

    def gradient(q: np.ndarray) -> np.ndarray:
        return np.tanh(np.multiply.outer(q, x)) @ missed / len(x)

    mean = float(((gradient(u[:, 0]) * v).sum(axis=1) + 0.5 * decay * (theta**2).sum(axis=1)).mean())
    least = lambda q: float(0.5 * decay * q**2 - (gradient(np.array([q])) ** 2).sum() / (2.0 * decay))  # noqa: E731
    line = np.linspace(-10.0, 10.0, 4001)
    near = line[np.argmin([least(q) for q in line])]
    lowest = minimize_scalar(least, bounds=(near - 0.01, near + 0.01), options={"xatol": 1e-10}).fun
    tolerance = 1e-6 if tabled else 1e-8  # the table's own
    assert found.gap == pytest.approx(mean - lowest, rel=tolerance)


def test_without_a_table_the_gap_is_that_of_a_local_search() -> None:
    """Four nonlinear coordinates: no lower than what random points find, up to a per cent, and no margin is claimed."""
    (model, task), decay = neurons(6, nonlinear=4), 0.4
    problem = Problem(model, task, Training(decay, 1.0), {"neurons": Density(nodes=512)}, Time(tolerance=1e-5))
    solver = Solver(MPI.COMM_SELF, problem)
    (line,) = solver.cautions
    assert line.startswith("family 'neurons': 4 nonlinear coordinates have no table: each of 512 nodes is a unit")
    try:
        state = solver.stepper.state
        found = certify(solver.flow, state, solver.flow.potential(state)).blocks[0]
        theta = state.parts[0].position[0]
    finally:
        solver.close()
    missed = task.tokens[:, 0] + np.tanh(theta[:, :4] @ task.tokens[:, 0, :4].T).T @ theta[:, 4:] / 64 - task.targets
    q = np.random.default_rng(0).normal(scale=1.5, size=(200_000, 4))
    gradient = np.tanh(q @ task.tokens[:, 0, :4].T) @ missed / 5
    lowest = float((0.5 * decay * (q**2).sum(axis=1) - (gradient**2).sum(axis=1) / (2.0 * decay)).min())
    assert found.least <= lowest + 0.01 * abs(lowest)
    assert np.isnan(found.margin)


@pytest.mark.parametrize("nodes", [64, 1024])
def test_energy_falls_as_fast_as_the_dissipation_says(nodes: int) -> None:
    """dQ/dτ = −(1/L) Σ∫|∇V|² for nodes that are units of their own, and with a table, of tokens that are normalised."""
    problem = problem_of(
        run_file.load(RUN, ["task.samples=8", "model.norm='rms'", f"density.nodes={nodes}"]), trial=False
    )
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        solver.stepper.advance(0.3)
        report = solver.report(solver.stepper.state, certified=False).history
    finally:
        solver.close()
    assert abs(report["energy_remainder"]) < 1e-12
    assert report["dissipation"] > 0.01
    assert np.isfinite(report["risk_std"])
    assert np.isnan(report["entropy"])


def test_the_gradient_of_normalised_tokens_is_a_finite_transformers() -> None:
    """Nodes that are units of their own move as the units of a finite Transformer with `norm = "rms"` do."""
    run = run_file.load(RUN, ["task.samples=8", "model.norm='rms'", "density.nodes=64"])
    problem = problem_of(run, trial=False)
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        state = solver.stepper.state
        (field,) = solver.flow.potential(state).values
        depth = problem.model.layers
        units = ((jnp.asarray(state.parts[0].position[:depth]), jnp.full((depth, 8), 0.125)),)
        flow = make_flow(problem.model, problem.task, problem.training.weight_decay, units)
        (velocity,) = flow.velocity(*split(units))
    finally:
        solver.close()
    assert np.abs(np.asarray(velocity) + field.slope[:depth]).max() < 1e-12


BAD = {
    "density.nodes=100": "density.nodes = 100: family 'attention': must be a power of two, at least 16, as 8",
    "density.nodes=8": "must be a power of two, at least 16",
    "density={nodes = 64, frame = 'comoving'}": "random nodes need 'lagrangian' or 'auto'",
}


@pytest.mark.parametrize("key", BAD)
def test_nodes_that_cannot_be(key: str) -> None:
    run = run_file.load(RUN, [key])
    with pytest.raises(InputError, match=re.escape(BAD[key])):
        problem_of(run, trial=False)


def test_random_nodes_beside_a_mesh() -> None:
    keys = ["model={name = 'attention-mlp'}", "density.attention={nodes = 64}", "density.mlp={frame = 'comoving'}"]
    with pytest.raises(InputError, match=r"family 'mlp': where another family has density.nodes, all move by nodes"):
        problem_of(run_file.load(RUN, keys), trial=False)


def test_more_than_three_parameters_with_a_temperature() -> None:
    model, task = neurons(4)
    with pytest.raises(InputError, match=r"dim = 5; a density on a mesh takes at most 3 parameters"):
        Problem(model, task, Training(0.1, 1.0, temperature=0.1), {"neurons": Density()}, Time())


def test_singular_values_are_means_over_the_density() -> None:
    """At τ = 0 of all nodes of all replicas, by hand; families whose linear coordinates are a vector have none."""
    head = value_head("head", np.eye(2)[None], (Normal([0.5], [0.5]), Normal([0.0], [0.5])))
    vector = neurons(2)[0].families[0]
    model = Transformer([[head], [vector]], 2, lambda tokens: tokens[-1])
    densities = {name: Density(nodes=64) for name in ("head", "neurons")}
    problem = Problem(model, neurons(2)[1], Training(0.1, 1.0), densities, Time(tolerance=1e-3))
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        found = solver.report(solver.stepper.state, certified=False).singular_values
        matrices = solver.stepper.state.parts[0].position[..., 1:].reshape(8, 2, 8, 2, 2)
    finally:
        solver.close()
    assert [(name, layer) for name, layer, _ in found] == [("head", 0), ("head", 1)]
    expected = np.linalg.svd(matrices, compute_uv=False).mean(axis=(0, 2))
    np.testing.assert_allclose([values for _, _, values in found], expected, rtol=1e-13)


def test_where_nodes_without_a_table_have_no_numbers_the_node_is_named() -> None:
    """log u is nowhere for u ≤ 0: long steps take nodes there, and steps by a tolerance do not."""
    family = Family(
        "logs", nonlinear=1, linear_shape=(2,), initial=(Uniform([2.0], [0.1]), Normal([0.0], [0.5])),
        update=lambda tokens, u, v: jnp.log(u[0]) * v + 0.0 * tokens,
    )  # fmt: skip
    model = Transformer([[family]], 1, lambda tokens: tokens[-1])
    task = Task(np.zeros((1, 1, 2)), np.array([[60.0, -60.0]]))
    long, fine = (Problem(model, task, Training(0.1, 2.0), {"logs": Density(nodes=64)}, time)
                  for time in (Time(step=0.5), Time(tolerance=1e-3)))  # fmt: skip
    with pytest.raises(ComputationError, match=r"the update of family 'logs' in layer 0 at theta = \[ *-"):
        ends(long)
    assert np.isfinite(ends(fine)).all()


def test_the_law_of_one_nonlinear_coordinate_may_be_any() -> None:
    """A mixture stands for u alone, and is no law of every entry of v."""
    mixture = Mixture([Normal([-1.0], [0.3]), Normal([1.0], [0.3])], [1.0, 1.0])
    made = Family(
        "f",
        nonlinear=1,
        linear_shape=(2,),
        update=lambda t, u, v: u[0] * v + t,
        initial=(mixture, Normal([0.0], [0.5])),
    )
    assert made.law(0).covariance[0, 0] == pytest.approx(1.09)
    assert Family("f", nonlinear=1, update=lambda t, u: u * t, initial=mixture).law(0) is mixture
    with pytest.raises(InputError, match="must be a product law"):
        Family(
            "f",
            nonlinear=1,
            linear_shape=(2,),
            update=lambda t, u, v: u[0] * v + t,
            initial=(Normal([0.0], [0.5]), mixture),
        )


def test_pictures_of_few_coordinates_have_both_whichever_is_linear() -> None:
    """θ = (a, w) of neurons, linear in a."""
    run = run_file.load(RUN, ["model={name = 'attention-mlp'}", "task.samples=8", "density.nodes=64"])
    solver = Solver(MPI.COMM_SELF, problem_of(run, trial=False))
    try:
        shots = solver.report(solver.stepper.state, certified=False).snapshots
    finally:
        solver.close()
    assert [shot.coordinates for shot in shots] == [("q", "v"), ("a", "w")]


def test_the_potential_at_nodes_with_a_table_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """V and ∇V at the same nodes, from G on a table and from the derivative by each node's own parameters."""
    problem = problem_of(run_file.load(RUN, ["task.samples=8", "density.nodes=1024"]), trial=False)
    fields = []
    for tabled in (True, False):
        monkeypatch.setattr(NodeCloud, "tabled", tabled)
        solver = Solver(MPI.COMM_SELF, problem)
        try:
            solver.stepper.resolve()
            fields += solver.flow.potential(solver.stepper.state).values
        finally:
            solver.close()
    for name in ("value", "slope"):
        with_table, alone = (getattr(field, name) for field in fields)
        assert np.abs(alone - with_table).max() < 1e-5 * np.abs(with_table).max()
