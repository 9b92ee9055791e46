"""Masses of an initial law at the points of a line, positive and exact for polynomials where the law is rough.

The trapezoidal rule Σ_j h ρ(x_j) φ(x_j) is exact to all orders where ρ is smooth and vanishes at the ends of the line.
Where it has kinks or ends with a jump the masses are

    m_j = ∫ρ(x) ℓ_j(x) dx,      so that      Σ_j m_j φ(x_j) = ∫ρ φ dx    for polynomials φ of degree g,

with ℓ_j the piecewise local interpolation of degree g in the cells between the points, from points of one side of all
kinks, and the integral is one of Gauss over every piece between points and kinks: the rules of Gregory where ρ is
constant, and like them positive. Where kinks are so near to each other that a mass of g = 5 is negative, g is 3, and 1
in the worst case: hat functions, always positive.

Lines are uniform, or *graded* for laws that are smooth on the whole line: ξ = sinh(bs)/sinh b with uniform s. With
b = 3 points are a third as far apart in the middle, where the mass is, as uniform ones, and three times as far at the
ends. In s the trapezoidal rule stays exact to all orders, and a separatrix tears fewer of the points that count.
Source: Davis & Rabinowitz, *Methods of Numerical Integration*, 2.5.6 (product integration) and 2.9.1 (Gregory).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mfpde.problem.laws import Law

Array = NDArray[np.float64]
_DEGREES = (5, 3, 1)
_GAUSS = 12  # points in every piece
_TAIL = 40  # points beyond a line
_SMALL = 1e-6  # a standard density below it at an end of the line vanishes there
_NOWHERE = 5.5  # standard deviations to the ends of a line of points that all are in one place
_ON = 1e-9  # of a spacing: a kink so near to a point is at the point


def graded(s: Array, bend: float) -> tuple[Array, Array]:
    """ξ(s) = sinh(bs)/sinh b and its derivative, from s on [−1, 1]; s itself for b = 0."""
    if bend == 0.0:
        return s, np.ones_like(s)
    return np.sinh(bend * s) / np.sinh(bend), bend * np.cosh(bend * s) / np.sinh(bend)


def line_masses(law: Law, axis: int, line: Array, bend: float = 0.0) -> Array:
    """Masses (n,) of one coordinate of a product law at the points of a line (n,).

    Args:
        law: a product law.
        axis: of the coordinate.
        line: increasing, n ≥ 9 points, uniform but for the grading.
        bend: b of a graded line, whose law has no kinks within it.
    """
    mean, std = law.mean[axis], law.std[axis]
    if std == 0.0:  # all points are at the mean, and share its mass as a normal law would, few of it at the ends
        masses = np.exp(-0.5 * np.linspace(-_NOWHERE, _NOWHERE, len(line)) ** 2)
        return np.asarray(masses / masses.sum())

    low, high = (line[0] - mean) / std, (line[-1] - mean) / std
    s = np.linspace(low, high, len(line))
    spacing, half, middle = s[1] - s[0], 0.5 * (high - low), 0.5 * (high + low)

    def density(at: Array) -> Array:
        place, slope = graded((at - middle) / half, bend)
        return law.standard(middle + half * place) * slope

    kinks = np.array(law.kinks)
    inside = kinks[(kinks > s[0] - _ON * spacing) & (kinks < s[-1] + _ON * spacing)]
    if not len(inside) and density(s[[0, -1]]).max() <= _SMALL:
        masses = density(s) * spacing
        masses[[0, -1]] *= 0.5
        return np.asarray(masses)

    for degree in _DEGREES:
        masses = _by_pieces(density, s, inside, degree)
        if (masses >= 0.0).all():
            break
    return masses


def with_tails(law: Law, axis: int, line: Array, bend: float) -> tuple[Array, Array]:
    """Points and masses of one coordinate of a law with heavy tails, of which the last points hold all beyond the line.

    A last point of mass m at s standard deviations, beyond which the tail has mass t₀ and second moment t₂, gets the
    mass m + t₀ and the place √((m s² + t₂)/(m + t₀)). So mass and variance are those of the law, and what is even
    and quadratic far out is integrated exactly.

    Args:
        law: a product law that is smooth on the whole line.
        axis: of the coordinate.
        line: see `line_masses`.
        bend: likewise.
    """
    mean, std, line = law.mean[axis], law.std[axis], line.copy()
    masses = line_masses(law, axis, line, bend)
    for end in (0, -1) if std > 0.0 else ():
        s = (line[end] - mean) / std
        tail, second = _tail(law, s)
        second += masses[end] * s**2
        masses[end] += tail
        line[end] = mean + np.sign(s) * std * np.sqrt(second / masses[end])
    return line, masses


def _tail(law: Law, s: float) -> tuple[float, float]:
    """Mass and second moment of a standard density beyond s, over w with x = s/w⁴: powers of x are smooth in w."""
    place, weight = np.polynomial.legendre.leggauss(_TAIL)
    w = 0.5 + 0.5 * place
    x = s / w**4
    amount = 0.5 * weight * law.standard(x) * 4.0 * np.abs(x) / w
    return float(amount.sum()), float(amount @ x**2)


def _by_pieces(density: Callable[[Array], Array], s: Array, kinks: Array, degree: int) -> Array:
    """∫ρ ℓ_j ds (n,) at uniform points s (n,), with interpolation of the given degree."""
    spacing = (s[-1] - s[0]) / (len(s) - 1)
    breaks = np.sort(np.concatenate([s, kinks[(kinks > s[0]) & (kinks < s[-1])]]))
    breaks = breaks[np.concatenate([[True], np.diff(breaks) > _ON * spacing])]

    place, weight = np.polynomial.legendre.leggauss(_GAUSS)
    half, middle = 0.5 * np.diff(breaks)[:, None], 0.5 * (breaks[1:] + breaks[:-1])[:, None]
    x = middle + half * place
    amount = half * weight * density(x)

    cell = np.clip(((middle[:, 0] - s[0]) / spacing).astype(np.int64), 0, len(s) - 2)
    first = _stencils(s, kinks, cell, middle[:, 0], spacing, degree)
    t = (x - s[0]) / spacing - first[:, None]

    masses = np.zeros(len(s))
    for node in range(degree + 1):
        others = [other for other in range(degree + 1) if other != node]
        polynomial = np.prod([(t - other) / (node - other) for other in others], axis=0)
        np.add.at(masses, first + node, (amount * polynomial).sum(axis=1))
    return masses


def _stencils(
    s: Array, kinks: Array, cell: NDArray[np.int64], middle: Array, spacing: float, degree: int
) -> NDArray[np.int64]:
    """The first of the degree + 1 points that interpolate in each piece (p,) of a cell.

    They lie on the piece's side of every kink; where a kink divides the cell itself, all of them but the one behind it.
    """
    bounds = np.concatenate([[-np.inf], kinks, [np.inf]])
    region = np.searchsorted(kinks, middle)
    slack = _ON * spacing
    low = np.searchsorted(s, bounds[region] - slack)  # the first point of each piece's side, and the last
    high = np.searchsorted(s, bounds[region + 1] + slack) - 1

    first = np.clip(cell - (degree - 1) // 2, low, np.maximum(high - degree, low))
    first = np.where(cell < low, cell, np.where(cell + 1 > high, cell + 1 - degree, first))
    return np.clip(first, 0, len(s) - 1 - degree)
