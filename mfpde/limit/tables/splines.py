"""Interpolation of tables on uniform grids by splines of degree 7, and its transpose; compiled.

    s(x) = Σ_g c_g B_g(x),    c = P T,    s(x_i) = T_i at the points of the grid,

with products B of cardinal B-splines, three more of them beyond each end than there are points, and seventh derivatives
that do not jump at the first and last three inner points ("not a knot"). So s is of order 8 and has six continuous
derivatives: the motion of nodes in it is smooth enough for time steps of any order. Per point of the plane or of space
the work is 8^m, whatever the size of the grid. Beyond its ends the value at the end goes on.
Source: de Boor, *A Practical Guide to Splines*, chapters IX to XIII.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.tables import line_splines
from mfpde.limit.tables.line_splines import add_block
from mfpde.parallel.compilation import kernel

Array = NDArray[np.float64]
Index = NDArray[np.int64]
SUPPORT = 8  # B-splines that do not vanish at a point, in each direction
_KNOTS = 3  # at either end that are none
_AT_POINTS = np.array([1.0, 120.0, 1191.0, 2416.0, 1191.0, 120.0, 1.0]) / 5040.0
_JUMP = np.array([1.0, -8.0, 28.0, -56.0, 70.0, -56.0, 28.0, -8.0, 1.0])  # of the seventh derivative at a point


@cache
def _interpolation(count: int) -> Array:
    """P of one direction, (count + 6, count)."""
    size = count + SUPPORT - 2
    matrix = np.zeros((size, size))
    for point in range(count):
        matrix[point, point : point + len(_AT_POINTS)] = _AT_POINTS
    for row in range(_KNOTS):
        matrix[count + row, row : row + len(_JUMP)] = _JUMP
        matrix[size - 1 - row, size - len(_JUMP) - row : size - row] = _JUMP
    return np.linalg.inv(matrix)[:, :count]


@cache
def between(count: int) -> Array:
    """S (count // 2, count // 2 + 1): the spline through every other of an odd number of points, at those between.

    Where these are too few for a spline of degree 7, the polynomial through all of them.
    """
    places = np.arange(count // 2) + 0.5
    known = np.arange(count // 2 + 1.0)
    if len(known) < SUPPORT:
        return np.linalg.solve(np.vander(known).T, np.vander(places, len(known)).T).T

    middle = _VALUE.T @ 0.5 ** np.arange(SUPPORT)
    at = np.zeros((len(places), len(known) + SUPPORT - 2))
    for row in range(len(places)):
        at[row, row : row + SUPPORT] = middle
    return at @ _interpolation(len(known))


def coefficients(table: Array, count: tuple[int, ...]) -> Array:
    """c (L, g, k) of the splines through the values T (L, u, k) at the points of grids with `count` per direction."""
    return _along_axes(table, count, [_interpolation(each) for each in count])


def at_points(sums: Array, count: tuple[int, ...]) -> Array:
    """The transpose: from sums over B-splines (L, g, k) to those over the splines of the points, (L, u, k)."""
    padded = tuple(each + SUPPORT - 2 for each in count)
    return _along_axes(sums, padded, [_interpolation(each).T for each in count])


def _along_axes(values: Array, shape: tuple[int, ...], matrices: list[Array]) -> Array:
    layers, _, k = values.shape
    values = values.reshape(layers, *shape, k)
    for axis, matrix in enumerate(matrices, start=1):
        values = np.moveaxis(np.tensordot(matrix, values, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(values.reshape(layers, -1, k))


def _pieces() -> Array:
    """Coefficients (power of t, spline) of the B-splines that do not vanish between two points, t ∈ [0, 1] there."""
    pieces = np.zeros((SUPPORT, SUPPORT))
    pieces[0, 0] = 1.0
    for degree in range(1, SUPPORT):
        lower, places = pieces.copy(), np.arange(SUPPORT)
        left = np.roll(lower, 1, axis=1)  # of the spline before
        pieces = (degree - places) * left + (places + 1.0) * lower
        pieces[1:] += left[:-1] - lower[:-1]
        pieces /= degree
    return pieces


_VALUE = _pieces()
_FIRST = _VALUE[1:] * np.arange(1.0, SUPPORT)[:, None]
_SECOND = _FIRST[1:] * np.arange(1.0, SUPPORT - 1)[:, None]


@kernel(fastmath={"contract"})
def _splines(t, value, first, second):  # type: ignore[no-untyped-def]
    """The B-splines that do not vanish between two points, at t ∈ [0, 1] from the first, with their derivatives."""
    for j in range(SUPPORT):
        value[j], first[j], second[j] = _VALUE[SUPPORT - 1, j], _FIRST[SUPPORT - 2, j], _SECOND[SUPPORT - 3, j]
    for power in range(SUPPORT - 2, -1, -1):
        for j in range(SUPPORT):
            value[j] = value[j] * t + _VALUE[power, j]
    for power in range(SUPPORT - 3, -1, -1):
        for j in range(SUPPORT):
            first[j] = first[j] * t + _FIRST[power, j]
    for power in range(SUPPORT - 4, -1, -1):
        for j in range(SUPPORT):
            second[j] = second[j] * t + _SECOND[power, j]


@kernel()
def _three_axes(m, count):  # type: ignore[no-untyped-def]
    """Sizes, grid points and values (3, 8) of three axes: those that are not there have one spline, which is one."""
    size, points = np.ones(3, np.int64), np.ones(3, np.int64)
    value, first, second = np.zeros((3, SUPPORT)), np.zeros((3, SUPPORT)), np.zeros((3, SUPPORT))
    for a in range(3 - m):
        value[a, 0] = 1.0
    for a in range(m):
        size[3 - m + a] = SUPPORT
        points[3 - m + a] = count[a] + SUPPORT - 2
    return size, points, np.zeros(3, np.int64), value, first, second


@kernel()
def _place_splines(x, low, spacing, count, start, value, first, second):  # type: ignore[no-untyped-def]
    """Per axis the first B-spline that does not vanish at x, and values with derivatives (3, 8)."""
    for axis in range(x.size):
        a = 3 - x.size + axis
        s = min(max((x[axis] - low[axis]) / spacing[axis], 0.0), count[axis] - 1.0)
        start[a] = min(int(np.floor(s)), count[axis] - 2)
        _splines(s - start[a], value[a], first[a], second[a])
        for j in range(SUPPORT):
            first[a, j] /= spacing[axis]
            second[a, j] /= spacing[axis] ** 2


def spread(points: Array, sources: Array, low: Array, spacing: Array, count: Index, block: int, out: Array) -> None:
    """Add Σ_j source_j B_g(x_j) to levels of exact sums.

    Args:
        points: (L, n, m).
        sources: (L, n, k).
        low: first points of the tables, (L, m).
        spacing: likewise.
        count: their points, (m,).
        block: nodes whose terms are added as ordinary numbers; sums of blocks are added exactly.
        out: levels (3, L, g, k).
    """
    if len(count) != 1:
        _spread(points, sources, low, spacing, count, block, out)
        return
    line_splines.spread(points[..., 0], sources, low[:, 0], spacing[:, 0], _VALUE, 0, block, out)


def spread_change(
    points: Array,
    motion: Array,
    sources: Array,
    low: Array,
    spacing: Array,
    count: Index,
    block: int,
    out: Array,
) -> None:
    """The derivative of `spread` when the points move at `motion` (L, n, m) and the sources stay."""
    if len(count) != 1:
        _spread_change(points, motion, sources, low, spacing, count, block, out)
        return
    driven = sources * motion / spacing[:, None]
    line_splines.spread(points[..., 0], driven, low[:, 0], spacing[:, 0], _VALUE, 1, block, out)


def collect(
    points: Array,
    table: Array,
    low: Array,
    spacing: Array,
    count: Index,
    value_out: Array,
    slope_out: Array,
    laplacian_out: Array,
) -> None:
    """Σ_g T_g B_g (L, n, k), its gradient (L, n, m, k) and Laplacian (L, n, k) at points (L, n, m); table (L, g, k)."""
    if len(count) != 1:
        _collect(points, table, low, spacing, count, value_out, slope_out, laplacian_out)
        return
    pieces, slope = line_splines.polynomials(table, _VALUE), slope_out[:, :, 0]
    line_splines.evaluate(points[..., 0], pieces, low[:, 0], spacing[:, 0], value_out, slope, laplacian_out)


@kernel()
def _spread(points: Array, sources: Array, low: Array, spacing: Array, count: Index, block: int, out: Array) -> None:
    """See `spread`."""
    layers, nodes, m = points.shape
    size, grid, start, value, first, second = _three_axes(m, count)
    sums = np.zeros(out.shape[2:])
    for b in range(layers):
        for begin in range(0, nodes, block):
            least, most = sums.shape[0], 0
            for j in range(begin, min(begin + block, nodes)):
                _place_splines(points[b, j], low[b], spacing[b], count, start, value, first, second)
                for r in range(size[0]):
                    for s in range(size[1]):
                        row = ((start[0] + r) * grid[1] + start[1] + s) * grid[2] + start[2]
                        least, most = min(least, row), max(most, row + size[2])
                        factor = value[0, r] * value[1, s]
                        for k in range(sources.shape[2]):
                            amount = factor * sources[b, j, k]
                            for t in range(size[2]):
                                sums[row + t, k] += amount * value[2, t]
            add_block(sums, least, most, b, out)


@kernel()
def _spread_change(
    points: Array,
    motion: Array,
    sources: Array,
    low: Array,
    spacing: Array,
    count: Index,
    block: int,
    out: Array,
) -> None:
    """The derivative of `_spread` when the points move at `motion` (L, n, m) and the sources stay."""
    layers, nodes, m = points.shape
    size, grid, start, value, first, second = _three_axes(m, count)
    sums, moved = np.zeros(out.shape[2:]), np.zeros(3)
    for b in range(layers):
        for begin in range(0, nodes, block):
            least, most = sums.shape[0], 0
            for j in range(begin, min(begin + block, nodes)):
                _place_splines(points[b, j], low[b], spacing[b], count, start, value, first, second)
                moved[3 - m :] = motion[b, j]
                for r in range(size[0]):
                    for s in range(size[1]):
                        row = ((start[0] + r) * grid[1] + start[1] + s) * grid[2] + start[2]
                        least, most = min(least, row), max(most, row + size[2])
                        stays = value[0, r] * value[1, s] * moved[2]
                        moves = moved[0] * first[0, r] * value[1, s] + moved[1] * value[0, r] * first[1, s]
                        for k in range(sources.shape[2]):
                            for t in range(size[2]):
                                sums[row + t, k] += sources[b, j, k] * (moves * value[2, t] + stays * first[2, t])
            add_block(sums, least, most, b, out)


@kernel()
def _collect(
    points: Array,
    table: Array,
    low: Array,
    spacing: Array,
    count: Index,
    value_out: Array,
    slope_out: Array,
    laplacian_out: Array,
) -> None:
    """Σ_g T_g B_g (L, n, k), its gradient (L, n, m, k) and Laplacian (L, n, k) at points (L, n, m); table (L, g, k).

    Axis by axis: first the sums over the last one.
    """
    layers, nodes, m = points.shape
    size, grid, start, value, first, second = _three_axes(m, count)
    gradient = np.empty(3)
    for b in range(layers):
        for j in range(nodes):
            _place_splines(points[b, j], low[b], spacing[b], count, start, value, first, second)
            for k in range(table.shape[2]):
                total, curved = 0.0, 0.0
                gradient[:] = 0.0
                for r in range(size[0]):
                    for s in range(size[1]):
                        row = ((start[0] + r) * grid[1] + start[1] + s) * grid[2] + start[2]
                        plain, along, bent = 0.0, 0.0, 0.0
                        for t in range(size[2]):
                            entry = table[b, row + t, k]
                            plain += value[2, t] * entry
                            along += first[2, t] * entry
                            bent += second[2, t] * entry
                        both = value[0, r] * value[1, s]
                        total += both * plain
                        gradient[0] += first[0, r] * value[1, s] * plain
                        gradient[1] += value[0, r] * first[1, s] * plain
                        gradient[2] += both * along
                        curved += (second[0, r] * value[1, s] + value[0, r] * second[1, s]) * plain + both * bent
                value_out[b, j, k], laplacian_out[b, j, k] = total, curved
                for axis in range(m):
                    slope_out[b, j, axis, k] = gradient[3 - m + axis]
