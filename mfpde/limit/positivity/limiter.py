"""A limiter that keeps the density nonnegative at quadrature points and changes its moments as little as possible.

A potential V_h ∈ CG_k depends on ρ_h through the moments m_j = ∫ φ_j ρ_h alone. A quadrature that computes them
exactly, with points x_g and weights w_g > 0, makes the density an atomic measure Σ_g w_g ρ_h(x_g) δ_{x_g}: if
ρ_h(x_g) ≥ 0 at these points, the Transformer sees a positive measure. On products of intervals with k ≤ p + 1 they are
the (p + 1)^d Gauss points. After every step the polynomial of each cell with a negative value there is replaced by the
nearest one,

    min Σ_i ω_i (c_i − c⁰_i)²   subject to   ρ_h(x_g) ≥ 0,   ∫_K ρ_h unchanged,

with c the coefficients in orthonormal polynomials and ω_i falling steeply with their degree: the highest moments of the
cell change first, on which the risk, a smooth function of the density, hardly depends. A moving frame compensates the
remaining change of mean and covariance. Scaling towards the average (Zhang & Shu) reduces all moments by the same
factor, and needs more points than the moments do; docs/positivity.md compares. `projection_kernels` solves the problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import basix
import numpy as np
from numpy.typing import NDArray

from mfpde.limit.fem.elements import density_element
from mfpde.limit.fem.frame import Frame, mean_and_covariance, with_moments
from mfpde.limit.fem.space import Space, cell_moments
from mfpde.limit.positivity.bernstein import constant
from mfpde.limit.positivity.projection_kernels import project_cells
from mfpde.parallel import reductions
from mfpde.parallel.exact_sum import pack, share_of, unpack

Array = NDArray[np.float64]
_FALL = 1e-2  # by which ω falls from degree to degree


@dataclass(frozen=True)
class Limiter:
    """Makes densities of one space nonnegative at g points of every cell.

    Attributes:
        space: the space.
        points: (g, d), in the reference cell.
        values: (g, i): ρ̂ there.
        push: the change of the coefficients per unit of a multiplier, (1, g, i) on affine cells, else (owned, g, i).
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

        This holds for every ρ̂ of positive mass, whatever the step was, and exactly: no value is below zero by rounding.
        A cell keeps its mass if that is positive; if not, the cell becomes zero, and the other cells of its block are
        scaled by one factor to make up for it.

        Args:
            density: coefficients (owned, i, b).
            frame: of the blocks.
            linear: the linear coordinates of each block's family, if frames may move: then (c, A) compensates the
                change of the copy's mean and covariance, so that those of ρ in θ are exactly what they were.

        Returns:
            The copy, and the frame.
        """
        copy = np.array(density, dtype=np.float64, order="C")
        project_cells(self.values, self.push, self.mean, constant(self.space.cell, self.space.degree), copy)
        return self.restore(density, copy, frame, linear)

    def restore(
        self, density: Array, copy: Array, frame: Frame, linear: Sequence[tuple[int, ...]] | None
    ) -> tuple[Array, Frame]:
        """Restore the masses of a changed copy of ρ̂, and if frames may move its means and covariances; collective."""
        shares = [share_of(np.matmul(self.moments, each), axes=(0,)) for each in (density, copy)]
        before, after = unpack(reductions.sum_over_ranks(self.space.comm, pack(shares)), shares)
        copy *= before[0] / after[0]
        if linear is None:
            return copy, frame
        return copy, with_moments(frame, mean_and_covariance(before), mean_and_covariance(after), linear)


def build_limiter(space: Space, fall: float = _FALL) -> Limiter:
    """The limiter of a space; no communication.

    Its points are those of a quadrature that is exact for φ_j ρ_h, and on cells that are not affine for its product
    with the Jacobian: degree p + k (per direction on products of intervals), or p + k + 2.

    Args:
        space: the space.
        fall: ω of one degree over that of the degree below.
    """
    exactness = space.degree + space.potential_degree + (0 if space.affine else 2)
    points, _ = basix.make_quadrature(space.cell, exactness)
    values = density_element(space.cell, space.degree).tabulate(0, points)[0, :, :, 0]
    moments = cell_moments(space)

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


def _degrees(space: Space) -> NDArray[np.int64]:
    """Total degree (i,) of every polynomial of the density's basis."""
    points, weights = basix.make_quadrature(space.cell, 4 * max(space.degree, 1) + 2)
    table = density_element(space.cell, space.degree).tabulate(0, points)[0, :, :, 0]

    # ψ_i has a higher degree where it differs from its least-squares fit
    degrees = np.zeros(space.size, dtype=np.int64)
    for degree in range(space.degree * space.dim):
        powers = [k for k in np.ndindex(*(degree + 1,) * space.dim) if sum(k) <= degree]
        lower = np.column_stack([(points ** np.array(k)).prod(axis=1) for k in powers])
        root = np.sqrt(weights)[:, None]
        fit = np.linalg.lstsq(root * lower, root * table, rcond=None)[0]
        degrees += np.abs(lower @ fit - table).max(axis=0) > 1e-6
    return degrees
