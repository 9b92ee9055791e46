"""Extrapolation of the potential: L ∂R/∂w of all moments, continued in τ by the polynomial through its last values.

    ĝ(τ) = Σ_i g(τ_i) ∏_{j≠i} (τ − τ_j) / (τ_i − τ_j),    i, j = 1 … 3

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


@dataclass(frozen=True)
class Extrapolation:
    """The last values of the gradient: `gradients[i][family]` (L, u) at `times[i]`, in the order of time."""

    times: tuple[float, ...] = ()
    gradients: tuple[tuple[Array, ...], ...] = ()

    @classmethod
    def restored(cls, saved: StateDict, shapes: Sequence[tuple[int, ...]]) -> Extrapolation:
        """From its fields, as a checkpoint has them, with gradients of these shapes.

        Raises:
            InputError: for values that cannot be.
        """
        times = tuple(real("extrapolation", tau, least=0.0) for tau in saved["times"])
        if len(times) > POINTS or tuple(sorted(set(times))) != times:
            raise InputError(f"extrapolation = {list(times)}: must be at most {POINTS} increasing times")

        gradients = tuple(tuple(gradient) for gradient in saved["gradients"])
        if len(gradients) != len(times):
            raise InputError(f"extrapolation: {len(gradients)} gradients for {len(times)} times")
        for gradient in gradients:
            if (found := [values.shape for values in gradient]) != list(shapes):
                raise InputError(f"extrapolation: arrays of the shapes {found}, not {list(shapes)}")
        return cls(times, gradients)

    @property
    def ready(self) -> bool:
        """Are there enough values for the parabola?"""
        return len(self.times) == POINTS

    def extended(self, tau: float, gradient: Sequence[Array]) -> Extrapolation:
        """With the gradient at one more time, and without the oldest; unchanged where that time is known."""
        if tau in self.times:
            return self
        return Extrapolation((*self.times, tau)[-POINTS:], (*self.gradients, tuple(gradient))[-POINTS:])

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
