"""The density in cells between nodes that the flow carries: each cell holds its mass, near the corners that have it.

Between neighbouring nodes ρ is multilinear, scaled to the mass that the cell holds. Where nodes are torn apart a cell
is large, and its mass is not spread over it but near its corners: the map of the grid stretches in the middle of the
cell what it contracts at the corners. Such a cell is divided along its longest direction into three: two *ends*, each
with the density of its corners, the mass that belongs to them, and so the width that the two have together; and a
middle that holds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_ARRAYS = ("points", "density", "held", "fields")  # of `NodeCells`, (L, c, …)
_AT_ONCE = 1024  # cells of a layer
_GAUSS = 3  # points a direction: two are exact in cells that have not folded
_MOST = 1e9  # times the density of nodes: beyond, a cell has no width
_TORN = 1.0 / 16.0  # of its integral by the density at the corners: a cell that holds less is torn
_THIN = 1e-6  # of a cell: the least width of an end, far above the rounding of its corners
_WORTH = 0.1  # of the mean mass of a cell: with less it stays in one piece


@dataclass(frozen=True)
class NodeCells:
    """Multilinear cells, c in each of L layers; a corner's bit i says on which side it is in direction i.

    Attributes:
        points: of the corners, (L, c, 2^d, d).
        density: there, (L, c, 2^d).
        held: 2^d times the mass that belongs to each corner, (L, c, 2^d): the mean over corners is that of the cell.
        fields: whatever else is interpolated, (L, c, 2^d, k).
        number: of each cell, (c,), increasing.
    """

    points: Array
    density: Array
    held: Array
    fields: Array
    number: NDArray[np.int64]

    @property
    def dim(self) -> int:
        """d."""
        return int(self.points.shape[3])

    @property
    def mass(self) -> Array:
        """(L, c)."""
        return np.asarray(self.held.mean(axis=2))


def divided(cells: NodeCells, total: int) -> NodeCells:
    """Those that are torn in some layer in three pieces, in all layers alike; all numbers are multiplied by three.

    Args:
        cells: some or all of a density's.
        total: number of all.
    """
    torn = (cells.mass < _TORN * integrals(cells.points, cells.density)) & (cells.mass > _WORTH / total)
    some = torn.any(axis=0)
    if not some.any():
        return replace(cells, number=3 * cells.number)

    corners, points = np.arange(2**cells.dim), cells.points[:, some]
    lengths = [((points[:, :, corners ^ 1 << a] - points) ** 2).sum(axis=(2, 3)) for a in range(cells.dim)]
    longest = np.full(len(some), -1)
    longest[some] = np.argmax([(length * torn[:, some]).sum(axis=0) for length in lengths], axis=0)

    made = [replace(_part(cells, ~some), number=3 * cells.number[~some])]
    for axis in range(cells.dim):
        made += _pieces(_part(cells, longest == axis), axis)
    number = np.concatenate([each.number for each in made])
    joined = {name: np.concatenate([getattr(each, name) for each in made], axis=1) for name in _ARRAYS}
    return _part(NodeCells(**joined, number=number), np.argsort(number))


def scaled(cells: NodeCells) -> Array:
    """Densities at the corners (L, c, 2^d), scaled so that the integral over each cell is its mass.

    Where cells are small the factor is 1 + O(h²). Without it cells between nodes that are torn apart would seem to hold
    most of the mass.
    """
    integral, mass = integrals(cells.points, cells.density), cells.mass
    flat = integral <= mass / _MOST
    return cells.density * np.where(flat, 1.0, mass / np.where(flat, 1.0, integral))[..., None]


def integrals(points: Array, density: Array) -> Array:
    """∫ρ over each cell, (L, c), of multilinear densities between corners."""
    values, slopes = _gauss_tables(points.shape[3])
    integral = np.empty(density.shape[:2])
    for start in range(0, integral.shape[1], _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        jacobian = [[points[:, some, :, axis] @ slope for slope in slopes] for axis in range(len(slopes))]
        integral[:, some] = (np.abs(_determinant(jacobian)) * (density[:, some] @ values)).sum(axis=2)
    return integral


def _pieces(cells: NodeCells, axis: int) -> tuple[NodeCells, NodeCells, NodeCells]:
    """Two ends and a middle, along a direction."""
    corners = np.arange(2**cells.dim)
    low, high = corners & ~(1 << axis), corners | 1 << axis
    is_high = (corners >> axis & 1).astype(bool)
    begin = _width(cells, low)[..., None]
    end = 1.0 - _width(cells, high)[..., None]

    def piece(first: Array, last: Array, density: Array, held: Array, number: int) -> NodeCells:
        share = np.where(is_high, last, first)[..., None]
        points, fields = ((1.0 - share) * at[:, :, low] + share * at[:, :, high] for at in (cells.points, cells.fields))
        return NodeCells(points, density, held, fields, 3 * cells.number + number)

    nothing = np.zeros_like(cells.density)
    return (
        piece(np.zeros_like(begin), begin, cells.density[:, :, low], 0.5 * cells.held[:, :, low], 0),
        piece(begin, end, nothing, nothing, 1),
        piece(end, np.ones_like(end), cells.density[:, :, high], 0.5 * cells.held[:, :, high], 2),
    )


def _width(cells: NodeCells, end: NDArray[np.int64]) -> Array:
    """Which part (L, c) of a cell holds the mass of an end, with the density there; `_THIN` to a half."""
    whole = integrals(cells.points, cells.density[:, :, end])
    mass = 0.5 * cells.held[:, :, end].mean(axis=2)
    return np.clip(mass / np.maximum(whole, np.finfo(float).tiny), _THIN, 0.5)


def _part(cells: NodeCells, some: NDArray[np.bool_] | NDArray[np.int64]) -> NodeCells:
    """Some of the cells, or all in another order."""
    return NodeCells(**{name: getattr(cells, name)[:, some] for name in _ARRAYS}, number=cells.number[some])


@cache
def _gauss_tables(dim: int) -> tuple[Array, list[Array]]:
    """Multilinear functions at Gauss points, times the weights, and their derivatives by each coordinate, (2^d, g)."""
    line, weight = np.polynomial.legendre.leggauss(_GAUSS)
    places = 0.5 + 0.5 * np.stack(np.meshgrid(*[line] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
    weights = np.stack(np.meshgrid(*[0.5 * weight] * dim, indexing="ij"), axis=-1).reshape(-1, dim).prod(axis=1)

    bits = np.arange(2**dim)[:, None] >> np.arange(dim) & 1  # (2^d, d)
    factor = np.where(bits[:, None], places, 1.0 - places)  # (2^d, g, d)
    signs = np.where(bits, 1.0, -1.0)
    slopes = [signs[:, a, None] * np.delete(factor, a, axis=2).prod(axis=2) for a in range(dim)]
    return factor.prod(axis=2) * weights, slopes


def _determinant(matrix: list[list[Array]]) -> Array:
    """Of matrices of up to three rows, by the first: for many small ones much faster than by elimination."""
    if len(matrix) == 1:
        return matrix[0][0]
    minors = [[[*row[:column], *row[column + 1 :]] for row in matrix[1:]] for column in range(len(matrix))]
    terms = [entry * _determinant(minor) for entry, minor in zip(matrix[0], minors, strict=True)]
    return sum(terms[2:], start=terms[0] - terms[1])
