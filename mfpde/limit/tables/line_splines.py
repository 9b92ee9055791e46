"""Splines of degree 7 along one coordinate, by the polynomials of their intervals; compiled.

    s(x) = Σ_p c_ip tᵖ,    c_ip = Σ_j c_{i+j} b_jp,    t = (x − x_i)/h ∈ [0, 1] in interval i,

with the coefficients b_jp of the B-splines there. Once c_ip is known, a point costs three times seven multiplications
for the value and two derivatives; and sums over points need Σ_j source_j t_jᵖ in each interval alone. These are what
`splines` takes where there is one coordinate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.parallel.compilation import kernel
from mfpde.parallel.exact_sum import add_exactly

Array = NDArray[np.float64]


def polynomials(table: Array, basis: Array) -> Array:
    """c_ip (L, i, k, p) of splines with coefficients (L, g, k); basis (p, j) has b."""
    windows = np.lib.stride_tricks.sliding_window_view(table, basis.shape[1], axis=1)
    return np.ascontiguousarray(windows @ basis.T)


@kernel()
def add_block(sums: Array, first: int, last: int, b: int, out: Array) -> None:
    """Add the sums (g, k) of a block between two rows to the levels (3, L, g, k) of layer b, and clear them."""
    if first < last:  # flat, which is several times faster
        terms = sums[first:last].reshape(-1)
        one, two, three = out[0, b, first:last], out[1, b, first:last], out[2, b, first:last]
        add_exactly(terms, one.reshape(-1), two.reshape(-1), three.reshape(-1))
        terms[:] = 0.0


@kernel()
def _place(x, low, spacing, intervals):  # type: ignore[no-untyped-def]
    """The interval of a point and its place there; beyond the ends that of the end."""
    s = min(max((x - low) / spacing, 0.0), float(intervals))
    i = min(int(s), intervals - 1)
    return i, s - i


@kernel(fastmath={"contract"})
def evaluate(
    points: Array, polynomial: Array, low: Array, spacing: Array, value: Array, slope: Array, curvature: Array
) -> None:
    """Values, first and second derivatives (L, n, k) at points (L, n); low and spacing (L,)."""
    layers, intervals, fields, terms = polynomial.shape
    for b in range(layers):
        for j in range(points.shape[1]):
            i, t = _place(points[b, j], low[b], spacing[b], intervals)
            for k in range(fields):
                plain, first, second = polynomial[b, i, k, terms - 1], 0.0, 0.0
                for p in range(terms - 2, -1, -1):
                    second = second * t + first
                    first = first * t + plain
                    plain = plain * t + polynomial[b, i, k, p]
                value[b, j, k], slope[b, j, k] = plain, first / spacing[b]
                curvature[b, j, k] = 2.0 * second / spacing[b] ** 2


@kernel()
def _close_block(powers, basis, sums, least, most, b, out):  # type: ignore[no-untyped-def]
    """Add a block's sums of powers (i, k, p) in some intervals, as sums over B-splines, to the levels; clear them."""
    fields, terms = powers.shape[1:]
    for i in range(least, most + 1):
        for k in range(fields):
            for p in range(terms):
                amount = powers[i, k, p]
                for j in range(terms):
                    sums[i + j, k] += amount * basis[p, j]
                powers[i, k, p] = 0.0
    add_block(sums, least, most + terms, b, out)


@kernel()
def spread(
    points: Array, sources: Array, low: Array, spacing: Array, basis: Array, order: int, block: int, out: Array
) -> None:
    """Add Σ_j source_j dᵒB_g/dtᵒ(x_j), o = 0 or 1, to levels (3, L, g, k) of exact sums; points (L, n)."""
    layers, nodes = points.shape
    terms, fields = basis.shape[0], sources.shape[2]
    sums = np.zeros(out.shape[2:])
    intervals = sums.shape[0] - terms + 1
    powers = np.zeros((intervals, fields, terms))
    for b in range(layers):
        for begin in range(0, nodes, block):
            least, most = intervals, -1
            for j in range(begin, min(begin + block, nodes)):
                i, t = _place(points[b, j], low[b], spacing[b], intervals)
                least, most = min(least, i), max(most, i)
                for k in range(fields):
                    amount = sources[b, j, k]
                    for p in range(order, terms):
                        powers[i, k, p] += p * amount if order else amount
                        amount *= t
            _close_block(powers, basis, sums, least, most, b, out)
