"""The whole solver against mathematics.md, section 7: decay, linear heads, bilinear heads.

Several layers with different initial laws, several samples, nonzero means and η ≠ 1: a lost factor would show. V is
quadratic in all of them, so that means and covariances obey closed ordinary differential equations *exactly*, also
after discretisation; they are started from the discrete initial moments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI
from scipy.integrate import solve_ivp

from mfpde.limit.diagnostics import BlockDiagnostics, diagnose
from mfpde.limit.problem import Problem
from mfpde.limit.solver import Solver
from mfpde.limit.space import tabulate
from mfpde.limit.state import State
from mfpde.problem.family import Family
from mfpde.problem.laws import Bump, Law, Normal
from mfpde.problem.library import bilinear_head, linear_head
from mfpde.problem.task import Task
from mfpde.problem.transformer import Transformer
from mfpde.settings import Density, Time, Training

LAYERS, STEP, DECAY, HORIZON = 3, 0.7, 0.4, 1.2
X, Y = np.array([0.8, -0.5, 1.3, 0.4]), np.array([1.9, 0.6, 2.2, 1.1])
Exact = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Answer:
    """What is known at the horizon: per layer mean (L, d), covariance (L, d, d) and density; and the risk."""

    mean: np.ndarray
    covariance: np.ndarray
    density: list[Exact]
    risk: float


@dataclass
class Case:
    """A model with its exact solution, started from given means (L, d) and covariances (L, d, d)."""

    family: Family
    answer: Callable[[np.ndarray, np.ndarray], Answer]

    def model(self) -> Transformer:
        return Transformer([[self.family]], LAYERS, lambda tokens: tokens[-1], step=STEP)


def task(channels: int) -> Task:
    """Four samples of one token, all channels alike up to sign."""
    signs = np.array([1.0, -1.0, 0.5])[:channels]
    return Task((X[:, None] * signs)[:, None, :], Y[:, None] * signs)


def layered(centres: np.ndarray, widths: np.ndarray, kind: type[Law] = Normal) -> Callable[[int], Law]:
    """A law per layer from centres and widths (L, d)."""
    laws = [kind(c.tolist(), w.tolist()) for c, w in zip(centres, widths, strict=True)]
    return laws.__getitem__


def shrunk(law: Law, end: np.ndarray, start: np.ndarray) -> Exact:
    """The law contracted by e^{λτ} around `start`, which has moved to `end`; both (d,)."""
    grow = np.exp(DECAY * HORIZON)
    return lambda theta: grow**law.dim * law.density(grow * (theta - end) + start)


def decay(dim: int, kind: type[Law] = Normal) -> Case:
    """f = 0: ρ(θ, τ) = e^{dλτ} ρ₀(e^{λτ} θ)."""
    centres = 0.3 * np.cos(np.arange(LAYERS * dim)).reshape(LAYERS, dim)
    law = layered(centres, np.linspace(0.3, 0.4, LAYERS * dim).reshape(LAYERS, dim), kind)
    family = Family("decay", dim, lambda tokens, theta: 0.0 * jnp.sum(theta) * tokens, law)
    grow = np.exp(DECAY * HORIZON)

    def answer(mean: np.ndarray, covariance: np.ndarray) -> Answer:
        densities = [shrunk(law(i), np.zeros(dim), np.zeros(dim)) for i in range(LAYERS)]
        risk = 0.5 * np.mean((task(1).tokens[:, 0] - task(1).targets) ** 2)
        return Answer(mean / grow, covariance / grow**2, densities, float(risk))

    return Case(family, answer)


def linear(dim: int) -> Case:
    """f = θ: a linear equation for the layers' means, and shapes that contract as e^{−λτ}."""
    centres = 0.4 * np.sin(1.0 + np.arange(LAYERS * dim)).reshape(LAYERS, dim)
    law = layered(centres, np.linspace(0.3, 0.4, LAYERS * dim).reshape(LAYERS, dim))
    grow = np.exp(DECAY * HORIZON)
    data = task(dim)

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        mean = flat.reshape(LAYERS, dim)
        output = data.tokens[:, 0] + STEP / LAYERS * mean.sum(axis=0)
        return (-STEP * (output - data.targets).mean(axis=0) - DECAY * mean).ravel()

    def answer(mean: np.ndarray, covariance: np.ndarray) -> Answer:
        end = integrate(slope, mean.ravel()).reshape(LAYERS, dim)
        real = integrate(slope, centres.ravel()).reshape(LAYERS, dim)  # of the law itself, for the density
        densities = [shrunk(law(i), real[i], centres[i]) for i in range(LAYERS)]
        output = data.tokens[:, 0] + STEP / LAYERS * end.sum(axis=0)
        risk = 0.5 * ((output - data.targets) ** 2).sum(axis=1).mean()
        return Answer(end, covariance / grow**2, densities, float(risk))

    return Case(linear_head("linear", dim, law), answer)


def bilinear() -> Case:
    """f = a b T: μ' = B μ and Σ' = B Σ + Σ Bᵀ with B = −(c_ℓ J + λ I), c_ℓ = η mean_n P_{ℓ+1} T_ℓ."""
    centres = np.array([[0.5, 0.3], [-0.2, 0.6], [0.4, -0.5]])
    law = layered(centres, np.array([[0.3, 0.35], [0.4, 0.3], [0.35, 0.3]]))
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])

    def output(second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Stream (L+1, n) and co-state (L+1, n) from E[ab] (L,)."""
        factor = 1.0 + STEP / LAYERS * second
        stream = X * np.concatenate([[1.0], np.cumprod(factor)])[:, None]
        after = np.concatenate([np.cumprod(factor[::-1])[::-1], [1.0]])
        return stream, (stream[-1] - Y) * after[:, None]

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        mean, cov = flat[: 2 * LAYERS].reshape(LAYERS, 2), flat[2 * LAYERS :].reshape(LAYERS, 2, 2)
        stream, costate = output(cov[:, 0, 1] + mean[:, 0] * mean[:, 1])
        c = STEP * (costate[1:] * stream[:-1]).mean(axis=1)
        b = -(c[:, None, None] * swap + DECAY * np.eye(2))
        moved = b @ cov
        return np.concatenate([(b @ mean[..., None]).ravel(), (moved + np.swapaxes(moved, 1, 2)).ravel()])

    def answer(mean: np.ndarray, covariance: np.ndarray) -> Answer:
        def end_of(m: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            flat = integrate(slope, np.concatenate([m.ravel(), s.ravel()]))
            return flat[: 2 * LAYERS].reshape(LAYERS, 2), flat[2 * LAYERS :].reshape(LAYERS, 2, 2)

        end, cov = end_of(mean, covariance)
        stds = np.stack([np.asarray(law(i).std) for i in range(LAYERS)])
        real, real_cov = end_of(centres, stds[:, :, None] ** 2 * np.eye(2))
        densities = [lambda t, m=real[i], s=real_cov[i]: gaussian(t, m, s) for i in range(LAYERS)]
        stream, _ = output(cov[:, 0, 1] + end[:, 0] * end[:, 1])
        return Answer(end, cov, densities, float(0.5 * np.mean((stream[-1] - Y) ** 2)))

    return Case(bilinear_head("bilinear", law), answer)


def gaussian(theta: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """The normal density at (..., d)."""
    x = theta - mean
    square = np.einsum("...i,ij,...j->...", x, np.linalg.inv(covariance), x)
    return np.exp(-0.5 * square) / np.sqrt(np.linalg.det(2 * np.pi * covariance))


def integrate(slope: Callable[[float, np.ndarray], np.ndarray], start: np.ndarray) -> np.ndarray:
    """The solution of an ordinary differential equation at the horizon, to 1e-13."""
    return solve_ivp(slope, (0.0, HORIZON), start, method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]


@dataclass
class Run:
    """Start and end of a solve, with the errors against the exact answer."""

    solver: Solver
    end: State
    start: BlockDiagnostics
    stop: BlockDiagnostics
    risk: float
    answer: Answer

    def moment_error(self) -> float:
        """Largest relative error of risk, means and covariances."""
        mean = np.abs(self.stop.mean - self.answer.mean).max() / np.abs(self.answer.mean).max()
        covariance = np.abs(self.stop.covariance - self.answer.covariance).max() / np.abs(self.answer.covariance).max()
        return float(max(mean, covariance, abs(self.risk / self.answer.risk - 1.0)))

    def density_error(self) -> float:
        """Relative L² error over all layers."""
        group, frame = self.solver.groups[0], self.end.frame[0]
        space = group.space
        fine = tabulate(space.cell, space.degree, 1, 2 * space.degree + 4)
        theta, measure = frame.theta(space.points(fine.vertex)), fine.weights * space.scale_at(fine.points)
        wrong = norm = 0.0
        for b, exact in enumerate(self.answer.density):
            truth = exact(theta[..., b])
            got = np.einsum("qi,ci->cq", fine.density, self.end.density[0][..., b]) / frame.determinant[b]
            wrong += frame.determinant[b] * (measure * (got - truth) ** 2).sum()
            norm += frame.determinant[b] * (measure * truth**2).sum()
        return float(np.sqrt(wrong / norm))


def run(case: Case, density: Density, time: Time) -> Run:
    """Solve a case to the horizon."""
    model = case.model()
    channels = case.family.dim if case.family.name == "linear" else 1
    settings = Training(weight_decay=DECAY, horizon=HORIZON)
    problem = Problem(model, task(channels), settings, {case.family.name: density}, time)
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        diagnostics = []
        for _ in range(2):
            state = solver.stepper.state
            potential = solver.flow.potential(state)
            diagnostics.append(diagnose(solver.groups[0], state.density[0], state.frame[0], potential.values[0]))
            if state.tau == 0.0:
                assert solver.stepper.advance(HORIZON)
        start, stop = diagnostics
        answer = case.answer(start.mean, start.covariance)
        return Run(solver, state, start, stop, potential.outcome.risk, answer)
    finally:
        solver.close()


MOMENT_CASES = [
    pytest.param(decay(1), {"cells": 12}, id="decay 1-D"),
    pytest.param(decay(2, Bump), {"cells": 10}, id="decay of a bump 2-D"),
    pytest.param(decay(3), {"cells": 6}, id="decay 3-D"),
    pytest.param(linear(1), {"cells": 12}, id="linear 1-D"),
    pytest.param(linear(2), {"cells": 8}, id="linear 2-D"),
    pytest.param(linear(2), {"cells": 8, "cell_type": "simplex"}, id="linear triangles"),
    pytest.param(linear(3), {"cells": 4}, id="linear 3-D"),
    pytest.param(bilinear(), {"cells": 10}, id="bilinear"),
    pytest.param(bilinear(), {"cells": 10, "cell_type": "simplex"}, id="bilinear triangles"),
]


@pytest.mark.parametrize("frame", ["fixed", "comoving"])
@pytest.mark.parametrize(("case", "mesh"), MOMENT_CASES)
def test_moments_and_risk_follow_their_equations(case: Case, mesh: dict[str, object], frame: str) -> None:
    """Means, covariances and risk at fixed steps, exact but for the time error of order 3."""
    density = Density(degree=2, frame=frame, radius=2.4 if frame == "fixed" else 6.0, **mesh)  # type: ignore[arg-type]
    found = run(case, density, Time(step=HORIZON / 160))
    assert np.abs(found.stop.mass - 1.0).max() < 1e-12  # rounding of some 600 right-hand sides, most in 3-D
    assert found.moment_error() < 4e-7  # the time error at this step; test_order_in_time has its slope


@pytest.mark.parametrize("case", [linear(1), bilinear()], ids=["linear", "bilinear"])
def test_order_in_time(case: Case) -> None:
    """The moments' error at fixed steps has slope 3."""
    density = Density(degree=2, cells=10, frame="comoving", radius=6.0)
    errors = [run(case, density, Time(step=HORIZON / n)).moment_error() for n in (10, 20)]
    assert 2.7 < np.log2(errors[0] / errors[1]) < 3.5


@pytest.mark.parametrize(
    ("degree", "extra", "cell_type", "order"),
    [
        (1, 1, "tensor", 2.0), (2, 0, "tensor", 3.0), (3, 0, "tensor", 4.0), (2, 1, "tensor", 3.0),
        (2, 0, "simplex", 3.0), (3, 1, "simplex", 4.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("case", [decay(2), linear(2), bilinear()], ids=["decay", "linear", "bilinear"])
def test_order_of_the_density(case: Case, degree: int, extra: int, cell_type: str, order: float) -> None:
    """L² order p + 1 in a fixed frame: V is quadratic, and k ≥ 2."""
    errors = []
    coarse, fine = {1: (20, 30), 2: (16, 24), 3: (16, 24)}[degree]
    for cells in (coarse, fine):
        density = Density(
            degree=degree, potential_degree=degree + extra, cells=cells, cell_type=cell_type,  # type: ignore[arg-type]
            frame="fixed", radius=2.2,
        )  # fmt: skip
        errors.append(run(case, density, Time(step=HORIZON / 100)).density_error())
    assert np.log(errors[0] / errors[1]) / np.log(fine / coarse) > order - 0.4
