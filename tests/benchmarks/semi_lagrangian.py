"""A trial that is not in the package: semi-Lagrangian DG, which has no CFL bound, against the transport that is used.

`uv run python tests/benchmarks/semi_lagrangian.py` prints what a step costs, in right-hand sides of the transport at
the same degree (24 blocks): that many a sweep are what the explicit scheme may need before this one wins. A value at a
Gauss point comes from where the flow was,

    ρ⁺(x) = ρ(X) exp ∫ΔV dτ,   Ẋ = −∇V(X) backwards from x by classical Runge–Kutta steps,

and is projected on each cell's polynomials. Mass is right to the error of the projection alone; to keep it to rounding,
upstream cells would have to be cut along the faces that they overlap, which costs more than what is measured here. So
the figures are a lower bound for a conservative scheme. Squares on a box, orthonormal Legendre polynomials.
`bench_peers.py` has the trial as a way. Also a test: `uv run pytest -m benchmark tests/benchmarks/semi_lagrangian.py`.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
sys.path.insert(0, str(Path(__file__).parent))
from gaussians import PROBLEMS, Gaussian  # noqa: E402

CELLS, BLOCKS = 48, 24
UNIFORM = np.array([0.0, 0.5, 1.0])  # nodes of V in a cell, in each direction


@njit(cache=True)
def legendre(x, out):
    """√(2i + 1) P_i at x of [0, 1]: orthonormal there."""
    y = 2.0 * x - 1.0
    out[0] = 1.0
    before, now = 0.0, 1.0
    for i in range(1, out.size):
        before, now = now, ((2 * i - 1) * y * now - (i - 1) * before) / i
        out[i] = now * np.sqrt(2.0 * i + 1.0)


@njit(cache=True)
def quadratic(x, value, first, second):
    """Lagrange polynomials of the nodes 0, ½, 1 at x, and their derivatives."""
    value[0], value[1], value[2] = (2.0 * x - 1.0) * (x - 1.0), 4.0 * x * (1.0 - x), x * (2.0 * x - 1.0)
    first[0], first[1], first[2] = 4.0 * x - 3.0, 4.0 - 8.0 * x, 4.0 * x - 1.0
    second[0], second[1], second[2] = 4.0, -8.0, 4.0


@njit(cache=True)
def velocity(potential, spin, x, y, tables, cells):
    """−∇V + spin × (−y, x) and −ΔV at a place, from V (i, j, 3, 3) at the nodes of cells; coordinates count cells."""
    i, j = min(max(int(x), 0), cells - 1), min(max(int(y), 0), cells - 1)
    quadratic(x - i, tables[0], tables[1], tables[2])
    quadratic(y - j, tables[3], tables[4], tables[5])
    u, v, divergence = spin * (0.5 * cells - y), spin * (x - 0.5 * cells), 0.0
    for a in range(3):
        for b in range(3):
            value = potential[i, j, a, b]
            u -= value * tables[1, a] * tables[3, b]
            v -= value * tables[0, a] * tables[4, b]
            divergence -= value * (tables[2, a] * tables[3, b] + tables[0, a] * tables[5, b])
    return u, v, divergence


@njit(cache=True)
def advance(density, potential, spin, step, substeps, points, weights, out):
    """One step of one density, coefficients (i, j, a, b) for cells i, j and degrees a, b; V counts in cells, too."""
    cells, modes = density.shape[0], density.shape[2]
    tables, row, column = np.empty((6, 3)), np.empty(modes), np.empty(modes)
    h = -step / substeps  # backwards
    out[:] = 0.0
    for i in range(cells):
        for j in range(cells):
            for q in range(points.size):
                for r in range(points.size):
                    x, y, growth = i + points[q], j + points[r], 0.0
                    for _ in range(substeps):
                        u1, v1, d1 = velocity(potential, spin, x, y, tables, cells)
                        u2, v2, d2 = velocity(potential, spin, x + 0.5 * h * u1, y + 0.5 * h * v1, tables, cells)
                        u3, v3, d3 = velocity(potential, spin, x + 0.5 * h * u2, y + 0.5 * h * v2, tables, cells)
                        u4, v4, d4 = velocity(potential, spin, x + h * u3, y + h * v3, tables, cells)
                        x += h / 6.0 * (u1 + 2.0 * (u2 + u3) + u4)
                        y += h / 6.0 * (v1 + 2.0 * (v2 + v3) + v4)
                        growth += h / 6.0 * (d1 + 2.0 * (d2 + d3) + d4)
                    if not (0.0 <= x < cells and 0.0 <= y < cells):
                        continue
                    k, m = int(x), int(y)
                    legendre(x - k, row)
                    legendre(y - m, column)
                    value = 0.0
                    for a in range(modes):
                        for b in range(modes):
                            value += density[k, m, a, b] * row[a] * column[b]
                    value *= np.exp(growth) * weights[q] * weights[r]
                    legendre(points[q], row)
                    legendre(points[r], column)
                    for a in range(modes):
                        for b in range(modes):
                            out[i, j, a, b] += value * row[a] * column[b]


def rule(count: int) -> tuple[Array, Array]:
    """Gauss points of [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return 0.5 + 0.5 * points, 0.5 * weights


def field(gaussian: Gaussian, cells: int) -> tuple[Array, float]:
    """V (i, j, 3, 3) and spin of a Gaussian's linear field: its even and its odd part."""
    b, c = gaussian.field
    line = np.arange(cells)[:, None] + UNIFORM - 0.5 * cells
    return np.einsum("ia,jb->ijab", -0.5 * (b + c) * line, line), 0.5 * (c - b)


def solve(gaussian: Gaussian, degree: int, cells: int, steps: int, substeps: int) -> tuple[float, float, float]:
    """Seconds, relative error in L² and error of the mass, of a Gaussian in its field."""
    points, weights = rule(degree + 2)
    fine, fine_weights = rule(degree + 4)
    width, moved = 2.0 / cells, field(gaussian, cells)
    line = width * (np.arange(cells)[:, None] + fine) - 1.0
    table = np.empty((len(fine), degree + 1))
    for row, x in zip(table, fine, strict=True):
        legendre(x, row)
    place = line[:, None, :, None], line[None, :, None, :]
    weight = fine_weights[:, None] * fine_weights
    density = np.einsum("ijqr,qr,qa,rb->ijab", gaussian.at(*place, 0.0), weight, table, table)
    out = np.empty_like(density)
    advance(density, *moved, 1e-6, 1, points, weights, out)  # compiles
    start = time.thread_time()
    for _ in range(steps):
        advance(density, *moved, gaussian.horizon / steps, substeps, points, weights, out)
        density, out = out, density
    seconds = time.thread_time() - start
    truth = gaussian.at(*place, gaussian.horizon)
    difference = np.einsum("ijab,qa,rb->ijqr", density, table, table) - truth
    error = np.sqrt((weight * difference**2).sum() / (weight * truth**2).sum())
    return seconds, float(error), abs(float(density[:, :, 0, 0].sum() * width**2) - 1.0)


def step_cost(degree: int, substeps: int, repeats: int) -> float:
    """Seconds of a step of BLOCKS densities on CELLS² cells; the median."""
    gaussian = PROBLEMS["linear field"]
    points, weights = rule(degree + 2)
    moved, density = field(gaussian, CELLS), np.ones((CELLS, CELLS, degree + 1, degree + 1))
    out, found = np.empty_like(density), []
    for repeat in range(repeats + 1):  # the first compiles
        start = time.thread_time()
        for _ in range(BLOCKS if repeat else 1):
            advance(density, *moved, 0.05, substeps, points, weights, out)
        found.append(time.thread_time() - start)
    return statistics.median(found[1:])


@pytest.mark.benchmark
def test_the_trial_is_of_the_degrees_order_and_nearly_keeps_mass() -> None:
    gaussian = PROBLEMS["linear field"]
    for degree, cells in ((1, 24), (2, 20), (3, 16)):
        coarse, fine = (solve(gaussian, degree, n, 2, 8)[1] for n in (cells, 2 * cells))
        assert np.log2(coarse / fine) > degree + 0.6
    turned = PROBLEMS["rotation"]
    coarse, fine = (solve(turned, 3, n, 3, 40) for n in (48, 96))  # coarser ones are not in the range of the order yet
    assert np.log2(coarse[1] / fine[1]) > 3.6
    assert max(coarse[2] / coarse[1], fine[2] / fine[1]) < 0.1


def main() -> None:
    """Print the cost of steps."""
    from bench_transport import prepare  # starts MPI

    sys.stdout.write("| p | a right-hand side, ms | substeps | a step, ms | right-hand sides a step |\n")
    sys.stdout.write("| --- | --- | --- | --- | --- |\n")
    for degree in (1, 2, 3):
        case = prepare("quadrilateral", degree, BLOCKS, BLOCKS * (degree + 1) ** 2 * CELLS**2)
        once = []
        for _ in range(9):
            start = time.thread_time()
            case.parts["moving"]()
            once.append(time.thread_time() - start)
        side = statistics.median(once[2:])
        for substeps in (1, 2):
            cost = step_cost(degree, substeps, 3)
            sys.stdout.write(f"| {degree} | {1e3 * side:.2f} | {substeps} | {1e3 * cost:.1f} | {cost / side:.0f} |\n")


if __name__ == "__main__":
    main()
