"""Steps of nodes that move with the flow: one pass over the samples a step.

Nodes are cheap beside a pass over the samples, and the potential that a pass gives is smooth in time. So a step

1. predicts the potential by the polynomial through its values at the last k passes (`extrapolation`),
2. moves the nodes in it, by as many steps of the pair of Dormand and Prince as that needs,
3. passes over the samples at its end, for the potential there,
4. moves the nodes again, in the polynomial that has the new value in the place of the oldest.

It is a predictor–corrector method of Adams type, of variable order and step, in the potential; how fast the nodes move
in a given potential does not bound it. The difference of the two motions is the error that the step obeys, which is
that of the predictor; the corrected nodes are kept, and are more exact. The potential's answer to the nodes' motion,
the *feedback*, does bound an explicit step: where the feedback is stiff the corrector is iterated to its fixed point by
quasi-Newton steps with differences of earlier steps (`quasi_newton`), for one or two more passes a step
(`order_control` decides). A step that has no numbers, or no fixed point, is tried again with half its size.

The potential is known on tables. One that the nodes would leave is enlarged first: a pass at the begin of the step
gives its new values, and earlier values are those of the old table's polynomial, and beyond its ends differ from the
new ones by what they differ by there.
Sources: Hairer, Nørsett & Wanner, *Solving Ordinary Differential Equations I*, III.1, III.5 and III.7; Degroote, Bathe
& Vierendeels, *Computers & Structures* 87 (2009), 793–801.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.errors import ComputationError, InputError
from mfpde.inputs import real, whole
from mfpde.limit.backprop import Outcome
from mfpde.limit.gradient_flow import Rate
from mfpde.limit.state import State
from mfpde.limit.timestepping.extrapolation import Extrapolation
from mfpde.limit.timestepping.order_control import OrderControl, Plan
from mfpde.limit.timestepping.petsc_ts import MOST_STEPS
from mfpde.limit.timestepping.quasi_newton import Differences, Tables, difference, norm
from mfpde.limit.timestepping.runge_kutta import dormand_prince_step
from mfpde.limit.timestepping.state_vector import packed, vector_of
from mfpde.limit.timestepping.step_control import Trial, same_time
from mfpde.limit.timestepping.stepper import Stepper
from mfpde.output.checkpoint.state_dict import StateDict

Array = NDArray[np.float64]
_MOMENT = 2.0**-10  # τ in which speeds are measured: errors are small where they are exact sums
_MOVED = 0.1  # error of the nodes' motion in a given potential, relative to the tolerance of a step
_MOST_SUBSTEPS = 256
_ITERATIONS = 3  # of the corrector, at most
_CONVERGED, _DIVERGED = 0.1, 0.5  # residual of the corrector, relative to the predictor's
_ROUNDING = 1e-10  # of a pass, relative
_TABLES = 4  # times that a table is enlarged in one step


@dataclass(frozen=True)
class _Corrected:
    """What a trial step found.

    Attributes:
        tau: its end.
        gradient: the potential's L ∂R/∂w there.
        risk: R.
        sizes: of the errors of prediction by 1, 2, … points.
        feedback: change of a pass over that of its guess; zero where the corrector is explicit.
        differences: those of the corrector, old and new.
    """

    tau: float
    gradient: Tables
    risk: float
    sizes: tuple[float, ...]
    feedback: float
    differences: Differences


class PredictorCorrectorStepper(Stepper):
    """Advances a state of nodes that move with the flow."""

    name = "predictor–corrector"
    dense = True
    first_motion = 1e-2  # of the nodes in the first step, in their standard deviations

    _orders = OrderControl()
    _past = Extrapolation(points=_orders.most + 1)
    _risk = float("nan")  # at the last of its times
    _differences = Differences()
    _plan = Plan(patience=_orders.shortest)
    _found: _Corrected | None = None  # by the last trial
    _passes = 0  # since the last accepted step

    def state_dict(self) -> StateDict:
        """See `Stepper.state_dict`; with the last potentials, the corrector's differences, and the plan."""
        return {
            **super().state_dict(),
            "past": {"times": self._past.times, "gradients": self._past.gradients},
            "risk": self._risk,
            "differences": asdict(self._differences),
            "plan": asdict(self._plan),
            "passes": self._passes,
        }

    def load_state_dict(self, saved: StateDict, state: State) -> None:
        """See `Stepper.load_state_dict`."""
        super().load_state_dict(saved, state)
        shapes = [share.value.shape for share in self.flow.moments(self.state)[1]]
        self._past = Extrapolation.restored(saved["past"], shapes, self._orders.most + 1)
        self._differences = Differences.restored(saved["differences"], shapes)
        self._plan = Plan.restored(saved["plan"])
        if self._plan.order > (most := max(1, len(self._past.times))):
            raise InputError(f"order = {self._plan.order}: must be at most {most}, the number of known potentials")
        self._passes = whole("passes", saved["passes"], 0, MOST_STEPS)
        self._risk = real("risk", saved["risk"]) if self._past.times else float("nan")

    def knows(self, tau: float) -> bool:
        """See `Stepper.knows`."""
        return super().knows(tau) or (len(self._past.times) > 1 and self._past.times[-2] <= tau < self._past.times[-1])

    def at(self, tau: float) -> State:
        """See `Stepper.at`: nodes move back from the present state, in the polynomial through the last potentials."""
        if super().knows(tau):
            return super().at(tau)
        now, past = self.state, self._past.last(self._orders.most)
        return self._vector.state(tau, self._moved(now, packed(now.parts), tau, past))

    def _rate(self, begin: State) -> Rate:
        """The rate at a state in the last potential, after a pass where there is none."""
        found = self._found
        if found is not None and same_time(found.tau, begin.tau):
            return self.flow.driven(begin, _outcome(found.risk, found.gradient))
        if self._past.times and same_time(self._past.times[-1], begin.tau):
            return self.flow.driven(begin, _outcome(self._risk, self._past.gradients[-1]))

        outcome = self._pass(begin)
        self._past = self._past.extended(begin.tau, outcome.slopes)
        self._risk = outcome.risk
        rate = self.flow.driven(begin, outcome)
        if len(self._past.times) == 1 and self.steps == 0:
            moved = self.flow.error(begin, rate, self._vector.state(begin.tau, _MOMENT * packed(rate.parts)))
            self._trial.proposed = min(self._trial.proposed, _MOMENT * self.first_motion / max(moved, 1e-300))
        return rate

    def _renewed(self, old: State, new: State) -> None:
        super()._renewed(old, new)
        if self._past.times and not self._same_places(old, new):
            self._transfer(old, new)

    def _same_places(self, old: State, new: State) -> bool:
        """Do two states have the same nodes, and the same tables? Then they have one potential. Collective."""
        tables = zip(self.flow.moments(old)[0], self.flow.moments(new)[0], strict=True)
        still = np.array_equal(packed(old.parts), packed(new.parts))
        mine = still and all(np.array_equal(one, other) for one, other in tables)
        return bool(self._comm.allreduce(mine, op=MPI.LAND))

    def _stages(self, begin: State, start: Array, step: float, rate: Rate) -> tuple[State, State]:
        """The corrected state; and how far it is from the predicted one."""
        end = begin.tau + step
        begin, predicted = self._predicted(begin, start, end, rate)
        root_mass = [np.sqrt(np.abs(mass)) for mass in self.flow.masses(begin)]
        past = self._past.last(self._plan.order)
        corrector = past if self._plan.order == 1 and not self._plan.implicit else past.last(self._plan.order - 1)

        outcome = self._pass(self._vector.state(end, predicted))
        passed, guess = outcome.slopes, past.at(end)
        sizes = self._sizes(end, passed, root_mass)

        feedback, differences = 0.0, self._differences
        if self._plan.implicit:
            passed, feedback, differences = self._iterated(begin, start, corrector, end, guess, passed, root_mass)
        values = self._moved(begin, start, end, corrector.extended(end, passed))
        self._found = _Corrected(end, passed, outcome.risk, sizes, feedback, differences)
        with np.errstate(invalid="ignore"):  # log ρ = −∞ at nodes without mass
            apart = values - predicted
        return self._vector.state(end, values), self._vector.state(begin.tau, apart)

    def _predicted(self, begin: State, start: Array, end: float, rate: Rate) -> tuple[State, Array]:
        """The state at the begin with tables that hold all nodes at the end, and the vector there."""
        for _ in range(_TABLES):
            predicted = self._adaptively_moved(begin, start, end, rate)
            fitted = self.flow.covering(begin, self._vector.state(end, predicted))
            if fitted is begin:
                return begin, predicted
            rate = self._transfer(begin, fitted)
            self._vector = vector_of(fitted.parts)  # last: a pass that fails leaves the table that it was
            begin = fitted
        raise ComputationError(f"nodes run away from their tables at tau = {begin.tau:.6g}")

    def _transfer(self, old: State, new: State) -> Rate:
        """Take the potentials of the past to other tables; the rate there, which is the first of all later trials."""
        outcome = self._pass(new)
        moved = [self.flow.transferred(old, new, gradient) for gradient in self._past.gradients]
        now = outcome.slopes
        added = difference(now, moved[-1])
        earlier = [tuple(a + b for a, b in zip(gradient, added, strict=True)) for gradient in moved[:-1]]
        self._past = replace(self._past, gradients=(*earlier, now))
        self._differences = self._differences.mapped(lambda tables: self.flow.transferred(old, new, tables))
        self._risk = outcome.risk

        rate = replace(self.flow.driven(new, outcome), potential=())
        if self._first is not None:
            self._first = replace(self._first, rate=rate)
        return rate

    def _iterated(
        self,
        begin: State,
        start: Array,
        corrector: Extrapolation,
        end: float,
        guess: Tables,
        passed: Tables,
        root_mass: list[Array],
    ) -> tuple[Tables, float, Differences]:
        """The potential at the end of the step that answers its own nodes, the feedback, and all differences.

        Raises:
            ComputationError: where the iteration does not come near a fixed point.
        """
        differences, feedback, step = self._differences, 0.0, end - begin.tau
        residual = difference(passed, guess)
        first, rounding = norm(residual, root_mass), _ROUNDING * norm(passed, root_mass)
        for _ in range(_ITERATIONS):
            trial = differences.solved(passed, residual, step, root_mass)
            values = self._moved(begin, start, end, corrector.extended(end, trial))
            again = self._pass(self._vector.state(end, values)).slopes

            change, answer = difference(trial, guess), difference(again, passed)
            if (size := norm(change, root_mass)) > rounding:
                differences = differences.extended(change, answer, step)
                feedback = max(feedback, norm(answer, root_mass) / size)
            guess, passed, residual = trial, again, difference(again, trial)
            if norm(residual, root_mass) <= max(_CONVERGED * first, rounding):
                break
        if norm(residual, root_mass) > max(_DIVERGED * first, rounding):
            raise ComputationError(f"the potential answers the nodes too fast for a step of {step:.3g}")
        return differences.solved(passed, residual, step, root_mass), feedback, differences

    def _sizes(self, end: float, passed: Tables, root_mass: list[Array]) -> tuple[float, ...]:
        """Of the errors of prediction by 1, 2, … points, on average over the step."""
        polynomials = [self._past.last(count) for count in range(1, len(self._past.times) + 1)]
        return tuple(norm(difference(passed, p.at(end)), root_mass) * p.missed(end) for p in polynomials)

    def _adaptively_moved(self, begin: State, start: Array, end: float, rate: Rate) -> Array:
        """The vector at the end in the predicted potential, by as many substeps as the tolerance asks for."""
        past, most = self._past.last(self._plan.order), _MOVED * float(self._ts.getTolerances()[0])
        while True:
            values, drift = self._motion(begin, start, end, past)
            size = self.flow.error(begin, rate, self._vector.state(begin.tau, drift))
            if not np.isfinite(size):
                raise ComputationError(f"not finite at tau = {end:.6g}: the places of the nodes")
            count = self._plan.substeps
            wanted = int(np.ceil(count * (size / (0.5 * most)) ** 0.2))
            if size <= most:
                self._plan = replace(self._plan, substeps=max(1, wanted, count - 1))
                return values
            if wanted > _MOST_SUBSTEPS:
                raise ComputationError(f"nodes move too fast for a step of {end - begin.tau:.3g}")
            self._plan = replace(self._plan, substeps=max(wanted, count + 1))

    def _moved(self, begin: State, start: Array, end: float, polynomial: Extrapolation) -> Array:
        return self._motion(begin, start, end, polynomial)[0]

    def _motion(self, begin: State, start: Array, end: float, polynomial: Extrapolation) -> tuple[Array, Array]:
        """The vector at the end in the potential of a polynomial, and the sum of the pair's differences."""

        def slope(state: State) -> Array:
            driven = self.flow.driven(state, _outcome(self._risk, polynomial.at(state.tau)))
            return packed(driven.parts)

        count = self._plan.substeps
        step = (end - begin.tau) / count
        values, drift = start, np.zeros_like(start)
        first = slope(self._vector.state(begin.tau, start))
        for number in range(count):
            tau = begin.tau + number * step
            values, off, first = dormand_prince_step(self._vector, tau, values, step, first, slope)
            drift += off
        return values, drift

    def _pass(self, state: State) -> Outcome:
        self._passes += 1
        return self.flow.outcome(state)

    def _failed(self, begin: State, rate: Rate) -> None:
        super()._failed(begin, rate)
        self._found = None
        self._plan, self._differences = self._orders.failed(self._plan), Differences()

    def _proposed(self, trial: Trial, tolerance: float, accepted: bool) -> float:
        """The step to try next; an accepted one becomes the past."""
        found, self._found = self._found, None
        if found is None:
            return super()._proposed(trial, tolerance, accepted)
        self._differences = found.differences
        plan, factor = self._orders.after(self._plan, found.sizes, trial.error, tolerance, accepted)
        if accepted:
            self._past = self._past.extended(found.tau, found.gradient)
            self._risk = found.risk
            passes, self._passes = self._passes, 0
            plan = self._orders.corrector(plan, trial.step, passes, trial.step * factor, found.feedback)
        self._plan = plan
        return trial.step * factor


def _outcome(risk: float, gradient: Tables) -> Outcome:
    """Of a potential alone."""
    return Outcome(risk, float("nan"), (), gradient)
