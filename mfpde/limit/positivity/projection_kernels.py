"""The compiled projection of `positivity.limiter`, cell by cell: a quadratic programme, by the dual method.

Source: Goldfarb & Idnani, *Math. Program.* 27 (1983).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.parallel.compilation import kernel

Array = NDArray[np.float64]
Places = NDArray[np.int64]
ROUNDING = 1e-13  # of the average: the margin for rounding in a value that is to be nonnegative


@kernel(error_model="numpy")
def project_cells(values: Array, push: Array, mean: Array, one: Array, density: Array) -> None:
    """Replace the coefficients of every cell and block that is negative at a point by the nearest nonnegative ones.

    Args:
        values: as in `Limiter`.
        push: as in `Limiter`.
        mean: as in `Limiter`.
        one: the coefficients (i,) of the function 1.
        density: coefficients (owned, i, b), which are changed.
    """
    points, size = values.shape
    several = 1 if mean.shape[0] > 1 else 0
    hessian, c = np.empty((points, points)), np.empty(size)

    for cell in range(density.shape[0]):
        kind = cell * several
        if cell == 0 or several == 1:
            for g in range(points):
                for h in range(points):
                    hessian[g, h] = _at(values, g, push[kind, h])

        for block in range(density.shape[2]):
            average = 0.0
            for i in range(size):
                c[i] = density[cell, i, block]
                average += mean[kind, i] * c[i]

            if average <= 0.0:
                density[cell, :, block] = 0.0
                continue
            if _lowest(values, c)[0] >= 0.0:
                continue

            _project(values, push[kind], hessian, average, c)
            # scale towards the average what rounding has left below zero
            lowest, scale = _lowest(values, c)[0], 1.0
            if lowest < ROUNDING * average:
                scale = (1.0 - ROUNDING) * average / (average - lowest)
            for i in range(size):
                density[cell, i, block] = average * one[i] + scale * (c[i] - average * one[i])


@kernel(error_model="numpy")
def _project(values: Array, push: Array, hessian: Array, average: float, c: Array) -> None:
    """The nearest coefficients with values ≥ 0: constraints enter one by one, and leave when they no longer push."""
    points = values.shape[0]
    active, force = np.empty(points, dtype=np.int64), np.zeros(points)
    count = 0
    for _ in range(4 * points):
        lowest, g = _lowest(values, c)
        if lowest >= -ROUNDING * average or count == points:
            return
        count = _enter(values, push, hessian, g, active, force, count, c)
        if count < 0:
            return


@kernel(error_model="numpy")
def _enter(
    values: Array, push: Array, hessian: Array, g: int, active: Places, force: Array, count: int, c: Array
) -> int:
    """Constraint g enters, and others leave, until the value at its point is zero; the number of active ones.

    The number is −1 where no step is finite.
    """
    pushed = 0.0  # force of the constraint that enters
    while True:
        share = _share(hessian, active[:count], g)  # what the active forces yield per unit of the new one
        curvature = hessian[g, g]
        for k in range(count):
            curvature -= share[k] * hessian[active[k], g]

        # the full step, or up to where a force vanishes
        full = np.inf if curvature <= 1e-12 * hessian[g, g] else -_at(values, g, c) / curvature
        step, leaver = full, -1
        for k in range(count):
            if share[k] > 0.0 and force[k] < step * share[k]:
                step, leaver = force[k] / share[k], k
        if not step < np.inf:
            return -1

        for i in range(c.size):
            c[i] += step * push[g, i]
            for k in range(count):
                c[i] -= step * share[k] * push[active[k], i]
        for k in range(count):
            force[k] -= step * share[k]
        pushed += step

        if leaver < 0:
            active[count], force[count] = g, pushed
            return count + 1
        for k in range(leaver, count - 1):
            active[k], force[k] = active[k + 1], force[k + 1]
        count -= 1


@kernel(error_model="numpy")
def _share(hessian: Array, active: Places, g: int) -> Array:
    """Solve H_aa s = H_ag by Cholesky's method."""
    n = active.size
    root, s = np.empty((n, n)), np.empty(n)
    for k in range(n):
        for m in range(k + 1):
            entry = hessian[active[k], active[m]]
            for j in range(m):
                entry -= root[k, j] * root[m, j]
            root[k, m] = np.sqrt(max(entry, 1e-300)) if m == k else entry / root[m, m]

    for k in range(n):
        s[k] = hessian[active[k], g]
        for j in range(k):
            s[k] -= root[k, j] * s[j]
        s[k] /= root[k, k]
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            s[k] -= root[j, k] * s[j]
        s[k] /= root[k, k]
    return s


@kernel()
def _lowest(values: Array, c: Array) -> tuple[float, int]:
    """The smallest value at the points, and where it is."""
    lowest, place = np.inf, 0
    for g in range(values.shape[0]):
        value = _at(values, g, c)
        if value < lowest:
            lowest, place = value, g
    return lowest, place


@kernel()
def _at(values: Array, g: int, c: Array) -> float:
    """The value at point g."""
    total = 0.0
    for i in range(c.size):
        total += values[g, i] * c[i]
    return total
