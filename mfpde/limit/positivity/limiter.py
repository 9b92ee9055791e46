"""The evolved density kept nonnegative where the Transformer looks, at next to no cost in its moments.

All that a potential V_h ∈ CG_k sees of ρ_h are the moments m_j = ∫ φ_j ρ_h. A quadrature that computes them exactly,
with points x_g and weights w_g > 0, makes the density an atomic measure Σ_g w_g ρ_h(x_g) δ_{x_g}: if ρ_h(x_g) ≥ 0 at
these points, the Transformer sees a positive measure. On products of intervals with k ≤ p + 1 they are the (p + 1)^d
Gauss points. After every step each cell in which a value there is negative gets the nearest polynomial instead,

    min Σ_i ω_i (c_i − c⁰_i)²   subject to   ρ_h(x_g) ≥ 0,   ∫_K ρ_h unchanged,

with c the coefficients in orthonormal polynomials and ω_i falling steeply with their degree: what cannot be kept is
taken from the highest moments of the cell first, where the smooth functions by which a density acts on the risk hardly
see it. What its mean and covariance still lose, a frame that moves takes up. Scaling towards the average (Zhang & Shu)
takes the same share of all moments, and asks for more points than any moment knows of; docs/positivity.md compares.
The dual method of Goldfarb & Idnani, *Math. Program.* 27 (1983), solves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import basix
import numpy as np
from numpy.typing import NDArray

from mfpde.limit.fem.frame import Frame, roots
from mfpde.limit.fem.space import Space, density_element, tabulate
from mfpde.limit.positivity.bernstein import constant
from mfpde.parallel import reductions
from mfpde.parallel.compilation import kernel
from mfpde.parallel.exact_sum import pack, share_of, unpack

Array = NDArray[np.float64]
_FALL = 1e-2  # by which ω falls from degree to degree
_ROOM = 1e-13  # of the average: what rounding may take from a value before it is negative


@dataclass(frozen=True)
class Limiter:
    """Makes densities of one space nonnegative at g points of every cell.

    Attributes:
        space: the space.
        points: (g, d), in the reference cell.
        values: (g, i): ρ̂ there.
        push: what a multiplier adds to the coefficients, (1, g, i) on affine cells, else (owned, g, i).
        mean: the average from the coefficients, (1, i) or (owned, i).
        moments: ∫_K ψ_i {1, ξ, ξξᵀ (upper triangle)}, (owned, r, i).
    """

    space: Space
    points: Array
    values: Array
    push: Array
    mean: Array
    moments: Array

    def __call__(
        self, density: Array, frame: Frame, linear: Sequence[tuple[int, ...]] | None = None
    ) -> tuple[Array, Frame]:
        """A copy of ρ̂ that is nonnegative at the points, with the mass of every block; collective, one reduction.

        It holds for every ρ̂ of positive mass, whatever the step was, and exactly: no value is below zero by rounding.
        A cell keeps its mass if that is positive; if not, the cell becomes zero, and what it lacked is taken from the
        other cells of its block, all by the same factor.

        Args:
            density: coefficients (owned, i, b).
            frame: of the blocks.
            linear: the linear coordinates of each block's family, if frames may move: then (c, A) takes up what the
                copy's mean and covariance have changed, and those of ρ in θ are exactly what they were.

        Returns:
            The copy, and the frame.
        """
        copy = np.array(density, dtype=np.float64, order="C")
        _nearest(self.values, self.push, self.mean, constant(self.space.cell, self.space.degree), copy)
        return self.settle(density, copy, frame, linear)

    def settle(
        self, density: Array, copy: Array, frame: Frame, linear: Sequence[tuple[int, ...]] | None
    ) -> tuple[Array, Frame]:
        """Give a changed copy of ρ̂ back its masses, and if frames may move its means and covariances; collective."""
        shares = [share_of(np.matmul(self.moments, each), axes=(0,)) for each in (density, copy)]
        before, after = unpack(reductions.sum_over_ranks(self.space.comm, pack(shares)), shares)
        copy *= before[0] / after[0]
        return copy, frame if linear is None else _restored(frame, _laws(before), _laws(after), linear)


def build_limiter(space: Space, fall: float = _FALL) -> Limiter:
    """The limiter of a space; no communication.

    Its points are those of a quadrature that is exact for φ_j ρ_h, and on cells that are not affine for the Jacobian as
    well: degree p + k (per direction on products of intervals), or p + k + 2.

    Args:
        space: the space.
        fall: ω of one degree over that of the degree below.
    """
    exactness = space.degree + space.potential_degree + (0 if space.affine else 2)
    points, _ = basix.make_quadrature(space.cell, exactness)
    values = density_element(space.cell, space.degree).tabulate(0, points)[0, :, :, 0]
    moments = _moments(space)
    if space.affine:  # from the reference cell: the same bits on every rank
        mean = (space.tables.weights @ space.tables.density / space.tables.weights.sum())[None]
    else:
        mean = moments[:, 0] / (moments[:, 0] * constant(space.cell, space.degree)).sum(axis=1)[:, None]
    inverse = 1.0 / weights(space, fall)
    along = inverse * mean
    push = inverse * values - np.einsum("gi,ci,cj->cgj", values, along, along) / (along * mean).sum(1)[:, None, None]
    return Limiter(space, points, np.ascontiguousarray(values), np.ascontiguousarray(push), mean, moments)


def weights(space: Space, fall: float = _FALL) -> Array:
    """ω_i (i,) of every polynomial of the density's basis, by its total degree."""
    return np.asarray(fall ** _degrees(space).astype(np.float64))


def _moments(space: Space) -> Array:
    """∫_K ψ_i {1, ξ, ξξᵀ} (owned, r, i)."""
    fine = tabulate(space.cell, space.degree, 1, space.degree + 4)
    xi = space.points(fine.vertex)  # (c, q, d)
    upper = np.triu_indices(space.dim)
    functions = np.concatenate([np.ones_like(xi[..., :1]), xi, xi[..., upper[0]] * xi[..., upper[1]]], axis=2)
    measure = fine.weights * space.scale_at(fine.points)
    return np.ascontiguousarray(np.einsum("cqr,qi->cri", measure[..., None] * functions, fine.density))


def _laws(sums: Array) -> tuple[Array, Array]:
    """Means (b, d) and covariances (b, d, d) from ∫ρ̂ {1, ξ, ξξᵀ} (r, b)."""
    dim = next(d for d in (1, 2, 3) if 1 + d + d * (d + 1) // 2 == len(sums))
    mean, square = np.split((sums[1:] / sums[0]).T, [dim], axis=1)
    second = np.empty((*mean.shape, dim))
    rows, columns = np.triu_indices(dim)
    second[:, rows, columns] = second[:, columns, rows] = square
    return mean, second - mean[:, :, None] * mean[:, None, :]


def _restored(
    frame: Frame, before: tuple[Array, Array], after: tuple[Array, Array], linear: Sequence[tuple[int, ...]]
) -> Frame:
    """The frame in which the law `after` has the mean and the covariance in θ that `before` has in the given one.

    With covariances Σ = K Kᵀ and K'K'ᵀ (Cholesky, nonlinear coordinates first) A becomes A K K'⁻¹, which never lets a
    nonlinear coordinate of θ depend on a linear one of ξ. Blocks whose covariance is not positive definite stay.
    """
    matrix, centre = frame.matrix.copy(), frame.centre.copy()
    for b, axes in enumerate(linear):
        try:
            old, new = (roots(law[1][b : b + 1], axes)[0] for law in (before, after))
        except np.linalg.LinAlgError:
            continue
        turn = old @ np.linalg.inv(new)
        matrix[b] = frame.matrix[b] @ turn
        centre[b] += frame.matrix[b] @ (before[0][b] - turn @ after[0][b])
    return Frame(centre, matrix)


def _degrees(space: Space) -> NDArray[np.int64]:
    """Total degree (i,) of every polynomial of the density's basis."""
    points, weights = basix.make_quadrature(space.cell, 4 * max(space.degree, 1) + 2)
    table = density_element(space.cell, space.degree).tabulate(0, points)[0, :, :, 0]
    most = space.degree * space.dim
    degrees = np.zeros(space.size, dtype=np.int64)
    for degree in range(most):
        powers = [k for k in np.ndindex(*(degree + 1,) * space.dim) if sum(k) <= degree]
        lower = np.column_stack([(points ** np.array(k)).prod(axis=1) for k in powers])
        root = np.sqrt(weights)[:, None]
        fit = np.linalg.lstsq(root * lower, root * table, rcond=None)[0]
        degrees += np.abs(lower @ fit - table).max(axis=0) > 1e-6
    return degrees


@kernel(error_model="numpy")
def _nearest(values, push, mean, one, density):  # type: ignore[no-untyped-def]
    """Replace the coefficients of every cell and block that is negative at a point."""
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
            lowest, scale = _lowest(values, c)[0], 1.0
            if lowest < _ROOM * average:
                scale = (1.0 - _ROOM) * average / (average - lowest)
            for i in range(size):
                density[cell, i, block] = average * one[i] + scale * (c[i] - average * one[i])


@kernel(error_model="numpy")
def _project(values, push, hessian, average, c):  # type: ignore[no-untyped-def]  # noqa: PLR0912
    """The nearest coefficients with values ≥ 0: constraints enter one by one, and leave when they no longer push."""
    points = values.shape[0]
    active, force = np.empty(points, dtype=np.int64), np.zeros(points)
    count = 0
    for _ in range(4 * points):
        lowest, g = _lowest(values, c)
        if lowest >= -_ROOM * average:
            return
        pushed = 0.0  # by the constraint that enters
        while True:
            share = _share(hessian, active[:count], g)  # what the active forces yield per unit of the new one
            curvature = hessian[g, g]
            for k in range(count):
                curvature -= share[k] * hessian[active[k], g]
            full = np.inf if curvature <= 1e-12 * hessian[g, g] else -_at(values, g, c) / curvature
            step, leaver = full, -1
            for k in range(count):
                if share[k] > 0.0 and force[k] < step * share[k]:
                    step, leaver = force[k] / share[k], k
            if not step < np.inf:
                return
            for i in range(c.size):
                c[i] += step * push[g, i]
                for k in range(count):
                    c[i] -= step * share[k] * push[active[k], i]
            for k in range(count):
                force[k] -= step * share[k]
            pushed += step
            if leaver < 0:
                active[count], force[count] = g, pushed
                count += 1
                break
            for k in range(leaver, count - 1):
                active[k], force[k] = active[k + 1], force[k + 1]
            count -= 1
        if count == points:
            return


@kernel(error_model="numpy")
def _share(hessian, active, g):  # type: ignore[no-untyped-def]
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
def _lowest(values, c):  # type: ignore[no-untyped-def]
    """The smallest value at the points, and where it is."""
    lowest, place = np.inf, 0
    for g in range(values.shape[0]):
        value = _at(values, g, c)
        if value < lowest:
            lowest, place = value, g
    return lowest, place


@kernel()
def _at(values, g, c):  # type: ignore[no-untyped-def]
    """The value at point g."""
    total = 0.0
    for i in range(c.size):
        total += values[g, i] * c[i]
    return total
