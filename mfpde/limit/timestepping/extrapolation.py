"""What the potential will be: L ∂R/∂w of all units, continued in τ by the polynomial through its last values.

    ĝ(τ) = Σ_i g(τ_i) ∏_{j≠i} (τ − τ_j) / (τ_i − τ_j),    i, j = 1 … 3

At a new time τ₊ the sweep tells g(τ₊); what the forecast missed grew like ω(τ) = ∏_i (τ − τ_i), so that its mean over
the step is (g − ĝ)(τ₊) times that of ω(τ)/ω(τ₊).
Source: Hairer, Nørsett & Wanner, *Solving Ordinary Differential Equations I*, III.1 and III.5 (variable steps).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
POINTS = 3  # a parabola: stable for any potential that the density drives back, and of the order of the pair


@dataclass(frozen=True)
class Forecast:
    """The last values of the gradient: `gradients[i][family]` (L, u) at `times[i]`, in the order of time."""

    times: tuple[float, ...] = ()
    gradients: tuple[tuple[Array, ...], ...] = ()

    @property
    def ready(self) -> bool:
        """Are there enough values for the parabola?"""
        return len(self.times) == POINTS

    def told(self, tau: float, gradient: Sequence[Array]) -> Forecast:
        """With the gradient at one more time, and without the oldest; as it is where that time is known."""
        if tau in self.times:
            return self
        return Forecast((*self.times, tau)[-POINTS:], (*self.gradients, tuple(gradient))[-POINTS:])

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
        """The mean of ω over [τ_3, τ], relative to ω(τ); 3/8 where all times are equally far apart."""

        def grown(time: float) -> float:
            return float(np.prod([(time - known) / (tau - known) for known in self.times]))

        return (4.0 * grown(0.5 * (self.times[-1] + tau)) + 1.0) / 6.0  # Simpson's rule, exact for this cubic
