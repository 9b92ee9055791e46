"""Steps of the potential, and inside each of them steps of the transport.

The transport of the density is bound by the CFL condition, while the potential, whose sweep over all samples is the
dearer part, changes slowly. So between two sweeps the gradient of the risk is a forecast (`limit.forecast`), and the
density goes through

    ∂_τ ρ̂ = f(ρ̂, V̂(τ)),    V̂ the potential of ĝ(τ) in the moving frames,

by as many steps of the pair SSP43(2) as the CFL bound asks for. The sweep at the end is that of the next step's
beginning; it also tells by how much the forecast was wrong. The error of a step is the sum of both parts: of the
differences of the pair, and of Δ times the mean of f(ρ̂, V) − f(ρ̂, V̂); the step obeys it alone, and is tried again where
it is too large. The first steps, before there are values to continue, are those of `limit.stepper`. One sweep a step,
instead of four times as many as the CFL bound asks for.
Sources: Gear & Wells, *BIT* 24 (1984), 484–502 (slowest first); mathematics.md, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.errors import ComputationError, InputError
from mfpde.limit.flow import Potential, Rate
from mfpde.limit.forecast import POINTS, Forecast
from mfpde.limit.state import State, limited
from mfpde.limit.stepper import RightHandSide, Stepper, rate_values
from mfpde.limit.sweep import Outcome
from mfpde.settings import Time

Array = NDArray[np.float64]
_SAME = 1e-12  # relative distance of times that are one


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
        self._ahead: tuple[State, Rate] | None = None  # the end of the last trial, with its rate
        self._failed = False  # the numbers of the last trial

    def memory(self) -> dict[str, Any]:
        """See `Stepper.memory`."""
        return {**super().memory(), "forecast": list(self._forecast.times)}

    def recall(self, memory: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """See `Stepper.recall`."""
        super().recall(memory, arrays)
        times = [float(tau) for tau in memory["forecast"]]
        if len(times) > POINTS or sorted(set(times)) != times or not np.isfinite(times).all():
            raise InputError(f"forecast = {times}: must be at most {POINTS} increasing times")
        shapes = [theta.shape[:2] for theta in self._slow.units(self.state)[0]]
        names = [[_name(i, place) for place in range(len(shapes))] for i in range(len(times))]
        gradients = tuple(tuple(arrays[name] for name in each) for each in names)
        for known in gradients:
            if [values.shape for values in known] != shapes:
                raise InputError(f"forecast: arrays of the shapes {[values.shape for values in known]}, not {shapes}")
        self._forecast = Forecast(tuple(times), gradients)

    def arrays(self) -> dict[str, Array]:
        """See `Stepper.arrays`: g (L, u) per known time and family."""
        return {
            _name(i, place): values
            for i, gradient in enumerate(self._forecast.gradients)
            for place, values in enumerate(gradient)
        }

    def _rate(self, begin: State) -> Rate:
        known, self._ahead = self._ahead, None
        near = known is not None and abs(known[0].tau - begin.tau) <= _SAME * max(1.0, begin.tau)
        rate = known[1] if known is not None and near else self.flow.rate(begin)
        self._forecast = self._forecast.told(begin.tau, _gradient(rate.outcome))
        return rate

    def _stable(self, fastest: float) -> float:
        return np.inf if self._forecast.ready else super()._stable(fastest)

    def _stages(self, begin: State, start: Array, step: float, rate: Rate) -> tuple[State, State]:
        if not self._forecast.ready:
            return super()._stages(begin, start, step, rate)
        try:
            return self._substeps(begin, start, begin.tau + step, rate)
        except ComputationError:
            return self._given_up(begin, rate)

    def _substeps(self, begin: State, start: Array, end: float, rate: Rate) -> tuple[State, State]:
        """The state at τ = end, and the sum of the pair's differences on the way there."""
        base, (fastest, _) = rate.outcome, self._begin(begin)
        doubt = np.zeros_like(start)
        while True:
            if not np.isfinite(fastest):
                raise ComputationError(f"not finite at tau = {begin.tau:.6g}: the transport speed is {fastest}")
            remaining = end - begin.tau
            parts = max(1, int(np.ceil(remaining / super()._stable(fastest) - 1e-9)))
            slope = lambda state: self._foreseen(state, base)  # noqa: E731
            after, difference = self._pair(begin, start, remaining / parts, rate, slope)
            doubt += rate_values(difference)
            if parts == 1:
                return replace(after, tau=end), self._unpack(begin.tau, doubt)
            begin = limited(self.flow.groups, after)
            start, rate = rate_values(begin), slope(begin)
            fastest = self._comm.allreduce(rate.speed, op=MPI.MAX)

    def _given_up(self, begin: State, rate: Rate) -> tuple[State, State]:
        """Of a step whose numbers failed: try it again, smaller, in the true potential, which has the last word."""
        self._forecast = Forecast().told(begin.tau, _gradient(rate.outcome))
        self._failed = True
        return begin, begin

    def _size(self, begin: State, rate: Rate, end: State, difference: State) -> float:
        if not self._forecast.ready:
            failed, self._failed = self._failed, False
            return float("inf") if failed else super()._size(begin, rate, end, difference)
        try:
            potential = self._slow.potential(end)
            true, foreseen = self._slow.transport(end, potential), self._foreseen(end, potential.outcome)
        except ComputationError:
            self._given_up(begin, rate)
            return self._size(begin, rate, end, difference)
        self._ahead = (end, true)
        missed = (end.tau - begin.tau) * self._forecast.missed(end.tau)
        both = rate_values(difference) + missed * (rate_values(true) - rate_values(foreseen))
        return super()._size(begin, rate, end, self._unpack(begin.tau, both))

    def _foreseen(self, state: State, base: Outcome) -> Rate:
        """The rate at a state in the potential that was forecast for its time; of the rest, the base's outcome."""
        return self._slow.driven(state, replace(base, gradient=self._forecast.at(state.tau)))


def _name(i: int, place: int) -> str:
    return f"forecast/{i}/{place}"


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
