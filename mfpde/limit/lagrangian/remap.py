"""A fresh grid for a density that its nodes no longer sample well, without a negative value or a loss of mass.

Nodes that straddle a separatrix are torn apart: what lies between them is sampled by none. A remap transfers the
density, while it is still smooth, to a fresh grid in its own coordinates, from where the flow has less far to tear.
The new node at θ takes the density that the flow has brought there,

    X(s) = θ (Newton's method, from the nearest old node),     log ρ(θ) = Σ_j ℓ_j(s) log ρ(X_j),

with local polynomials of degree 5 on the old grid: positive whatever they do. Outside the image of the old grid the
density falls off as that of a normal law would from where the image ends, or is zero if it ends where there still is
mass.
Then each layer's mass is made one, and an affine map of the new nodes makes mean and covariance what they were.
By how much mass, mean and covariance were off before is the *defect*, which measures how well the new grid resolves the
density. A remap with a large one, or to nodes that sample the density much worse than the old ones do, as quadratures
by every other of them tell, is not made, and none is tried again: the nodes then stay where they gather.
Source: docs/frames.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.fem.frame import roots
from mfpde.limit.lagrangian.grid import LagrangianGrid
from mfpde.limit.lagrangian.initial_nodes import PATIENCE, REACH, with_moments
from mfpde.limit.lagrangian.interpolation import MAP, invert
from mfpde.limit.lagrangian.node_exchange import by_layers
from mfpde.limit.lagrangian.node_sums import distance, moments, summed, weighted
from mfpde.limit.lagrangian.resolution import nested
from mfpde.limit.state import NodesPart

Array = NDArray[np.float64]
DEFECT = 2e-5  # largest defect of a remap that is made
_SMOOTH = 2e-5  # largest error of nested quadratures on a fresh grid that is taken
_EARLY = 0.1  # of both: with smaller ones, which may grow sevenfold until the next try, there is time
_LOSS = 10.0  # and by how much larger it may be than that of the old nodes
_AGAIN = 1.1  # by which the distortion must grow before the next try
_STEPS = 30  # of Newton's method
_ENDS = 9.0  # below the largest log ρ the image of the grid may end without a step
_FLOOR = 60.0  # below it there is nothing
_FOUND = 1e-10  # |X(s) − θ| in the units of the new grid's axes


def renew(grid: LagrangianGrid, part: NodesPart, torn: float) -> NodesPart:
    """The nodes, on a fresh grid if it is time for one: as late as the fresh grid still resolves their density.

    A remap has an error, which grows with time, and takes back the tearing so far, which grows too. So one is tried
    whenever the distortion has grown, made once its defect is no longer far below `DEFECT`, or the error of nested
    quadratures far below `_SMOOTH`, and never again once one is above, or that error `_LOSS` times the old nodes'.
    Collective where one is tried.

    Args:
        grid: of the nodes.
        part: the nodes.
        torn: their `resolution.distortion`.
    """
    if torn <= float(part.patience[0]):
        return part

    fresh, defect = remap(grid, part)
    if not defect <= DEFECT:
        return replace(part, patience=np.array([np.inf]))
    rough = nested(grid, fresh)[1]
    if not rough <= max(_EARLY * _SMOOTH, min(_SMOOTH, _LOSS * nested(grid, part)[1])):
        return replace(part, patience=np.array([np.inf]))
    if defect < _EARLY * DEFECT and rough < _EARLY * _SMOOTH:
        return replace(part, patience=np.array([_AGAIN * torn]))
    return replace(fresh, patience=np.array([PATIENCE]))


def remap(grid: LagrangianGrid, part: NodesPart) -> tuple[NodesPart, float]:
    """The density on a fresh grid along the axes of its own covariance, and the defect; collective.

    The grid covers where the density is above e^{−r²/2} of its largest value, r = `REACH`: half-widths r for a normal
    law, and no further than the nodes reach otherwise. A layer needs all its old nodes, so that one rank makes all its
    new ones; the layers are shared out.
    """
    old = moments(part, grid.comm)
    mass, mean, covariance = old
    root, whole = roots(covariance, grid.family.linear), grid.everywhere

    def made(layer: int, nodes: Array) -> Array:
        return _fresh(whole, nodes, mean[layer], root[layer])

    nodes = np.concatenate([part.position, part.log_density[..., None]], axis=2)
    position, log, weight = np.split(by_layers(grid, nodes, grid.family.dim + 2, made), [-2, -1], axis=2)
    (total,) = summed(grid.comm, [weighted(weight[..., 0], np.ones_like(weight))])
    if not (total > 0.0).all():
        return part, float("inf")

    log_density, share = log[..., 0] - np.log(total), weight[..., 0] / total
    fresh = replace(part, position=position, log_density=log_density, mass=share)
    found = moments(fresh, grid.comm)
    defect = max(float(np.abs(total[:, 0] - mass).max()), distance(old, found))
    return grid.fit_table(with_moments(fresh, found, (mean, covariance), grid.family.linear)), defect


def _fresh(grid: LagrangianGrid, nodes: Array, mean: Array, root: Array) -> Array:
    """X, log ρ and mass (n, d + 2) of the new nodes of a layer from X and log ρ (n, d + 1) of its old ones."""
    position, log = nodes[:, :-1], nodes[:, -1]
    local = (position - mean) @ np.linalg.inv(root).T
    near = log > log.max() - 0.5 * REACH**2
    low, high = local[near].min(axis=0), local[near].max(axis=0)
    points = 0.5 * (low + high) + 0.5 * (high - low) * grid.reference

    fresh = _pull_back(grid, local, log, points)
    volume = np.prod(0.5 * (high - low)) * np.linalg.det(root)
    return np.column_stack([mean + points @ root.T, fresh, np.exp(fresh) * grid.quadrature * grid.stretch * volume])


def _pull_back(grid: LagrangianGrid, nodes: Array, log: Array, points: Array) -> Array:
    """log ρ at points (p, d) from that at nodes (n, d), both in standard deviations; −∞ where there is nothing."""
    from scipy.spatial import cKDTree  # noqa: PLC0415  (slow, and only remaps need it)

    most = log.max()
    fields = np.concatenate([nodes, np.maximum(log, most - _FLOOR)[:, None]], axis=1)
    nearest = cKDTree(nodes).query(points)[1]
    place = np.stack(np.unravel_index(nearest, grid.shape), axis=1).astype(np.float64)
    missed, values = np.zeros(len(points)), np.zeros((len(points), 1))
    count = np.array(grid.shape, dtype=np.int64)
    invert(np.ascontiguousarray(points), fields, count, MAP, _STEPS, _FOUND, place, missed, values)
    outside = missed > _FOUND
    fall = np.where(outside, REACH * missed + 0.5 * missed**2, 0.0)
    nothing = (outside & (values[:, 0] > most - _ENDS)) | (values[:, 0] - fall <= most - _FLOOR)
    return np.where(nothing, -np.inf, values[:, 0] - fall)
