"""The explicit Runge–Kutta pairs of the time steps, on the vector of a state.

SSP43(2), strong-stability preserving, for densities on meshes:

    u¹ = u + Δ/2 f(u),  u² = u¹ + Δ/2 f(u¹),  u³ = ⅔ u + ⅓ (u² + Δ/2 f(u²)),  u⁺ = u³ + Δ/2 f(u³)

is of order 3 with four stages and SSP coefficient 2; weights (1, 1, 1, 1)/4 on the same stages give order 2, and the
difference estimates the error. DOPRI5(4), the pair of Dormand and Prince, for the motion of nodes in a given potential.
Sources: Kraaijevanger, *BIT* 31 (1991); Conde, Fekete & Shadid, arXiv 1806.08693; Hairer, Nørsett & Wanner, *Solving
Ordinary Differential Equations I*, II.5, table 5.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.state import State
from mfpde.limit.timestepping.state_vector import StateVector
from mfpde.parallel.compilation import kernel

Array = NDArray[np.float64]
LIMITS = (2.0, 0.590, 0.306, 0.191)  # ν_p of the pair's four stages, p = 0 … 3
_SAFETY = 0.9
_CHUNK = 2048  # values that are combined at a time, so that they stay in the cache

# Of the pair of Dormand and Prince.
_PLACES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
_STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
_WEIGHTS = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
_DIFFERENCE = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)  # order 5 less order 4


def ssp43_step(
    vector: StateVector, tau: float, start: Array, step: float, first: Array, slope: Callable[[State], Array]
) -> tuple[Array, Array]:
    """The values after a step, and how far the pair's other method is from them.

    The values of a vector are as large as the density; no more of them are held at a time than are needed.

    Args:
        vector: of the state.
        tau: τ at the start.
        start: u, which is not changed.
        step: Δ.
        first: f(u), which is overwritten.
        slope: f, the values of the rate at a state.
    """
    half, total = 0.5 * step, first  # of the first three rates only the sum is needed later
    stage = half * first
    stage += start
    for ahead in (half, step):
        k = slope(vector.state(tau + ahead, stage))
        total += k
        k *= half
        stage += k
        del k

    stage *= 1.0 / 3.0
    stage += (2.0 / 3.0) * start
    k = slope(vector.state(tau + half, stage))
    stage += half * k

    k *= 3.0
    k -= total
    k *= step / 12.0
    return stage, k


def dormand_prince_step(
    vector: StateVector, tau: float, start: Array, step: float, first: Array, slope: Callable[[State], Array]
) -> tuple[Array, Array, Array]:
    """The values after a step, how far the method of order 4 is from them, and the rate there.

    Args:
        vector: of the state.
        tau: τ at the start.
        start: u, which is not changed.
        step: Δ.
        first: f(u).
        slope: f, the values of the rate at a state.
    """
    rates = np.empty((len(_DIFFERENCE), start.size))
    rates[0] = first
    for number, (node, row) in enumerate(zip(_PLACES[1:], _STAGES[1:], strict=True), start=1):
        stage = _advanced(start, step, np.array(row), rates)
        rates[number] = slope(vector.state(tau + node * step, stage))

    end = _advanced(start, step, np.array(_WEIGHTS), rates)
    rates[-1] = slope(vector.state(tau + step, end))
    return end, _advanced(np.zeros_like(start), step, np.array(_DIFFERENCE), rates), rates[-1].copy()


@kernel()
def _advanced(start: Array, step: float, weights: Array, rates: Array) -> Array:
    """u + Δ Σ_k w_k f_k (n,), in one pass through memory."""
    found = np.empty_like(start)
    for begin in range(0, start.size, _CHUNK):
        end = min(begin + _CHUNK, start.size)
        found[begin:end] = 0.0
        for k in range(weights.size):
            if weights[k] != 0.0:
                for i in range(begin, end):
                    found[i] += weights[k] * rates[k, i]
        for i in range(begin, end):
            found[i] = start[i] + step * found[i]
    return found


def stable_step(degree: int, speed: float, limits: Sequence[float] = LIMITS) -> float:
    """The CFL bound Δ = 2 ν_p / speed of a method, by default SSP43, with DG_p.

    ν_p is the largest u Δ/h for which all Fourier modes of upwind DG_p on a uniform grid of cells h are damped
    (computed from the scheme's symbol, a test repeats it), times 0.9 for cells that are not a uniform grid's.

    Args:
        degree: p.
        speed: largest Σ_facets ∮a / |K|, which is 2u/h on that grid.
        limits: ν_p of the method.
    """
    return float(np.inf) if speed == 0.0 else 2.0 * _SAFETY * limits[degree] / speed
