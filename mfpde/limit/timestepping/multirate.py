"""Steps of the potential, and inside each of them steps of the transport.

The transport of the density is bound by the CFL condition, while the potential, whose sweep over all samples is the
dearer part, changes slowly. So between two sweeps the gradient of the risk is a forecast (`extrapolation`), and the
density goes through

    ∂_τ ρ̂ = f(ρ̂, V̂(τ)),    V̂ the potential of ĝ(τ) in the moving frames,

by as many steps of the pair SSP43(2) as the CFL bound asks for, to ρ̂*. The sweep there tells the potential V, by how
much the forecast was wrong, and so what is to be added to first order, with μ of `Forecast.missed`:

    ρ̂ = ρ̂* + Δ μ (f(ρ̂*, V) − f(ρ̂*, V̂)).

V is kept for the next step (predict, evaluate, correct). The error of a step is the size of what was added, together
with the differences of the pair: that of ρ̂*, so that ρ̂ is better. The step obeys it alone, and is tried again where it
is too large. The first steps, before there are values to continue, are those of `stepper`. One sweep a step,
instead of four times as many as the CFL bound asks for.

A potential that the density drives back fast bounds the forecast's steps, and more tightly than those of the pair. So
where they fall below a quarter of the CFL bound, direct steps, those of `stepper` with their four sweeps, are
tried for a while, and left again if they are less than four times as long.
Sources: Gear & Wells, *BIT* 24 (1984), 484–502 (slowest first); Hairer, Nørsett & Wanner, *Solving Ordinary
Differential Equations I*, III.1; docs/equations.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from mfpde.config.settings import Time
from mfpde.errors import ComputationError, InputError
from mfpde.inputs import real, whole
from mfpde.limit.backprop import Outcome
from mfpde.limit.gradient_flow import Potential, Rate
from mfpde.limit.state import State, limited
from mfpde.limit.timestepping.extrapolation import POINTS, Forecast
from mfpde.limit.timestepping.ssp43 import pair
from mfpde.limit.timestepping.state_vector import packed
from mfpde.limit.timestepping.stepper import RightHandSide, Stepper, same_time
from mfpde.output.checkpoint.checkpoint import StateDict

Array = NDArray[np.float64]
_COST = 4  # sweeps of a direct step
_TRIED, _MOST_TRIED = 16, 256  # direct steps in a row; more where the forecasts between them come to nothing
_JUDGED, _LEFT = 6, 32  # direct steps before they are judged; steps without them afterwards


@dataclass
class _Manner:
    """Which steps are taken, forecast or direct ones.

    Attributes:
        to_come: direct steps before the next forecast.
        away: steps before direct ones may be tried again.
        pace: the forecast's step that led to direct ones.
        stride: the last direct step.
        lasted: forecast steps in a row.
        run: direct steps in a row.
    """

    to_come: int = 0
    away: int = 0
    pace: float = 0.0
    stride: float = 0.0
    lasted: int = 0
    run: int = _TRIED

    @classmethod
    def from_state(cls, saved: StateDict) -> _Manner:
        """From its fields, as a checkpoint has them.

        Raises:
            InputError: for values that cannot be.
        """
        return cls(
            to_come=whole("to_come", saved["to_come"], 0, _MOST_TRIED),
            away=whole("away", saved["away"], 0, _LEFT),
            pace=real("pace", saved["pace"], least=0.0),
            stride=real("stride", saved["stride"], least=0.0),
            lasted=whole("lasted", saved["lasted"], 0, 2**31 - 1),
            run=whole("run", saved["run"], 1, _MOST_TRIED),
        )

    def forecast(self, wish: float, stable: float, accepted: bool) -> float:
        """The next step to try after one with a forecast, whose own wish is given; `stable` is the CFL bound."""
        self.away, self.lasted = max(0, self.away - 1), self.lasted + accepted
        if self.away > 0 or _COST * wish >= stable:
            return wish
        self.run = min(2 * self.run, _MOST_TRIED) if self.lasted < _JUDGED else _TRIED
        self.to_come, self.pace, self.lasted = self.run, wish, 0
        return max(_COST * wish, self.stride)

    def direct(self, step: float, next_step: float, accepted: bool) -> None:
        """After a direct step, and before one of that size."""
        if accepted:
            self.to_come, self.stride = max(0, self.to_come - 1), step
            if self.to_come <= self.run - _JUDGED and next_step < _COST * self.pace:
                self.to_come, self.away = 0, _LEFT


class MultirateStepper(Stepper):
    """Advances a state whose potential is forecast inside a step."""

    def __init__(
        self,
        comm: MPI.Intracomm,
        flow: SlowFlow,
        state: State,
        time: Time,
        horizon: float,
        stationary: float | None = None,
    ) -> None:
        """See `Stepper`; collective."""
        super().__init__(comm, flow, state, time, horizon, stationary)
        self._slow = flow
        self._forecast = Forecast()
        self._known: tuple[float, Outcome] | None = None  # τ of the last sweep that began or ended a step
        self._failed = False  # the numbers of the last trial
        self._manner = _Manner()

    def state_dict(self) -> StateDict:
        """See `Stepper.state_dict`; with the gradients (L, u) per known time and family, also the last sweep's."""
        self._learn(self.state.tau)
        known = None if self._known is None else [self._known[0], self._known[1].risk]
        return {
            **super().state_dict(),
            "forecast": {"times": self._forecast.times, "gradients": self._forecast.gradients},
            "known": known,
            "manner": asdict(self._manner),
        }

    def load_state_dict(self, saved: StateDict, state: State) -> None:
        """See `Stepper.load_state_dict`."""
        super().load_state_dict(saved, state)
        times = [real("forecast", tau, least=0.0) for tau in saved["forecast"]["times"]]
        if len(times) > POINTS or sorted(set(times)) != times:
            raise InputError(f"forecast = {times}: must be at most {POINTS} increasing times")
        shapes = [theta.shape[:2] for theta in self._slow.units(self.state)[0]]
        gradients = tuple(tuple(gradient) for gradient in saved["forecast"]["gradients"])
        for gradient in gradients:
            if (found := [values.shape for values in gradient]) != shapes:
                raise InputError(f"forecast: arrays of the shapes {found}, not {shapes}")
        if len(gradients) != len(times):
            raise InputError(f"forecast: {len(gradients)} gradients for {len(times)} times")

        self._forecast = Forecast(tuple(times), gradients)
        self._manner = _Manner.from_state(saved["manner"])
        if saved["known"] is not None:
            tau, risk = saved["known"]
            self._known = (real("known", tau), Outcome(real("known", risk), float("nan"), (), gradients[-1]))

    def adaptStep(  # noqa: N802  (called by the TS)
        self, ts: PETSc.TS, _end: float, _u: PETSc.Vec
    ) -> tuple[float, bool]:
        """See `Stepper.adaptStep`; then direct steps or not."""
        stable = np.inf if self._first is None else super()._stable(self._first[0])
        forecasts, tried = self._forecasts, len(self._history)
        wish, accepted = super().adaptStep(ts, _end, _u)
        if self._fixed is not None or len(self._history) == tried:  # there was no trial
            return wish, accepted
        if forecasts:
            self._trial.wish = self._manner.forecast(self._trial.wish, stable, accepted)
        elif self._forecast.ready:
            self._manner.direct(self._trial.step, min(self._trial.wish, stable), accepted)
        return self._trial.wish, accepted

    @property
    def _forecasts(self) -> bool:
        """Is the step under way one with a forecast?"""
        return self._forecast.ready and self._manner.to_come == 0

    def _rate(self, begin: State) -> Rate:
        self._learn(begin.tau)
        if self._known is not None and same_time(self._known[0], begin.tau):
            return self._slow.driven(begin, self._known[1])
        rate = self.flow.rate(begin)
        self._known = (begin.tau, rate.outcome)
        self._learn(begin.tau)
        return rate

    def _learn(self, tau: float) -> None:
        """Let the forecast know the last sweep, if that was at the present time: else its step was not accepted."""
        if self._known is not None and same_time(self._known[0], tau):
            self._forecast = self._forecast.told(self._known[0], _gradient(self._known[1]))

    def _stable(self, fastest: float) -> float:
        return np.inf if self._forecasts else super()._stable(fastest)

    def _stages(self, begin: State, start: Array, step: float, rate: Rate) -> tuple[State, State]:
        if not self._forecasts:
            return super()._stages(begin, start, step, rate)
        try:
            return self._substeps(begin, start, begin.tau + step, rate)
        except ComputationError:
            return self._given_up(begin, rate)

    def _substeps(self, begin: State, start: Array, end: float, rate: Rate) -> tuple[State, State]:
        """The state at τ = end, and the sum of the pair's differences on the way there."""
        base, (fastest, _) = rate.outcome, self._begin(begin)
        tau, first, sum_of_differences = begin.tau, packed(rate), None
        while True:
            if not np.isfinite(fastest):
                raise ComputationError(f"not finite at tau = {tau:.6g}: the transport speed is {fastest}")
            parts = max(1, int(np.ceil((end - tau) / super()._stable(fastest) - 1e-9)))
            step = (end - tau) / parts
            start, difference = pair(self._layout, tau, start, step, first, lambda state: self._foreseen(state, base))
            sum_of_differences = difference if sum_of_differences is None else sum_of_differences + difference
            after = self._layout.state(end if parts == 1 else tau + step, start)
            if parts == 1:
                return after, self._layout.state(begin.tau, sum_of_differences)
            tau, kept = after.tau, limited(self.flow.groups, after)
            if kept is not after:
                start = packed(kept)
            rate = self._foreseen(kept, base)
            first = packed(rate)
            fastest = self._comm.allreduce(rate.speed, op=MPI.MAX)
            del difference, after, kept, rate  # copies of the density that the next step does not need

    def _judged(self, begin: State, rate: Rate, end: State, difference: State) -> tuple[State, float]:
        if not self._forecasts:
            failed, self._failed = self._failed, False
            return (begin, float("inf")) if failed else super()._judged(begin, rate, end, difference)
        try:
            outcome, added = self._surprise(end)
        except ComputationError:
            self._given_up(begin, rate)
            return self._judged(begin, rate, end, difference)
        self._known = (end.tau, outcome)
        added *= (end.tau - begin.tau) * self._forecast.missed(end.tau)
        error = self._size(begin, rate, self._layout.state(begin.tau, packed(difference) + added))
        added += packed(end)
        return limited(self.flow.groups, self._layout.state(end.tau, added)), error

    def _surprise(self, end: State) -> tuple[Outcome, Array]:
        """What a sweep finds at a state, and the rate's vector there less that of the forecast."""
        potential = self._slow.potential(end)
        outcome = potential.outcome
        surprise = packed(self._slow.transport(end, potential))
        del potential
        surprise -= packed(self._foreseen(end, outcome))
        return outcome, surprise

    def _given_up(self, begin: State, rate: Rate) -> tuple[State, State]:
        """Of a step whose numbers failed: try it again, smaller, in the true potential, which has the last word."""
        self._known = (begin.tau, rate.outcome)
        self._forecast = Forecast()
        self._learn(begin.tau)
        self._failed = True
        return begin, begin

    def _foreseen(self, state: State, base: Outcome) -> Rate:
        """The rate at a state in the potential that was forecast for its time; of the rest, the base's outcome."""
        rate = self._slow.driven(state, replace(base, gradient=self._forecast.at(state.tau)))
        return replace(rate, potential=())  # a copy of the density's size, which nobody asks for


def _gradient(outcome: Outcome) -> tuple[Array, ...]:
    assert outcome.gradient is not None  # noqa: S101  (a sweep, not an evaluation)
    return outcome.gradient


class SlowFlow(RightHandSide, Protocol):
    """What the stepper needs of a flow whose potential is forecast; collective."""

    def units(self, state: State) -> tuple[list[Array], Any, Any]:
        """Per family the units' parameters (L, u, d), and more."""

    def potential(self, state: State) -> Potential:
        """The potential at a state; one sweep."""

    def transport(self, state: State, potential: Potential) -> Rate:
        """The rate in it."""

    def driven(self, state: State, outcome: Outcome) -> Rate:
        """The rate in the potential of any outcome."""
