"""Interpolation on uniform grids by polynomials on the nearest points, and the map of a grid inverted; compiled.

In every direction the value at x is that of the polynomial through the S grid points around it: continuous, of order S,
and of derivatives that jump at grid points by O(h^(S−1)). Per point of the plane or of space the work is S^d, whatever
the size of the grid. Beyond its ends the value at the end goes on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.parallel.compilation import kernel

Array = NDArray[np.float64]
Index = NDArray[np.int64]
MAP = 6  # points of a stencil in maps of nodes, whose third derivatives are large
_STILL = 1e-13  # of a spacing: a place that moves less is where it will be


@kernel()
def _polynomials(t, value, first, second):  # type: ignore[no-untyped-def]
    """Lagrange polynomials of the points 0 … S − 1 at t, with their derivatives."""
    size = value.size
    for i in range(size):
        scale, f, df, ddf = 1.0, 1.0, 0.0, 0.0
        for j in range(size):
            if j != i:
                scale /= i - j
                ddf = (t - j) * ddf + 2.0 * df
                df = (t - j) * df + f
                f = (t - j) * f
        value[i], first[i], second[i] = scale * f, scale * df, scale * ddf


@kernel()
def _place(x, low, spacing, count, start, value, first, second):  # type: ignore[no-untyped-def]
    """Per axis the first point of the stencil, and polynomials with derivatives (m, S) in x."""
    size = value.shape[1]
    for a in range(x.size):
        s = min(max((x[a] - low[a]) / spacing[a], 0.0), count[a] - 1.0)
        start[a] = min(max(int(np.floor(s)) - size // 2 + 1, 0), count[a] - size)
        _polynomials(s - start[a], value[a], first[a], second[a])
        first[a] /= spacing[a]
        second[a] /= spacing[a] ** 2


@kernel()
def _scratch(m: int, size: int) -> tuple[Index, Array, Array, Array]:
    """Where `_place` writes: first points (m,), polynomials with derivatives (m, S)."""
    polynomials = np.empty((3, m, size))
    return np.empty(m, np.int64), polynomials[0], polynomials[1], polynomials[2]


@kernel()
def _stencil(size: int, count: Index) -> tuple[Index, Index]:
    """Places (S^d, d) of a stencil's points in each axis, the last one fastest, and their distances in the grid."""
    d = count.size
    places, offsets = np.empty((size**d, d), np.int64), np.zeros(size**d, np.int64)
    for t in range(size**d):
        rest = t
        for a in range(d - 1, -1, -1):
            places[t, a] = rest % size
            rest //= size
        for a in range(d):
            offsets[t] = offsets[t] * count[a] + places[t, a]
    return places, offsets


@kernel(inline="always")
def _product(value: Array, digit: Index) -> float:
    """The stencil's polynomial of all axes; inlined, as a call of its own costs more than the product."""
    factor = 1.0
    for a in range(digit.size):
        factor *= value[a, digit[a]]
    return factor


@kernel(inline="always")
def _others(axis: int, value: Array, digit: Index) -> float:
    """The same without that of one axis, which a derivative replaces."""
    factor = 1.0
    for a in range(digit.size):
        if a != axis:
            factor *= value[a, digit[a]]
    return factor


@kernel()
def _solved(matrix: Array, right: Array) -> bool:
    """Solve a small system in the place of its right-hand side by elimination; False where there is no solution."""
    d = right.size
    for c in range(d):
        pivot = c
        for i in range(c + 1, d):
            if abs(matrix[i, c]) > abs(matrix[pivot, c]):
                pivot = i
        if not np.isfinite(matrix[pivot, c]) or matrix[pivot, c] == 0.0:
            return False

        for j in range(c, d):
            matrix[c, j], matrix[pivot, j] = matrix[pivot, j], matrix[c, j]
        right[c], right[pivot] = right[pivot], right[c]
        for i in range(c + 1, d):
            factor = matrix[i, c] / matrix[c, c]
            for j in range(c, d):
                matrix[i, j] -= factor * matrix[c, j]
            right[i] -= factor * right[c]

    for c in range(d - 1, -1, -1):
        for j in range(c + 1, d):
            right[c] -= matrix[c, j] * right[j]
        right[c] /= matrix[c, c]
    return True


@kernel()
def _moved(place: Array, change: Array, count: Index) -> bool:
    """Move a place in the grid, by two intervals at most; False where it stays, at an edge before the target."""
    moves = False
    for a in range(place.size):
        wanted = min(max(place[a] + min(max(change[a], -2.0), 2.0), 0.0), count[a] - 1.0)
        moves = moves or not abs(wanted - place[a]) <= _STILL
        place[a] = wanted
    return moves


@kernel()
def invert(
    target: Array,
    fields: Array,
    count: Index,
    size: int,
    steps: int,
    tolerance: float,
    place: Array,
    missed: Array,
    values: Array,
) -> None:
    """Solve X(s) = θ by Newton's method from `place`; fields (g, d + k) has the map first, then what is wanted at s.

    Args:
        target: θ (p, d).
        fields: at the points of a grid with `count` points per axis and unit spacing.
        count: points per axis (d,).
        size: of the stencil.
        steps: at most.
        tolerance: of X(s) − θ, absolute.
        place: s (p, d), at entry a guess.
        missed: (p,) set to |X(s) − θ|: at most the tolerance, or the distance from what the grid covers.
        values: (p, k) set to the other fields there.
    """
    d, extra = target.shape[1], fields.shape[1] - target.shape[1]
    start, value, first, second = _scratch(d, size)
    places, offsets = _stencil(size, count)
    low, spacing = np.zeros(d), np.ones(d)
    here, jacobian, other = np.empty(d), np.empty((d, d)), np.empty(extra)
    for p in range(len(target)):
        for _ in range(steps):
            _place(place[p], low, spacing, count, start, value, first, second)
            here[:], jacobian[:], other[:] = 0.0, 0.0, 0.0
            corner = 0
            for a in range(d):
                corner = corner * count[a] + start[a]
            for t in range(size**d):
                g, digit = corner + offsets[t], places[t]
                factor = _product(value, digit)
                for i in range(d):
                    here[i] += factor * fields[g, i]
                for k in range(extra):
                    other[k] += factor * fields[g, d + k]
                for c in range(d):
                    slope = first[c, digit[c]] * _others(c, value, digit)
                    for i in range(d):
                        jacobian[i, c] += slope * fields[g, i]
            values[p] = other
            missed[p] = np.sqrt(((here - target[p]) ** 2).sum())
            if missed[p] <= tolerance:
                break
            here[:] = target[p] - here
            if not _solved(jacobian, here) or not _moved(place[p], here, count):
                break
