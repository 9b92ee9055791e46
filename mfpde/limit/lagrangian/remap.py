"""A fresh grid for a density that its nodes no longer sample well, without a negative value or a loss of mass.

Nodes that straddle a separatrix are torn apart: what lies between them is sampled by none. A remap carries the density,
while it is still smooth, to a uniform grid in its own coordinates, from where the flow has less far to tear. The new
node at θ takes the density of the material that is there,

    X(s) = θ (Newton's method, from the nearest old node),     log ρ(θ) = Σ_j ℓ_j(s) log ρ(X_j),

with local polynomials of degree 5 on the old grid: positive whatever they do. Where no old material is, the density
falls off as that of a normal law would from where the material ends, or is zero if it ends where there still is mass.
Then each layer's mass is made one, and an affine map of the new nodes makes mean and covariance what they were.
By how much mass, mean and covariance were off before is the *defect* that tells whether the new grid resolves the
density; a remap with a large one is not made, and none is tried again: the nodes then stay where they gather.
Source: docs/frames.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.fem.frame import roots
from mfpde.limit.lagrangian.interpolation import MAP, invert
from mfpde.limit.lagrangian.nodes import PATIENCE, REACH, Carried, Material, distance, moments, nested_error

Array = NDArray[np.float64]
DEFECT = 2e-5  # largest defect of a remap that is made
_EARLY = 0.25  # of it: a smaller defect says that there is time …
_SMOOTH = 2e-5  # … if the error of nested quadratures on the fresh grid says so too
_AGAIN = 1.1  # by which the distortion must grow before the next try
_STEPS = 30  # of Newton's method
_ENDS = 9.0  # below the largest log ρ the material may end without a step
_FLOOR = 60.0  # below it there is nothing
_FOUND = 1e-10  # |X(s) − θ| in the units of the new grid's axes


def renew(material: Material, carried: Carried) -> Carried:
    """The nodes, on a fresh grid if it is time for one: as late as the fresh grid still resolves their density.

    A remap has an error, which grows with time, and takes back the tearing so far, which grows too. So one is tried
    whenever the distortion has grown, made once its defect is no longer far below `DEFECT`, and never again once it is
    above.
    """
    torn = distortion(material, carried)
    if torn <= float(carried.patience[0]):
        return carried
    fresh, defect = remap(material, carried)
    if not defect <= DEFECT:
        return replace(carried, patience=np.array([np.inf]))
    if defect < _EARLY * DEFECT and nested_error(material, fresh) < _SMOOTH:
        return replace(carried, patience=np.array([_AGAIN * torn]))
    return replace(fresh, patience=np.array([PATIENCE]))


def distortion(material: Material, carried: Carried) -> float:
    """Which part of the nodes' spread no affine image of their grid explains, 0 … 1; the largest over layers.

    Contraction and shear, which harm nothing, do not count.
    """
    ones = np.column_stack([np.ones(material.nodes), material.reference])
    largest = 0.0
    for position, mass in zip(carried.position, carried.mass, strict=True):
        root = np.sqrt(mass)[:, None]
        centred = position - mass @ position
        fit = np.linalg.lstsq(root * ones, root * centred, rcond=None)[0]
        spread = float((mass @ centred**2).sum())
        largest = max(largest, float((mass @ (centred - ones @ fit) ** 2).sum()) / max(spread, 1e-300))
    return float(np.sqrt(largest))


def remap(material: Material, carried: Carried) -> tuple[Carried, float]:
    """The density on a uniform grid along the axes of its own covariance, and the defect.

    The grid covers where the density is above e^{−r²/2} of its largest value, r = `REACH`: half-widths r for a normal
    law, and no further than there is material otherwise.
    """
    mass, mean, covariance = moments(carried)
    root = roots(covariance, material.family.linear)
    layers = len(mean)
    position, log = np.empty_like(carried.position), np.empty_like(carried.log_density)
    weight = np.empty_like(carried.mass)
    for layer in range(layers):
        local = (carried.position[layer] - mean[layer]) @ np.linalg.inv(root[layer]).T
        near = carried.log_density[layer] > carried.log_density[layer].max() - 0.5 * REACH**2
        low, high = local[near].min(axis=0), local[near].max(axis=0)
        grid = 0.5 * (low + high) + 0.5 * (high - low) * material.reference
        log[layer] = _pull_back(material, local, carried.log_density[layer], grid)
        volume = np.prod(0.5 * (high - low)) * np.linalg.det(root[layer])
        weight[layer] = np.exp(log[layer]) * material.quadrature * volume
        position[layer] = mean[layer] + grid @ root[layer].T
    total = weight.sum(axis=1)
    if not (total > 0.0).all():
        return carried, float("inf")
    fresh = replace(carried, position=position, log_density=log - np.log(total)[:, None], mass=weight / total[:, None])
    made = moments(fresh)
    defect = max(float(np.abs(total - mass).max()), distance((mass, mean, covariance), made))
    return material.settle(_corrected(fresh, made, mean, root, material.family.linear)), defect


def _corrected(
    fresh: Carried, made: tuple[Array, Array, Array], mean: Array, root: Array, linear: Sequence[int]
) -> Carried:
    """Nodes moved by the affine map, near the identity, that gives them this mean and covariance."""
    _, wrong, covariance = made
    try:
        turn = root @ np.linalg.inv(roots(covariance, linear))
    except np.linalg.LinAlgError:
        return fresh
    position = mean[:, None] + np.einsum("lij,lnj->lni", turn, fresh.position - wrong[:, None])
    log = fresh.log_density - np.log(np.linalg.det(turn))[:, None]
    return replace(fresh, position=position, log_density=log)


def _pull_back(material: Material, nodes: Array, log: Array, points: Array) -> Array:
    """log ρ at points (p, d) from that at nodes (n, d), both in standard deviations; −∞ where there is nothing."""
    from scipy.spatial import cKDTree  # noqa: PLC0415  (slow, and only what is carried far needs it)

    most = log.max()
    fields = np.concatenate([nodes, np.maximum(log, most - _FLOOR)[:, None]], axis=1)
    nearest = cKDTree(nodes).query(points)[1]
    place = np.stack(np.unravel_index(nearest, material.shape), axis=1).astype(np.float64)
    missed, values = np.zeros(len(points)), np.zeros((len(points), 1))
    count = np.array(material.shape, dtype=np.int64)
    invert(np.ascontiguousarray(points), fields, count, MAP, _STEPS, _FOUND, place, missed, values)
    outside = missed > _FOUND
    fall = np.where(outside, REACH * missed + 0.5 * missed**2, 0.0)
    nothing = (outside & (values[:, 0] > most - _ENDS)) | (values[:, 0] - fall <= most - _FLOOR)
    return np.where(nothing, -np.inf, values[:, 0] - fall)
