"""The units that a finite Transformer starts with: drawn from the initial laws, or quadrature points of them.

Drawn units have weight 1/M. Quadrature points carry the density times the rule's weight, normalised: a measure close to
the initial law, whose evolution under the flow approaches that of the limit as fast as the rule converges. The
trapezoidal rule does so exponentially for normal laws, Gauss–Legendre for laws on a bounded box (Trefethen and
Weideman, SIAM Review 56, 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mfpde.problem.family import Family
from mfpde.problem.laws import Bump, Law, Uniform
from mfpde.problem.transformer import Transformer, Units

type Array = NDArray[np.float64]
type Points = int | Mapping[str, Sequence[int]]
"""Points per coordinate: one number for all, or per family one number for each coordinate."""
type Rule = Callable[[int], tuple[Array, Array]]
"""From the number of points to points and weights on [−1, 1]."""

_SUPPORT: Mapping[type[Law], float] = {Uniform: np.sqrt(3.0), Bump: np.sqrt(11.0)}  # half-widths at variance 1


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


def grid_units(model: Transformer, points: Points, half_width: float = 6.0) -> Units:
    """A uniform tensor grid over every initial law, with the trapezoidal rule.

    Args:
        model: whose families' initial laws are covered.
        points: in every coordinate, both ends among them.
        half_width: of the grid in standard deviations; a law of bounded support is covered exactly instead.

    Returns:
        Per family θ (L, u, d) and w (L, u).
    """
    return _tensor_units(model, points, half_width, lambda _: _trapezoid)


def gauss_units(model: Transformer, points: Points, half_width: float = 6.0) -> Units:
    """Gauss–Legendre tensor points over every initial law; arguments and result as for `grid_units`."""
    return _tensor_units(model, points, half_width, lambda _: _gauss_legendre)


def best_units(model: Transformer, points: Points, half_width: float = 6.0) -> Units:
    """Each law by the rule that converges exponentially for it: `gauss_units` on bounded boxes, else `grid_units`."""
    return _tensor_units(
        model, points, half_width, lambda law: _gauss_legendre if type(law) in _SUPPORT else _trapezoid
    )


def _tensor_units(model: Transformer, points: Points, half_width: float, rule: Callable[[Law], Rule]) -> Units:
    def family_units(family: Family) -> tuple[Array, Array]:
        counts = [points] * family.dim if isinstance(points, int) else list(points[family.name])
        laws = [family.law(layer) for layer in range(model.layers)]
        layers = [_tensor(law, counts, half_width, rule(law)) for law in laws]
        return np.stack([theta for theta, _ in layers]), np.stack([weights for _, weights in layers])

    made = [family_units(family) for family in model.families]
    return tuple((jnp.asarray(theta), jnp.asarray(weights)) for theta, weights in made)


def _tensor(law: Law, counts: Sequence[int], half_width: float, rule: Rule) -> tuple[Array, Array]:
    """θ (u, d) and w (u,) of one law: the product of its coordinates' rules."""
    reach = _SUPPORT.get(type(law), half_width)
    lines, weights = [], []
    for count, mean, std in zip(counts, law.mean, law.std, strict=True):
        place, weight = rule(count)
        lines.append(mean + std * reach * place)
        share = weight * law.standard(reach * place)
        weights.append(share / share.sum())
    theta = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, law.dim)
    return theta, reduce(np.multiply.outer, weights).ravel()


def _trapezoid(count: int) -> tuple[Array, Array]:
    weights = np.full(count, 2.0 / (count - 1))
    weights[[0, -1]] /= 2.0
    return np.linspace(-1.0, 1.0, count), weights


def _gauss_legendre(count: int) -> tuple[Array, Array]:
    place, weights = np.polynomial.legendre.leggauss(count)
    return np.asarray(place), np.asarray(weights)
