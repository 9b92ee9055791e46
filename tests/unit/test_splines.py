"""Splines of degree 7 on tables: polynomials, orders, smoothness, and the transpose that sums over nodes need."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mfpde.limit.tables.splines import SUPPORT, at_points, coefficients, collect, spread, spread_change
from mfpde.parallel.exact_sum import LEVELS, collapse

LAYERS, NODES, FIELDS = 2, 40, 3
COUNTS = {0: (), 1: (13,), 2: (9, 12), 3: (8, 10, 9)}
BLOCK = 16  # nodes, of which there are several blocks, and the last is not whole
INNER = 6  # derivatives that do not jump


def seen(table: np.ndarray, points: np.ndarray, low: np.ndarray, spacing: np.ndarray, count: tuple[int, ...]):
    """Values (L, n, k), gradients (L, n, m, k) and Laplacians (L, n, k) of the spline through a table (L, u, k)."""
    layers, nodes, m = points.shape
    k = table.shape[2]
    value, curved, slope = np.empty((layers, nodes, k)), np.empty((layers, nodes, k)), np.empty((layers, nodes, m, k))
    numbers = np.array(count, dtype=np.int64)
    collect(points, coefficients(table, count), low, spacing, numbers, value, slope, curved)
    return value, slope, curved


def axes(m: int) -> tuple[np.ndarray, np.ndarray]:
    """First points and spacings (L, m), another in every layer and direction."""
    shift = np.arange(LAYERS * m).reshape(LAYERS, m)
    return -1.0 - 0.1 * shift, 0.2 + 0.03 * shift


def grid(low: np.ndarray, spacing: np.ndarray, count: tuple[int, ...]) -> np.ndarray:
    """The points (L, u, m) of the tables."""
    lines = np.meshgrid(*[np.arange(each) for each in count], indexing="ij")
    index = np.stack(lines, axis=-1).reshape(-1, len(count)) if lines else np.zeros((1, 0))
    return low[:, None] + spacing[:, None] * index


def inside(m: int) -> np.ndarray:
    """Random points (L, n, m) of the tables, with those at both ends."""
    low, spacing = axes(m)
    share = np.random.default_rng(m).uniform(size=(LAYERS, NODES, m))
    share[:, 0], share[:, 1] = 0.0, 1.0
    return np.ascontiguousarray(low[:, None] + share * (spacing * (np.array(COUNTS[m]) - 1.0))[:, None])


def sums(m: int) -> np.ndarray:
    """Levels of sums over the B-splines, zeros (3, L, g, k)."""
    return np.zeros((LEVELS, LAYERS, int(np.prod([each + SUPPORT - 2 for each in COUNTS[m]])), FIELDS))


@pytest.mark.parametrize("m", [1, 2, 3])
def test_polynomials_of_degree_seven_in_each_direction_are_exact(m: int) -> None:
    """With their first and second derivatives, at all points and not only at the table's."""
    low, spacing = axes(m)
    draw = np.random.default_rng(3)
    factors = [[np.polynomial.Polynomial(draw.normal(size=SUPPORT)) for _ in range(m)] for _ in range(FIELDS)]

    def truth(x: np.ndarray, orders: tuple[int, ...]) -> np.ndarray:
        """The derivative of these orders, (L, n, k)."""
        fields = [[p.deriv(o)(x[..., a]) for a, (p, o) in enumerate(zip(f, orders, strict=True))] for f in factors]
        return np.stack([np.prod(field, axis=0) for field in fields], axis=-1)

    none, unit = (0,) * m, np.eye(m, dtype=int)
    points, table = inside(m), truth(grid(low, spacing, COUNTS[m]), none)
    value, slope, curved = seen(table, points, low, spacing, COUNTS[m])
    size = np.abs(table).max()

    assert np.abs(value - truth(points, none)).max() < 1e-12 * size
    for axis in range(m):
        expected = truth(points, tuple(unit[axis]))
        assert np.abs(slope[:, :, axis] - expected).max() < 1e-11 * np.abs(expected).max() + 1e-11 * size
    laplacian = sum(truth(points, tuple(2 * unit[axis])) for axis in range(m))
    assert np.abs(curved - laplacian).max() < 1e-10 * np.abs(laplacian).max() + 1e-10 * size


def test_orders_eight_seven_and_six_of_values_slopes_and_curvature() -> None:
    """Largest errors over the whole table, its ends included: slopes over four grids."""
    counts = [48, 60, 76, 96]
    x = np.linspace(-1.0, 1.0, 1201)[None, :, None]
    errors = []
    for count in counts:
        low, spacing = np.array([[-1.0]]), np.array([[2.0 / (count - 1)]])
        at = grid(low, spacing, (count,))
        value, slope, curved = seen(np.sin(6.0 * at + 1.0), x, low, spacing, (count,))
        wrong = (
            value - np.sin(6.0 * x + 1.0), slope[:, :, 0] - 6.0 * np.cos(6.0 * x + 1.0),
            curved + 36.0 * np.sin(6.0 * x + 1.0),
        )  # fmt: skip
        errors.append([np.abs(each).max() for each in wrong])

    lines = np.polyfit(np.log(np.array(counts) - 1.0), np.log(errors), 1)[0]
    assert np.abs(-lines - [8.0, 7.0, 6.0]).max() < 0.25, lines


def test_six_derivatives_do_not_jump_at_grid_points_and_the_seventh_does() -> None:
    """Of the spline through random values, by its polynomials on intervals; next to the ends none jumps."""
    count = 14
    low, spacing = np.zeros((1, 1)), np.ones((1, 1))
    table = np.random.default_rng(5).normal(size=(1, count, 1))
    places = 0.5 - 0.5 * np.cos(np.pi * (np.arange(SUPPORT) + 0.5) / SUPPORT)
    pieces = []
    for begin in range(count - 1):
        values = seen(table, (begin + places).reshape(1, -1, 1), low, spacing, (count,))[0][0, :, 0]
        pieces.append(np.polynomial.Polynomial(np.linalg.solve(np.vander(places, increasing=True), values)))

    jumps = np.array(
        [
            [right.deriv(order)(0.0) - left.deriv(order)(1.0) for order in range(SUPPORT)]
            for left, right in pairwise(pieces)
        ]
    )
    size = np.array([max(abs(piece.deriv(order)(0.5)) for piece in pieces) for order in range(SUPPORT)])
    assert (np.abs(jumps[:, : INNER + 1]) < 1e-7 * size[: INNER + 1]).all()

    seventh = np.abs(jumps[:, INNER + 1]) / size[INNER + 1]
    assert (seventh[3:-3] > 1e-2).all()
    assert (seventh[:3] < 1e-7).all()
    assert (seventh[-3:] < 1e-7).all()


@pytest.mark.parametrize("m", COUNTS)
def test_sums_over_nodes_are_the_transpose_of_interpolation(m: int) -> None:
    """Σ_j s_j f(q_j) of the spline f through a table T is Σ_u T_u w_u with the weights of the sources."""
    low, spacing = axes(m)
    draw = np.random.default_rng(7)
    table = draw.normal(size=(LAYERS, int(np.prod(COUNTS[m])), FIELDS))
    points, sources, out = inside(m), draw.normal(size=(LAYERS, NODES, FIELDS)), sums(m)
    spread(points, sources, low, spacing, np.array(COUNTS[m], dtype=np.int64), BLOCK, out)
    out = collapse(out)
    value, _, _ = seen(table, points, low, spacing, COUNTS[m])

    left, right = value * sources, at_points(out, COUNTS[m]) * table
    scale = max(np.abs(left).max(), np.abs(right).max())
    assert np.abs(left.sum(axis=1) - right.sum(axis=1)).max() < 1e-12 * scale * NODES


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_change_of_sums_is_the_derivative_along_the_motion(m: int) -> None:
    """Against the transpose of the spline's own gradient, to rounding, and against differences of sums."""
    low, spacing = axes(m)
    numbers = np.array(COUNTS[m], dtype=np.int64)
    draw = np.random.default_rng(9)
    table = draw.normal(size=(LAYERS, int(np.prod(COUNTS[m])), FIELDS))
    points, sources, out = inside(m), draw.normal(size=(LAYERS, NODES, FIELDS)), sums(m)
    points = 0.9 * points + 0.1 * points.mean(axis=1, keepdims=True)  # none leaves the table
    motion = draw.normal(size=points.shape)
    spread_change(points, motion, sources, low, spacing, numbers, BLOCK, out)
    out = collapse(out)
    _, slope, _ = seen(table, points, low, spacing, COUNTS[m])

    left = np.einsum("lnmk,lnm,lnk->lk", slope, motion, sources)
    right = (at_points(out, COUNTS[m]) * table).sum(axis=1)
    assert np.abs(left - right).max() < 1e-11 * np.abs(slope).max() * NODES

    shift, ends = 1e-5, [sums(m), sums(m)]
    for sign, end in zip((-1.0, 1.0), ends, strict=True):
        spread(points + sign * shift * motion, sources, low, spacing, numbers, BLOCK, end)
    assert np.abs((collapse(ends[1]) - collapse(ends[0])) / (2.0 * shift) - out).max() < 1e-7 * np.abs(out).max()


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_splines_of_the_points_add_up_to_one(m: int) -> None:
    """Anywhere in the table and beyond its ends, where the value at the end goes on."""
    low, spacing = axes(m)
    points = inside(m)
    far = points + np.array([0.0, 3.0, -3.0, 50.0])[np.arange(NODES) % 4][None, :, None]
    out = sums(m)
    spread(far, np.ones((LAYERS, NODES, FIELDS)), low, spacing, np.array(COUNTS[m], dtype=np.int64), BLOCK, out)
    out = collapse(out)
    assert np.abs(at_points(out, COUNTS[m]).sum(axis=1) - NODES).max() < 1e-12 * NODES

    table = np.random.default_rng(11).normal(size=(LAYERS, int(np.prod(COUNTS[m])), FIELDS))
    top = (low + spacing * (np.array(COUNTS[m]) - 1.0))[:, None]
    ends = np.ascontiguousarray(np.clip(far, low[:, None], top))
    beyond, there = (seen(table, each, low, spacing, COUNTS[m])[0] for each in (far, ends))
    assert np.abs(beyond - there).max() < 1e-12 * np.abs(there).max()


def test_a_table_keeps_its_own_values() -> None:
    """At its points the spline has what the table says, in each of three directions."""
    low, spacing = axes(3)
    table = np.random.default_rng(13).normal(size=(LAYERS, int(np.prod(COUNTS[3])), FIELDS))
    value, _, _ = seen(table, grid(low, spacing, COUNTS[3]), low, spacing, COUNTS[3])
    assert np.abs(value - table).max() < 1e-12 * np.abs(table).max()
