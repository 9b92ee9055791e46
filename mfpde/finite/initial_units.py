"""The units that a finite Transformer starts with: drawn from the initial laws, or quadrature points of them.

Drawn units have weight 1/M. Quadrature points have the density times the rule's weight, normalised: a measure close to
the initial law, whose evolution under the flow approaches that of the limit as fast as the rule converges. The
trapezoidal rule does so exponentially for normal laws, Gauss–Legendre for laws on a bounded box (Trefethen and
Weideman, SIAM Review 56, 2014).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mfpde.problem.family import Family
from mfpde.problem.laws import Law
from mfpde.problem.transformer import Transformer, Units

type Array = NDArray[np.float64]
type Points = int | Mapping[str, Sequence[int]]
"""Points per coordinate: one number for all, or per family one number for each coordinate."""
type Rule = Literal["grid", "gauss", "best"]
"""Uniform with the trapezoidal rule; Gauss–Legendre; or for each law the one of them that converges exponentially."""


def sampled_units(model: Transformer, count: int, seed: int) -> Units:
    """M independent units a family and layer, each of weight 1/M.

    Fewer units of the same seed are the first of more.

    Args:
        model: whose families' initial laws are drawn from.
        count: M.
        seed: of all draws.

    Returns:
        Per family θ (L, M, d) and w (L, M).
    """

    def draw(place: int, family: Family, layer: int) -> Array:
        return family.law(layer).sample(np.random.default_rng([seed, place, layer]), count)

    weights = jnp.full((model.layers, count), 1.0 / count)
    thetas = [np.stack([draw(c, f, layer) for layer in range(model.layers)]) for c, f in enumerate(model.families)]
    return tuple((jnp.asarray(theta), weights) for theta in thetas)


def tensor_units(rule: Rule, model: Transformer, points: Points, half_width: float = 6.0) -> Units:
    """A tensor product of quadrature points over every initial law.

    Args:
        rule: by which points and weights are chosen in every coordinate.
        model: whose families' initial laws are covered.
        points: in every coordinate; both ends are among those of a uniform grid.
        half_width: of the points in standard deviations; a law of bounded support is covered exactly instead.

    Returns:
        Per family θ (L, u, d) and w (L, u).
    """

    def family_units(family: Family) -> tuple[jax.Array, jax.Array]:
        counts = [points] * family.dim if isinstance(points, int) else points[family.name]
        layers = [_tensor(rule, family.law(layer), counts, half_width) for layer in range(model.layers)]
        theta, weights = (np.stack(arrays) for arrays in zip(*layers, strict=True))
        return jnp.asarray(theta), jnp.asarray(weights)

    return tuple(map(family_units, model.families))


def _tensor(rule: Rule, law: Law, counts: Sequence[int], half_width: float) -> tuple[Array, Array]:
    """θ (u, d) and w (u,) of one law: of a product law the product of its coordinates' rules."""
    if not law.product:
        return _over_box(rule, law, counts, half_width)
    bounded = bool(np.isfinite(law.support))
    reach = law.support if bounded else half_width
    places, weights = [], []
    for count, mean, std in zip(counts, law.mean, law.std, strict=True):
        place, weight = _quadrature(count, gauss=rule == "gauss" or (rule == "best" and bounded))
        places.append(mean + std * reach * place)
        share = weight * law.standard(reach * place)
        weights.append(share / share.sum())

    theta = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, law.dim)
    return theta, reduce(np.multiply.outer, weights).ravel()


def _over_box(rule: Rule, law: Law, counts: Sequence[int], half_width: float) -> tuple[Array, Array]:
    """θ and w of a law that is no product: its density at points of the box that holds all of its parts."""
    low, high = law.box(half_width, within_support=True)
    rules = [_quadrature(count, gauss=rule == "gauss") for count in counts]
    places = [0.5 * (a + b) + 0.5 * (b - a) * place for a, b, (place, _) in zip(low, high, rules, strict=True)]
    theta = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, law.dim)
    weights = reduce(np.multiply.outer, [weight for _, weight in rules]).ravel() * law.density(theta)
    return theta, weights / weights.sum()


def _quadrature(count: int, gauss: bool) -> tuple[Array, Array]:
    """Points and weights on [−1, 1]."""
    if gauss:
        place, weights = np.polynomial.legendre.leggauss(count)
        return np.asarray(place), np.asarray(weights)
    weights = np.full(count, 2.0 / (count - 1))
    weights[[0, -1]] /= 2.0
    return np.linspace(-1.0, 1.0, count), weights
