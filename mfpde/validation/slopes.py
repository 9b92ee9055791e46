"""Slopes in log–log coordinates, and whether errors fall with M or with L·M.

Errors of one seed at several sizes are not independent (smaller sets of units are the first of larger ones), so seeds
are drawn again as a whole: a bootstrap over seeds (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_DRAWS = 2000


@dataclass(frozen=True)
class Slope:
    """A fitted exponent.

    Attributes:
        value: of the least-squares line.
        low, high: its 95 % interval.
    """

    value: float
    low: float
    high: float

    def meets(self, wanted: float, within: float) -> bool:
        """Does the interval reach into [wanted − within, wanted + within]?"""
        return self.low <= wanted + within and self.high >= wanted - within


def slope(sizes: Sequence[float], errors: Array, scale: Array | None = None, seed: int = 0) -> Slope:
    """The exponent a of RMS error ~ size^a, or, with a scale, of RMS error ~ scale(size)^a.

    Args:
        sizes: (k,).
        errors: (seeds, k), of any sign.
        scale: (k,) positive numbers that take the place of the sizes.
        seed: of the bootstrap.
    """
    x = np.log(np.asarray(sizes, dtype=float) if scale is None else scale)
    squares = np.asarray(errors) ** 2
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(squares), size=(_DRAWS, len(squares)))
    found = _fit(x, 0.5 * np.log(squares[drawn].mean(axis=1)))
    low, high = np.percentile(found, [2.5, 97.5])
    return Slope(float(_fit(x, 0.5 * np.log(squares.mean(axis=0))[None])[0]), float(low), float(high))


def _fit(x: Array, y: Array) -> Array:
    """Slopes of least-squares lines through x (k,) and each row of y (m, k)."""
    centred = x - x.mean()
    return np.asarray(y @ centred / (centred @ centred))


@dataclass(frozen=True)
class Governed:
    """RMS error ~ M^a L^b.

    Attributes:
        units: a.
        layers: b.
        by: "L·M" where b agrees with a and not with 0, "M" the other way round, else "undecided".
        errors: M, L and the root mean square of each that was fitted.
    """

    units: Slope
    layers: Slope
    by: str
    errors: list[tuple[int, int, float]]


def governed(errors: Mapping[tuple[int, int], Array], seed: int = 0) -> Governed:
    """Does the error fall with M alone, or with L·M?

    Args:
        errors: per (M, L) the errors (seeds,); at least two different M and two different L.
        seed: of the bootstrap; every (M, L) has seeds of its own where their numbers differ.
    """
    design = np.array([[1.0, np.log(m), np.log(n)] for m, n in errors])
    solve = np.linalg.pinv(design)
    rng = np.random.default_rng(seed)
    count = min(len(e) for e in errors.values())
    squares = np.stack([np.asarray(e)[:count] ** 2 for e in errors.values()], axis=1)
    drawn = rng.integers(count, size=(_DRAWS, count))
    found = 0.5 * np.log(squares[drawn].mean(axis=1)) @ solve.T
    best = solve @ (0.5 * np.log(squares.mean(axis=0)))
    low, high = np.percentile(found, [2.5, 97.5], axis=0)
    units, layers = (Slope(float(best[k]), float(low[k]), float(high[k])) for k in (1, 2))
    apart = np.percentile(found[:, 2] - found[:, 1], [2.5, 97.5])
    like_units, like_none = bool(apart[0] <= 0.0 <= apart[1]), layers.low <= 0.0 <= layers.high
    by = "undecided" if like_units == like_none else ("L·M" if like_units else "M")
    rms = np.sqrt(squares.mean(axis=0))
    return Governed(units, layers, by, [(m, n, float(e)) for (m, n), e in zip(errors, rms, strict=True)])
