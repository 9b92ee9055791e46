"""Points of an initial law that is random in few coordinates: a midpoint rule in normal scores, with no chance in it.

A law makes its draws of uniform numbers, θ = Q(p). With p = Φ(x) they are functions of independent normal numbers x,

    ∫φ dρ = E φ(Q(Φ(x))) ≈ Σ_j w_j φ(Q(Φ(x_j))),

with midpoints x_j of equal intervals and w_j in proportion to the normal density (`output.clouds.midpoint_lattice`).
A value matrix that is zero at the start has no random coordinates: the law stays on a graph v = v(u), and a rule in u
alone resolves it, whatever the size of v.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from mfpde.limit.sampled.sequences import match_moments
from mfpde.output.clouds.midpoint_lattice import tensor_rule
from mfpde.problem.laws import Law

Array = NDArray[np.float64]
MOST_RANDOM = 3  # coordinates of a tensor rule


def has_rule(law: Law) -> bool:
    """Is the law a smooth image of at most three normal numbers?"""
    return 0 < law.uniforms <= MOST_RANDOM and _is_single(law)


def law_rule(law: Law, order: int) -> tuple[Array, Array]:
    """Points (n, d) and masses (n,) of a law that `has_rule`, with its mean and covariance.

    Points of hardly any mass are left out.

    Args:
        law: the law.
        order: points in each random coordinate.
    """
    places, mass = tensor_rule(law.uniforms, order)
    points = law.quantiles(ndtr(places))
    match_moments(points, law, [axis for axis in range(law.dim) if axis not in law.degenerate], mass)
    return points, mass


def _is_single(law: Law) -> bool:
    """Is nothing in it a mixture, whose parts a uniform number chooses?"""
    return len(law.parts) == 1 and all(_is_single(part) for part in getattr(law, "laws", ()))
