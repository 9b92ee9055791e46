"""How many points a table of the Transformer has: as many as its error asks for, by an estimate that costs no pass.

With S the spline through every other point along one nonlinear coordinate, the potential's G on the table says how far
a table of half the points would be off at the points g between. In the mean over layers, and over all families,

    E² = ⟨Σ_g w_g |G_g − (S G)_g|² / Σ_g w_g⟩ / ⟨Σ_g μ_g |G_g − Ḡ|² / Σ_g μ_g⟩

with the mass μ_g near the points, and w_g that of a point with its neighbours. So a family whose potential is small
beside that of others, and which does little to the risk, may have a relative error that is as much larger.

Twice as many points nearly square an error that is not small, as G is analytic, and splines of degree 7 divide a small
one by 2⁸. So the error of the table itself is at most about

    e = E f,    f = max(3 E, 2⁻⁷),    and E f^s with 2^s/2 as many points,

and e is what must not be above the largest error that is allowed. Polynomials of low degree need no more than the
shortest table. Numbers of points are odd, and from a short ladder: the Transformer is compiled anew for each.
Source: docs/frames.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.discretisation import TableError
from mfpde.limit.tables.splines import between

Array = NDArray[np.float64]
LADDER = (9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025)
MOST_TABLED = 3  # nonlinear coordinates
_LEAST = {1: (33, 1.0), 2: (17, 0.5), 3: (9, 0.25)}  # points of a table in each direction, or per cell
_MOST = {1: (96, 4.0), 2: (48, 2.0), 3: (24, 1.0)}
_GAINED, _SQUARED = 2.0**-7, 3.0  # by twice as many points: order 8 but for a factor 2; and where E is not small
_CLEAR = 2.0  # by which the error that is expected of a table is below the largest that is allowed
_WORTH = 0.6  # share of the points that a coarser table may have
_FLAT = 1e-3  # variations of G below this part of it need not be resolved


def rung(points: float) -> int:
    """The least number on the ladder that is no smaller; the largest where there is none."""
    return next((number for number in LADDER if number >= points), LADDER[-1])


def table_range(m: int, cells: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The least and most points of a table along each of m nonlinear coordinates; none where there are too many.

    Args:
        m: the number of coordinates.
        cells: of a grid of nodes, per direction; finer grids have finer tables.
    """
    if not 0 < m <= MOST_TABLED:
        return (), ()
    least, most = (rung(max(fixed, more * cells)) for fixed, more in (_LEAST[m], _MOST[m]))
    return (least,) * m, (most,) * m


def coarse_error(gradient: Array, mass: Array, count: Sequence[int]) -> TableError:
    """What tables of every other point along each coordinate miss of G between, and how much G varies.

    Args:
        gradient: G = L ∂R/∂w at the points, (L, u).
        mass: near the points, Σ_j m_j ℓ_g(q_j) for each linear coordinate alike, (L, u).
        count: points along each coordinate, m numbers.
    """
    shape = tuple(int(each) for each in count)
    values = gradient.reshape(len(gradient), *shape, -1)
    weight = np.abs(mass.reshape(values.shape)[..., :1])

    mean = _mean(weight, values)
    varied = np.maximum(_mean(weight, (values - mean) ** 2), _FLAT**2 * _mean(weight, values**2)).sum(axis=-1)

    missed = []
    for axis, number in enumerate(shape, start=1):
        even, odd = _part(values, axis, slice(0, None, 2)), _part(values, axis, slice(1, None, 2))
        wrong = odd - np.moveaxis(np.tensordot(between(number), even, axes=(1, axis)), 0, axis)

        beside = _part(weight, axis, slice(0, None, 2))
        near = 0.5 * (_part(beside, axis, slice(None, -1)) + _part(beside, axis, slice(1, None)))
        missed.append(_mean(near + _part(weight, axis, slice(1, None, 2)), wrong**2).sum(axis=-1).mean())
    return TableError(shape, tuple(map(float, missed)), float(varied.mean()))


def chosen(errors: Sequence[TableError], count: Sequence[int], most: float) -> tuple[int, ...]:
    """How many points the tables of all families with so many coordinates have: one program is compiled for all.

    More where one of them has too few; fewer where all can do with so much less that another program pays.

    Args:
        errors: of all families, with any number of coordinates.
        count: points that a family has.
        most: the largest relative error of a table.
    """
    scale = np.sqrt(max(np.mean([each.varied for each in errors]), 1e-300))
    enough, coarse = [], False
    for each in errors:
        if len(each.count) != len(count):
            continue
        halved = np.sqrt(each.missed) / scale
        coarse = coarse or any(expected(float(e), 1.0) > most for e in halved)
        enough.append([_enough(float(e), n, most / _CLEAR) for e, n in zip(halved, each.count, strict=True)])

    points = tuple(int(each) for each in np.max(enough, axis=0))
    return points if coarse or np.prod(points) <= _WORTH * np.prod(count) else tuple(int(each) for each in count)


def expected(halved: float, doublings: float) -> float:
    """The relative error of a table after so many doublings of one whose error is `halved`."""
    return float(halved * max(min(_SQUARED * halved, 1.0), _GAINED) ** doublings)


def _enough(halved: float, count: int, most: float) -> int:
    """The fewest points whose error is at most that, between half and twice as many as there are."""
    for number in LADDER:
        doublings = np.log2(2.0 * (number - 1) / (count - 1))
        if doublings >= 0.0 and (doublings >= 2.0 or expected(halved, doublings) <= most):
            return number
    return LADDER[-1]


def _mean(weight: Array, values: Array) -> Array:
    """By weights (L, …, 1) over the points, of values (L, …, k), with all axes kept."""
    axes = tuple(range(1, values.ndim - 1))
    total = np.maximum(weight.sum(axis=axes, keepdims=True), 1e-300)
    return np.asarray((weight * values).sum(axis=axes, keepdims=True) / total)


def _part(values: Array, axis: int, chosen: slice) -> Array:
    return values[(slice(None),) * axis + (chosen,)]
