"""Frames: the affine map θ = c + A ξ from the reference mesh to each layer's θ, and how it follows the density.

The reference density is ρ̂(ξ) = |det A| ρ(θ), so that masses agree. A co-moving frame advances (c, A) with the density
so that mean and covariance of ρ̂ are constant: then weight decay and drift leave little or nothing to transport.
Source: docs/equations.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """One affine map per block: centre c (b, d) and matrix A (b, d, d) in θ = c + A ξ.

    A never lets a nonlinear coordinate of θ depend on a linear coordinate of ξ: then mesh nodes that share the
    nonlinear part of ξ share the nonlinear part of θ, and the Transformer is evaluated once for all of them.
    """

    centre: Array
    matrix: Array

    @property
    def blocks(self) -> int:
        """Number of blocks b."""
        return int(self.centre.shape[0])

    @property
    def determinant(self) -> Array:
        """|det A|, shape (b,)."""
        return np.abs(np.linalg.det(self.matrix))

    @property
    def inverse(self) -> Array:
        """A⁻¹, shape (b, d, d)."""
        return np.linalg.inv(self.matrix)

    @property
    def metric(self) -> Array:
        """A⁻¹A⁻ᵀ (b, d, d): turns a gradient in ξ into the ξ-velocity of the θ-gradient flow."""
        inverse = self.inverse
        return np.ascontiguousarray(inverse @ np.swapaxes(inverse, 1, 2))

    def theta(self, xi: Array) -> Array:
        """θ = c + A ξ for points (..., d), every block: (..., d, b), blocks last as in all nodal arrays."""
        return np.asarray(np.einsum("bij,...j->...ib", self.matrix, xi) + self.centre.T)


@dataclass(frozen=True)
class Motion:
    """The velocity of the reference density, per block: û = −D ∇_ξ V − (b + C ξ).

    Attributes:
        metric: D = A⁻¹A⁻ᵀ, shape (b, d, d).
        drift: b = A⁻¹ċ, shape (b, d).
        stretch: C = A⁻¹Ȧ, shape (b, d, d).
    """

    metric: Array
    drift: Array
    stretch: Array

    def rate(self, frame: Frame) -> Frame:
        """(ċ, Ȧ) = (A b, A C)."""
        return Frame(np.einsum("bij,bj->bi", frame.matrix, self.drift), frame.matrix @ self.stretch)


@dataclass(frozen=True)
class VelocityMoments:
    """Integrals against ρ̂ in the scheme's quadrature, û₀ = −D ∇_ξ V the velocity in the frame at rest.

    Attributes:
        mass: ∫ρ̂, (b,).
        mean: ∫ρ̂ ξ, (b, d).
        second: ∫ρ̂ ξ ξᵀ, (b, d, d).
        velocity: ∫ρ̂ û₀, (b, d).
        shear: ∫ρ̂ û₀ ξᵀ, (b, d, d).
    """

    mass: Array
    mean: Array
    second: Array
    velocity: Array
    shear: Array

    @property
    def covariance(self) -> Array:
        """Of ρ̂ over its mass, (b, d, d)."""
        mean = self.mean / self.mass[:, None]
        return np.asarray(self.second / self.mass[:, None, None] - mean[:, :, None] * mean[:, None, :])


def box_frame(mean: Array, half_width: Array) -> Frame:
    """The frame whose reference box [−1, 1]^d is centred at mean (b, d) with half-widths (b, d) in θ units."""
    return Frame(np.array(mean, dtype=np.float64), np.stack([np.diag(row) for row in half_width]))


def at_rest(frame: Frame) -> Motion:
    """The motion of a frame that does not move."""
    blocks, dim = frame.centre.shape
    return Motion(frame.metric, np.zeros((blocks, dim)), np.zeros((blocks, dim, dim)))


def follow(
    frame: Frame, moments: VelocityMoments, linear: Sequence[tuple[int, ...]], temperature: float = 0.0
) -> Motion:
    """The motion under which mean and covariance of ρ̂ are constant.

    With û = û₀ − b − C ξ, mean μ and covariance Σ of ρ̂: b = E[û₀] − C μ, and C solves

        C Σ + Σ Cᵀ = E[û₀ (ξ − μ)ᵀ] + transpose + 2β⁻¹ D

    among the matrices that are lower triangular when the nonlinear coordinates come first: with Σ = K Kᵀ (Cholesky) and
    C = K X K⁻¹, X is the lower triangle of K⁻¹ (right side) K⁻ᵀ with its diagonal halved.

    Args:
        frame: the frame.
        moments: integrals over the whole mesh.
        linear: the linear coordinates of each block's family.
        temperature: β⁻¹, by which diffusion widens ρ̂ that no boundary holds.

    Raises:
        numpy.linalg.LinAlgError: when a covariance is not positive definite.
    """
    mass = moments.mass[:, None]
    mean, velocity = moments.mean / mass, moments.velocity / mass
    covariance = moments.covariance

    shear = moments.shear / mass[..., None] - velocity[:, :, None] * mean[:, None, :] + temperature * frame.metric
    stretch = np.empty_like(covariance)
    for axes in set(linear):  # blocks of one kind at once
        kind = np.array([other == axes for other in linear])
        stretch[kind] = _stretch(covariance[kind], shear[kind], axes)

    return Motion(frame.metric, velocity - np.einsum("bij,bj->bi", stretch, mean), stretch)


def roots(covariance: Array, linear: Sequence[int]) -> Array:
    """K (b, d, d) with K Kᵀ = Σ (b, d, d), lower triangular when the nonlinear coordinates come first.

    Raises:
        numpy.linalg.LinAlgError: when a covariance is not positive definite.
    """
    pick = _nonlinear_first(covariance, linear)
    root = np.empty_like(covariance)
    root[pick] = np.linalg.cholesky(covariance[pick])
    return root


def mean_and_covariance(sums: Array) -> tuple[Array, Array]:
    """Means (b, d) and covariances (b, d, d) from ∫ρ̂ {1, ξ, ξξᵀ (upper triangle)} (r, b), see `space.cell_moments`."""
    dim = next(d for d in (1, 2, 3) if 1 + d + d * (d + 1) // 2 == len(sums))
    mean, square = np.split((sums[1:] / sums[0]).T, [dim], axis=1)
    second = np.empty((*mean.shape, dim))
    rows, columns = np.triu_indices(dim)
    second[:, rows, columns] = second[:, columns, rows] = square
    return mean, second - mean[:, :, None] * mean[:, None, :]


def with_moments(
    frame: Frame, wanted: tuple[Array, Array], made: tuple[Array, Array], linear: Sequence[tuple[int, ...]]
) -> Frame:
    """The frame in which a density has the mean and covariance in θ that it should have.

    With covariances Σ = K Kᵀ and K'K'ᵀ (Cholesky, nonlinear coordinates first) A becomes A K K'⁻¹, which never lets a
    nonlinear coordinate of θ depend on a linear one of ξ. Blocks whose covariance is not positive definite stay.

    Args:
        frame: the present one.
        wanted: means (b, d) and covariances (b, d, d), in the ξ of the present frame.
        made: those that the density has in ξ.
        linear: the linear coordinates of each block's family.
    """
    matrix, centre = frame.matrix.copy(), frame.centre.copy()
    for b, axes in enumerate(linear):
        try:
            old, new = (roots(law[1][b : b + 1], axes)[0] for law in (wanted, made))
        except np.linalg.LinAlgError:
            continue
        turn = old @ np.linalg.inv(new)
        matrix[b] = frame.matrix[b] @ turn
        centre[b] += frame.matrix[b] @ (wanted[0][b] - turn @ made[0][b])
    return Frame(centre, matrix)


def _nonlinear_first(matrices: Array, linear: Sequence[int]) -> tuple[NDArray[np.intp], ...]:
    """The index that gives matrices (b, d, d) with their rows and columns in that order."""
    order = [a for a in range(matrices.shape[1]) if a not in linear] + list(linear)
    return np.ix_(range(len(matrices)), order, order)


def _stretch(covariance: Array, shear: Array, linear: tuple[int, ...]) -> Array:
    """C of `follow` for blocks (b, d, d) of the same linear coordinates."""
    dim = covariance.shape[1]
    pick = _nonlinear_first(covariance, linear)
    root = np.linalg.cholesky(covariance[pick])
    inverse = np.linalg.inv(root)
    right = inverse @ (shear[pick] + np.swapaxes(shear[pick], 1, 2)) @ np.swapaxes(inverse, 1, 2)
    lower = np.tril(right, -1) + 0.5 * right * np.eye(dim)
    stretch = np.empty_like(covariance)
    stretch[pick] = root @ lower @ inverse
    return stretch
