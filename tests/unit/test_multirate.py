"""Steps of the potential with steps of the transport inside: extrapolation, orders, the estimate, and what fails."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from mpi4py import MPI
from scipy.integrate import quad, solve_ivp

from mfpde.config.settings import Time
from mfpde.errors import ComputationError
from mfpde.limit.backprop import Outcome
from mfpde.limit.fem.frame import Frame
from mfpde.limit.gradient_flow import Potential, Rate
from mfpde.limit.state import FemPart, State
from mfpde.limit.timestepping.direct_steps import DirectSteps
from mfpde.limit.timestepping.extrapolation import Extrapolation
from mfpde.limit.timestepping.multirate import MultirateStepper
from mfpde.parallel.exact_sum import Share, share_of

START = np.array([1.0, 0.4, 0.3, 0.8])  # density u, v; centre; matrix
HORIZON = 2.0


def potential(y: np.ndarray, stiffness: float = 0.0) -> np.ndarray:
    """What changes slowly: g(y), two numbers; unless it drives u back to 1 at once."""
    return np.array([np.cos(y[0]) + 0.3 * y[2] - stiffness * (y[0] - 1.0), y[1] * y[3]])


def slope(y: np.ndarray, g: np.ndarray) -> np.ndarray:
    """f(y, g)."""
    u, v, centre, matrix = y
    return np.array([-u * v + g[0], (u * u - v) * matrix, g[0] - matrix * v, 0.5 * g[1] - matrix * centre])


def exact(tau: float) -> np.ndarray:
    def right(_: float, y: np.ndarray) -> np.ndarray:
        return slope(y, potential(y))

    return solve_ivp(right, (0.0, tau), START, method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1]


@dataclass
class Toy:
    """One cell of two unknowns and one block; a transport speed; counts its sweeps."""

    remedy: ClassVar[str] = "more cells"
    tabulated: ClassVar[bool] = False
    speed: float = 0.0
    spoilt_from: float = np.inf
    longest: float = np.inf  # of a step, from `now` on
    now: float = 0.0
    stiffness: float = 0.0
    degree: int = 2
    sweeps: int = 0
    transports: int = 0
    asked: list[float] = field(default_factory=list)

    def moments(self, _state: State) -> tuple[None, list[Share], None]:
        return None, [share_of(np.zeros((1, 2)))], None

    def potential(self, state: State) -> Potential:
        self.sweeps += 1
        if state.tau > self.spoilt_from or state.tau > self.now + self.longest:
            raise ComputationError(f"not finite at tau = {state.tau:.6g}")
        return Potential((), Outcome(1.0, 0.0, (), (potential(flat(state), self.stiffness)[None],)), 0.0)

    def regrid(self, state: State) -> State:
        return state

    def limited(self, state: State) -> State:
        return state

    def rate(self, state: State) -> Rate:
        return self.transport(state, self.potential(state))

    def transport(self, state: State, known: Potential) -> Rate:
        return self.driven(state, known.outcome)

    def driven(self, state: State, outcome: Outcome) -> Rate:
        self.transports += 1
        assert outcome.gradient is not None
        there = slope(flat(state), outcome.gradient[0][0])
        frame = Frame(there[2].reshape(1, 1), there[3].reshape(1, 1, 1))
        return Rate((FemPart(there[:2].reshape(1, 2, 1), frame),), self.speed, outcome)

    def error(self, _state: State, _rate: Rate, difference: State) -> float:
        self.asked.append(float(np.abs(flat(difference)).max()))
        return self.asked[-1]


def flat(state: State) -> np.ndarray:
    """(u, v, c, A)."""
    frame = state.parts[0].frame
    return np.concatenate([state.parts[0].density.ravel(), frame.centre.ravel(), frame.matrix.ravel()])


def march(toy: Toy, time: Time, tau: float = HORIZON) -> tuple[np.ndarray, list[Any]]:
    """The state at τ, and the trial steps that led there."""
    frame = Frame(START[2].reshape(1, 1), START[3].reshape(1, 1, 1))
    start = State(0.0, (FemPart(START[:2].reshape(1, 2, 1), frame),))
    stepper = MultirateStepper(MPI.COMM_SELF, toy, start, time, HORIZON)
    try:
        assert stepper.advance(tau)
        return flat(stepper.state), list(stepper.history)
    finally:
        stepper.close()


def halves(toy: Toy, time: Time, *, anew: bool) -> np.ndarray:
    """The state at the horizon by way of half of it, where another stepper goes on from what the first one saved."""
    frame = Frame(START[2].reshape(1, 1), START[3].reshape(1, 1, 1))
    stepper = MultirateStepper(
        MPI.COMM_SELF, toy, State(0.0, (FemPart(START[:2].reshape(1, 2, 1), frame),)), time, HORIZON
    )
    try:
        assert stepper.advance(0.5 * HORIZON)
        if anew:
            saved, state = copy.deepcopy((stepper.state_dict(), stepper.state))
            stepper.close()
            stepper = MultirateStepper(MPI.COMM_SELF, toy, state, time, HORIZON)
            stepper.load_state_dict(saved, state)
        assert stepper.advance(HORIZON)
        return flat(stepper.state)
    finally:
        stepper.close()


def known(times: tuple[float, ...], function: Any) -> Extrapolation:
    extrapolation = Extrapolation()
    for tau in times:
        extrapolation = extrapolation.extended(tau, [np.array([[function(tau)]])])
    return extrapolation


def test_the_extrapolation_of_a_parabola_is_exact_and_its_error_for_a_cubic_is_known() -> None:
    """Unequal times, older ones forgotten; ∫(g − ĝ) over the step is (g − ĝ)(τ₊) · missed · Δ for a cubic."""
    times, end = (0.0, 0.3, 0.7, 0.9, 1.6), 2.5
    parabola = known(times, lambda t: 3.0 - 2.0 * t + 0.7 * t * t)
    assert parabola.times == times[-3:]
    assert parabola.at(end)[0][0, 0] == pytest.approx(3.0 - 5.0 + 0.7 * 6.25, rel=1e-13)
    cubic = known(times, lambda t: t**3)

    def wrong(tau: float) -> float:
        return tau**3 - float(cubic.at(tau)[0][0, 0])

    share = quad(wrong, times[-1], end)[0] / (wrong(end) * (end - times[-1]))
    assert cubic.missed(end) == pytest.approx(share, rel=1e-12)
    assert known((0.0, 1.0, 2.0), abs).missed(3.0) == pytest.approx(3.0 / 8.0, rel=1e-13)


@pytest.mark.parametrize(("speed", "least", "most"), [(0.0, 2.7, 3.5), (2000.0, 3.6, 4.6)])
def test_orders_in_steps_of_the_potential(speed: float, least: float, most: float) -> None:
    """Order 3, the pair's, where a step is one of the transport too; 4, the corrected parabola's, if not."""
    errors = [march(Toy(speed), Time(step=HORIZON / n))[0] - exact(HORIZON) for n in (50, 100)]
    sizes = [np.abs(error[:2]).max() for error in errors], [np.abs(error[2:]).max() for error in errors]
    orders = [np.log2(coarse / fine) for coarse, fine in sizes]
    assert all(least < order < most for order in orders), orders


def test_the_estimate_is_the_error_before_the_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small steps of the transport, so that extrapolation alone is wrong; the correction takes that away."""
    step = 0.05

    def one_step() -> tuple[float, float]:
        toy = Toy(speed=400.0)
        frame = Frame(START[2].reshape(1, 1), START[3].reshape(1, 1, 1))
        begin = State(0.0, (FemPart(START[:2].reshape(1, 2, 1), frame),))
        stepper = MultirateStepper(MPI.COMM_SELF, toy, begin, Time(tolerance=1.0), HORIZON)
        for i in (2, 1, 0):  # values that are exact, so that only this step is wrong
            stepper._extrapolation = stepper._extrapolation.extended(-i * step, [potential(backwards(i * step))[None]])
        stepper._trial.proposed = step
        assert stepper.advance(step)
        error = np.abs(flat(stepper.state) - exact(step)).max()
        stepper.close()
        (asked,) = toy.asked
        return asked, error

    asked, error = one_step()
    monkeypatch.setattr(Extrapolation, "missed", lambda *_: 0.0)
    _, before = one_step()
    assert asked == pytest.approx(before, rel=0.1)
    assert error < 0.1 * before


def backwards(tau: float) -> np.ndarray:
    def right(_: float, y: np.ndarray) -> np.ndarray:
        return -slope(y, potential(y))

    return (
        START if tau == 0.0 else solve_ivp(right, (0.0, tau), START, method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1]
    )


def test_one_sweep_a_step_whatever_the_speed() -> None:
    """The CFL bound multiplies the steps of the transport, not those of the potential."""
    counts = []
    for speed in (20.0, 400.0):
        toy = Toy(speed)
        end, history = march(toy, Time(tolerance=1e-5))
        assert np.abs(end - exact(HORIZON)).max() < 3e-4
        assert toy.sweeps == len(history) + 2 * 3 + 1  # two steps in the true potential; the third one's beginning
        assert [s.accepted for s in history] == [s.error <= 1e-5 for s in history]
        counts.append((len(history), toy.transports))
    assert counts[1][1] > 4 * counts[0][1]
    assert counts[1][0] < 2 * counts[0][0]


def test_what_is_saved_is_all_that_determines_the_steps_to_come() -> None:
    """Bit by bit, and without another pass."""
    straight, resumed = Toy(speed=200.0), Toy(speed=200.0)
    time = Time(tolerance=1e-5)
    assert np.array_equal(halves(straight, time, anew=False), halves(resumed, time, anew=True))
    assert resumed.sweeps == straight.sweeps


def test_direct_steps_where_the_potential_is_stiff() -> None:
    """Extrapolation is stable for short steps only; direct steps go as far as the CFL bound, and are left where not."""
    bound = 0.02754  # of speed 20: with 100 for the stiffness, steps are three quarters of what the pair bears
    stiff = Toy(speed=20.0, stiffness=100.0)
    end, history = march(stiff, Time(tolerance=1e-5))
    assert abs(end[0] - 1.0) < 0.002
    assert sum(step.bound == "cfl" for step in history) > 0.5 * HORIZON / bound
    assert stiff.sweeps < 1.2 * DirectSteps().cost * HORIZON / bound
    easy = Toy(speed=20.0)
    _, history = march(easy, Time(tolerance=1e-3))
    assert sum(step.bound == "cfl" for step in history) == 2  # the first ones


def test_the_error_of_a_march_follows_its_tolerance() -> None:
    errors = [np.abs(march(Toy(30.0), Time(tolerance=tol))[0] - exact(HORIZON)).max() for tol in (1e-4, 1e-6)]
    assert 0.6 < np.log(errors[0] / errors[1]) / np.log(100.0) < 1.4


def test_failing_extrapolation_is_abandoned_and_failing_numbers_end_the_march() -> None:
    """A step whose end cannot be computed is tried again in the true potential; if that fails too, the march does."""
    frame = Frame(START[2].reshape(1, 1), START[3].reshape(1, 1, 1))
    toy = Toy(speed=20.0, spoilt_from=1.0)
    start = State(0.0, (FemPart(START[:2].reshape(1, 2, 1), frame),))
    stepper = MultirateStepper(MPI.COMM_SELF, toy, start, Time(tolerance=1e-4), HORIZON)
    message = r"the step collapsed to \S+ at tau = 1; longer ones end with: not finite at tau = 1"
    with pytest.raises(ComputationError, match=message):
        stepper.advance(HORIZON)
    assert 0.9 < stepper.good.tau <= 1.0
    assert np.abs(flat(stepper.good) - exact(stepper.good.tau)).max() < 1e-3
    stepper.close()


def test_a_trial_without_numbers_is_halved_and_the_run_goes_on() -> None:
    """Extrapolated or direct; it stands in the history with an infinite error, and the end is as exact as without."""
    toy = Toy(speed=20.0, longest=0.015)
    frame = Frame(START[2].reshape(1, 1), START[3].reshape(1, 1, 1))
    start = State(0.0, (FemPart(START[:2].reshape(1, 2, 1), frame),))
    stepper = MultirateStepper(MPI.COMM_SELF, toy, start, Time(tolerance=1e-4), HORIZON)
    stepper.watch = lambda tau: setattr(toy, "now", tau)
    try:
        assert stepper.advance(HORIZON)
        end, history = flat(stepper.state), stepper.history
    finally:
        stepper.close()
    failed = [number for number, step in enumerate(history) if np.isinf(step.error)]
    assert len(failed) > 5
    for number in failed:
        trial, after = history[number], history[number + 1]
        assert not trial.accepted
        assert (after.tau, after.step) == (trial.tau, pytest.approx(0.5 * trial.step, rel=0.1))
    assert max(step.step for step in history if step.accepted) <= 0.015
    assert np.abs(end - exact(HORIZON)).max() < 3e-3
