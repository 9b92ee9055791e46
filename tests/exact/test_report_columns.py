"""What a report says of a density that is known: a normal law in frames that turn, scale and mirror."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import basix
import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI

from mfpde.config.settings import Density, Time, Training
from mfpde.limit.fem.elements import tabulate
from mfpde.limit.fem.frame import Frame
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.limit.state import FemPart, State
from mfpde.output.records.report import Report
from mfpde.problem.laws import Normal
from mfpde.problem.models.low_dimensional import neuron, softmax_head
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, residual_stream, sample_loss
from support.units import units_of

LAYERS, CHANNELS, DECAY = 2, 2, 0.3
MIDDLE = np.array([[0.1, -0.05], [-0.08, 0.1]])  # (d, L), of the reference density
WIDTH = np.array([0.14, 0.13])  # a normal law loses 1e-10 of its mass and some 1e-8 of its variance out of the box
LAWS = {
    "head": [Normal([0.4, 0.2], [0.4, 0.5]), Normal([0.1, -0.3], [0.5, 0.4])],
    "unit": [Normal([-0.3, 0.5], [0.3, 0.6]), Normal([0.2, 0.6], [0.4, 0.3])],
}


@pytest.fixture(scope="module")
def solver() -> Iterator[Solver]:
    """Two families of one stage, on triangles; training and test samples that have nothing in common."""
    rng = np.random.default_rng(2)
    head = softmax_head("head", rng.normal(size=(2, 2)), rng.normal(size=(2, 2)), LAWS["head"].__getitem__)
    unit = neuron("unit", rng.normal(size=2), rng.normal(size=2), LAWS["unit"].__getitem__)
    model = Transformer([[head, unit]], LAYERS, lambda tokens: tokens[-1], loss="cross_entropy", step=0.8)
    task = Task(rng.normal(size=(6, 3, CHANNELS)), [0, 1, 1, 1, 0, 1], rng.normal(size=(4, 3, CHANNELS)), [1, 0, 0, 0])
    densities = {"head": density(12), "unit": density(14)}
    made = Solver(MPI.COMM_SELF, Problem(model, task, Training(DECAY, 1.0), densities, Time(step=0.1)))
    yield made
    made.close()


def density(cells: int) -> Density:
    return Density(degree=3, cells=cells, cell_type="simplex", positivity="off", frame="comoving")


@pytest.fixture(scope="module")
def state(solver: Solver) -> State:
    """Normal densities off the middle of sheared (linear coordinates follow the others) and mirrored frames."""
    start, parts = solver.stepper.state, []
    for elements, part, shear in zip(solver.flow.discretisations, start.parts, ((1, 0), (0, 1)), strict=True):
        matrix = part.frame.matrix.copy()
        matrix[(slice(None), *shear)] = [0.9, -1.4]
        matrix[1, :, 0] *= -1.5
        frame = Frame(part.frame.centre + 0.1, matrix)
        space = elements.space
        fine = tabulate(space.cell, space.degree, 1, 2 * space.degree + 6)
        x = (space.points(fine.vertex)[..., None] - MIDDLE) / WIDTH[:, None]  # (c, q, d, b)
        values = np.exp(-0.5 * (x**2).sum(axis=2)) / (2.0 * np.pi * WIDTH.prod())
        load = np.einsum("cq,qi,cqb->cib", fine.weights * space.scale_at(fine.points), fine.density, values)
        parts.append(FemPart(space.invert_mass(load), frame))
    return replace(start, parts=tuple(parts))


@pytest.fixture(scope="module")
def report(solver: Solver, state: State) -> Report:
    return solver.report(state)


def laws(state: State) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Family, layer, mean c + A μ and covariance A Σ Aᵀ."""
    for name, part in zip(("head", "unit"), state.parts, strict=True):
        frame = part.frame
        for layer in range(LAYERS):
            root = frame.matrix[layer] * WIDTH
            yield name, layer, frame.centre[layer] + frame.matrix[layer] @ MIDDLE[:, layer], root @ root.T


def test_the_start(solver: Solver) -> None:
    """Every block starts as its own law, but for what the box cuts off at five standard deviations."""
    start = solver.stepper.state
    for moments in solver.report(start).moments:
        law = LAWS[moments.family][moments.layer]
        assert abs(moments.mass - 1.0) < 1e-13
        assert np.abs(moments.mean - law.mean).max() < 1e-6
        assert np.abs(moments.covariance - np.diag(np.square(law.std))).max() < 1e-5


def test_moments(state: State, report: Report) -> None:
    """Mass, mean and covariance of the right block."""
    for block, (name, layer, mean, covariance) in zip(report.moments, laws(state), strict=True):
        assert (block.family, block.layer) == (name, layer)
        assert abs(block.mass - 1.0) < 1e-9
        assert np.abs(block.mean - mean).max() < 1e-9
        assert np.abs(block.covariance - covariance).max() < 1e-8


def test_entropy_penalty_and_energy(state: State, report: Report) -> None:
    """−½ log det(2πe Σ) and λ/2 (|μ|² + tr Σ), averaged over layers and summed over families; energy is R + penalty."""
    history = report.history
    entropy = penalty = 0.0
    for _, _, mean, covariance in laws(state):
        entropy -= 0.5 * np.linalg.slogdet(2.0 * np.pi * np.e * covariance)[1] / LAYERS
        penalty += DECAY / 2 * (mean @ mean + np.trace(covariance)) / LAYERS
    assert abs(history["entropy"] - entropy) < 1e-4  # of the projection: the densities are not quite normal
    assert abs(history["penalty"] / penalty - 1.0) < 1e-7
    assert history["energy"] == history["risk"] + history["penalty"]


def test_risks_and_accuracies(solver: Solver, state: State, report: Report) -> None:
    """Means over the training samples and over the test samples, each from the solver's units one by one."""
    task, model, history = solver.problem.task, solver.problem.model, report.history
    units = tuple((jnp.asarray(t), jnp.asarray(w)) for t, w in units_of(solver, state))
    for prefix, tokens, targets in (
        ("", task.tokens, task.targets), ("test_", task.test_tokens, task.test_targets)
    ):  # fmt: skip
        assert tokens is not None
        assert targets is not None
        losses, hits = [], []
        for t, y in zip(tokens, targets, strict=True):
            output = residual_stream(model, units, jnp.asarray(t))[-1]
            losses.append(float(sample_loss(model, output, jnp.asarray(y))))
            hits.append(np.argmax(output) == np.argmax(y))
        assert abs(history[f"{prefix}risk"] / np.mean(losses) - 1.0) < 1e-12
        assert abs(history[f"{prefix}accuracy"] - np.mean(hits)) < 1e-12


def test_dissipation_in_any_frame(solver: Solver, state: State) -> None:
    """V = λ/2 |θ|² alone: ∫ρ|∇V|² = λ² (|μ|² + tr Σ)."""
    for g, (elements, part, _) in enumerate(solver.flow.each(state, solver.flow.potential(state))):
        nodes = part.frame.theta(elements.space.nodes)
        said = elements.diagnose(part, DECAY / 2 * (nodes**2).sum(axis=2))
        expected = [DECAY**2 * (m @ m + np.trace(c)) for _, _, m, c in list(laws(state))[LAYERS * g : LAYERS * (g + 1)]]
        assert np.abs(said.descent / expected - 1.0).max() < 1e-7
        assert (np.abs(said.dissipation / said.descent - 1.0) < 1e-3).all()  # little of the density is negative


def test_snapshots(report: Report) -> None:
    """ρ in θ has mass, mean and covariance of the table; velocity is minus the slope of the potential there."""
    assert [s.family for s in report.snapshots] == ["head", "unit"]
    element = basix.create_element(basix.ElementFamily.P, basix.CellType.triangle, 3, basix.LagrangeVariant.equispaced)
    points, weights = basix.make_quadrature(basix.CellType.triangle, 5)
    table = element.tabulate(0, points)[0, :, :, 0]
    gradient = element.tabulate(1, element.points)[1:, :, :, 0]
    moments = {(m.family, m.layer): m for m in report.moments}
    for shot in report.snapshots:
        for layer in range(LAYERS):
            theta, rho = shot.points[layer], shot.density[layer]  # (c, n, 2), (c, n)
            edges = theta[:, 1:3] - theta[:, :1]  # (c, corner, 2): the transposed Jacobian
            measure = np.abs(np.linalg.det(edges))[:, None] * weights * np.einsum("qn,cn->cq", table, rho)
            inside = np.einsum("qn,cni->cqi", table, theta)
            block = moments[shot.family, layer]
            assert abs(measure.sum() - block.mass) < 1e-12
            mean = np.einsum("cq,cqi->i", measure, inside) / block.mass
            second = np.einsum("cq,cqi,cqj->ij", measure, inside, inside) / block.mass
            assert np.abs(mean - block.mean).max() < 1e-12
            assert np.abs(second - np.outer(mean, mean) - block.covariance).max() < 1e-12
            local = np.einsum("anm,cm->cna", gradient, shot.potential[layer])
            slope = np.einsum("cia,cna->cni", np.linalg.inv(edges), local)
            assert np.abs(shot.velocity[layer] + slope).max() < 1e-10 * np.abs(slope).max()


def test_snapshots_hold_the_density_of_theta(state: State, report: Report) -> None:
    """ρ at the points themselves, against the normal density."""
    for name, layer, mean, covariance in laws(state):
        shot = next(s for s in report.snapshots if s.family == name)
        x = shot.points[layer] - mean
        top = 1.0 / np.sqrt(np.linalg.det(2.0 * np.pi * covariance))
        exact = top * np.exp(-0.5 * np.einsum("cni,ij,cnj->cn", x, np.linalg.inv(covariance), x))
        assert np.abs(shot.density[layer] - exact).max() < 0.02 * top
