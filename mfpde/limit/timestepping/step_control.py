"""How long the next step is: by the error of the last one, by the time that is left, and by what all ranks report."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.gradient_flow import Rate

Array = NDArray[np.float64]
_SAME = 1e-12  # relative distance of times that are one


@dataclass(frozen=True)
class StepControl:
    """The elementary controller for an estimate of third order (Hairer, Nørsett & Wanner I, II.4).

    Attributes:
        caution: of the step that would meet the tolerance exactly.
        least_factor: by which a step is followed by a shorter one, at least.
        most_factor: by which a step is followed by a longer one, at most.
        collapsed: a step below this part of the horizon can no longer reach the end.
    """

    caution: float = 0.85
    least_factor: float = 0.2
    most_factor: float = 3.0
    collapsed: float = 1e-12

    def proposed(self, step: float, error: float, tolerance: float, accepted: bool) -> float:
        """The step after one with this error; half of it where there are no numbers."""
        if not np.isfinite(error):
            return 0.5 * step
        growth = self.caution * (tolerance / max(error, 1e-300)) ** (1.0 / 3.0)
        return step * float(np.clip(growth, self.least_factor, self.most_factor if accepted else 1.0))


@dataclass(frozen=True)
class Beginning:
    """What a step begins with.

    Attributes:
        speed: the largest CFL speed of all ranks.
        rate: ∂_τ of the state, without its potential, which the stages do not need.
        dissipation: (1/L) Σ∫|ρ||∇V|²; zero where no end at stationarity is asked for.
    """

    speed: float
    rate: Rate
    dissipation: float


@dataclass
class Trial:
    """The step under way.

    Attributes:
        proposed: the step to try next.
        step: its size.
        bound: what bounds it.
        error: the estimate.
        common: the part of the vector at its end that is common to all ranks.
    """

    proposed: float
    step: float = 0.0
    bound: str = ""
    error: float = float("nan")
    common: Array = field(default_factory=lambda: np.empty(0))


def same_time(one: float, other: float) -> bool:
    """Are two τ one but for rounding, as a multiple of `every` and a horizon may be?"""
    return abs(one - other) <= _SAME * max(abs(one), abs(other))


def equal_steps(tau: float, target: float, longest: float) -> tuple[float, int]:
    """The first of the fewest equal steps that meet a target, none above the longest; and their number."""
    remaining = target - tau
    parts = max(1, int(np.ceil(remaining / longest - 1e-9)))
    step = remaining / parts
    # The last one must not fall short by rounding: PETSc would add a step of one digit, and the next follow it.
    return (step if parts > 1 or tau + step >= target else float(np.nextafter(step, np.inf))), parts


def speeds_and_shares(one: tuple[float, Array], other: tuple[float, Array]) -> tuple[float, Array]:
    """MPI operator: largest speed, summed dissipation."""
    return max(one[0], other[0]), one[1] + other[1]
