"""A fresh grid for a density that its nodes no longer sample well, without a negative value or a loss of mass.

Nodes that straddle a separatrix are torn apart: what lies between them is sampled by none. A remap transfers the
density, while it is still smooth, to a uniform grid in its own coordinates, from where the flow has less far to tear.
The new node at θ takes the density that the flow has brought there,

    X(s) = θ (Newton's method, from the nearest old node),     log ρ(θ) = Σ_j ℓ_j(s) log ρ(X_j),

with local polynomials of degree 5 on the old grid: positive whatever they do. Outside the image of the old grid the
density falls off as that of a normal law would from where the image ends, or is zero if it ends where there still is
mass.
Then each layer's mass is made one, and an affine map of the new nodes makes mean and covariance what they were.
By how much mass, mean and covariance were off before is the *defect*, which measures how well the new grid resolves the
density; a remap with a large one is not made, and none is tried again: the nodes then stay where they gather.
Source: docs/frames.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.fem.frame import roots
from mfpde.limit.lagrangian.grid import LagrangianGrid, distance, moments, nested_error
from mfpde.limit.lagrangian.initial_nodes import PATIENCE, REACH, with_moments
from mfpde.limit.lagrangian.interpolation import MAP, invert
from mfpde.limit.state import NodesPart

Array = NDArray[np.float64]
DEFECT = 2e-5  # largest defect of a remap that is made
_EARLY = 0.25  # of it: with a smaller defect there is time …
_SMOOTH = 2e-5  # … if the error of nested quadratures on the fresh grid is below this too
_AGAIN = 1.1  # by which the distortion must grow before the next try
_STEPS = 30  # of Newton's method
_ENDS = 9.0  # below the largest log ρ the image of the grid may end without a step
_FLOOR = 60.0  # below it there is nothing
_FOUND = 1e-10  # |X(s) − θ| in the units of the new grid's axes


def renew(grid: LagrangianGrid, part: NodesPart) -> NodesPart:
    """The nodes, on a fresh grid if it is time for one: as late as the fresh grid still resolves their density.

    A remap has an error, which grows with time, and takes back the tearing so far, which grows too. So one is tried
    whenever the distortion has grown, made once its defect is no longer far below `DEFECT`, and never again once it is
    above.
    """
    torn = distortion(grid, part)
    if torn <= float(part.patience[0]):
        return part

    fresh, defect = remap(grid, part)
    if not defect <= DEFECT:
        return replace(part, patience=np.array([np.inf]))
    if defect < _EARLY * DEFECT and nested_error(grid, fresh) < _SMOOTH:
        return replace(part, patience=np.array([_AGAIN * torn]))
    return replace(fresh, patience=np.array([PATIENCE]))


def distortion(grid: LagrangianGrid, part: NodesPart) -> float:
    """Which part of the nodes' spread no affine image of their grid explains, 0 … 1; the largest over layers.

    Contraction and shear, which harm nothing, do not count.
    """
    ones = np.column_stack([np.ones(grid.nodes), grid.reference])
    largest = 0.0
    for position, mass in zip(part.position, part.mass, strict=True):
        root = np.sqrt(mass)[:, None]
        centred = position - mass @ position
        fit = np.linalg.lstsq(root * ones, root * centred, rcond=None)[0]
        spread = float((mass @ centred**2).sum())
        largest = max(largest, float((mass @ (centred - ones @ fit) ** 2).sum()) / max(spread, 1e-300))
    return float(np.sqrt(largest))


def remap(grid: LagrangianGrid, part: NodesPart) -> tuple[NodesPart, float]:
    """The density on a uniform grid along the axes of its own covariance, and the defect.

    The grid covers where the density is above e^{−r²/2} of its largest value, r = `REACH`: half-widths r for a normal
    law, and no further than the nodes reach otherwise.
    """
    mass, mean, covariance = moments(part)
    root = roots(covariance, grid.family.linear)
    layers = len(mean)
    position, log = np.empty_like(part.position), np.empty_like(part.log_density)
    weight = np.empty_like(part.mass)

    for layer in range(layers):
        local = (part.position[layer] - mean[layer]) @ np.linalg.inv(root[layer]).T
        near = part.log_density[layer] > part.log_density[layer].max() - 0.5 * REACH**2
        low, high = local[near].min(axis=0), local[near].max(axis=0)
        points = 0.5 * (low + high) + 0.5 * (high - low) * grid.reference
        log[layer] = _pull_back(grid, local, part.log_density[layer], points)
        volume = np.prod(0.5 * (high - low)) * np.linalg.det(root[layer])
        weight[layer] = np.exp(log[layer]) * grid.quadrature * volume
        position[layer] = mean[layer] + points @ root[layer].T

    total = weight.sum(axis=1)
    if not (total > 0.0).all():
        return part, float("inf")
    fresh = replace(part, position=position, log_density=log - np.log(total)[:, None], mass=weight / total[:, None])
    made = moments(fresh)
    defect = max(float(np.abs(total - mass).max()), distance((mass, mean, covariance), made))
    return grid.fit_table(with_moments(fresh, mean, covariance, grid.family.linear)), defect


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
