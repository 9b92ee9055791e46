"""Exact solutions of docs/equations.md: decay, linear heads, bilinear heads.

Several layers with different initial laws, several samples, nonzero means and η ≠ 1: a lost factor would show. V is
quadratic in all of them, so that means and covariances obey closed ordinary differential equations *exactly*, also
after discretisation; they are started from the discrete initial moments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from mpi4py import MPI
from scipy.integrate import solve_ivp

from mfpde.config.settings import Density, Time, Training
from mfpde.limit.diagnostics.block_diagnostics import BlockDiagnostics
from mfpde.limit.fem.elements import tabulate
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.limit.state import State
from mfpde.problem.family import Family
from mfpde.problem.laws import Law, Normal
from mfpde.problem.models.low_dimensional import bilinear_head, linear_head
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

LAYERS, STEP = 3, 0.7
X, Y = np.array([0.8, -0.5, 1.3, 0.4]), np.array([1.9, 0.6, 2.2, 1.1])
Exact = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Answer:
    """What is known at the horizon: per layer mean (L, d), covariance (L, d, d) and density; and the risk."""

    mean: np.ndarray
    covariance: np.ndarray
    density: list[Exact]
    risk: float


@dataclass(frozen=True)
class Clock:
    """λ, and the τ at which the answer is asked for."""

    decay: float = 0.4
    horizon: float = 1.2

    @property
    def growth(self) -> float:
        """e^{λτ}."""
        return float(np.exp(self.decay * self.horizon))


SHORT = Clock()


@dataclass
class Case:
    """A model with its exact solution, started from given means (L, d) and covariances (L, d, d)."""

    family: Family
    clock: Clock
    task: Task
    answer: Callable[[np.ndarray, np.ndarray], Answer]
    temperature: float = 0.0

    def model(self) -> Transformer:
        return Transformer([[self.family]], LAYERS, lambda tokens: tokens[-1], step=STEP)


def task(channels: int, far: float = 1.0) -> Task:
    """Four samples of one token, all channels alike up to sign; targets `far` times as large."""
    signs = np.array([1.0, -1.0, 0.5])[:channels]
    return Task((X[:, None] * signs)[:, None, :], far * Y[:, None] * signs)


def layered(centres: np.ndarray, widths: np.ndarray, kind: type[Law] = Normal) -> Callable[[int], Law]:
    """A law per layer from centres and widths (L, d)."""
    laws = [kind(c.tolist(), w.tolist()) for c, w in zip(centres, widths, strict=True)]
    return laws.__getitem__


def shrunk(law: Law, clock: Clock, end: np.ndarray, start: np.ndarray) -> Exact:
    """The law contracted by e^{λτ} around `start`, which has moved to `end`; both (d,)."""
    return lambda theta: clock.growth**law.dim * law.density(clock.growth * (theta - end) + start)


def decay(dim: int, kind: type[Law] = Normal, clock: Clock = SHORT) -> Case:
    """f = 0: ρ(θ, τ) = e^{dλτ} ρ₀(e^{λτ} θ)."""
    centres = 0.3 * np.cos(np.arange(LAYERS * dim)).reshape(LAYERS, dim)
    law = layered(centres, np.linspace(0.3, 0.4, LAYERS * dim).reshape(LAYERS, dim), kind)
    family = Family("decay", dim, lambda tokens, theta: 0.0 * jnp.sum(theta) * tokens, law)

    def answer(mean: np.ndarray, covariance: np.ndarray) -> Answer:
        densities = [shrunk(law(i), clock, np.zeros(dim), np.zeros(dim)) for i in range(LAYERS)]
        risk = 0.5 * np.mean((task(1).tokens[:, 0] - task(1).targets) ** 2)
        return Answer(mean / clock.growth, covariance / clock.growth**2, densities, float(risk))

    return Case(family, clock, task(1), answer)


def ornstein_uhlenbeck(dim: int, temperature: float, clock: Clock = SHORT) -> Case:
    """f = 0 with diffusion: a Gaussian of mean e^{−λτ} m₀ and covariance e^{−2λτ} Σ₀ + (1 − e^{−2λτ}) β⁻¹/λ I."""
    still = decay(dim, clock=clock)
    laws = [still.family.law(i) for i in range(LAYERS)]
    share = clock.growth**-2

    def answer(mean: np.ndarray, covariance: np.ndarray) -> Answer:
        noise = (1.0 - share) * temperature / clock.decay * np.eye(dim)
        ends = [
            (np.asarray(law.mean) / clock.growth, share * np.diag(np.asarray(law.std) ** 2) + noise) for law in laws
        ]
        densities = [lambda t, m=m, s=s: gaussian(t, m, s) for m, s in ends]
        risk = 0.5 * np.mean((task(1).tokens[:, 0] - task(1).targets) ** 2)
        return Answer(mean / clock.growth, share * covariance + noise, densities, float(risk))

    return Case(still.family, clock, still.task, answer, temperature)


def linear(dim: int, clock: Clock = SHORT, far: float = 1.0) -> Case:
    """f = θ: a linear equation for the layers' means, and shapes that contract as e^{−λτ}.

    `far` is by how much the targets lie farther off, and so the means move more.
    """
    centres = 0.4 * np.sin(1.0 + np.arange(LAYERS * dim)).reshape(LAYERS, dim)
    law = layered(centres, np.linspace(0.3, 0.4, LAYERS * dim).reshape(LAYERS, dim))
    data = task(dim, far)

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        mean = flat.reshape(LAYERS, dim)
        output = data.tokens[:, 0] + STEP / LAYERS * mean.sum(axis=0)
        return (-STEP * (output - data.targets).mean(axis=0) - clock.decay * mean).ravel()

    def answer(mean: np.ndarray, covariance: np.ndarray) -> Answer:
        end = integrate(slope, clock, mean.ravel()).reshape(LAYERS, dim)
        real = integrate(slope, clock, centres.ravel()).reshape(LAYERS, dim)  # of the law itself, for the density
        densities = [shrunk(law(i), clock, real[i], centres[i]) for i in range(LAYERS)]
        output = data.tokens[:, 0] + STEP / LAYERS * end.sum(axis=0)
        risk = 0.5 * ((output - data.targets) ** 2).sum(axis=1).mean()
        return Answer(end, covariance / clock.growth**2, densities, float(risk))

    return Case(linear_head("linear", dim, law), clock, data, answer)


def bilinear(clock: Clock = SHORT) -> Case:
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
        b = -(c[:, None, None] * swap + clock.decay * np.eye(2))
        moved = b @ cov
        return np.concatenate([(b @ mean[..., None]).ravel(), (moved + np.swapaxes(moved, 1, 2)).ravel()])

    def answer(mean: np.ndarray, covariance: np.ndarray) -> Answer:
        def end_of(m: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            flat = integrate(slope, clock, np.concatenate([m.ravel(), s.ravel()]))
            return flat[: 2 * LAYERS].reshape(LAYERS, 2), flat[2 * LAYERS :].reshape(LAYERS, 2, 2)

        end, cov = end_of(mean, covariance)
        stds = np.stack([np.asarray(law(i).std) for i in range(LAYERS)])
        real, real_cov = end_of(centres, stds[:, :, None] ** 2 * np.eye(2))
        densities = [lambda t, m=real[i], s=real_cov[i]: gaussian(t, m, s) for i in range(LAYERS)]
        stream, _ = output(cov[:, 0, 1] + end[:, 0] * end[:, 1])
        return Answer(end, cov, densities, float(0.5 * np.mean((stream[-1] - Y) ** 2)))

    return Case(bilinear_head("bilinear", law), clock, task(1), answer)


def gaussian(theta: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """The normal density at (..., d)."""
    x = theta - mean
    square = np.einsum("...i,ij,...j->...", x, np.linalg.inv(covariance), x)
    return np.exp(-0.5 * square) / np.sqrt(np.linalg.det(2 * np.pi * covariance))


def integrate(slope: Callable[[float, np.ndarray], np.ndarray], clock: Clock, start: np.ndarray) -> np.ndarray:
    """The solution of an ordinary differential equation at the horizon, to 1e-13."""
    return solve_ivp(slope, (0.0, clock.horizon), start, method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]


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
        group, frame = self.solver.flow.discretisations[0], self.end.parts[0].frame
        space = group.space
        fine = tabulate(space.cell, space.degree, 1, 2 * space.degree + 4)
        theta, measure = frame.theta(space.points(fine.vertex)), fine.weights * space.scale_at(fine.points)
        wrong = norm = 0.0
        for b, exact in enumerate(self.answer.density):
            truth = exact(theta[..., b])
            got = np.einsum("qi,ci->cq", fine.density, self.end.parts[0].density[..., b]) / frame.determinant[b]
            wrong += frame.determinant[b] * (measure * (got - truth) ** 2).sum()
            norm += frame.determinant[b] * (measure * truth**2).sum()
        return float(np.sqrt(wrong / norm))


def run(case: Case, density: Density, time: Time) -> Run:
    """Solve a case to the horizon."""
    model = case.model()
    settings = Training(case.clock.decay, case.clock.horizon, case.temperature)
    problem = Problem(model, case.task, settings, {case.family.name: density}, time)
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        diagnostics = []
        for _ in range(2):
            state = solver.stepper.state
            potential = solver.flow.potential(state)
            diagnostics.append(solver.flow.discretisations[0].diagnose(state.parts[0], potential.values[0]))
            if state.tau == 0.0:
                assert solver.stepper.advance(case.clock.horizon)
        start, stop = diagnostics
        answer = case.answer(start.mean, start.covariance)
        return Run(solver, state, start, stop, potential.outcome.risk, answer)
    finally:
        solver.close()
