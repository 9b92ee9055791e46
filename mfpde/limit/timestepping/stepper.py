"""Time stepping: a PETSc TS of type python that carries the pair SSP43(2) of `limit.timestepping.ssp43`.

The step obeys the pair's estimate of its error and the CFL bound together, or is fixed.
Source: Hairer, Nørsett & Wanner, *Solving Ordinary Differential Equations I*, II.4. PETSc's own SSP type ignores error
estimates and has no hook between stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from mfpde.config.settings import Time
from mfpde.errors import ComputationError, InputError
from mfpde.inputs import real, whole
from mfpde.limit.fem.frame import Frame
from mfpde.limit.gradient_flow import Rate
from mfpde.limit.lagrangian.nodes import Carried
from mfpde.limit.state import Group, State, limited
from mfpde.limit.timestepping.ssp43 import LIMITS, pair, stable_step
from mfpde.limit.timestepping.state_vector import Layout, densities, frames, nodes, packed
from mfpde.output.checkpoint.checkpoint import StateDict
from mfpde.output.records.report import Step
from mfpde.parallel.exact_sum import Share, collapse, share_of
from mfpde.parallel.petsc_callbacks import unwrapped

Array = NDArray[np.float64]
_NOTHING = share_of(np.zeros(()))
_CAUTION, _LEAST_FACTOR, _MOST_FACTOR = 0.85, 0.2, 3.0  # how boldly the step follows the error estimate
_MOST_REJECTIONS, _MOST_STEPS = 60, 2**31 - 1
_SHRINK_LIMIT = 1e-12  # of the horizon: a smaller step can no longer reach the end
_SAME = 1e-12  # relative distance of times that are one


def same_time(one: float, other: float) -> bool:
    """Are two τ one but for rounding, as a multiple of `every` and a horizon may be?"""
    return abs(one - other) <= _SAME * max(abs(one), abs(other))


class Stepper:
    """Advances a state; owns the PETSc Vec and TS, whose tolerance, monitors and iteration limits act on it.

    Attributes:
        good: the last state from which a finite right-hand side was computed.
        steps: accepted since the start; after a failure, those that led to `good`.
        step_size: Δ of the last of them.
        watch: told the new τ after every step, on the ranks where it is set.
        settled: (1/L) Σ∫|ρ||∇V|² at the present state where that is at most the number given as `stationary`: there
            the march ends. None as long as it goes on.
        poll: asked once a step, on every rank, whether to pause; the largest answer counts if it is above 0.
        asked: that answer when `advance` has paused for it, else 0.
    """

    name = "SSP43(2)"
    limits: Sequence[float] = LIMITS

    def __init__(
        self,
        comm: MPI.Intracomm,
        flow: RightHandSide,
        state: State,
        time: Time,
        horizon: float,
        stationary: float | None = None,
    ) -> None:
        self.flow = flow
        self.good = state
        self.watch: Callable[[float], None] | None = None
        self.poll: Callable[[], float] = _never
        self.asked = 0.0
        self.steps = self._good_steps = 0
        self.step_size = float("nan")
        self._history: list[Step] = []
        self.settled: float | None = None
        self._stationary = stationary
        self._comm = comm
        self._fixed = time.step
        self._horizon = horizon
        self._frame = state.frame  # replicated on every rank, and advanced by the same stages
        self._carried = state.carried  # likewise
        self._degree = max((group.space.degree for group in flow.groups), default=0)
        self._first: tuple[float, Rate] | None = None  # the rate at the present state, kept when a step is rejected
        self._trial = _Trial(horizon if time.step is None else time.step)
        self._failure: ComputationError | None = None
        local = densities(state)
        self._vec = PETSc.Vec().createMPI((len(local), PETSc.DETERMINE), comm=comm)
        self._vec.array[:] = local
        self._ts = self._create_ts(comm, time)

    @property
    def state(self) -> State:
        """The state at the TS's time."""
        return self._layout.state(float(self._ts.getTime()), self._values(self._vec.array_r))

    def advance(self, target: float) -> bool:
        """Step to τ = target exactly, or to a stationary state before it; a target within rounding is here already.

        Returns:
            False when the march ended before the target: at stationarity (then `settled` is a number), by a limit of
            the TS (`-ts_max_steps`), or because `poll` paused it (then `asked` says so): another call goes on as if
            there had been no pause.

        Raises:
            ComputationError: not finite, or the step collapsed; `good` is then the last state that was sound.
        """
        self.asked = 0.0
        if self.is_settled() or self.asked:
            return False
        if not self._is_at(target):
            self._ts.setMaxTime(target)
            self._ts.setConvergedReason(PETSc.TS.ConvergedReason.CONVERGED_ITERATING)
            with unwrapped():
                self._ts.solve(self._vec)
        if self._failure is not None:
            raise self._failure
        if self.settled is not None or not (self._is_at(target) or self._ts.getTime() > target):
            return False
        self._ts.setTime(target)
        return True

    def _is_at(self, target: float) -> bool:
        return same_time(float(self._ts.getTime()), target)

    def is_settled(self) -> bool:
        """Is the present state stationary? Collective; costs what the next step needs anyway, if there is one.

        Raises:
            ComputationError: when the numbers at the present state are not finite.
        """
        if self._stationary is not None:
            try:
                self._renew()
                self._begin(self.state)
            except ComputationError:
                self.steps = self._good_steps
                raise
        return self.settled is not None

    def state_dict(self) -> StateDict:
        """The state, what determines the steps to come, and the counters."""
        return {
            **self.state.state_dict(self.flow.groups),
            "steps": self.steps,
            "step_size": self.step_size,
            "wish": self._trial.wish,
            "ts_steps": int(self._ts.getStepNumber()),
            "history": [asdict(step) for step in self._history],
        }

    def load_state_dict(self, saved: StateDict, state: State) -> None:
        """Go on from what `state_dict` gave.

        Args:
            saved: what it gave.
            state: the state that was loaded from it.

        Raises:
            InputError: for values that cannot be.
        """
        self.good = state
        self._frame, self._carried = state.frame, state.carried
        self._vec.array[:] = densities(state)
        self._ts.setTime(state.tau)
        self.steps = self._good_steps = whole("steps", saved["steps"], 0, _MOST_STEPS)
        self.step_size = float(saved["step_size"])
        self._trial.wish = real("wish", float(saved["wish"]), above=0.0)
        self._ts.setStepNumber(whole("ts_steps", saved["ts_steps"], 0, _MOST_STEPS))
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

    def _create_ts(self, comm: MPI.Intracomm, time: Time) -> PETSc.TS:
        kind = PETSc.Options().getString("ts_type", "python")
        if kind != "python":
            raise InputError(f"-ts_type {kind}: not supported; the step is the pair {self.name}, of type 'python'")
        ts = PETSc.TS().create(comm=comm)
        ts.setType(PETSc.TS.Type.PYTHON)
        ts.setPythonContext(self)
        ts.setProblemType(PETSc.TS.ProblemType.NONLINEAR)
        ts.setMaxSteps(_MOST_STEPS)
        ts.setMaxStepRejections(_MOST_REJECTIONS)
        ts.setErrorIfStepFails(False)  # `advance` raises the reason
        ts.setTolerances(rtol=time.relative_tolerance)
        ts.setTime(self.good.tau)
        ts.setTimeStep(self._horizon)
        ts.setExactFinalTime(PETSc.TS.ExactFinalTime.STEPOVER)
        ts.setSolution(self._vec)
        try:
            ts.setFromOptions()
        except PETSc.Error as error:  # PETSc's own text is many lines, of which some name its sources
            ts.destroy()
            raise InputError(
                f"PETSc options: one of those for the TS has a value that cannot be ({error.ierr})"
            ) from error
        return ts

    def solveStep(self, ts: PETSc.TS, _end: float, u: PETSc.Vec) -> None:
        """One trial step, called by the TS: `u` holds the state, and afterwards the new one."""
        try:
            self._try(ts, float(ts.getTime()), u)
        except ComputationError as error:
            # Raising through PETSc would print its own stack; the reason is kept and raised by `advance`.
            self._failure = error
            self.steps = self._good_steps
        if self._failure is not None or self.asked:
            ts.setConvergedReason(PETSc.TS.ConvergedReason.DIVERGED_STEP_REJECTED)

    def adaptStep(  # noqa: N802  (likewise)
        self, ts: PETSc.TS, _end: float, _u: PETSc.Vec
    ) -> tuple[float, bool]:
        """Accept the trial or not, called by the TS; returns the next step to try."""
        if self._failure is not None or self.settled is not None or self.asked:
            return float(ts.getTimeStep()), False
        trial, tolerance = self._trial, float(ts.getTolerances()[0])
        accepted = self._fixed is not None or trial.error <= tolerance
        self._history.append(Step(float(ts.getTime()), trial.step, trial.error, accepted, trial.bound))
        if self._fixed is None:
            growth = _CAUTION * (tolerance / max(trial.error, 1e-300)) ** (1.0 / 3.0)
            trial.wish = trial.step * float(np.clip(growth, _LEAST_FACTOR, _MOST_FACTOR if accepted else 1.0))
        if not accepted:
            return trial.wish, False
        self._first = None
        self._frame, self._carried = trial.frame, trial.carried
        self.steps += 1
        self.step_size = trial.step
        if self.watch is not None:
            self.watch(float(ts.getTime()) + trial.step)
        return trial.wish, True

    def _try(self, ts: PETSc.TS, tau: float, u: PETSc.Vec) -> None:
        self._renew()
        start = self._values(u.array_r)
        begin = self._layout.state(tau, start)
        fastest, rate = self._begin(begin)
        if self.settled is not None:
            ts.setConvergedReason(PETSc.TS.ConvergedReason.CONVERGED_USER)
        if self.settled is not None or self.asked:
            return  # before the step: the state is as it was, and its rate is kept
        step = self._choose(ts, tau, fastest)
        ts.setTimeStep(step)
        end, difference = self._stages(begin, start, step, rate)
        end, self._trial.error = self._judged(begin, rate, limited(self.flow.groups, end), difference)
        self._trial.step, self._trial.frame, self._trial.carried = step, end.frame, end.carried
        u.array[:] = densities(end)

    def _stages(self, begin: State, start: Array, step: float, rate: Rate) -> tuple[State, State]:
        """The state after a step from one with this rate, and how far the pair's other method is from it.

        Args:
            begin: the state.
            start: its vector.
            step: Δ.
            rate: of the state.
        """
        end, difference = pair(self._layout, begin.tau, start, step, packed(rate), self.flow.rate)
        return self._layout.state(begin.tau + step, end), self._layout.state(begin.tau, difference)

    def _judged(self, begin: State, rate: Rate, end: State, difference: State) -> tuple[State, float]:
        """The state that is kept of a step from `begin` to `end`, and its error, nan where none is asked for."""
        return end, self._size(begin, rate, difference)

    def _size(self, begin: State, rate: Rate, difference: State) -> float:
        return float("nan") if self._fixed is not None else self.flow.error(begin, rate, difference)

    def _renew(self) -> None:
        """Carried nodes as the next step is to find them; collective."""
        if self._carried and self._first is None:
            self._carried = self.flow.settle(self.state).carried

    def _begin(self, begin: State) -> tuple[float, Rate]:
        """The speed and the rate at the present state, computed once; and with them, whether it is stationary."""
        if self._first is None:
            rate = self._rate(begin)
            share = _NOTHING if self._stationary is None else self.flow.dissipation(begin, rate)
            fastest, levels, asked = self._comm.allreduce((rate.speed, share.levels, self.poll()), op=_combined)
            self._first = (fastest, replace(rate, potential=()))  # which the stages do not need
            self.good, self._good_steps = begin, self.steps
            dissipated = float(collapse(levels))
            if self._stationary is not None and dissipated <= self._stationary:
                self.settled = dissipated
            self.asked = asked if self.settled is None else 0.0
        return self._first

    def _rate(self, begin: State) -> Rate:
        """The rate at the present state."""
        return self.flow.rate(begin)

    def _stable(self, fastest: float) -> float:
        """The CFL bound of a step."""
        return stable_step(self._degree, fastest, self.limits)

    def _choose(self, ts: PETSc.TS, tau: float, fastest: float) -> float:
        """The wish, or the CFL bound if that is smaller, cut so that the target is met by equal steps."""
        if not np.isfinite(fastest):
            raise ComputationError(f"not finite at tau = {tau:.6g}: the transport speed is {fastest}")
        remaining = float(ts.getMaxTime()) - tau
        wanted, bound = self._trial.wish, "error" if self._fixed is None else "fixed"
        stable = self._stable(fastest)
        if self._fixed is None and stable < wanted:
            wanted, bound = stable, "cfl"
        if wanted < _SHRINK_LIMIT * self._horizon and remaining > wanted:
            raise ComputationError(f"the step collapsed to {wanted:.3g} at tau = {tau:.6g}")
        parts = max(1, int(np.ceil(remaining / wanted - 1e-9)))
        self._trial.bound = bound if parts > 1 else "report"
        step = remaining / parts
        # The last one must not fall short by rounding: PETSc would add a step of one digit, and the next follow it.
        return step if parts > 1 or tau + step >= ts.getMaxTime() else float(np.nextafter(step, np.inf))

    @property
    def _layout(self) -> Layout:
        return Layout(self.flow.groups, self._carried)

    def _values(self, density: Array) -> Array:
        """Those of the present state, of which the TS keeps the density's."""
        return np.concatenate([density, frames(self._frame), nodes(self._carried)])


@dataclass
class _Trial:
    """The step under way: its size and what bound it, its estimated error, the frames at its end, and the next wish."""

    wish: float
    step: float = 0.0
    bound: str = ""
    error: float = float("nan")
    frame: tuple[Frame, ...] = ()
    carried: tuple[Carried, ...] = ()


def _combined(one: tuple[float, Array, float], other: tuple[float, Array, float]) -> tuple[float, Array, float]:
    """Of two ranks' speeds, shares of the dissipation and wishes to pause: one reduction for all."""
    return max(one[0], other[0]), one[1] + other[1], max(one[2], other[2])


def _never() -> float:
    """Nobody asks for a pause."""
    return 0.0


class RightHandSide(Protocol):
    """What the stepper needs of a flow; collective."""

    @property
    def groups(self) -> Sequence[Group]:
        """The groups whose states are advanced."""

    def settle(self, state: State) -> State:
        """A state to step from in the place of this one; the same object where nothing is to be done."""

    def rate(self, state: State) -> Rate:
        """∂_τ of a state, and this rank's largest CFL speed."""

    def dissipation(self, state: State, rate: Rate) -> Share:
        """This rank's share of (1/L) Σ∫|ρ||∇V|² at a state with this rate; asked for where a march ends by it."""

    def error(self, state: State, rate: Rate, difference: State) -> float:
        """The relative size, equal on every rank, of a difference to a state with this rate."""
