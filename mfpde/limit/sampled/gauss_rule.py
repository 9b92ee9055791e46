"""Points of an initial law that is random in few coordinates: a Gauss rule in normal scores, with no chance in it.

A law makes its draws of uniform numbers, θ = Q(p). With p = Φ(x) they are functions of independent normal numbers x,

    ∫φ dρ = E φ(Q(Φ(x))) ≈ Σ_j w_j φ(Q(Φ(x_j))),

and the tensor product of Gauss–Hermite rules is the law's Gauss rule where it is normal, and converges as fast for
every law that is a smooth image of normal numbers. A value matrix that is zero at the start has no random coordinates:
the law stays on a graph v = v(u), and a rule in u alone resolves it, whatever the size of v.
Source: Golub & Welsch, *Math. Comp.* 23 (1969), for the rule.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.special import ndtr

from mfpde.problem.laws import Law

Array = NDArray[np.float64]
MOST_RANDOM = 3  # coordinates of a tensor rule
_FAINT = 1e-9  # mass of a point, relative to the largest, that is left out
_FINE, _RARE = 2**15, 1e-6  # points between those of a rule, and least density of one, relative to the largest


def has_rule(law: Law) -> bool:
    """Is the law a smooth image of at most three normal numbers?"""
    return 0 < law.uniforms <= MOST_RANDOM and _is_single(law)


def law_rule(law: Law, order: int) -> tuple[Array, Array]:
    """Points (n, d) and masses (n,) of a law that `has_rule`; those of hardly any mass are left out.

    Args:
        law: the law.
        order: points in each random coordinate.
    """
    line, mass = _tensor(law.uniforms, order)
    kept = _is_kept(mass)
    return law.quantiles(ndtr(_lattice(line, law.uniforms)[kept])), mass[kept] / mass[kept].sum()


def rule_size(coordinates: int, order: int) -> int:
    """How many points `law_rule` has."""
    return int(_is_kept(_tensor(coordinates, order)[1]).sum())


def between(values: Array, coordinates: int, order: int) -> tuple[Array, Array]:
    """What the points of a rule have, (n, k), interpolated linearly in x to many points (p, k), and their masses (p,).

    A law is the image of normal numbers, wherever its points have moved: also where the map that moved them folds.

    Args:
        values: at the points of `law_rule`.
        coordinates: that are random.
        order: of the rule.
    """
    line, mass = _tensor(coordinates, order)
    lattice = np.full((order**coordinates, values.shape[1]), np.nan)
    lattice[_is_kept(mass)] = values
    known = RegularGridInterpolator([line] * coordinates, lattice.reshape(*[order] * coordinates, -1))

    parts = round(_FINE ** (1.0 / coordinates))
    fine = line[0] + (line[-1] - line[0]) * (np.arange(parts) + 0.5) / parts
    places = _lattice(fine, coordinates)
    found, share = known(places), np.exp(-0.5 * (places**2).sum(axis=1))
    inside = np.isfinite(found).all(axis=1) & (share > _RARE * share.max())
    return found[inside], share[inside] / share[inside].sum()


def _tensor(coordinates: int, order: int) -> tuple[Array, Array]:
    """The points of the rule on a line (order,), and the masses of their tensor product, the last axis fastest."""
    line, weights = np.polynomial.hermite_e.hermegauss(order)
    return line, reduce(np.multiply.outer, [weights / weights.sum()] * coordinates).ravel()


def _lattice(line: Array, coordinates: int) -> Array:
    """The points (n, coordinates) of the tensor product of a line."""
    return np.stack(np.meshgrid(*[line] * coordinates, indexing="ij"), axis=-1).reshape(-1, coordinates)


def _is_kept(mass: Array) -> NDArray[np.bool_]:
    return mass > _FAINT * mass.max()


def _is_single(law: Law) -> bool:
    """Is nothing in it a mixture, whose parts a uniform number chooses?"""
    return len(law.parts) == 1 and all(_is_single(part) for part in getattr(law, "laws", ()))
