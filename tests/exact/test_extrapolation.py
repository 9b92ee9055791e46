"""Extrapolation to infinite width, exponents, depth and distances between densities, each against what is known."""

from __future__ import annotations

import numpy as np
import pytest

from mfpde.comparison.depth_error import depth_rows
from mfpde.comparison.infinite_width import extrapolate
from mfpde.comparison.slopes import governed, slope
from mfpde.comparison.wasserstein import draws, exact, nodes, sliced
from mfpde.output.fields.snapshot import Snapshot


def test_the_interval_of_the_extrapolation_covers_as_often_as_it_says():
    """R = 2 + 3/M + g·c + noise: 95 % of intervals hold 2, and control variates make them much narrower."""
    rng = np.random.default_rng(0)
    sizes, count, hits, widths = [20, 80, 320], 12, 0, []
    for _ in range(300):
        draws_ = rng.normal(size=(count, max(sizes)))
        units, seeds, values, controls = [], [], [], []
        for s in range(count):
            for m in sizes:
                mean = draws_[s, :m].mean()
                units.append(m)
                seeds.append(s)
                controls.append([mean])
                values.append(2.0 + 3.0 / m + 1.5 * mean + 0.2 * rng.normal() / np.sqrt(m))
        found = extrapolate(units, seeds, np.array(values), np.array(controls))
        plain = extrapolate(units, seeds, np.array(values), np.zeros((len(values), 0)))
        hits += abs(found.value - 2.0) <= found.half_width
        widths.append(found.half_width / plain.half_width)
    assert 0.91 <= hits / 300 <= 0.99
    assert np.mean(widths) < 0.4


def test_the_length_of_steps_is_carried_on_to_zero():
    """R = 2 + 3/M + 0.7 h without noise: two sizes and two learning rates give 2, one learning rate 2 + 0.7 h."""
    places = [(m, s, h) for m in (20, 80) for s in range(3) for h in (0.1, 0.05)]
    units, seeds, steps = (list(column) for column in zip(*places, strict=True))
    values = np.array([2.0 + 3.0 / m + 0.7 * h for m, _, h in places])
    none = np.zeros((len(places), 0))
    assert extrapolate(units, seeds, values, none, steps=steps).value == pytest.approx(2.0, abs=1e-12)
    one = [k for k, h in enumerate(steps) if h == 0.1]
    alone = extrapolate([units[k] for k in one], [seeds[k] for k in one], values[one], none[one], steps=[0.1] * 6)
    assert alone.value == pytest.approx(2.07, abs=1e-12)


def test_exponents_and_their_intervals():
    rng = np.random.default_rng(1)
    sizes = [10, 40, 160, 640]
    errors = rng.normal(size=(200, 4)) / np.sqrt(sizes)
    found = slope(sizes, errors)
    assert abs(found.value + 0.5) < 0.06
    assert found.low < -0.5 < found.high
    assert found.within(-0.5, 0.1)
    assert slope(sizes, errors + 0.5).within(-0.5, 0.1) is False  # an error that does not fall
    assert slope(sizes, errors[:4]).within(-0.5, 0.1) is None  # four seeds
    both = {(m, n): rng.normal(size=100) / np.sqrt(m * n) for m in (10, 100) for n in (2, 16)}
    width = {(m, n): rng.normal(size=100) / np.sqrt(m) for m in (10, 100) for n in (2, 16)}
    assert governed(both).by == "L·M"
    assert governed(width).by == "M"


def test_depth_is_a_table_with_its_slope():
    def table(risk):
        return {"tau": np.array([1.0]), "risk": np.array([risk])}

    continuum = {n: table(0.3 + 0.02 / n**2) for n in (16, 32)}
    first = depth_rows({n: table(0.3 + 0.1 / n) for n in (4, 8, 16)}, continuum, [1.0])
    assert first[0].limit == pytest.approx(0.3, abs=1e-12)
    assert first[0].slope == pytest.approx(-1.0, abs=1e-9)
    assert first[0].of_order
    second = depth_rows({n: table(0.3 + 0.1 / n**2) for n in (4, 8, 16)}, continuum, [1.0])
    assert not second[0].of_order


def uniform(cell: str) -> Snapshot:
    """ρ = 4ab on the unit square, stretched to [0, 2] × [1, 2]: as one cell, or as two triangles."""
    halves = [[[0, 0], [1, 0], [0, 1]], [[1, 1], [1, 0], [0, 1]]]
    corners = {"quadrilateral": [[[0, 0], [1, 0], [0, 1], [1, 1]]], "triangle": halves}
    place = np.array(corners[cell], dtype=float)
    if cell == "triangle":  # degree 2, so that 4ab is in the space: corners, then middles of the edges
        a, b, c = place[:, 0], place[:, 1], place[:, 2]
        place = np.stack([a, b, c, (b + c) / 2, (a + c) / 2, (a + b) / 2], axis=1)
    density = 4.0 * place[..., 0] * place[..., 1] / 2.0
    points = place * [2.0, 1.0] + [0.0, 1.0]
    degree = 1 if cell == "quadrilateral" else 2
    return Snapshot("f", ("a", "b"), cell, degree, points[None], density[None], density[None], points[None])


@pytest.mark.parametrize("cell", ["quadrilateral", "triangle"])
def test_nodes_and_draws_have_the_moments_of_the_density(cell):
    snapshot = uniform(cell)
    theta, weights = nodes(snapshot, 0)
    assert weights.sum() == pytest.approx(1.0)
    expected, square = np.array([4.0 / 3.0, 5.0 / 3.0]), np.array([2.0, 17.0 / 6.0])
    np.testing.assert_allclose(weights @ theta, expected, rtol=1e-5)
    np.testing.assert_allclose(weights @ theta**2, square, rtol=1e-5)
    drawn = draws(snapshot, 0, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=5 * 0.47 / np.sqrt(20_000))
    np.testing.assert_allclose((drawn**2).mean(axis=0), square, atol=5 * 1.1 / np.sqrt(20_000))


def test_distances_of_a_shift():
    """Carrying a measure by s costs |s|; its shadows on directions move by the mean of |cos|, 2|s|/π in the plane."""
    rng = np.random.default_rng(2)
    points = rng.normal(size=(60, 2))
    moved = points + np.array([0.6, 0.8])
    even = np.full(60, 1.0 / 60)
    assert exact(points, moved) == pytest.approx(1.0, rel=1e-9)
    assert exact(points[:, :1], points[:, :1] + 0.3) == pytest.approx(0.3, rel=1e-9)
    assert sliced(points[:, :1], even, points[:, :1] + 0.3, even) == pytest.approx(0.3, rel=1e-9)
    found = np.mean([sliced(points, even, moved, even, seed=k) for k in range(20)])
    assert found == pytest.approx(2.0 / np.pi, rel=0.03)
