"""Frames: every index of θ = c + A ξ written out, and the motion that keeps mean and covariance where they were."""

from __future__ import annotations

import numpy as np
import pytest

from mfpde.limit.fem.frame import Frame, Motion, VelocityMoments, at_rest, box_frame, follow

BLOCKS = 3


def some_frame(dim: int) -> tuple[Frame, np.random.Generator]:
    """Full matrices far from symmetric, one of them mirrored, so that a transposed index shows."""
    rng = np.random.default_rng(dim)
    matrix = np.triu(rng.uniform(0.5, 1.5, size=(BLOCKS, dim, dim))) + 0.1 * rng.normal(size=(BLOCKS, dim, dim))
    matrix[-1, 0] *= -1.0
    return Frame(rng.normal(size=(BLOCKS, dim)), matrix), rng


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_theta_inverse_determinant_and_metric(dim: int) -> None:
    """θ_i = c_i + Σ_j A_ij ξ_j block by block; A⁻¹A = 1; |det A| is what A does to volumes; D is the inverse of AᵀA."""
    frame, rng = some_frame(dim)
    xi = rng.normal(size=(4, 2, dim))
    theta = frame.theta(xi)
    assert theta.shape == (4, 2, dim, BLOCKS)
    for b in range(BLOCKS):
        for place in np.ndindex(4, 2):
            for i in range(dim):
                expected = frame.centre[b, i] + sum(frame.matrix[b, i, j] * xi[place][j] for j in range(dim))
                assert abs(theta[*place, i, b] - expected) < 1e-14
        assert np.abs(frame.inverse[b] @ frame.matrix[b] - np.eye(dim)).max() < 1e-13
        gram = frame.matrix[b].T @ frame.matrix[b]
        assert np.abs(gram @ frame.metric[b] - np.eye(dim)).max() < 1e-12
        assert abs(frame.determinant[b] ** 2 / np.linalg.det(gram) - 1.0) < 1e-13


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_moving_frame_leaves_the_velocity_in_theta(dim: int) -> None:
    """θ' = ċ + Ȧ ξ + A û is −∇_θ V, whatever the frame does: û = −D ∇_ξ V − b − C ξ and ∇_ξ V = Aᵀ ∇_θ V."""
    frame, rng = some_frame(dim)
    drift, stretch = rng.normal(size=(BLOCKS, dim)), rng.normal(size=(BLOCKS, dim, dim))
    moved = Motion(frame.metric, drift, stretch).rate(frame)
    slope = rng.normal(size=(BLOCKS, dim))  # ∇_θ V
    for xi in rng.normal(size=(3, dim)):
        for b in range(BLOCKS):
            velocity = -frame.metric[b] @ frame.matrix[b].T @ slope[b] - drift[b] - stretch[b] @ xi
            theta = moved.centre[b] + moved.matrix[b] @ xi + frame.matrix[b] @ velocity
            assert np.abs(theta + slope[b]).max() < 1e-12


def cloud(dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, VelocityMoments]:
    """Weights (b, n) of mass 0.9, points ξ and velocities û₀ (b, n, d) around means that are not zero, and moments."""
    rng = np.random.default_rng(10 + dim)
    weights = rng.uniform(0.5, 1.5, size=(BLOCKS, 20))
    weights *= 0.9 / weights.sum(axis=1, keepdims=True)
    xi = rng.normal(size=(BLOCKS, 20, dim)) * np.linspace(0.5, 1.0, dim) + 0.7
    velocity = np.sin(xi @ rng.normal(size=(dim, dim))) - 0.4 * xi + 0.3
    moments = VelocityMoments(
        weights.sum(axis=1),
        np.einsum("bn,bni->bi", weights, xi),
        np.einsum("bn,bni,bnj->bij", weights, xi, xi),
        np.einsum("bn,bni->bi", weights, velocity),
        np.einsum("bn,bni,bnj->bij", weights, velocity, xi),
    )
    return weights, xi, velocity, moments


@pytest.mark.parametrize(
    ("dim", "linear"), [(1, ()), (1, (0,)), (2, ()), (2, (0,)), (2, (1,)), (2, (0, 1)), (3, ()), (3, (0,)), (3, (0, 2))]
)
def test_following_keeps_mean_and_covariance(dim: int, linear: tuple[int, ...]) -> None:
    """d/dτ of the mean and the covariance of a cloud that moves at û = û₀ − b − C ξ vanish."""
    weights, xi, velocity, moments = cloud(dim)
    motion = follow(some_frame(dim)[0], moments, [linear] * BLOCKS)
    for b in range(BLOCKS):
        share = weights[b] / weights[b].sum()
        left = velocity[b] - motion.drift[b] - xi[b] @ motion.stretch[b].T
        centred = xi[b] - share @ xi[b]
        shear = (share[:, None] * left).T @ centred
        assert np.abs(share @ left).max() < 1e-13
        assert np.abs(shear + shear.T).max() < 1e-13
    axes = np.ix_(range(BLOCKS), [a for a in range(dim) if a not in linear], linear)
    assert not motion.stretch[axes].any()  # no nonlinear coordinate of θ depends on a linear one of ξ


def test_blocks_of_different_families_follow_each_in_its_own_way() -> None:
    """The linear coordinates of every block are its own."""
    _, _, _, moments = cloud(2)
    kinds = [(0,), (), (1,)]
    mixed = follow(some_frame(2)[0], moments, kinds)
    for b, kind in enumerate(kinds):
        alone = follow(some_frame(2)[0], moments, [kind] * BLOCKS)
        assert np.array_equal(mixed.stretch[b], alone.stretch[b])
        assert np.array_equal(mixed.drift[b], alone.drift[b])


def test_a_box_at_rest() -> None:
    """Corners of the reference box are at mean ± half-width, and nothing moves."""
    frame = box_frame(np.array([[1.0, -2.0]]), np.array([[0.5, 3.0]]))
    corners = frame.theta(np.array([[-1.0, -1.0], [1.0, 1.0]]))[..., 0]
    assert np.array_equal(corners, [[0.5, -5.0], [1.5, 1.0]])
    still = at_rest(frame).rate(frame)
    assert not still.centre.any()
    assert not still.matrix.any()
