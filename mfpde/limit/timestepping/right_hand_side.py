"""What the steppers ask of a flow; every method is collective. `limit.gradient_flow` and `diffusive_flow` have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.backprop import Outcome
from mfpde.limit.gradient_flow import Potential, Rate
from mfpde.limit.state import State
from mfpde.output.checkpoint.state_dict import StateDict
from mfpde.parallel.exact_sum import Share

Array = NDArray[np.float64]


class RightHandSide(Protocol):
    """Of every stepper."""

    @property
    def degree(self) -> int:
        """The polynomial degree on which the CFL bound depends."""

    def regrid(self, state: State) -> State:
        """A state to step from in the place of this one; the same object where nothing is to be done."""

    def limited(self, state: State) -> State:
        """A nonnegative state in the place of this one, where that is asked for; else the same object."""

    def rate(self, state: State) -> Rate:
        """∂_τ of a state, and this rank's largest CFL speed."""

    def dissipation(self, state: State, rate: Rate) -> Share:
        """This rank's share of (1/L) Σ∫|ρ||∇V|² at a state with this rate."""

    def error(self, state: State, rate: Rate, difference: State) -> float:
        """The relative size, equal on every rank, of a difference to a state with this rate."""


class SlowRightHandSide(RightHandSide, Protocol):
    """Of a stepper that extrapolates the potential."""

    def moments(self, state: State) -> tuple[list[Array], Any, Any]:
        """Per family the parameters (L, u, d) of the distinct nodes, and more."""

    def potential(self, state: State) -> Potential:
        """The potential at a state; one pass over the samples."""

    def transport(self, state: State, potential: Potential) -> Rate:
        """The rate in it."""

    def driven(self, state: State, outcome: Outcome) -> Rate:
        """The rate in the potential of any outcome."""


class ImplicitRightHandSide(RightHandSide, Protocol):
    """Of a stepper that treats diffusion implicitly."""

    def diffuse(self, state: State) -> tuple[Array, ...]:
        """g of every part."""

    def implicit(self, right: State, step: float, guess: State) -> State:
        """The state with densities u, u − t g(u) = those of `right`, in its frames."""

    def state_dict(self) -> list[StateDict | None]:
        """What the next solution depends on besides its arguments."""

    def load_state_dict(self, saved: Sequence[StateDict | None]) -> None:
        """Go on from what `state_dict` gave."""
