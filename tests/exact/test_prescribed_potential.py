"""Transport by a prescribed potential, against characteristics: the orders of docs/equations.md.

θ' = −∇V(θ) and d/dτ log ρ = ΔV along it, so that ρ(θ, τ) = ρ₀(θ₀) exp ∫ΔV for the θ₀ that arrives at θ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from mpi4py import MPI
from scipy.integrate import solve_ivp

from mfpde.config.settings import Time
from mfpde.limit.backprop import Outcome
from mfpde.limit.discretisation import limited
from mfpde.limit.fem import mesh as meshes
from mfpde.limit.fem.elements import tabulate
from mfpde.limit.fem.finite_elements import FiniteElements
from mfpde.limit.fem.frame import Frame, at_rest, box_frame
from mfpde.limit.fem.projection import InitialLaws
from mfpde.limit.fem.space import build_space
from mfpde.limit.gradient_flow import Rate
from mfpde.limit.positivity.limiter import build_limiter
from mfpde.limit.state import FemPart, State
from mfpde.limit.timestepping.stepper import Stepper
from mfpde.limit.transport.transport import Transport

HORIZON = 0.4
CENTRES = np.array([[0.3, -0.2], [-0.4, 0.1]])  # two blocks, nonzero means
WIDTHS = np.array([0.4, 0.32])


@dataclass(frozen=True)
class Landscape:
    """V with its gradient and Laplacian; arguments (..., 2). What the box cuts off stays below the errors measured."""

    value: Callable[[np.ndarray], np.ndarray]
    gradient: Callable[[np.ndarray], np.ndarray]
    laplacian: Callable[[np.ndarray], np.ndarray]
    radius: float


QUADRATIC = Landscape(
    lambda x: 0.4 * x[..., 0] ** 2 + 0.3 * x[..., 0] * x[..., 1] - 0.2 * x[..., 1] ** 2,
    lambda x: np.stack([0.8 * x[..., 0] + 0.3 * x[..., 1], 0.3 * x[..., 0] - 0.4 * x[..., 1]], axis=-1),
    lambda x: np.full(x.shape[:-1], 0.4),
    radius=2.8,
)
TANH = Landscape(  # not quadratic: w₂ tanh w₁
    lambda x: x[..., 1] * np.tanh(x[..., 0]),
    lambda x: np.stack([x[..., 1] / np.cosh(x[..., 0]) ** 2, np.tanh(x[..., 0])], axis=-1),
    lambda x: -2.0 * x[..., 1] * np.tanh(x[..., 0]) / np.cosh(x[..., 0]) ** 2,
    radius=2.4,
)


@dataclass
class Prescribed:
    """A flow whose potential is given."""

    elements: FiniteElements
    potential: np.ndarray
    tabulated: bool = False

    @property
    def degree(self) -> int:
        return self.elements.degree

    def regrid(self, state: State) -> State:
        return state

    def limited(self, state: State) -> State:
        return limited((self.elements,), state)

    def rate(self, state: State) -> Rate:
        frame = state.parts[0].frame
        rate, speed = self.elements.transport.rate(state.parts[0].density, self.potential, at_rest(frame))
        still = Frame(np.zeros_like(frame.centre), np.zeros_like(frame.matrix))
        return Rate((FemPart(rate, still),), float(speed.max()), Outcome(0.0, 0.0, (), None))

    def error(self, state: State, rate: Rate, difference: State) -> float:  # the step is fixed
        raise NotImplementedError


def initial(theta: np.ndarray, block: int) -> np.ndarray:
    """A normal density, (..., 2) -> (...)."""
    square = ((theta - CENTRES[block]) ** 2).sum(axis=-1) / (2 * WIDTHS[block] ** 2)
    return np.exp(-square) / (2 * np.pi * WIDTHS[block] ** 2)


def exact(theta: np.ndarray, block: int, landscape: Landscape) -> np.ndarray:
    """ρ(θ, HORIZON) by integrating the characteristics backwards; (n, 2) -> (n,)."""
    n = len(theta)

    def backwards(_: float, y: np.ndarray) -> np.ndarray:
        x = y[: 2 * n].reshape(n, 2)
        return np.concatenate([landscape.gradient(x).ravel(), landscape.laplacian(x)])

    start = np.concatenate([theta.ravel(), np.zeros(n)])
    end = solve_ivp(backwards, (0.0, HORIZON), start, method="DOP853", rtol=1e-9, atol=1e-11).y[:, -1]
    return initial(end[: 2 * n].reshape(n, 2), block) * np.exp(end[2 * n :])


def error(
    cells: int, degree: int, potential_degree: int, simplex: bool, landscape: Landscape, positive: bool = False
) -> float:
    """Relative L² error over both blocks at the horizon; `positive`: of the scheme that keeps the density so."""
    space = build_space(MPI.COMM_SELF, meshes.box(MPI.COMM_SELF, 2, cells, simplex), degree, potential_degree)
    limiter = build_limiter(space) if positive else None
    elements = FiniteElements(space, Transport(space, 2), (0,), (), InitialLaws((), (), 2, 1.0), limiter=limiter)
    frame: Frame = box_frame(CENTRES, np.full((2, 2), landscape.radius))
    fine = tabulate(space.cell, degree, 1, 2 * degree + 4)
    theta = frame.theta(space.points(fine.vertex))  # (c, q, 2, b)
    measure = fine.weights * space.scale_at(fine.points)
    density = np.empty((space.owned, space.size, 2))
    for b in range(2):
        values = frame.determinant[b] * initial(theta[..., b], b)
        load = np.einsum("cq,qi,cq->ci", measure, fine.density, values)
        density[..., b] = space.invert_mass(load[..., None])[..., 0]
    nodes = np.moveaxis(frame.theta(space.nodes), 3, 0)  # (b, c, j, 2)
    flow = Prescribed(elements, np.moveaxis(landscape.value(nodes), 0, 2).copy())
    stepper = Stepper(MPI.COMM_SELF, flow, State(0.0, (FemPart(density, frame),)), Time(step=HORIZON / 120), HORIZON)
    assert stepper.advance(HORIZON)
    end = stepper.state.parts[0].density
    stepper.close()
    wrong = norm = 0.0
    for b in range(2):
        truth = exact(theta[..., b].reshape(-1, 2), b, landscape).reshape(measure.shape)
        got = np.einsum("qi,ci->cq", fine.density, end[..., b]) / frame.determinant[b]
        wrong += (measure * (got - truth) ** 2).sum()
        norm += (measure * truth**2).sum()
    return float(np.sqrt(wrong / norm))


def slope(degree: int, potential_degree: int, simplex: bool, landscape: Landscape, positive: bool = False) -> float:
    """Order between two meshes; the time error is far below at this fixed step."""
    coarse, fine = {1: (16, 32), 2: (12, 24), 3: (16, 24)}[degree]  # the slope has settled
    errors = [error(n, degree, potential_degree, simplex, landscape, positive) for n in (coarse, fine)]
    return float(np.log(errors[0] / errors[1]) / np.log(fine / coarse))


QUADRATICS = [
    (1, 0, False, QUADRATIC, 1.0), (2, 0, False, QUADRATIC, 3.0), (3, 0, False, QUADRATIC, 4.0),
    (1, 1, False, QUADRATIC, 2.0), (2, 1, False, QUADRATIC, 3.0), (3, 1, False, QUADRATIC, 4.0),
    (2, 0, True, QUADRATIC, 3.0), (3, 0, True, QUADRATIC, 4.0), (2, 1, True, QUADRATIC, 3.0),
    (3, 1, True, QUADRATIC, 4.0),
]  # fmt: skip
TANHS = [
    (1, 0, False, TANH, 1.0), (2, 0, False, TANH, 2.0), (3, 0, False, TANH, 3.0),
    (1, 1, False, TANH, 2.0), (2, 1, False, TANH, 3.0), (3, 1, False, TANH, 4.0),
    (2, 0, True, TANH, 1.5), (3, 0, True, TANH, 2.5), (2, 1, True, TANH, 3.0), (3, 1, True, TANH, 4.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("degree", "extra", "simplex", "landscape", "order"),
    [
        *TANHS,  # with the quadratic, ∇V_h is exact: what is new is the order with k = p = 2
        *(pytest.param(*q, marks=() if q[:2] == (2, 0) else pytest.mark.slow) for q in QUADRATICS),
    ],
)
def test_order(degree: int, extra: int, simplex: bool, landscape: Landscape, order: float) -> None:
    """Order p + 1 where ∇V_h is exact or k = p + 1; about p (quadrilaterals) and p − ½ (triangles) with k = p."""
    assert slope(degree, degree + extra, simplex, landscape) >= order - 0.4
