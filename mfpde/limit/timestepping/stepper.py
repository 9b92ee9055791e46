"""Time stepping with the pair SSP43(2) of `limit.timestepping.runge_kutta`, driven by a PETSc TS.

Steps obey the pair's estimate of their error and the CFL bound together, or are fixed.
Source: Hairer, Nørsett & Wanner, *Solving Ordinary Differential Equations I*, II.4. PETSc's own SSP type ignores error
estimates and has no hook between stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from mfpde.config.settings import Time
from mfpde.errors import ComputationError
from mfpde.inputs import real, whole
from mfpde.limit.gradient_flow import GradientFlow, Rate
from mfpde.limit.state import State
from mfpde.limit.timestepping.petsc_ts import MOST_STEPS, create_ts
from mfpde.limit.timestepping.runge_kutta import LIMITS, ssp43_step, stable_step
from mfpde.limit.timestepping.state_vector import cell_values, common_values, packed, vector_of
from mfpde.limit.timestepping.step_control import (
    Beginning,
    StepControl,
    Trial,
    equal_steps,
    same_time,
    speeds_and_shares,
)
from mfpde.output.checkpoint.state_dict import StateDict
from mfpde.output.records.report import Step
from mfpde.parallel.exact_sum import collapse, share_of
from mfpde.parallel.petsc_callbacks import unwrapped

Array = NDArray[np.float64]
_NOTHING = share_of(np.zeros(()))
_REFINED = 6  # times that tables are changed at one state


class Stepper:
    """Advances a state; owns the PETSc Vec and TS, whose tolerance, monitors and iteration limits act on it.

    Attributes:
        good: the last state from which a finite right-hand side was computed.
        steps: accepted since the start; after a failure, those that led to `good`.
        step_size: Δ of the last of them.
        watch: called with the new τ after every step, on the ranks where it is set.
        horizon: the last τ.
        stationary_value: (1/L) Σ∫|ρ||∇V|² at the present state where that is at most the number given as `stationary`:
            there the march ends. None as long as it goes on.
        poll: called once a step, on every rank; a pause is requested where the largest of the values is above 0.
        pause_request: that value when `advance` has paused for it, else 0.
    """

    name = "SSP43(2)"
    dense = False  # are states within the last step known?
    limits: Sequence[float] = LIMITS

    def __init__(
        self,
        comm: MPI.Intracomm,
        flow: GradientFlow,
        state: State,
        time: Time,
        horizon: float,
        stationary: float | None = None,
    ) -> None:
        self.flow = flow
        self.good = state
        self.watch: Callable[[float], None] | None = None
        self.poll: Callable[[], float] = float  # 0: no pause
        self.pause_request = 0.0
        self.steps = self._good_steps = 0
        self.step_size = float("nan")
        self._history: list[Step] = []
        self.stationary_value: float | None = None

        self._stationary = stationary
        self._comm = comm
        self._fixed = time.step
        self.horizon = horizon
        self._control = StepControl()
        self._vector = vector_of(state.parts)
        self._common = common_values(state.parts)  # the same on every rank, and advanced by the same stages
        self._resolved_at = float("nan")  # the last τ at which tables were as fine as they have to be
        self._first: Beginning | None = None  # of the present state, kept when a step is rejected
        self._next: Beginning | None = None  # of the state after the step, if that is accepted
        self._cause: ComputationError | None = None  # why the last trial had no numbers
        self._trial = Trial(horizon if time.step is None else time.step)
        self._failure: ComputationError | None = None
        local = cell_values(state.parts)
        self._vec = PETSc.Vec().createMPI((len(local), PETSc.DETERMINE), comm=comm)
        self._vec.array[:] = local
        self._ts = create_ts(comm, self, self._vec, state.tau, horizon, time.relative_tolerance)

    @property
    def tau(self) -> float:
        """The TS's time."""
        return float(self._ts.getTime())

    @property
    def state(self) -> State:
        """The state at the TS's time."""
        return self._vector.state(self.tau, self._values(self._vec.array_r))

    def knows(self, tau: float) -> bool:
        """Does `at` give the state at τ: the present one, or where steps are `dense` one within the last step?"""
        return self._is_at(tau)

    def at(self, tau: float) -> State:  # noqa: ARG002
        """The state at a τ for which `knows` is true."""
        return self.state

    def advance(self, target: float) -> bool:
        """Step to τ = target exactly, or to a stationary state before it; a target within rounding is here already.

        Returns:
            False when the march ended before the target: at stationarity (then `stationary_value` is a number), by a
            limit of the TS (`-ts_max_steps`), or because `poll` paused it (then `pause_request` is above 0): another
            call goes on as if there had been no pause.

        Raises:
            ComputationError: not finite, or the step collapsed; `good` is then the last state that was sound.
        """
        self.pause_request = 0.0
        if self.is_stationary() or self.pause_request:
            return False
        if not self._is_at(target):
            self._ts.setMaxTime(target)
            self._ts.setConvergedReason(PETSc.TS.ConvergedReason.CONVERGED_ITERATING)
            with unwrapped():
                self._ts.solve(self._vec)

        if self._failure is not None:
            raise self._failure
        if self.stationary_value is not None or not self.is_at_or_beyond(target):
            return False
        self._ts.setTime(target)
        return True

    def is_at_or_beyond(self, tau: float) -> bool:
        """Has the TS come to τ, but for rounding?"""
        return self._is_at(tau) or self.tau > tau

    def _is_at(self, target: float) -> bool:
        return same_time(self.tau, target)

    def is_stationary(self) -> bool:
        """Is the present state stationary? Collective; costs what the next step needs anyway, if there is one.

        Raises:
            ComputationError: when the numbers at the present state are not finite.
        """
        if self._stationary is not None:
            try:
                _, begin = self._present(self._vec, self.tau)
                self._begin(begin)
            except ComputationError:
                self.steps = self._good_steps
                raise
        return self.stationary_value is not None

    def resolve(self) -> None:
        """Give an initial state tables as fine as its potential asks for, before it is reported on; collective.

        Raises:
            ComputationError: when the numbers there are not finite.
        """
        if self.flow.tabulated and self.steps == 0:
            self._present(self._vec, self.tau)

    def state_dict(self) -> StateDict:
        """What determines the steps to come besides the state, and the counters."""
        return {
            "steps": self.steps,
            "step_size": self.step_size,
            "proposed": self._trial.proposed,
            "ts_steps": int(self._ts.getStepNumber()),
            "resolved": self._resolved_at,
            "history": [asdict(step) for step in self._history],
        }

    def load_state_dict(self, saved: StateDict, state: State) -> None:
        """Go on from what `state_dict` gave at a state.

        Raises:
            InputError: for values that cannot be.
        """
        self.good = state
        self._vector, self._common = vector_of(state.parts), common_values(state.parts)
        self._vec.array[:] = cell_values(state.parts)
        self._ts.setTime(state.tau)

        self.steps = self._good_steps = whole("steps", saved["steps"], 0, MOST_STEPS)
        self.step_size = float(saved["step_size"])
        self._trial.proposed = real("proposed", float(saved["proposed"]), above=0.0)
        self._ts.setStepNumber(whole("ts_steps", saved["ts_steps"], 0, MOST_STEPS))
        self._resolved_at = float(saved["resolved"])
        self._history = [Step(**step) for step in saved["history"]]

    @property
    def history(self) -> tuple[Step, ...]:
        """All trial steps since `forget` was last called."""
        return tuple(self._history)

    def forget(self) -> None:
        """The history has been written down."""
        self._history = []

    def close(self) -> None:
        """Free the PETSc objects; collective."""
        self._ts.destroy()
        self._vec.destroy()

    def solveStep(self, ts: PETSc.TS, _end: float, u: PETSc.Vec) -> None:
        """One trial step, called by the TS: `u` holds the state, and afterwards the new one."""
        try:
            if not self.pause_request:  # the TS tries a step again that a pause has rejected, some dozens of times
                self._try(ts, float(ts.getTime()), u)
        except ComputationError as error:
            # Raising through PETSc would print its own stack; the reason is kept and raised by `advance`.
            self._failure = error
            self.steps = self._good_steps
        if self._failure is not None or self.pause_request:
            ts.setConvergedReason(PETSc.TS.ConvergedReason.DIVERGED_STEP_REJECTED)

    def adaptStep(  # noqa: N802  (likewise)
        self, ts: PETSc.TS, _end: float, _u: PETSc.Vec
    ) -> tuple[float, bool]:
        """Accept the trial or not, called by the TS; returns the next step to try."""
        if self._failure is not None or self.stationary_value is not None or self.pause_request:
            return float(ts.getTimeStep()), False
        trial, tolerance = self._trial, float(ts.getTolerances()[0])
        accepted = self._fixed is not None or trial.error <= tolerance
        self._history.append(Step(float(ts.getTime()), trial.step, trial.error, accepted, trial.bound))
        if self._fixed is None:
            trial.proposed = self._proposed(trial, tolerance, accepted)
        if not accepted:
            return trial.proposed, False

        self._first, self._cause = None, None
        self._common = trial.common
        self.steps += 1
        self.step_size = trial.step
        if self.watch is not None:
            self.watch(float(ts.getTime()) + trial.step)
        return trial.proposed, True

    def _proposed(self, trial: Trial, tolerance: float, accepted: bool) -> float:
        """The step to try after this trial."""
        return self._control.proposed(trial.step, trial.error, tolerance, accepted)

    def _try(self, ts: PETSc.TS, tau: float, u: PETSc.Vec) -> None:
        start, begin = self._present(u, tau)
        first = self._begin(begin)
        if self.stationary_value is not None:
            ts.setConvergedReason(PETSc.TS.ConvergedReason.CONVERGED_USER)
        if self.stationary_value is not None or self.pause_request:
            return  # before the step: the state is as it was, and its rate is kept

        step = self._choose(ts, tau, first.speed)
        ts.setTimeStep(step)
        try:
            end, self._trial.error = self._stepped(begin, start, step, first.rate, float(ts.getTolerances()[0]))
        except ComputationError as cause:
            if self._fixed is not None:
                raise
            self._failed(begin, first.rate)
            self._cause = cause
            end, self._trial.error = begin, float("inf")

        self._trial.step, self._trial.common = step, common_values(end.parts)
        u.array[:] = cell_values(end.parts)

    def _stepped(self, begin: State, start: Array, step: float, rate: Rate, tolerance: float) -> tuple[State, float]:
        """The state after a step and its error; one that would be kept is sound, and its rate is known."""
        end, difference = self._stages(begin, start, step, rate)
        end, error = self._judged(begin, rate, self.flow.limited(end), difference)
        self._next = self._evaluated(end) if self._fixed is None and error <= tolerance else None
        return end, error

    def _failed(self, begin: State, rate: Rate) -> None:  # noqa: ARG002
        """A trial had no numbers: the next one must not build on what it left."""
        self._next = None

    def _stages(self, begin: State, start: Array, step: float, rate: Rate) -> tuple[State, State]:
        """The state after a step from `begin`, of vector `start`; and how far the pair's other method is from it."""
        end, difference = ssp43_step(self._vector, begin.tau, start, step, packed(rate.parts), self._slope)
        return self._vector.state(begin.tau + step, end), self._vector.state(begin.tau, difference)

    def _slope(self, state: State) -> Array:
        return packed(self.flow.rate(state).parts)

    def _judged(self, begin: State, rate: Rate, end: State, difference: State) -> tuple[State, float]:
        """The state that is kept of a step from `begin` to `end`, and its error, nan for fixed steps."""
        return end, self._size(begin, rate, difference)

    def _size(self, begin: State, rate: Rate, difference: State) -> float:
        return float("nan") if self._fixed is not None else self.flow.error(begin, rate, difference)

    def _present(self, u: PETSc.Vec, tau: float) -> tuple[Array, State]:
        """The vector and the state that the next step begins with, its grids and tables as they have to be; collective.

        Tables are judged once at every τ, with the potential there.
        """
        start, begin = self._regridded(u, tau)
        if self._first is not None or not self.flow.tabulated or self._resolved_at == tau:
            return start, begin

        for _ in range(_REFINED):
            self._next = self._next or self._evaluated(begin)
            fine = self.flow.resolved(begin, self._next.rate.outcome.slopes)
            if fine is begin:
                break
            self._replace(begin, fine)
            begin = fine
        self._resolved_at = tau
        return packed(begin.parts), begin

    def _replace(self, old: State, new: State) -> None:
        """Go on from another state at the same time, also after a rejected trial; collective."""
        self._vector, self._common = vector_of(new.parts), common_values(new.parts)
        self._vec.array[:] = cell_values(new.parts)
        self._renewed(old, new)

    def _regridded(self, u: PETSc.Vec, tau: float) -> tuple[Array, State]:
        """The present state as the next step begins with it, and its vector; collective."""
        start = self._values(u.array_r)
        begin = self._vector.state(tau, start)
        if self._first is not None:
            return start, begin

        fresh = self.flow.regrid(begin)
        if fresh is begin:
            return start, begin
        self._replace(begin, fresh)
        return packed(fresh.parts), fresh

    def _renewed(self, old: State, new: State) -> None:  # noqa: ARG002
        """The present state is another one, on grids to go on from; collective."""
        self._next = None

    def _begin(self, begin: State) -> Beginning:
        """The rate at the present state, computed once; and with it, whether that is stationary."""
        if self._first is None:
            first = self._first = self._next or self._evaluated(begin)
            self._next = None
            self.good, self._good_steps = begin, self.steps

            if self._stationary is not None and first.dissipation <= self._stationary:
                self.stationary_value = first.dissipation
            request = self._comm.allreduce(self.poll(), op=MPI.MAX)
            self.pause_request = request if self.stationary_value is None else 0.0
        return self._first

    def _evaluated(self, state: State) -> Beginning:
        """What a step from a state begins with; one reduction besides those of the rate.

        Raises:
            ComputationError: on every rank alike, for a state whose rate is not finite.
        """
        rate = self._rate(state)
        share = _NOTHING if self._stationary is None else self.flow.dissipation(state, rate)
        fastest, levels = self._comm.allreduce((rate.speed, share.levels), op=speeds_and_shares)
        if not np.isfinite(fastest):
            raise ComputationError(f"not finite at tau = {state.tau:.6g}: the transport speed is {fastest}")
        return Beginning(fastest, replace(rate, potential=()), float(collapse(levels)))

    def _rate(self, begin: State) -> Rate:
        """The rate at the present state."""
        return self.flow.rate(begin)

    def _stable(self, fastest: float) -> float:
        """The CFL bound of a step."""
        return stable_step(self.flow.degree, fastest, self.limits)

    def _choose(self, ts: PETSc.TS, tau: float, fastest: float) -> float:
        """The proposed step, or the CFL bound if that is smaller, cut so that the target is met by equal steps."""
        target = float(ts.getMaxTime())

        longest, bound = self._trial.proposed, "error" if self._fixed is None else "fixed"
        stable = self._stable(fastest)
        if self._fixed is None and stable < longest:
            longest, bound = stable, "cfl"
        if longest < self._control.collapsed * self.horizon and target - tau > longest:
            why = "" if self._cause is None else f"; longer ones end with: {self._cause}; {self.flow.remedy}"
            raise ComputationError(f"the step collapsed to {longest:.3g} at tau = {tau:.6g}{why}")

        step, count = equal_steps(tau, target, longest)
        self._trial.bound = bound if count > 1 else "report"
        return step

    def _values(self, cells: Array) -> Array:
        """The vector of the present state, of which the TS keeps the part on cells."""
        return np.concatenate([cells, self._common])
