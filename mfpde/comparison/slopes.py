"""Slopes in log–log coordinates, and whether errors fall with M or with L·M.

Errors of one seed at several sizes are not independent (smaller sets of units are the first of larger ones), so seeds
are left out, or drawn again, as a whole: a jackknife for an exponent in M, a bootstrap over seeds for those in M and L
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

Array = NDArray[np.float64]
_DRAWS = 2000
_MOST_FLAT = 0.499  # of 0.5, where nothing falls any more
_REACH = 14.0  # e-folds about the smallest error, in which a floor shows in an exponent


@dataclass(frozen=True)
class Slope:
    """A fitted exponent.

    Attributes:
        value: of the least-squares line.
        low, high: its 95 % interval.
        error: its standard error; nan where the interval is that of a bootstrap.
    """

    value: float
    low: float
    high: float
    error: float = float("nan")

    def interval(self, seeds: int, confidence: float) -> Slope:
        """The same exponent with the interval of another confidence, by Student's t."""
        reach = float(stats.t.ppf(0.5 + 0.5 * confidence, seeds - 1)) * self.error
        return Slope(self.value, self.value - reach, self.value + reach, self.error)

    def within(self, wanted: float, tolerance: float) -> bool | None:
        """Does the interval lie in [wanted − tolerance, wanted + tolerance]? None where only a part of it does."""
        if wanted - tolerance <= self.low and self.high <= wanted + tolerance:
            return True
        return False if self.high < wanted - tolerance or self.low > wanted + tolerance else None


def slope(sizes: Sequence[float], errors: Array, scale: Array | None = None) -> Slope:
    """The exponent a of RMS error ~ size^a, or, with a scale, of RMS error ~ scale(size)^a.

    The standard error is that of the jackknife over seeds: with eight of them, percentiles of a bootstrap cover the
    exponent too seldom (86 % of the time instead of 95; the jackknife with Student's t 93).

    Args:
        sizes: (k,).
        errors: (seeds, k), of any sign; at least two seeds.
        scale: (k,) positive numbers that take the place of the sizes.
    """
    x = np.log(np.asarray(sizes, dtype=float) if scale is None else scale)
    squares = np.asarray(errors) ** 2
    count = len(squares)

    value = float(_fit(x, 0.5 * np.log(squares.mean(axis=0))[None])[0])
    left = _fit(x, 0.5 * np.log((squares.sum(axis=0) - squares) / (count - 1)))
    error = float(np.sqrt((count - 1) / count * np.sum((left - left.mean()) ** 2)))
    return Slope(value, value, value, error).interval(count, 0.95)


def _fit(x: Array, y: Array) -> Array:
    """Slopes of least-squares lines through x (k,) and each row of y (m, k)."""
    centred = x - x.mean()
    return np.asarray(y @ centred / (centred @ centred))


def floor(sizes: Sequence[float], errors: Sequence[float], flatter: float) -> float:
    """An error that does not fall with M, large enough to be seen in an exponent.

    The b for which the line through √(a²/M + b²) has the exponent flatter − ½, where a fits the errors, a²/M; ∞ where
    no b flattens it by as much.

    Args:
        sizes: M (k,), at least two different ones.
        errors: root mean squares (k,).
        flatter: by how much, positive.
    """
    if flatter >= _MOST_FLAT:
        return float("inf")

    units = np.asarray(sizes, dtype=float)
    x, scale = np.log(units), float(np.exp(np.mean(np.log(np.square(errors) * units))))

    def excess(log_floor: float) -> float:
        return float(_fit(x, 0.5 * np.log(scale / units + np.exp(2.0 * log_floor))[None])[0]) + 0.5 - flatter

    middle = 0.5 * float(np.log(scale / units.max()))
    return float(np.exp(brentq(excess, middle - _REACH, middle + _REACH)))


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
    count = min(len(e) for e in errors.values())
    squares = np.stack([np.asarray(e)[:count] ** 2 for e in errors.values()], axis=1)

    # The bootstrap draws seeds: all sizes and depths of a seed come together.
    drawn = np.random.default_rng(seed).integers(count, size=(_DRAWS, count))
    found = 0.5 * np.log(squares[drawn].mean(axis=1)) @ solve.T
    best = solve @ (0.5 * np.log(squares.mean(axis=0)))
    low, high = np.percentile(found, [2.5, 97.5], axis=0)
    units, layers = (Slope(float(best[k]), float(low[k]), float(high[k])) for k in (1, 2))

    apart = np.percentile(found[:, 2] - found[:, 1], [2.5, 97.5])
    like_units, like_none = bool(apart[0] <= 0.0 <= apart[1]), layers.low <= 0.0 <= layers.high
    by = "undecided" if like_units == like_none else ("L·M" if like_units else "M")
    rms = np.sqrt(squares.mean(axis=0))
    return Governed(units, layers, by, [(m, n, float(e)) for (m, n), e in zip(errors, rms, strict=True)])
