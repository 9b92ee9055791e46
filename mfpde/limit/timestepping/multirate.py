"""Steps of the potential, and inside each of them steps of the transport.

The transport of the density is bound by the CFL condition, while the potential, whose pass over all samples is the more
expensive part, changes slowly. So between two passes the gradient of the risk is extrapolated (`extrapolation`), and
the density goes through

    ∂_τ ρ̂ = f(ρ̂, V̂(τ)),    V̂ the potential of ĝ(τ) in the moving frames,

by as many steps of SSP43(2) as the CFL bound requires, to ρ̂*. The pass there gives the potential V, so the error of the
extrapolation, and so what is to be added to first order, with μ of `Extrapolation.missed`:

    ρ̂ = ρ̂* + Δ μ (f(ρ̂*, V) − f(ρ̂*, V̂)).

V is kept for the next step (predict, evaluate, correct). The error of a step is the size of what was added, together
with the differences of the pair: that of ρ̂*, so that ρ̂ is better. The step obeys it alone, and is tried again where it
is too large. The first steps, before there are values to extrapolate, are those of `stepper`. One pass a step, instead
of four times as many as the CFL bound requires.

A potential that the density drives back fast bounds the extrapolated steps, and more tightly than those of SSP43. So
where they fall below a quarter of the CFL bound, direct steps, those of `stepper` with their four passes, are tried for
a while, and left again if they are less than four times as long (`direct_steps`).
Sources: Gear & Wells, *BIT* 24 (1984), 484–502 (slowest first); Hairer, Nørsett & Wanner, *Solving Ordinary
Differential Equations I*, III.1; docs/equations.md.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from mfpde.errors import ComputationError
from mfpde.inputs import real
from mfpde.limit.backprop import Outcome
from mfpde.limit.gradient_flow import Rate
from mfpde.limit.state import State
from mfpde.limit.timestepping.direct_steps import DirectCounters, DirectSteps
from mfpde.limit.timestepping.extrapolation import Extrapolation
from mfpde.limit.timestepping.runge_kutta import ssp43_step
from mfpde.limit.timestepping.state_vector import packed
from mfpde.limit.timestepping.step_control import same_time
from mfpde.limit.timestepping.stepper import Stepper
from mfpde.output.checkpoint.state_dict import StateDict

Array = NDArray[np.float64]


class MultirateStepper(Stepper):
    """Advances a state whose potential is extrapolated inside a step."""

    _extrapolation = Extrapolation()
    _known: tuple[float, Outcome] | None = None  # τ of the last pass that began or ended a step
    _direct, _counters = DirectSteps(), DirectCounters()

    def state_dict(self) -> StateDict:
        """See `Stepper.state_dict`; with the gradients (L, u) per known time and family, also the last pass's."""
        self._record(self.state.tau)
        known = None if self._known is None else [self._known[0], self._known[1].risk]
        return {
            **super().state_dict(),
            "extrapolation": asdict(self._extrapolation),
            "known": known,
            "direct_steps": asdict(self._counters),
        }

    def load_state_dict(self, saved: StateDict, state: State) -> None:
        """See `Stepper.load_state_dict`."""
        super().load_state_dict(saved, state)
        shapes = [share.value.shape for share in self.flow.moments(self.state)[1]]
        self._extrapolation = Extrapolation.restored(saved["extrapolation"], shapes)
        self._counters = DirectCounters.restored(saved["direct_steps"])
        if saved["known"] is not None:
            tau, risk = saved["known"]
            gradient = self._extrapolation.gradients[-1]
            self._known = (real("known", tau), Outcome(real("known", risk), float("nan"), (), gradient))

    def adaptStep(  # noqa: N802  (called by the TS)
        self, ts: PETSc.TS, _end: float, _u: PETSc.Vec
    ) -> tuple[float, bool]:
        """See `Stepper.adaptStep`; then direct steps or not."""
        stable = np.inf if self._first is None else super()._stable(self._first.speed)
        extrapolated, tried = self._extrapolates, len(self._history)
        proposed, accepted = super().adaptStep(ts, _end, _u)
        if self._fixed is not None or len(self._history) == tried:  # there was no trial
            return proposed, accepted

        if extrapolated:
            self._counters, proposed = self._direct.after_extrapolated(self._counters, proposed, stable, accepted)
            self._trial.proposed = proposed
        elif self._extrapolation.ready and accepted:
            self._counters = self._direct.after_direct(self._counters, self._trial.step, min(proposed, stable))
        return proposed, accepted

    @property
    def _extrapolates(self) -> bool:
        """Is the step under way an extrapolated one?"""
        return self._extrapolation.ready and self._counters.remaining == 0

    def _rate(self, begin: State) -> Rate:
        self._record(begin.tau)
        if self._known is not None and same_time(self._known[0], begin.tau):
            return self.flow.driven(begin, self._known[1])
        rate = self.flow.rate(begin)
        self._known = (begin.tau, rate.outcome)
        self._record(begin.tau)
        return rate

    def _record(self, tau: float) -> None:
        """Extrapolate from the last pass too, if that was at the present time: else its step was not accepted."""
        if self._known is not None and same_time(self._known[0], tau):
            self._extrapolation = self._extrapolation.extended(self._known[0], self._known[1].slopes)

    def _stable(self, fastest: float) -> float:
        return np.inf if self._extrapolates else super()._stable(fastest)

    def _stages(self, begin: State, start: Array, step: float, rate: Rate) -> tuple[State, State]:
        if not self._extrapolates:
            return super()._stages(begin, start, step, rate)
        return self._substeps(begin, start, begin.tau + step, rate)

    def _substeps(self, begin: State, start: Array, end: float, rate: Rate) -> tuple[State, State]:
        """The state at τ = end, and the sum of the pair's differences on the way there."""
        base, fastest = rate.outcome, self._begin(begin).speed

        def slope(state: State) -> Array:
            return packed(self._extrapolated(state, base).parts)

        tau, first, sum_of_differences = begin.tau, packed(rate.parts), None
        while True:
            if not np.isfinite(fastest):
                raise ComputationError(f"not finite at tau = {tau:.6g}: the transport speed is {fastest}")

            parts = max(1, int(np.ceil((end - tau) / super()._stable(fastest) - 1e-9)))
            step = (end - tau) / parts
            start, difference = ssp43_step(self._vector, tau, start, step, first, slope)
            sum_of_differences = difference if sum_of_differences is None else sum_of_differences + difference
            after = self._vector.state(end if parts == 1 else tau + step, start)
            if parts == 1:
                return after, self._vector.state(begin.tau, sum_of_differences)

            tau, kept = after.tau, self.flow.limited(after)
            if kept is not after:
                start = packed(kept.parts)
            rate = self._extrapolated(kept, base)
            first = packed(rate.parts)
            fastest = self._comm.allreduce(rate.speed, op=MPI.MAX)
            del difference, after, kept, rate  # copies of the density that the next step does not need

    def _judged(self, begin: State, rate: Rate, end: State, difference: State) -> tuple[State, float]:
        if not self._extrapolates:
            return super()._judged(begin, rate, end, difference)
        outcome, added = self._correction(end)
        self._known = (end.tau, outcome)
        added *= (end.tau - begin.tau) * self._extrapolation.missed(end.tau)
        error = self._size(begin, rate, self._vector.state(begin.tau, packed(difference.parts) + added))
        added += packed(end.parts)
        return self.flow.limited(self._vector.state(end.tau, added)), error

    def _correction(self, end: State) -> tuple[Outcome, Array]:
        """The outcome of a pass at a state, and the rate's vector there less that by extrapolation."""
        potential = self.flow.potential(end)
        outcome = potential.outcome
        correction = packed(self.flow.transport(end, potential).parts)
        del potential
        correction -= packed(self._extrapolated(end, outcome).parts)
        return outcome, correction

    def _failed(self, begin: State, rate: Rate) -> None:
        """A step whose numbers failed is tried again, smaller and in the true potential, which decides."""
        super()._failed(begin, rate)
        self._known = (begin.tau, rate.outcome)
        self._extrapolation = Extrapolation()
        self._record(begin.tau)

    def _extrapolated(self, state: State, base: Outcome) -> Rate:
        """The rate at a state in the potential extrapolated to its time; of the rest, the base's outcome."""
        rate = self.flow.driven(state, replace(base, gradient=self._extrapolation.at(state.tau)))
        return replace(rate, potential=())  # a copy of the density's size, which is not needed
