"""Extrapolation of the potential: L ∂R/∂w of all moments, continued in τ by the polynomial through its last k values.

    ĝ(τ) = Σ_i g(τ_i) ∏_{j≠i} (τ − τ_j) / (τ_i − τ_j),    i, j = 1 … k

Once g(τ₊) is known at a new time τ₊, the error of the extrapolation grew like ω(τ) = ∏_i (τ − τ_i), so that its mean
over the step is (g − ĝ)(τ₊) times that of ω(τ)/ω(τ₊).
Source: Hairer, Nørsett & Wanner, *Solving Ordinary Differential Equations I*, III.1 and III.5 (variable steps).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import real
from mfpde.output.checkpoint.state_dict import StateDict

Array = NDArray[np.float64]
POINTS = 3  # a parabola: stable for any potential that the density drives back, and of the order of the pair
_PLACES, _SHARES = np.polynomial.legendre.leggauss(4)  # exact for polynomials of degree 7


@dataclass(frozen=True)
class Extrapolation:
    """The last values of the gradient: `gradients[i][family]` (L, u) at `times[i]`, in the order of time.

    Attributes:
        times: τ_i.
        gradients: g(τ_i).
        points: as many are kept at most.
    """

    times: tuple[float, ...] = ()
    gradients: tuple[tuple[Array, ...], ...] = ()
    points: int = POINTS

    @classmethod
    def restored(cls, saved: StateDict, shapes: Sequence[tuple[int, ...]], points: int = POINTS) -> Extrapolation:
        """From its fields, as a checkpoint has them, with gradients of these shapes.

        Raises:
            InputError: for values that cannot be.
        """
        times = tuple(real("extrapolation", tau, least=0.0) for tau in saved["times"])
        if len(times) > points or tuple(sorted(set(times))) != times:
            raise InputError(f"extrapolation = {list(times)}: must be at most {points} increasing times")

        gradients = tuple(tuple(gradient) for gradient in saved["gradients"])
        if len(gradients) != len(times):
            raise InputError(f"extrapolation: {len(gradients)} gradients for {len(times)} times")
        for gradient in gradients:
            if (found := [values.shape for values in gradient]) != list(shapes):
                raise InputError(f"extrapolation: arrays of the shapes {found}, not {list(shapes)}")
        return cls(times, gradients, points)

    @property
    def ready(self) -> bool:
        """Are there as many values as are kept?"""
        return len(self.times) == self.points

    def last(self, count: int) -> Extrapolation:
        """The polynomial through the last values alone."""
        first = max(0, len(self.times) - count)
        return Extrapolation(self.times[first:], self.gradients[first:], self.points)

    def extended(self, tau: float, gradient: Sequence[Array]) -> Extrapolation:
        """With the gradient at one more time, and without the oldest; unchanged where that time is known."""
        if tau in self.times:
            return self
        times, gradients = (*self.times, tau), (*self.gradients, tuple(gradient))
        return Extrapolation(times[-self.points :], gradients[-self.points :], self.points)

    def at(self, tau: float) -> tuple[Array, ...]:
        """ĝ(τ) per family, (L, u)."""
        weights = [
            np.prod([(tau - other) / (here - other) for other in self.times if other != here]) for here in self.times
        ]
        return tuple(
            np.asarray(sum(weight * values for weight, values in zip(weights, family, strict=True)))
            for family in zip(*self.gradients, strict=True)
        )

    def missed(self, tau: float) -> float:
        """The mean of ω over [τ_k, τ], relative to ω(τ); 3/8 for three times that are equally far apart."""
        last = self.times[-1]
        places = last + 0.5 * (tau - last) * (1.0 + _PLACES)
        grown = np.prod([(places - known) / (tau - known) for known in self.times], axis=0)
        return float(0.5 * _SHARES @ grown)
