"""The march of a stepper to the τ of a report, which an observer may pause."""

from __future__ import annotations

from typing import Protocol

from mfpde.limit.descent.descent_stepper import DescentStepper
from mfpde.limit.state import State
from mfpde.limit.timestepping.stepper import Stepper

type AnyStepper = Stepper | DescentStepper
"""What marches: time steps of the flow, or the steps of a method."""

_ARRIVED = 0.5  # what a poll answers beyond the τ to be reached: less than any request of a watch


class Watch(Protocol):
    """The interface of an observer that may pause a march; both methods are called on every rank."""

    def poll(self) -> float:
        """1 or more to pause, else 0; the largest answer of all ranks counts."""

    def pause(self, request: float) -> None:
        """Between two steps: save, and raise to end the run. `request` is that answer."""


def march(stepper: AnyStepper, tau: float, watch: Watch | None = None) -> State | None:
    """March to τ, or in `dense` steps beyond it, pausing when asked; collective.

    Steps that ended at the reports would be shorter, the more reports there are, and so have another error.

    Args:
        stepper: see `Stepper`.
        tau: to be reached, at most its horizon.
        watch: may pause the march.

    Returns:
        The state at τ; None when the march ended before it, see `Stepper.advance`.

    Raises:
        ComputationError: as `Stepper.advance` does.
    """

    def poll() -> float:
        arrived = _ARRIVED if stepper.is_at_or_beyond(tau) else 0.0
        return max(arrived, 0.0 if watch is None else watch.poll())

    stepper.poll = poll
    while not stepper.is_at_or_beyond(tau):
        if stepper.advance(stepper.horizon if stepper.dense else tau) or stepper.pause_request == _ARRIVED:
            continue
        if watch is None or stepper.pause_request == 0.0:
            return None
        watch.pause(stepper.pause_request)
    return stepper.at(tau)
