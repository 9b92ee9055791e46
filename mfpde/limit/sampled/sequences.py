"""Points of an initial law by randomised quasi-Monte Carlo.

Scrambled Sobol points, or a lattice that is shifted at random, are uniform in the unit cube each by itself and more
even together than independent ones; inverted distribution functions take them to the law. Independent randomisations
show by their spread how good one is. Where the law does not change with the sign of v, points come in pairs (u, v) and
(u, −v): odd moments in v are then exact. Where there are several times as many points as coordinates, they are moved by
the least affine map that gives them the law's own mean and covariance: the potential answers to errors of these first,
and in many coordinates their squares add up to a bias of d/n.
Sources: Owen, *J. Complexity* 14 (1998); Dick, Kuo & Sloan, *Acta Numerica* 22 (2013), section 5 for lattices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mfpde.problem.laws import Law

Array = NDArray[np.float64]
type Kind = Literal["sobol", "lattice", "drawn"]
_ENOUGH = 4  # points for each coordinate, so that their moments may be matched
_TRIED, _JUDGED = 32, 16  # multipliers, and coordinates by which they are judged
_INSIDE = 2.0**-54  # distribution functions are inverted no nearer to 0 and 1


def law_points(
    law: Law,
    count: int,
    linear: Sequence[int],
    rng: np.random.Generator,
    kind: Kind = "sobol",
    *,
    paired: bool = True,
    matched: bool = True,
) -> Array:
    """Points (count, d) of a law, all of the same mass.

    Args:
        law: the law.
        count: a power of two, at least 2.
        linear: the coordinates v.
        rng: of the randomisation.
        kind: "drawn" are independent ones.
        paired: take pairs where the law allows them.
        matched: match mean and covariance where there are enough points.
    """
    axes = list(linear)
    pairs = paired and bool(axes) and set(law.degenerate) != set(axes) and law.even_in(axes)
    points = law.quantiles(unit_points(law.uniforms, count // 2 if pairs else count, rng, kind))

    if matched:
        others = [axis for axis in range(law.dim) if axis not in set(axes)]
        for group in [others, axes] if pairs else [range(law.dim)]:
            free = [axis for axis in group if axis not in law.degenerate]
            if len(points) >= _ENOUGH * len(free):
                match_moments(points, law, free, centred=group is not axes)  # the mean of a pair's v is zero
    if not pairs:
        return points
    mirrored = points.copy()
    mirrored[:, axes] *= -1.0
    return np.stack([points, mirrored], axis=1).reshape(count, -1)


def match_moments(points: Array, law: Law, axes: list[int], mass: Array | None = None, *, centred: bool = True) -> None:
    """Give points the law's mean and covariance in some coordinates, or the latter as second moments.

    By a symmetric map, in the place of the points.

    Args:
        points: (n, d).
        law: the law.
        axes: the coordinates, in none of which it is degenerate.
        mass: of the points, (n,); equal unless given.
        centred: match the mean as well.
    """
    if not axes:
        return
    share = np.full(len(points), 1.0 / len(points)) if mass is None else mass
    apart = points[:, axes]
    mean = np.asarray(law.mean)[axes] if centred else 0.0
    apart = apart - share @ apart if centred else apart

    second = apart.T @ (share[:, None] * apart)
    root, inverse = _power(law.covariance[np.ix_(axes, axes)], 0.5), _power(second, -0.5)
    points[:, axes] = mean + apart @ inverse @ root


def _power(matrix: Array, exponent: float) -> Array:
    """Of a symmetric positive definite matrix."""
    values, axes = np.linalg.eigh(matrix)
    return np.asarray((axes * values**exponent) @ axes.T)


def unit_points(columns: int, count: int, rng: np.random.Generator, kind: Kind = "sobol") -> Array:
    """Points (count, columns) inside the unit cube."""
    if kind == "drawn":
        points = rng.random((count, columns))
    elif kind == "lattice":
        points = (np.arange(count)[:, None] * _generator(columns, count) / count + rng.random(columns)) % 1.0
    else:
        from scipy.stats import qmc  # noqa: PLC0415  (slow to import)

        points = qmc.Sobol(columns, scramble=True, rng=rng).random(count) if columns else np.empty((count, 0))
    return np.clip(points, _INSIDE, 1.0 - _INSIDE)


def _generator(columns: int, count: int) -> NDArray[np.int64]:
    """The generating vector of a lattice rule of Korobov's form, with the multiplier of the least error.

    The error is that of the worst function of mixed smoothness one, with weights 1/k² of coordinate k.
    """
    best, least = np.ones(columns, dtype=np.int64), np.inf
    tried = np.random.default_rng(0).permutation(np.arange(1, count, 2))[:_TRIED]
    for multiplier in tried:
        vector = np.empty(columns, dtype=np.int64)
        power = 1
        for k in range(columns):
            vector[k], power = power, power * int(multiplier) % count
        x = np.arange(count)[:, None] * vector[:_JUDGED] % count / count
        bernoulli = x * x - x + 1.0 / 6.0
        error = float(np.prod(1.0 + bernoulli / np.arange(1, x.shape[1] + 1) ** 2, axis=1).mean())
        if error < least:
            best, least = vector, error
    return best
