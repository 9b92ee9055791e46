"""Densities too narrow for a co-moving frame to follow: narrower than a cell, or than rounding errors allow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mfpde.errors import ComputationError
from mfpde.limit.fem.frame import Frame, VelocityMoments
from mfpde.limit.fem.space import Space


def covariance_lost(moments: VelocityMoments, tau: float, name: Callable[[int], str]) -> ComputationError:
    """The error of a frame whose density has no positive definite covariance.

    Args:
        moments: of the densities.
        tau: τ.
        name: family and layer of a block.
    """
    worst = int(np.linalg.eigvalsh(moments.covariance)[:, 0].argmin())
    return ComputationError(
        f"the covariance is no longer positive definite at tau = {tau:.6g}, {name(worst)}: the "
        "density is narrower than a cell; raise density.cells or density.degree, or take density.frame = "
        '"lagrangian"'
    )


def check_width(
    space: Space, frame: Frame, moments: VelocityMoments, tau: float, risk: float, name: Callable[[int], str]
) -> None:
    """Does the potential still vary over the density by more than its rounding errors?

    These are ε R, of the risk R, and between neighbouring nodes Δξ apart slopes of ε R/Δξ. In the frame they are
    speeds of ε R |D|/Δξ, D = A⁻¹A⁻ᵀ; a density that they move through its own width in the time τ so far is a point
    to double precision, and steps shrink without end.

    Raises:
        ComputationError: on every rank alike, when it does not.
    """
    per_unit = 0.5 * space.potential_degree * space.global_cells ** (1.0 / space.dim)  # nodes, of a mesh [−1, 1]^d
    noise = np.finfo(float).eps * risk * per_unit * np.linalg.norm(frame.metric, axis=(1, 2)) * tau
    worst = int(noise.argmax())
    if not noise[worst] > 1.0:
        return

    variance = np.diagonal(frame.matrix[worst] @ moments.covariance[worst] @ frame.matrix[worst].T)
    raise ComputationError(
        f"the density is a point at tau = {tau:.6g}, {name(worst)}: its standard deviation "
        f"{np.sqrt(variance.min()):.2g} is lost in the rounding of the potential, and a co-moving "
        'frame cannot follow it; density.frame = "lagrangian" can'
    )
