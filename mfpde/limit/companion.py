"""Another solve of the same problem, marched alongside, from which the error of the risk is estimated.

A *coarser* companion costs a fraction of the run, and every run has one. Where errors fall by a factor F from the
coarser solve to the run's,

    R − R_coarser = (1 − F)(R − R*),        so that        |R − R*| = |R − R_coarser| / (F − 1),

with R* the exact risk; `specification.coarsened` says what is coarser, and F. Where nodes have moved so far apart that
every other one no longer resolves the density, errors are taken to fall with the second power of the cells. A
*finer* companion costs several times the run and assumes no order: |R − R*| ≈ |R − R_finer|. Both solve the equation,
so errors grow or decay along the flow in the estimate as they do in the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from mfpde.errors import ComputationError, DiskError
from mfpde.inputs import truth
from mfpde.limit.gradient_flow import GradientFlow
from mfpde.limit.march import AnyStepper, Watch, march
from mfpde.output.checkpoint.state_dict import StateDict

_NAN = float("nan")


class Solving(Protocol):
    """What a companion asks of its solver."""

    flow: GradientFlow
    stepper: AnyStepper

    def state_dict(self) -> StateDict:
        """All that determines its future."""

    def load_state_dict(self, saved: StateDict) -> None:
        """Go on from that."""


class Companion:
    """A solver that is marched to the reports of another one; its methods are collective.

    Attributes:
        solver: of the coarser or finer problem.
        resolved: error of the run over the distance of the two risks: 1/(F − 1), or 1 for a finer companion.
        unresolved: the same where densities are not resolved.
        needed: does the run end where the companion fails? If not, there is no estimate from there on.
        failure: why there is none, in one line; empty as long as there is one.
        announced: has `news` said so?
    """

    def __init__(self, solver: Solving, resolved: float, unresolved: float, needed: bool) -> None:
        """A companion at the start.

        Args:
            solver: see above.
            resolved: see above.
            unresolved: see above.
            needed: see above.
        """
        self.solver = solver
        self.resolved = resolved
        self.unresolved = unresolved
        self.needed = needed
        self.failure = ""
        self.announced = False

    def march(self, tau: float, watch: Watch | None) -> None:
        """Bring it to τ, pausing when asked.

        Raises:
            ComputationError: when its numbers fail and the run needs it.
        """
        if not self.failure:
            with self._failing():
                self.solver.stepper.resolve()
                march(self.solver.stepper, tau, watch)
            self.solver.stepper.forget()  # steps.csv has those of the run

    def error(self, tau: float, risk: float, resolved: bool) -> float:
        """The estimated error of a risk at τ, which it is marched to if need be; nan where it cannot be known.

        Args:
            tau: at most the horizon.
            risk: of the run.
            resolved: do its errors fall by F, or as with second order?

        Raises:
            ComputationError: when its numbers fail and the run needs it.
        """
        self.march(tau, None)
        found, stepper = _NAN, self.solver.stepper
        with self._failing():
            if not self.failure and stepper.knows(tau):
                found = abs(risk - self.solver.flow.potential(stepper.at(tau)).outcome.risk)
        return found * (self.resolved if resolved else self.unresolved)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Where numbers fail, there is no estimate from there on, or the run ends that needs it."""
        try:
            yield
        except DiskError:
            raise
        except ComputationError as error:
            if self.needed:
                raise
            self.failure = str(error)

    def news(self, tau: float) -> list[str]:
        """A line for the user, at the first report without an estimate; otherwise none."""
        if not self.failure or self.announced:
            return []
        self.announced = True
        return [
            f"warning: from tau = {tau:.6g} on the error of the risk is not estimated: the coarser solve alongside "
            f"ended ({self.failure}); --estimate-error compares with a finer one"
        ]

    def state_dict(self) -> StateDict:
        """For a checkpoint."""
        known = {} if self.failure else {"solver": self.solver.state_dict()}
        return {"failure": self.failure, "announced": self.announced, **known}

    def load_state_dict(self, saved: StateDict) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            InputError: on every rank, for what does not fit here; other exceptions where `checkpoint_errors` is not.
        """
        self.failure, self.announced = str(saved["failure"]), truth("announced", saved["announced"])
        if not self.failure:
            self.solver.load_state_dict(saved["solver"])
