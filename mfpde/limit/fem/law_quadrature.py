"""Integrals of an initial law over the cells of a mesh, exact to rounding also where the law has kinks or is narrow.

A law is a mixture of parts (`Law.parts`). For each of them there are three kinds of cells: those that a plane cuts in
which its density or its first derivative jumps are divided into simplices which no plane cuts; and those that are wide
against the length on which it varies have a finer quadrature than exactness 2p + 6 asks for. A simplex with
vertices on both sides of a plane is divided at the point where its longest crossing edge, in the distance from the
plane, meets the plane; both halves have one vertex less on one of the sides, and so the division comes to an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import basix
import numpy as np
from basix import CellType
from numpy.typing import NDArray

from mfpde.limit.fem.elements import ElementTables, density_element, jacobian, tabulate
from mfpde.limit.fem.frame import Frame
from mfpde.limit.fem.space import Space, monomials
from mfpde.problem.laws import Law

Array = NDArray[np.float64]
type Numbers = NDArray[np.intp]
_FINEST = 30  # exactness of the finest quadrature
_FAR = 9.0  # standard deviations from a part's mean beyond which wide cells do not matter
_WIDE = 1.25  # a cell of so many lengths of variation is wide
_ON = 1e-12  # of a cell's size in the law's coordinates: a vertex so near to a plane lies on it
_NUMBERS = 2**19  # of a batch
_SIMPLICES = {1: CellType.interval, 2: CellType.triangle, 3: CellType.tetrahedron}


def integrate(space: Space, frame: Frame, block: int, law: Law) -> tuple[Array, Array]:
    """∫_K ρ₀(c + A ξ) ψ_i dξ (owned, i) and ∫_K ρ₀(c + A ξ) {1, ξ, ξξᵀ} dξ (owned, r); no communication.

    Args:
        space: the space.
        frame: of all blocks.
        block: the number of the law's block.
        law: ρ₀.
    """
    upper = 1 + space.dim + space.dim * (space.dim + 1) // 2
    load, moments = np.zeros((space.owned, space.size)), np.zeros((space.owned, upper))
    centre, matrix = frame.centre[block], frame.matrix[block]

    for weight, part in law.parts:
        exactness, cut = _kinds(space, centre, matrix, part)
        for level in np.unique(exactness[~cut]):
            tables = tabulate(space.cell, space.degree, 1, int(level))
            for cells in _batches(np.flatnonzero(~cut & (exactness == level)), len(tables.weights) * space.size):
                xi, measure = _by_tables(space, tables, cells)
                mass = weight * measure * part.density(_theta(xi, centre, matrix))
                load[cells] += np.einsum("cq,qi->ci", mass, tables.density)
                moments[cells] += np.einsum("cq,cqr->cr", mass, monomials(xi))

        for level in np.unique(exactness[cut]):
            rule = basix.make_quadrature(_SIMPLICES[space.dim], int(level))
            pieces = 4**space.dim  # of a cell, or more
            for cells in _batches(np.flatnonzero(cut & (exactness == level)), pieces * len(rule[1]) * space.size):
                owner, points, inner = _divided(space, cells, centre, matrix, part, rule)
                xi, measure, psi = _at(space, owner, points, inner)
                mass = weight * measure * part.density(_theta(xi, centre, matrix))
                np.add.at(load, owner, np.einsum("sq,sqi->si", mass, psi))
                np.add.at(moments, owner, np.einsum("sq,sqr->sr", mass, monomials(xi)))
    return load, moments


def _kinds(space: Space, centre: Array, matrix: Array, law: Law) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Of every owned cell: the exactness of its quadrature, and does a plane of the law's cut it? Both (owned,)."""
    s = _standard(space.vertices[: space.owned], centre, matrix, law)  # (c, v, d)
    low, high = s.min(axis=1), s.max(axis=1)
    lengths = (high - low).max(axis=1, initial=0.0) / law.scale

    usual = 2 * space.degree + 6
    near = ((low < _FAR) & (high > -_FAR)).all(axis=1)
    finer = np.minimum(usual + 4.0 * np.ceil(lengths), _FINEST).astype(np.int64)
    exactness = np.where(near & (lengths > _WIDE), np.maximum(finer, usual), usual)

    inside = ((low < law.support) & (high > -law.support)).all(axis=1)
    cut = np.zeros(space.owned, dtype=bool)
    for kink in law.kinks:
        slack = _ON * (high - low)
        cut |= ((low < kink - slack) & (high > kink + slack)).any(axis=1)
    return exactness, cut & inside


def _standard(xi: Array, centre: Array, matrix: Array, law: Law) -> Array:
    """The law's own coordinates (θ − m)/std of points ξ (..., d)."""
    return (_theta(xi, centre, matrix) - np.asarray(law.mean)) / np.asarray(law.std)


def _theta(xi: Array, centre: Array, matrix: Array) -> Array:
    """c + A ξ (..., d); not as a product of matrices, whose bits depend on how many there are."""
    return np.asarray(centre + np.einsum("ij,...j->...i", matrix, xi))


def _batches(cells: Numbers, numbers: int) -> Iterator[Numbers]:
    count = max(1, _NUMBERS // numbers)
    for first in range(0, len(cells), count):
        yield cells[first : first + count]


def _by_tables(space: Space, tables: ElementTables, cells: Numbers) -> tuple[Array, Array]:
    """Points ξ (c, q, d) and weights (c, q) of a quadrature of whole cells."""
    vertices = space.vertices[cells]
    if space.affine:
        scale = space.scale[cells, :1]
    else:
        scale = np.abs(np.linalg.det(jacobian(space.cell, vertices, tables.points)))
    return np.einsum("qv,cvd->cqd", tables.vertex, vertices), tables.weights * scale


def _divided(
    space: Space, cells: Numbers, centre: Array, matrix: Array, law: Law, rule: tuple[Array, Array]
) -> tuple[Numbers, Array, Array]:
    """Simplices s which no plane of the law's cuts, and that together are these cells.

    Returns:
        The number of the cell (s,), and points (s, q, d) and weights (s, q) in its reference cell.
    """
    reference = _triangulation(space.cell)
    simplices = np.tile(reference, (len(cells), 1, 1))
    owner = np.repeat(cells, len(reference))

    for axis in range(space.dim):
        for kink in law.kinks:
            xi = np.einsum("skv,svd->skd", _shape(space.cell, simplices), space.vertices[owner])
            distance = _standard(xi, centre, matrix, law)[..., axis] - kink
            simplices, owner = _divide_at_plane(simplices, owner, distance)

    points, weights = rule
    edges = simplices[:, 1:] - simplices[:, :1]
    return (
        owner,
        simplices[:, :1] + np.einsum("qe,sed->sqd", points, edges),
        np.abs(np.linalg.det(edges))[:, None] * weights,
    )


def _triangulation(cell: CellType) -> Array:
    """The reference cell as simplices (t, d + 1, d): itself, or Kuhn's for quadrilaterals and hexahedra."""
    corners = np.asarray(basix.geometry(cell))
    dim = corners.shape[1]
    if cell in _SIMPLICES.values():
        return corners[None]
    paths = [np.cumsum([np.zeros(dim), *np.eye(dim)[list(order)]], axis=0) for order in permutations(range(dim))]
    return np.stack(paths)


def _divide_at_plane(simplices: Array, owner: Numbers, distance: Array) -> tuple[Array, Numbers]:
    """Divide simplices (s, v, d) until none has vertices on both sides of a plane, given their distances (s, v)."""
    slack = _ON * np.ptp(distance, axis=1, keepdims=True)
    distance = np.where(np.abs(distance) <= slack, 0.0, distance)

    while (crossed := np.flatnonzero((distance.min(axis=1) < 0.0) & (distance.max(axis=1) > 0.0))).size:
        rows = np.arange(crossed.size)
        below, above = distance[crossed].argmin(axis=1), distance[crossed].argmax(axis=1)
        first, last = distance[crossed, below], distance[crossed, above]
        share = (first / (first - last))[:, None]
        corner = (1.0 - share) * simplices[crossed, below] + share * simplices[crossed, above]

        # One half is put in the place of the whole, so that the order of a cell's pieces is its own affair.
        other, apart = simplices[crossed].copy(), distance[crossed].copy()
        other[rows, above], apart[rows, above] = corner, 0.0
        simplices[crossed, below], distance[crossed, below] = corner, 0.0
        simplices, distance = np.concatenate([simplices, other]), np.concatenate([distance, apart])
        owner = np.concatenate([owner, owner[crossed]])
    return simplices, owner


def _at(space: Space, owner: Numbers, points: Array, inner: Array) -> tuple[Array, Array, Array]:
    """Points ξ (s, q, d), weights (s, q) and ψ_i (s, q, i) at points (s, q, d) of the reference cells of `owner`.

    Basix tabulates by products of matrices, whose bits depend on how many points there are, and so on the ranks; here
    polynomials are sums of powers.
    """
    vertices = space.vertices[owner]
    slopes = [
        np.einsum("sqv,svd->sqd", _shape(space.cell, points, axis), vertices) for axis in range(space.dim)
    ]  # fmt: skip
    xi = np.einsum("sqv,svd->sqd", _shape(space.cell, points), vertices)
    scale = np.abs(np.linalg.det(np.stack(slopes, axis=-1)))

    exponents, factors = _powers(space)
    powers = np.stack([np.prod([points[..., d] ** n for d, n in enumerate(row)], axis=0) for row in exponents], axis=-1)
    return xi, inner * scale, np.einsum("sqk,ki->sqi", powers, factors)


def _shape(cell: CellType, points: Array, axis: int | None = None) -> Array:
    """The shape functions (…, v) of a cell's vertices at points (…, d) of it, or their derivatives along an axis."""
    corners = np.asarray(basix.geometry(cell))
    if cell in _SIMPLICES.values():
        slopes = np.concatenate([-np.ones((1, corners.shape[1])), np.eye(corners.shape[1])])
        if axis is not None:
            return np.broadcast_to(slopes[:, axis], (*points.shape[:-1], len(corners)))
        return np.concatenate([1.0 - points.sum(axis=-1, keepdims=True), points], axis=-1)

    at = np.where(corners == 1.0, points[..., None, :], 1.0 - points[..., None, :])  # (…, v, d)
    if axis is not None:
        at[..., axis] = np.where(corners[:, axis] == 1.0, 1.0, -1.0)
    return np.asarray(np.prod(at, axis=-1))


def _powers(space: Space) -> tuple[NDArray[np.int64], Array]:
    """Exponents (k, d) and factors (k, i) with which ψ_i(x) = Σ_k factors_ki x^exponents_k on the reference cell."""
    whole = space.cell in _SIMPLICES.values()
    every = np.array(list(np.ndindex(*(space.degree + 1,) * space.dim)), dtype=np.int64)
    exponents = every[every.sum(axis=1) <= space.degree] if whole else every
    points, _ = basix.make_quadrature(space.cell, 2 * space.degree + 2)
    psi = density_element(space.cell, space.degree).tabulate(0, points)[0, :, :, 0]
    powers = np.stack([(points**row).prod(axis=1) for row in exponents], axis=1)
    return exponents, np.linalg.lstsq(powers, psi, rcond=None)[0]
