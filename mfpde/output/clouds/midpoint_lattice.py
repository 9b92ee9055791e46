"""Midpoint rules in a few independent normal numbers, and what lies between their points.

For smooth functions the midpoint rule converges under a normal density as fast as that of Gauss, until it sees where
it ends. Training makes functions that turn sharply: heads on either side of u = 0 go different ways. There the error is
that of the spacing, which at n points is 1/n here and 1/√n for Gauss, whose points reach far out, to where no mass is.

A law whose points have moved is still the image of normal numbers: values at the points of a rule, interpolated
linearly in those numbers, are the law between the points. Source: Trefethen & Weideman, *SIAM Review* 56 (2014).
"""

from __future__ import annotations

import math
from functools import lru_cache, reduce

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_FAINT = 1e-9  # mass of a point, relative to the largest, that is left out
_FARTHEST = 6.0  # standard deviations at which the line ends, beyond which are 2e-9 of the mass
_FINE, _RARE = 2**15, 1e-6  # points between those of a rule, and least density of one, relative to the largest


def tensor_rule(coordinates: int, order: int) -> tuple[Array, Array]:
    """The points (n, coordinates) of a tensor rule that have some mass, the last axis fastest, and their masses (n,).

    Args:
        coordinates: of the normal numbers.
        order: points in each.
    """
    line, mass = _tensor(coordinates, order)
    kept = _is_kept(mass)
    return lattice_points(line, coordinates)[kept], mass[kept] / mass[kept].sum()


def rule_size(coordinates: int, order: int) -> int:
    """How many points `tensor_rule` has."""
    return int(_is_kept(_tensor(coordinates, order)[1]).sum())


def between(values: Array, coordinates: int, order: int) -> tuple[Array, Array]:
    """What the points of a rule have, (n, k), interpolated linearly to many points (p, k), and their masses (p,).

    Also where the map that moved them folds.

    Args:
        values: at the points of `tensor_rule`.
        coordinates: of the normal numbers.
        order: of the rule.
    """
    from scipy.interpolate import RegularGridInterpolator  # noqa: PLC0415  (slow to import)

    line, mass = _tensor(coordinates, order)
    lattice = np.full((order**coordinates, values.shape[1]), np.nan)
    lattice[_is_kept(mass)] = values
    known = RegularGridInterpolator([line] * coordinates, lattice.reshape(*[order] * coordinates, -1))

    parts = round(_FINE ** (1.0 / coordinates))
    fine = line[0] + (line[-1] - line[0]) * (np.arange(parts) + 0.5) / parts
    places = lattice_points(fine, coordinates)
    found, share = known(places), np.exp(-0.5 * (places**2).sum(axis=1))
    inside = np.isfinite(found).all(axis=1) & (share > _RARE * share.max())
    return found[inside], share[inside] / share[inside].sum()


def lattice_points(line: Array, coordinates: int) -> Array:
    """The points (n, coordinates) of the tensor product of a line."""
    return np.stack(np.meshgrid(*[line] * coordinates, indexing="ij"), axis=-1).reshape(-1, coordinates)


@lru_cache(maxsize=8)
def _tensor(coordinates: int, order: int) -> tuple[Array, Array]:
    """The points of the rule on a line (order,), and the masses of their tensor product, the last axis fastest.

    The line ends where what is beyond is as small as what is between.
    """
    reach = min(math.sqrt(math.pi * order), 3.5 + order / 16.0, _FARTHEST)
    line = reach * (2.0 * np.arange(order) + 1.0 - order) / order
    weights = np.exp(-0.5 * line**2)
    return line, reduce(np.multiply.outer, [weights / weights.sum()] * coordinates).ravel()


def _is_kept(mass: Array) -> NDArray[np.bool_]:
    return mass > _FAINT * mass.max()
