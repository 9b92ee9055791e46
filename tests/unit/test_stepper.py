"""The time step on equations that need no mesh: orders, the error estimate, rejected steps, and the stable step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from scipy.integrate import solve_ivp

from mfpde.config.settings import Time
from mfpde.errors import ComputationError
from mfpde.limit.backprop import Outcome
from mfpde.limit.fem import mesh as meshes
from mfpde.limit.fem.frame import Frame, Motion
from mfpde.limit.fem.space import build_space
from mfpde.limit.gradient_flow import Rate
from mfpde.limit.state import FemPart, State
from mfpde.limit.timestepping.runge_kutta import stable_step
from mfpde.limit.timestepping.stepper import Stepper
from mfpde.limit.transport.transport import Transport

HORIZON = 1.0
START = np.array([1.0, 0.4, 0.3, 0.8])  # density u, v; centre; matrix


def slope(y: np.ndarray, stiffness: float = 1.0) -> np.ndarray:
    """A nonlinear equation in which density and frame (c, A) drive each other."""
    u, v, centre, matrix = y
    return np.array([
        -stiffness * u * v + centre,
        stiffness * (u * u - v) * matrix,
        np.cos(u) - matrix * v,
        0.5 * u - matrix * centre,
    ])  # fmt: skip


@dataclass
class Toy:
    """One cell of two unknowns and one block; keeps every difference whose size is asked for."""

    stiffness: float = 1.0
    degree: int = 0
    tabulated: bool = False
    longest: float = np.inf  # of a step, from `now` on
    spoilt_from: float = np.inf
    now: float = 0.0
    remedy: str = "a remedy"
    asked: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def regrid(self, state: State) -> State:
        return state

    def limited(self, state: State) -> State:
        return state

    def rate(self, state: State) -> Rate:
        if state.tau > self.now + self.longest or state.tau > self.spoilt_from:
            raise ComputationError(f"not finite at tau = {state.tau:.6g}")
        there = slope(flat(state), self.stiffness)
        return Rate(
            (FemPart(there[:2].reshape(1, 2, 1), Frame(there[2].reshape(1, 1), there[3].reshape(1, 1, 1))),),
            0.0,
            Outcome(0.0, 0.0, (), None),
        )

    def error(self, state: State, rate: Rate, difference: State) -> float:
        assert np.array_equal(flat(State(0.0, rate.parts)), slope(flat(state), self.stiffness))
        self.asked.append((flat(state), flat(difference)))
        return float(np.abs(flat(difference)).max())


def flat(state: State) -> np.ndarray:
    """(u, v, c, A)."""
    frame = state.parts[0].frame
    return np.concatenate([state.parts[0].density.ravel(), frame.centre.ravel(), frame.matrix.ravel()])


def stepper(toy: Toy, time: Time) -> Stepper:
    frame = Frame(START[2].reshape(1, 1), START[3].reshape(1, 1, 1))
    return Stepper(MPI.COMM_SELF, toy, State(0.0, (FemPart(START[:2].reshape(1, 2, 1), frame),)), time, HORIZON)


def solved(toy: Toy, time: Time) -> tuple[np.ndarray, list[Any]]:
    """The end of a march, and its trial steps."""
    march = stepper(toy, time)
    try:
        assert march.advance(HORIZON)
        return flat(march.state), list(march.history)
    finally:
        march.close()


def one_step(y: np.ndarray, h: float, stiffness: float) -> tuple[np.ndarray, np.ndarray]:
    """The step of order 3 and the one of order 2, from the method's Butcher tableau."""
    a = np.array([[0, 0, 0, 0], [1 / 2, 0, 0, 0], [1 / 2, 1 / 2, 0, 0], [1 / 6, 1 / 6, 1 / 6, 0]])
    k: list[np.ndarray] = []
    for row in a:
        k.append(slope(y + h * sum((w * s for w, s in zip(row, k, strict=False)), np.zeros(4)), stiffness))
    third, second = ([1 / 6, 1 / 6, 1 / 6, 1 / 2], [1 / 4] * 4)
    return tuple(y + h * sum(w * s for w, s in zip(weights, k, strict=True)) for weights in (third, second))


def test_order_three_with_a_frame_that_moves() -> None:
    """Density and frame after fixed steps: slope 3."""
    exact = solve_ivp(lambda _, y: slope(y), (0.0, HORIZON), START, method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1]
    errors = [np.abs(solved(Toy(), Time(step=HORIZON / n))[0] - exact) for n in (20, 40)]
    orders = np.log2(errors[0] / errors[1])
    assert ((orders > 2.8) & (orders < 3.2)).all(), orders


def test_the_estimate_is_the_distance_of_the_pair() -> None:
    """u⁺ − û⁺ of the pair, and of order 3 in Δ."""
    sizes = []
    for h in (0.1, 0.05):
        toy = Toy()
        march = stepper(toy, Time(tolerance=1.0))
        try:
            assert march.advance(h)
            end = flat(march.state)
        finally:
            march.close()
        (state, difference), *more = toy.asked
        third, second = one_step(START, h, 1.0)
        assert not more
        assert np.array_equal(state, START)
        assert np.abs(end - third).max() < 1e-15
        assert np.abs(difference - (third - second)).max() < 1e-15
        sizes.append(np.abs(difference).max())
    assert 2.8 < np.log2(sizes[0] / sizes[1]) < 3.2


def test_what_is_above_the_tolerance_is_tried_again_from_the_same_state() -> None:
    """Accepted are the steps below the tolerance and no others; the end is that of the accepted steps alone."""
    excess = []
    for tolerance in np.geomspace(1e-3, 1e-6, 7):
        toy = Toy(stiffness=8.0)
        end, history = solved(toy, Time(tolerance=float(tolerance)))
        assert [s.accepted for s in history] == [s.error <= tolerance for s in history]
        excess += [s.error / tolerance for s in history if not s.accepted]
        y, tau = START, 0.0
        for trial, (state, _) in zip(history, toy.asked, strict=True):
            assert trial.tau == pytest.approx(tau, abs=1e-14)
            assert np.abs(state - y).max() < 1e-13
            if trial.accepted:
                y, tau = one_step(y, trial.step, toy.stiffness)[0], tau + trial.step
        assert np.abs(end - y).max() < 1e-13
        assert tau == pytest.approx(HORIZON)
    assert min(excess) < 2.0  # some were nearly good enough


def test_a_trial_without_numbers_is_halved_and_the_run_goes_on() -> None:
    """It stands in the history with an infinite error; the end is that of the accepted steps alone."""
    toy = Toy(longest=0.02)
    march = stepper(toy, Time(tolerance=1e-3))
    march.watch = lambda tau: setattr(toy, "now", tau)
    try:
        assert march.advance(HORIZON)
        end, history = flat(march.state), march.history
    finally:
        march.close()
    failed = [number for number, step in enumerate(history) if np.isinf(step.error)]
    assert len(failed) > 5
    for number in failed:
        trial, after = history[number], history[number + 1]
        assert not trial.accepted
        assert trial.step > 0.02
        assert (after.tau, after.step) == (trial.tau, pytest.approx(0.5 * trial.step, rel=0.1))
    y = START
    for step in history:
        y = one_step(y, step.step, toy.stiffness)[0] if step.accepted else y
    assert np.abs(end - y).max() < 1e-13


def test_steps_that_never_succeed_end_the_march_with_their_cause() -> None:
    toy = Toy(spoilt_from=0.5)
    march = stepper(toy, Time(tolerance=1e-4))
    try:
        message = r"the step collapsed to \S+ at tau = 0\.5; longer ones end with: not finite at tau = 0\.5; a remedy$"
        with pytest.raises(ComputationError, match=message):
            march.advance(HORIZON)
        assert 0.499 < march.good.tau <= 0.5
    finally:
        march.close()
    fixed = stepper(Toy(spoilt_from=0.5), Time(step=0.2))  # which cannot be halved
    try:
        with pytest.raises(ComputationError, match=r"^not finite at tau = 0\.[56]$"):
            fixed.advance(HORIZON)
    finally:
        fixed.close()


def test_the_error_of_an_adaptive_march_follows_its_tolerance() -> None:
    """Error and estimate are both of order Δ³: a tolerance a hundred times smaller, an error as much smaller."""
    exact = solve_ivp(lambda _, y: slope(y), (0.0, HORIZON), START, method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1]
    errors = [np.abs(solved(Toy(), Time(tolerance=tol))[0] - exact).max() for tol in (1e-5, 1e-7)]
    assert 0.7 < np.log(errors[0] / errors[1]) / np.log(100.0) < 1.3


def test_a_last_step_is_not_short_of_its_target_by_rounding() -> None:
    """τ + (target − τ) may round to below the target: PETSc would go on by one digit, and the next step follow it."""
    tau, target = 1.9528355064802665 / 8, 6.6000000000000005 / 8
    assert tau + (target - tau) < target
    march = stepper(Toy(), Time(tolerance=1.0))
    try:
        for number, goal in enumerate((tau, target, HORIZON), start=1):
            assert march.advance(goal)
            assert march.state.tau == goal
            assert len(march.history) == number
    finally:
        march.close()


def test_a_target_within_rounding_is_here_already() -> None:
    """A horizon and a multiple of `every` may be one τ and two numbers."""
    march = stepper(Toy(), Time(tolerance=1.0))
    try:
        for goal in (0.3, 3 * 0.1, 0.3):
            assert march.advance(goal)
            assert march.state.tau == goal
        assert len(march.history) == 1
        march.forget()
        assert march.advance(HORIZON)
        assert [trial.bound for trial in march.history] == ["report"]
    finally:
        march.close()


def growth(degree: int, number: float) -> float:
    """Largest growth of any Fourier mode in one step with u Δ/h = number: upwind DG_p on a uniform grid."""
    nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
    factor = np.sqrt(2.0 * np.arange(degree + 1) + 1.0)  # orthonormal on cells of length 1
    values = np.polynomial.legendre.legvander(nodes, degree) * factor
    slopes = np.stack(
        [np.polynomial.legendre.Legendre.basis(i).deriv()(nodes) for i in range(degree + 1)], axis=1
    ) * (2.0 * factor)  # fmt: skip
    right, left = factor, factor * (-1.0) ** np.arange(degree + 1)
    inside = np.einsum("q,qi,qj->ij", weights / 2.0, slopes, values) - np.outer(right, right)
    largest = 0.0
    for k in np.linspace(0.0, np.pi, 400):
        z = number * np.linalg.eigvals(inside + np.exp(-1j * k) * np.outer(left, right))
        largest = max(largest, np.abs(1.0 + z + z**2 / 2.0 + z**3 / 6.0 + z**4 / 48.0).max())
    return largest


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_stable_step_is_nine_tenths_of_the_largest(degree: int) -> None:
    """All modes are damped at stable_step / 0.9, to the three digits of its constants, and one grows a little above."""
    largest = stable_step(degree, 2.0) / 0.9  # u = h = 1
    assert growth(degree, 0.995 * largest) < 1.0 + 1e-9
    assert growth(degree, 1.005 * largest) > 1.0 + 1e-6


@pytest.mark.parametrize(("dim", "simplex"), [(1, False), (2, False), (2, True)])
def test_the_speed_is_that_of_a_uniform_flow(dim: int, simplex: bool) -> None:
    """Σ_facets ∮a / |K| = 2 Σ_k |u_k| / h in a box with all its neighbours, and more by the diagonal in half of it."""
    space = build_space(MPI.COMM_SELF, meshes.box(MPI.COMM_SELF, dim, 5, simplex), 1, 1)
    flow = np.array([[0.7, -0.3], [-1.1, 0.4]])[:, :dim]  # (b, d)
    still = Motion(np.zeros((2, dim, dim)), -flow, np.zeros((2, dim, dim)))
    transport = Transport(space, 2)
    _, speed = transport.rate(np.ones((space.owned, space.size, 2)), np.zeros((*space.nodes.shape[:2], 2)), still)
    crossed = np.abs(flow).sum(axis=1) + (np.abs(flow[:, 0] - flow[:, 1]) if simplex else 0.0)
    assert np.abs(speed / (2.0 * crossed / 0.4) - 1.0).max() < 1e-12
