"""The strong-stability-preserving pair SSP43(2).

    u¹ = u + Δ/2 f(u),  u² = u¹ + Δ/2 f(u¹),  u³ = ⅔ u + ⅓ (u² + Δ/2 f(u²)),  u⁺ = u³ + Δ/2 f(u³)

is of order 3 with four stages and SSP coefficient 2; weights (1, 1, 1, 1)/4 on the same stages give order 2, and the
difference estimates the error.
Sources: Kraaijevanger, *BIT* 31 (1991); Conde, Fekete & Shadid, arXiv 1806.08693.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.flow import Rate
from mfpde.limit.layout import Layout, packed
from mfpde.limit.state import State

Array = NDArray[np.float64]
LIMITS = (2.0, 0.590, 0.306, 0.191)  # ν_p of the pair's four stages, p = 0 … 3
_SAFETY = 0.9


def pair(
    layout: Layout, begin: State, start: Array, step: float, rate: Rate, slope: Callable[[State], Rate]
) -> tuple[State, State]:
    """The state after a step, and how far the pair's other method is from it.

    Args:
        layout: of the vector.
        begin: the state.
        start: its vector, which stays as it is.
        step: Δ.
        rate: of the state, f(u).
        slope: f.
    """
    tau, half = begin.tau, 0.5 * step
    k = packed(rate)
    total = k.copy()  # of the first three, all that is asked of them later: a copy of the density each
    stage = start + half * k
    for ahead in (half, step):
        k = packed(slope(layout.state(tau + ahead, stage)))
        total += k
        stage += half * k
    stage *= 1.0 / 3.0
    stage += (2.0 / 3.0) * start
    k = packed(slope(layout.state(tau + half, stage)))
    stage += half * k
    k *= 3.0
    k -= total
    k *= step / 12.0
    return layout.state(tau + step, stage), layout.state(tau, k)


def stable_step(degree: int, speed: float, limits: Sequence[float] = LIMITS) -> float:
    """The CFL bound Δ = 2 ν_p / speed of a method, the pair unless said, with DG_p.

    ν_p is the largest u Δ/h for which all Fourier modes of upwind DG_p on a uniform grid of cells h are damped
    (computed from the scheme's symbol, a test repeats it), times 0.9 for cells that are not a uniform grid's.

    Args:
        degree: p.
        speed: largest Σ_facets ∮a / |K|, which is 2u/h on that grid.
        limits: ν_p of the method.
    """
    return float(np.inf) if speed == 0.0 else 2.0 * _SAFETY * limits[degree] / speed
