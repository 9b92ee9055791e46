"""Scaling of a density towards its cell averages until it is nonnegative everywhere, without a loss of mass.

A polynomial on a cell is a convex combination of its Bernstein coefficients, so that the smallest of them bounds it
from below; taken on pieces of the cell, the bound is close. Scaling ρ̂ towards its average until that bound is zero
makes it nonnegative at *every* point of the cell. Sources: Zhang & Shu, *J. Comput. Phys.* 229 (2010); Farouki,
*Comput. Aided Geom. Design* 29 (2012), for the Bernstein form.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations, product
from math import factorial, prod

import basix
import numpy as np
from basix import CellType
from numpy.typing import NDArray

from mfpde.limit.fem.elements import density_element
from mfpde.limit.fem.space import Space
from mfpde.parallel import reductions
from mfpde.parallel.exact_sum import pack, share_of, unpack

Array = NDArray[np.float64]
_ROUNDING = 1e-12  # of the average: the margin for rounding in a minimum that is to be nonnegative
_AT_ONCE = 2**20  # numbers of a temporary array


def nonnegative(space: Space, density: Array) -> Array:
    """A copy of ρ̂ that is nonnegative at all points of all cells, and has the mass of every block; collective.

    In a cell whose average ρ̄ is positive, ρ̂ becomes ρ̄ + s (ρ̂ − ρ̄) with the largest s ≤ 1 for which the Bernstein
    coefficients on pieces of the cell are nonnegative: the cell's mass stays. A cell whose average is not positive
    becomes zero, and the other cells of its block are scaled by one factor to make up for it.

    Args:
        space: the space.
        density: coefficients (owned, i, b), of positive mass over the whole mesh.
    """
    measure = space.tables.weights * space.scale_at(space.tables.points)  # (c, q)
    volume = measure.sum(axis=1)
    mean = np.einsum("cq,qi->ci", measure / volume[:, None], space.tables.density)
    average = np.einsum("ci,cib->cb", mean, density)

    kept = np.maximum(average, 0.0)
    lowest = lower_bound(space, density)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(lowest < _ROUNDING * kept, (1.0 - _ROUNDING) * kept / (average - lowest), 1.0)
    scale = np.where(average > 0.0, scale, 0.0)

    one = constant(space.cell, space.degree)
    copy = np.array(density)
    for i, part in enumerate(one):  # in place: no second copy beside this one
        copy[:, i] = scale * (density[:, i] - part * average) + part * kept

    shares = [share_of(volume[:, None] * each, axes=(0,)) for each in (average, kept)]
    before, after = unpack(reductions.sum_over_ranks(space.comm, pack(shares)), shares)
    copy *= before / after
    return copy


def lower_bound(space: Space, density: Array) -> Array:
    """A lower bound (owned, b) of ρ̂ (owned, i, b) in each cell: its smallest Bernstein coefficient."""
    table = bernstein_table(space.cell, space.degree)
    lowest = np.empty((density.shape[0], density.shape[2]))
    step = max(1, _AT_ONCE // (len(table) * density.shape[2]))
    for start in range(0, len(density), step):
        chunk = slice(start, start + step)
        lowest[chunk] = np.matmul(table, density[chunk]).min(axis=1)
    return lowest


def constant(cell: CellType, degree: int) -> Array:
    """The coefficients (i,) of the function 1 in the density's basis."""
    points, weights = basix.make_quadrature(cell, degree)
    return np.asarray(weights @ density_element(cell, degree).tabulate(0, points)[0, :, :, 0])


@lru_cache
def bernstein_table(cell: CellType, degree: int) -> Array:
    """The matrix (n, i) from density coefficients to Bernstein coefficients on the pieces of the cell.

    For p > 1 products of intervals are cut into 4 pieces per direction (in three dimensions 2), and simplices into as
    many by bisection. For p ≤ 1 the coefficients are the values at the vertices, and there is one piece.
    """
    corners = basix.geometry(cell)
    dim = corners.shape[1]
    halvings = 0 if degree < 2 else 1 if dim == 3 else 2
    element = density_element(cell, degree)
    simplex = len(corners) == dim + 1
    places = _lattice(dim, degree) if simplex else np.array(list(product(range(degree + 1), repeat=dim)))
    if degree == 0:
        local, to_bernstein = corners[:1], np.ones((1, 1))
    else:
        local = places / degree
        to_bernstein = np.linalg.inv(_bernstein(local, places, degree, simplex))
    rows = []
    for piece in _pieces(corners, halvings, simplex):
        points = piece[0] + local @ (piece[1:] - piece[0])
        rows.append(to_bernstein @ element.tabulate(0, points)[0, :, :, 0])
    return np.concatenate(rows)


def _pieces(corners: Array, halvings: int, simplex: bool) -> Iterator[Array]:
    """Origin and ends of the axes (d + 1, d) of the pieces of a cell."""
    dim = corners.shape[1]
    if not simplex:
        width = 0.5**halvings
        for place in product(range(2**halvings), repeat=dim):
            yield width * (np.array(place) + np.vstack([np.zeros(dim), np.eye(dim)]))
        return
    pieces = [corners]
    for _ in range(dim * halvings):
        pieces = [half for piece in pieces for half in _bisect(piece)]
    yield from pieces


def _bisect(piece: Array) -> tuple[Array, Array]:
    """Both halves of a simplex (d + 1, d), cut at the middle of its longest edge."""
    edges = combinations(range(len(piece)), 2)
    a, b = max(edges, key=lambda ends: float(np.linalg.norm(piece[ends[0]] - piece[ends[1]])))
    first, second = piece.copy(), piece.copy()
    first[a] = second[b] = 0.5 * (piece[a] + piece[b])
    return first, second


def _lattice(dim: int, degree: int) -> NDArray[np.int64]:
    """Multi-indices (n, d) of at most the degree."""
    return np.array([k for k in product(range(degree + 1), repeat=dim) if sum(k) <= degree])


def _bernstein(points: Array, places: NDArray[np.int64], degree: int, simplex: bool) -> Array:
    """Bernstein polynomials (points, n) of the multi-indices at points of the reference simplex or cube."""
    columns = []
    for place in places.tolist():
        if simplex:
            powers = [degree - sum(place), *place]
            coordinates = np.column_stack([1.0 - points.sum(axis=1), points])
            ways = factorial(degree) / prod(map(factorial, powers))
            columns.append(ways * (coordinates**powers).prod(axis=1))
        else:
            ways = prod(factorial(degree) / (factorial(k) * factorial(degree - k)) for k in place)
            columns.append(ways * (points**place * (1.0 - points) ** (degree - np.array(place))).prod(axis=1))
    return np.column_stack(columns)
