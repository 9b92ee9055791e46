"""When direct steps take the place of extrapolated ones: a policy, and the counters that it decides by."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mfpde.inputs import real, whole
from mfpde.output.checkpoint.state_dict import StateDict

_MOST = 2**31 - 1


@dataclass(frozen=True)
class DirectCounters:
    """How the last steps went.

    Attributes:
        remaining: direct steps before the next extrapolated one.
        pause: steps before direct ones may be tried again.
        extrapolated_step: the proposed step that led to direct ones.
        direct_step: the last direct step.
        extrapolated: accepted extrapolated steps in a row.
        length: of a series of direct steps.
    """

    remaining: int = 0
    pause: int = 0
    extrapolated_step: float = 0.0
    direct_step: float = 0.0
    extrapolated: int = 0
    length: int = 16

    @classmethod
    def restored(cls, saved: StateDict) -> DirectCounters:
        """From their fields, as a checkpoint has them.

        Raises:
            InputError: for values that cannot be.
        """
        return cls(
            remaining=whole("remaining", saved["remaining"], 0, _MOST),
            pause=whole("pause", saved["pause"], 0, _MOST),
            extrapolated_step=real("extrapolated_step", saved["extrapolated_step"], least=0.0),
            direct_step=real("direct_step", saved["direct_step"], least=0.0),
            extrapolated=whole("extrapolated", saved["extrapolated"], 0, _MOST),
            length=whole("length", saved["length"], 1, _MOST),
        )


@dataclass(frozen=True)
class DirectSteps:
    """Direct steps are tried in series where extrapolated ones fall far below the CFL bound.

    Attributes:
        cost: passes over the samples in a direct step, for one in an extrapolated step.
        shortest: series of direct steps.
        longest: the series is doubled up to this while extrapolation between them fails.
        judged_after: steps of a series before it is compared with what led to it.
        pause: steps without a series after one that did not pay.
    """

    cost: int = 4
    shortest: int = 16
    longest: int = 256
    judged_after: int = 6
    pause: int = 32

    def after_extrapolated(
        self, counters: DirectCounters, proposed: float, stable: float, accepted: bool
    ) -> tuple[DirectCounters, float]:
        """The counters after an extrapolated step, and the next step to try.

        Args:
            counters: before the step.
            proposed: the next step by its error.
            stable: the CFL bound.
            accepted: was it?
        """
        pause, lasted = max(0, counters.pause - 1), counters.extrapolated + accepted
        counters = replace(counters, pause=pause, extrapolated=lasted)
        if pause > 0 or self.cost * proposed >= stable:
            return counters, proposed

        length = min(2 * counters.length, self.longest) if lasted < self.judged_after else self.shortest
        counters = replace(counters, remaining=length, length=length, extrapolated_step=proposed, extrapolated=0)
        return counters, max(self.cost * proposed, counters.direct_step)

    def after_direct(self, counters: DirectCounters, step: float, following: float) -> DirectCounters:
        """The counters after an accepted direct step, and before one of size `following`."""
        counters = replace(counters, remaining=max(0, counters.remaining - 1), direct_step=step)
        judged = counters.remaining <= counters.length - self.judged_after
        if judged and following < self.cost * counters.extrapolated_step:
            return replace(counters, remaining=0, pause=self.pause)
        return counters
