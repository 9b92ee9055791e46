"""How well nodes sample their density: the distortion of their grid, and quadratures by every other node."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.lagrangian.grid import LagrangianGrid
from mfpde.limit.lagrangian.node_sums import Moments, beside, distance, moments, moments_with, products, weighted
from mfpde.limit.state import NodesPart
from mfpde.parallel.exact_sum import Share

Array = NDArray[np.float64]


def distortion_share(grid: LagrangianGrid, part: NodesPart, centre: Array) -> Share:
    """This rank's share of the sums (L, c) from which `distortion` fits an affine image of the grid.

    Args:
        grid: of the nodes.
        part: the nodes.
        centre: a place (L, d) among them.
    """
    ones = np.broadcast_to(_affine(grid), (grid.layers, grid.own.stop - grid.own.start, grid.family.dim + 1))
    around = part.position - centre[:, None]
    mixed = [weighted(part.mass, ones * around[..., i : i + 1]) for i in range(grid.family.dim)]
    return beside([weighted(part.mass, products(ones)), *mixed, weighted(part.mass, around**2)])


def distortion(grid: LagrangianGrid, sums: Array) -> float:
    """Which part of the nodes' spread no affine image of their grid explains, 0 … 1; the largest over layers.

    Contraction and shear, which harm nothing, do not count. With the sums of `distortion_share` over all ranks.
    """
    dim = grid.family.dim
    gram, mixed, squares = np.split(sums, [(dim + 1) ** 2, (dim + 1) ** 2 + (dim + 1) * dim], axis=1)
    largest = 0.0
    for layer, square in enumerate(squares):
        of_grid, of_both = gram[layer].reshape(dim + 1, dim + 1), mixed[layer].reshape(dim, dim + 1).T
        mean = of_both[0] / of_grid[0, 0]
        centred = of_both - np.outer(of_grid[:, 0], mean)

        fit = np.linalg.lstsq(of_grid, centred, rcond=None)[0]
        spread = float((square - of_grid[0, 0] * mean**2).sum())
        largest = max(largest, (spread - float((fit * centred).sum())) / max(spread, 1e-300))
    return float(np.sqrt(largest))


def _affine(grid: LagrangianGrid) -> Array:
    """1 and ξ at this rank's nodes, (n, d + 1)."""
    return np.column_stack([np.ones(grid.own.stop - grid.own.start), grid.reference])


def nested(grid: LagrangianGrid, part: NodesPart) -> tuple[Moments, float]:
    """The moments of all nodes, and how far off those of every other node in each direction are; two reductions.

    The largest over layers and coordinates, in standard deviations and their products: an indicator of how well a
    grid of twice the spacing would do, and large long before this one fails. Infinite for a grid without a middle.
    """
    if any(count % 2 == 0 for count in grid.shape):
        return moments(part, grid.comm), float("inf")
    even = np.all([place % 2 == 0 for place in grid.index], axis=0)
    every, coarse = moments_with(part, [part.mass, part.mass * even], grid.comm)
    return every, distance(every, coarse)
