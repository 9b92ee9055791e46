"""Masses of an initial law at the points of a uniform line, positive and exact for polynomials where the law is rough.

The trapezoidal rule Σ_j h ρ(x_j) φ(x_j) is exact to all orders where ρ is smooth and vanishes at the ends of the line.
Where it has kinks or ends with a jump the masses are

    m_j = ∫ρ(x) ℓ_j(x) dx,      so that      Σ_j m_j φ(x_j) = ∫ρ φ dx    for polynomials φ of degree g,

with ℓ_j the piecewise local interpolation of degree g in the cells between the points, from points of one side of all
kinks, and the integral is one of Gauss over every piece between points and kinks: the rules of Gregory where ρ is
constant, and like them positive. Where kinks are so near to each other that a mass of g = 5 is negative, g is 3, and 1
in the worst case: hat functions, always positive.
Source: Davis & Rabinowitz, *Methods of Numerical Integration*, 2.5.6 (product integration) and 2.9.1 (Gregory).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.problem.laws import Law

Array = NDArray[np.float64]
_DEGREES = (5, 3, 1)
_GAUSS = 12  # points in every piece
_SMALL = 1e-6  # a standard density below it at an end of the line vanishes there
_NOWHERE = 5.5  # standard deviations to the ends of a line of points that all are in one place
_ON = 1e-9  # of a spacing: a kink so near to a point is at the point


def line_masses(law: Law, axis: int, line: Array) -> Array:
    """Masses (n,) of one coordinate of a product law at the points of a uniform line (n,).

    Args:
        law: a product law.
        axis: of the coordinate.
        line: increasing, n ≥ 9 points.
    """
    mean, std, spacing = law.mean[axis], law.std[axis], line[1] - line[0]
    if std == 0.0:  # all points are at the mean, and share its mass as a normal law would, few of it at the ends
        masses = np.exp(-0.5 * np.linspace(-_NOWHERE, _NOWHERE, len(line)) ** 2)
        return np.asarray(masses / masses.sum())

    s = (line - mean) / std
    kinks = np.array(law.kinks)
    inside = kinks[(kinks > s[0] - _ON * spacing / std) & (kinks < s[-1] + _ON * spacing / std)]
    if not len(inside) and law.standard(s[[0, -1]]).max() <= _SMALL:
        masses = law.standard(s) / std * spacing
        masses[[0, -1]] *= 0.5
        return np.asarray(masses)

    for degree in _DEGREES:
        masses = _by_pieces(law, s, inside, degree)
        if (masses >= 0.0).all():
            break
    return masses


def _by_pieces(law: Law, s: Array, kinks: Array, degree: int) -> Array:
    """∫ρ ℓ_j ds (n,) at standard points s (n,), with interpolation of the given degree."""
    spacing = (s[-1] - s[0]) / (len(s) - 1)
    breaks = np.sort(np.concatenate([s, kinks[(kinks > s[0]) & (kinks < s[-1])]]))
    breaks = breaks[np.concatenate([[True], np.diff(breaks) > _ON * spacing])]

    place, weight = np.polynomial.legendre.leggauss(_GAUSS)
    half, middle = 0.5 * np.diff(breaks)[:, None], 0.5 * (breaks[1:] + breaks[:-1])[:, None]
    x = middle + half * place
    amount = half * weight * law.standard(x)

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
