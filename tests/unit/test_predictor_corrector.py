"""One pass a step: the pair that moves the nodes, predictors and correctors, orders, series, and trials that fail."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from mpi4py import MPI
from scipy.integrate import solve_ivp
from scipy.interpolate import KroghInterpolator

from mfpde.config.settings import Time
from mfpde.errors import ComputationError, InputError
from mfpde.limit.backprop import Outcome
from mfpde.limit.fem.frame import Frame
from mfpde.limit.gradient_flow import Rate
from mfpde.limit.state import FemPart, State
from mfpde.limit.timestepping import predictor_corrector
from mfpde.limit.timestepping.order_control import OrderControl, Plan
from mfpde.limit.timestepping.predictor_corrector import PredictorCorrectorStepper
from mfpde.limit.timestepping.runge_kutta import dormand_prince_step
from mfpde.limit.timestepping.state_vector import packed, vector_of
from mfpde.parallel.exact_sum import Share, share_of

START = np.array([1.0, 0.4, 0.3, 0.8])  # density u, v; centre; matrix
HORIZON = 2.0
Right = Callable[[np.ndarray], np.ndarray]


def potential(y: np.ndarray) -> np.ndarray:
    """What a pass gives: two numbers."""
    return np.array([np.cos(y[0]) + 0.3 * y[2], y[1] * y[3]])


def slope(y: np.ndarray, g: np.ndarray) -> np.ndarray:
    """How the nodes move in it."""
    u, v, centre, matrix = y
    return np.array([-u * v + g[0], (u * u - v) * matrix, g[0] - matrix * v, 0.5 * g[1] - matrix * centre])


def stiff_potential(y: np.ndarray) -> np.ndarray:
    """It drives u to 1 at once."""
    return np.array([-300.0 * (y[0] - 1.0 - 0.2 * np.sin(y[2])), y[1] * y[3]])


def stiff_slope(y: np.ndarray, g: np.ndarray) -> np.ndarray:
    u, v, centre, matrix = y
    return np.array([-u * v + g[0], u - v, 1.0 - 0.1 * centre, 0.5 * g[1] - matrix * u])


def integrated(right: Callable[[float, np.ndarray], np.ndarray], begin: float, end: float, y: np.ndarray) -> np.ndarray:
    return solve_ivp(right, (begin, end), y, method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1]


def exact(tau: float) -> np.ndarray:
    return integrated(lambda _, y: slope(y, potential(y)), 0.0, tau, START)


@dataclass
class Toy:
    """One cell of two unknowns and one block; its passes fail for steps above the longest, and for late times."""

    remedy: ClassVar[str] = "more cells"
    tabulated: ClassVar[bool] = False
    answer: Right = potential
    motion: Callable[[np.ndarray, np.ndarray], np.ndarray] = slope
    longest: float = np.inf
    spoilt_from: float = np.inf
    now: float = 0.0
    degree: int = 0
    passes: int = 0
    asked: list[np.ndarray] = field(default_factory=list)

    def moments(self, _state: State) -> tuple[None, list[Share], None]:
        return None, [share_of(np.zeros((1, 2)))], None

    def outcome(self, state: State) -> Outcome:
        self.passes += 1
        if state.tau > self.now + self.longest or state.tau > self.spoilt_from:
            raise ComputationError(f"not finite at tau = {state.tau:.6g}")
        return Outcome(1.0, 0.0, (), (self.answer(flat(state))[None],))

    def driven(self, state: State, outcome: Outcome) -> Rate:
        assert outcome.gradient is not None
        there = self.motion(flat(state), outcome.gradient[0][0])
        return Rate(state_of(0.0, there).parts, 0.0, outcome)

    def masses(self, _state: State) -> list[np.ndarray]:
        return [np.ones((1, 2))]

    def regrid(self, state: State) -> State:
        return state

    def limited(self, state: State) -> State:
        return state

    def covering(self, state: State, _ahead: State) -> State:
        return state

    def error(self, _state: State, _rate: Rate, difference: State) -> float:
        self.asked.append(flat(difference))
        return float(np.abs(self.asked[-1]).max())


def flat(state: State) -> np.ndarray:
    """(u, v, c, A)."""
    frame = state.parts[0].frame
    return np.concatenate([state.parts[0].density.ravel(), frame.centre.ravel(), frame.matrix.ravel()])


def state_of(tau: float, y: np.ndarray) -> State:
    return State(tau, (FemPart(y[:2].reshape(1, 2, 1), Frame(y[2].reshape(1, 1), y[3].reshape(1, 1, 1))),))


def begun(toy: Toy, time: Time, horizon: float = HORIZON) -> PredictorCorrectorStepper:
    stepper = PredictorCorrectorStepper(MPI.COMM_SELF, toy, state_of(0.0, START), time, horizon)
    stepper.watch = lambda tau: setattr(toy, "now", tau)
    return stepper


def march(toy: Toy, tolerance: float, horizon: float = HORIZON) -> tuple[np.ndarray, list[Any]]:
    """The state at the horizon, and the trial steps that led there."""
    stepper = begun(toy, Time(tolerance=tolerance), horizon)
    try:
        assert stepper.advance(horizon)
        return flat(stepper.state), list(stepper.history)
    finally:
        stepper.close()


def moving(state: State) -> np.ndarray:
    """Rates that depend on τ too, in the order of the vector."""
    return packed(state_of(0.0, slope(flat(state), potential(flat(state)) * (1.0 + np.sin(3.0 * state.tau)))).parts)


def test_the_pair_that_moves_the_nodes_is_of_order_five_and_its_difference_too() -> None:
    """Slopes of the error after many steps, and of the difference in one; the last rate is that of the end."""
    start, tau = packed(state_of(0.0, START).parts), 0.4
    vector = vector_of(state_of(0.0, START).parts)

    def right(time: float, y: np.ndarray) -> np.ndarray:
        return moving(vector.state(time, y))

    truth, errors, differences, counts = integrated(right, tau, tau + 1.0, start), [], [], [16, 32, 64]
    for count in counts:
        values, step, rate = start, 1.0 / count, right(tau, start)
        for number in range(count):
            values, off, rate = dormand_prince_step(vector, tau + number * step, values, step, rate, moving)
            if number == 0:
                differences.append(np.abs(off).max())
        assert np.abs(rate - right(tau + 1.0, values)).max() < 1e-14
        errors.append(np.abs(values - truth).max())
    for sizes in (errors, differences):
        order = -np.polyfit(np.log(counts), np.log(sizes), 1)[0]
        assert 4.7 < order < 5.4, sizes


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_a_step_predicts_passes_and_corrects_without_the_oldest(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against motion in the two polynomials by another integrator; the difference of both is what the error is of."""
    monkeypatch.setattr(predictor_corrector, "_MOVED", 1e-9)
    toy = Toy()
    stepper = begun(toy, Time(tolerance=1e-3))
    assert stepper.advance(0.4)
    assert len(stepper._past.times) > order
    stepper._plan = replace(stepper._plan, order=order, implicit=False)
    times, values = stepper._past.times[-order:], [g[0][0] for g in stepper._past.gradients[-order:]]
    y, toy.asked = flat(stepper.state), []
    stepper._trial.proposed = step = 0.04
    assert stepper.advance(0.4 + step)
    found, asked = flat(stepper.state), toy.asked[-1]
    stepper.close()

    def moved(nodes: Sequence[float], known: Sequence[np.ndarray]) -> np.ndarray:
        polynomial = KroghInterpolator(np.array(nodes), np.array(known))
        return integrated(lambda tau, now: slope(now, polynomial(tau)), 0.4, 0.4 + step, y)

    predicted = moved(times, values)
    passed = potential(predicted)
    oldest = 1 if order > 1 else 0
    corrected = moved([*times[oldest:], 0.4 + step], [*values[oldest:], passed])
    assert np.abs(found - corrected).max() < 1e-9
    assert np.abs(asked - (corrected - predicted)).max() < 1e-9


def test_an_implicit_step_ends_in_the_potential_of_its_own_end() -> None:
    """Where an explicit one would be off by several hundred times as much as its own predictor."""
    toy = Toy(stiff_potential, stiff_slope)
    stepper = begun(toy, Time(tolerance=1e-4))
    try:
        while not (stepper._plan.implicit and stepper._plan.series > 2 and stepper.step_size > 0.02):
            assert stepper.advance(min(HORIZON, stepper.state.tau + 0.02))
        past, tau, step = stepper._past.last(stepper._plan.order), stepper.state.tau, stepper.step_size
        assert stepper.advance(tau + step)
        kept, own = stepper._past.gradients[-1][0][0], stiff_potential(flat(stepper.state))
        guess = past.at(stepper.state.tau)[0][0]
    finally:
        stepper.close()
    assert 300.0 * step > 5.0
    assert np.abs(kept - own).max() < 0.2 * np.abs(guess - own).max() + 1e-8


def test_the_error_of_a_march_follows_its_tolerance() -> None:
    """Slope one over three powers of ten, with its scatter; passes grow slowly, as orders are high."""
    tolerances = np.geomspace(1e-4, 1e-7, 7)
    errors, passes = [], []
    for tolerance in tolerances:
        toy = Toy()
        end, history = march(toy, float(tolerance))
        assert [s.accepted for s in history] == [s.error <= tolerance for s in history]
        errors.append(np.abs(end - exact(HORIZON)).max())
        passes.append(toy.passes)
    order, height = np.polyfit(np.log(tolerances), np.log(errors), 1)
    assert 0.8 < order < 1.2, errors
    assert np.abs(np.log(errors) - order * np.log(tolerances) - height).max() < np.log(4.0), errors
    assert passes[-1] < 3.0 * passes[0], passes


def test_a_pass_and_a_half_a_step_where_nothing_is_stiff() -> None:
    """With all that implicit steps cost which are tried in vain, ever more rarely."""
    toy, horizon = Toy(), 10.0
    end, history = march(toy, 1e-6, horizon)
    assert np.abs(end - exact(horizon)).max() < 1e-4
    accepted = sum(step.accepted for step in history)
    assert accepted > 50
    assert toy.passes < 1.5 * accepted


def test_what_is_saved_is_all_that_determines_the_steps_to_come() -> None:
    """Cut after some of the first steps, explicit and implicit: the rest bit by bit, and without another pass."""
    time = Time(tolerance=1e-4)

    def ended(cut: int) -> tuple[np.ndarray, int, list[Any], bool]:
        toy = Toy(stiff_potential, stiff_slope)
        stepper, implicit = begun(toy, time), False
        if cut:
            stepper.poll = lambda: float(stepper.steps == cut)
            assert not stepper.advance(1.0)
            saved, state = copy.deepcopy((stepper.state_dict(), stepper.state))
            implicit = stepper._plan.implicit
            stepper.close()
            stepper = begun(toy, time)
            stepper.load_state_dict(saved, state)
        assert stepper.advance(1.0)
        found = flat(stepper.state), toy.passes, list(stepper.history), implicit
        stepper.close()
        return found

    straight, kinds = ended(0), set()
    for cut in (1, 2, 3, 5, 8, 9, 10, 13, 20):
        resumed = ended(cut)
        assert np.array_equal(resumed[0], straight[0]), cut
        assert resumed[1] == straight[1]
        assert resumed[2] == straight[2]
        kinds.add(resumed[3])
    assert kinds == {False, True}


def test_a_trial_that_fails_is_halved_and_the_run_goes_on() -> None:
    """It stands in the history with an error that is infinite; the answer is that of a run that never failed."""
    toy, longest = Toy(longest=0.03), 0.03
    end, history = march(toy, 1e-4)
    failed = [number for number, step in enumerate(history) if np.isinf(step.error)]
    assert len(failed) > 3
    for number in failed:
        trial, after = history[number], history[number + 1]
        assert not trial.accepted
        assert after.tau == trial.tau
        assert after.step <= 0.5 * trial.step * (1.0 + 1e-9)
        assert trial.step > longest
    assert max(step.step for step in history if step.accepted) <= longest
    assert np.abs(end - exact(HORIZON)).max() < 1e-4


def test_a_march_that_cannot_go_on_names_the_cause_and_keeps_what_was_sound() -> None:
    toy = Toy(spoilt_from=1.0)
    stepper = begun(toy, Time(tolerance=1e-4))
    message = r"the step collapsed to \S+ at tau = 1; longer ones end with: not finite at tau = 1"
    with pytest.raises(ComputationError, match=message):
        stepper.advance(HORIZON)
    assert 0.99 < stepper.good.tau <= 1.0
    assert np.abs(flat(stepper.good) - exact(stepper.good.tau)).max() < 1e-4
    stepper.close()


def test_the_order_and_the_step_are_those_that_the_errors_allow() -> None:
    """Errors of 1 … 4 points that would meet the tolerance at other steps, for an accepted and a rejected trial."""
    control, tolerance = OrderControl(), 1e-4
    sizes = [1e-1, 1e-3, 1e-5, 1e-6]

    def factor(size: float, order: int) -> float:
        return 0.85 * (tolerance / size) ** (1.0 / (order + 1))

    plan, grown = control.after(Plan(order=3), sizes, 2e-5, tolerance, accepted=True)
    assert (plan.order, plan.rejected) == (4, False)
    assert grown == pytest.approx(factor(2e-6, 4), rel=1e-12)
    plan, shrunk = control.after(Plan(order=3), sizes, 2e-3, tolerance, accepted=False)
    assert (plan.order, plan.rejected) == (3, True)
    assert shrunk == pytest.approx(factor(2e-3, 3), rel=1e-12)
    plan, kept = control.after(replace(plan, order=3), sizes, 2e-5, tolerance, accepted=True)
    assert kept == 1.0  # the step after a rejected one is no longer
    assert control.after(Plan(order=3), [1e-5, 1e-3, 1e-1, 1e-1], 1e-4, tolerance, accepted=True)[0].order == 2
    assert control.after(Plan(order=2), sizes[:2], 1e-5, tolerance, accepted=True)[0].order == 3  # as soon as it can be
    assert control.failed(Plan(order=1)) == Plan(order=1, rejected=True)
    assert control.failed(Plan(order=4)).order == 3


@pytest.mark.parametrize(("gain", "feedback", "stays"), [(3.0, 1.0, True), (0.4, 1.0, False), (3.0, 0.01, False)])
def test_implicit_steps_stay_where_they_pay(gain: float, feedback: float, stays: bool) -> None:
    """Judged after six steps by τ per pass, and by the answer; explicit series that are taken up again are longer."""
    control, plan = OrderControl(), Plan()
    for _ in range(plan.patience):
        assert not plan.implicit
        plan = control.corrector(plan, 0.1, 1, 0.1, 0.0)
    assert plan.implicit
    assert plan.explicit_rate == pytest.approx(0.1, rel=1e-12)
    for _ in range(control.judged_after):
        assert plan.implicit
        plan = control.corrector(plan, 0.1, 2, 2 * 0.1 * gain, feedback)
    assert plan.implicit == stays
    assert plan.patience == (2 * Plan().patience if gain < 1.0 else control.shortest)
    if stays:
        while plan.implicit:
            plan = control.corrector(plan, 0.1, 2, 0.4 * 0.1, feedback)  # less than half of the explicit gain
        assert plan.patience == control.shortest


def test_a_plan_that_cannot_be_is_refused() -> None:
    saved = asdict(Plan(order=3, implicit=True, series=4, explicit_rate=0.1))
    assert Plan.restored(saved) == Plan(**saved)
    for wrong in ({"order": 0}, {"implicit": 2}, {"passes": -1}, {"advanced": float("nan")}, {"substeps": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Plan.restored(saved | wrong)


def test_an_order_without_as_many_potentials_is_refused() -> None:
    """A step of that order would end with an index that is not there."""
    toy = Toy()
    stepper = begun(toy, Time(tolerance=1e-4))
    try:
        assert stepper.advance(0.1)
        saved, count = stepper.state_dict(), len(stepper._past.times)
        saved["plan"] = asdict(Plan(order=count))
        stepper.load_state_dict(saved, stepper.state)
        saved["plan"] = asdict(Plan(order=count + 1))
        with pytest.raises(InputError, match=f"order = {count + 1}: must be at most {count}"):
            stepper.load_state_dict(saved, stepper.state)
    finally:
        stepper.close()
