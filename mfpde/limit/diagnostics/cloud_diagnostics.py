"""Diagnostics and snapshots of clouds of nodes: means over their replicas, in the coordinates that are shown.

A picture of more than three coordinates is a projection: the density of the first one or two that are shown, smoothed
by a Gaussian kernel (`output.clouds.smoothing`), with the means of V and of −∇V over the mass at each place. It is that
of all random nodes, or of many points between those of a midpoint rule.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.diagnostics.block_diagnostics import BlockDiagnostics
from mfpde.limit.lagrangian.node_sums import products, summed, weighted
from mfpde.limit.sampled.cloud import NodeCloud
from mfpde.limit.state import NodesPart
from mfpde.limit.tables.tabulated_nodes import Field
from mfpde.output.clouds.midpoint_lattice import between
from mfpde.output.clouds.smoothing import CELLS, smooth
from mfpde.output.fields.snapshot import Snapshot

Array = NDArray[np.float64]
_SHAPES = {1: "interval", 2: "quadrilateral"}  # of the cells of a picture
_MATRIX = 2  # axes


def diagnose_cloud(grid: NodeCloud, part: NodesPart, field: Field) -> BlockDiagnostics:
    """The columns of the reports, on average over replicas; equal on every rank. Collective; two reductions.

    Entropy, which nodes do not know, is not a number; mass, sign and boundary of a cloud have no error.
    """
    depth, shown = grid.layers // grid.replicas, list(grid.family.shown)
    theta = part.position[..., shown]
    squares = (field.slope**2).sum(axis=2, keepdims=True)
    (sums,) = summed(grid.comm, [weighted(part.mass, np.concatenate([theta, squares], axis=2))])
    mean = sums[:, :-1].reshape(grid.replicas, depth, -1).mean(axis=0)
    dissipation = sums[:, -1].reshape(grid.replicas, depth).mean(axis=0)

    apart = theta - np.tile(mean, (grid.replicas, 1))[:, None]
    (second,) = summed(grid.comm, [weighted(part.mass, products(apart))])
    covariance = second.reshape(grid.replicas, depth, len(shown), len(shown)).mean(axis=0)
    zeros = np.zeros(depth)
    return BlockDiagnostics(
        mass=np.ones(depth),
        mean=mean,
        covariance=covariance,
        entropy=np.full(depth, np.nan),
        dissipation=dissipation,
        descent=dissipation,
        negative_mass=zeros,
        boundary_mass=zeros,
        resolution=zeros,
        min_density=zeros,
        singular_values=_singular_values(grid, part),
    )


def _singular_values(grid: NodeCloud, part: NodesPart) -> Array:
    """Of the matrices v, on average over nodes and replicas, (L, k); collective, one reduction where there are some."""
    shape = grid.family.linear_shape
    if shape is None or len(shape) != _MATRIX:
        return np.empty((0, 0))
    matrices = part.position[..., grid.family.linear].reshape(*part.mass.shape, *shape)
    (sums,) = summed(grid.comm, [weighted(part.mass, np.linalg.svd(matrices, compute_uv=False))])
    return np.asarray(sums.reshape(grid.replicas, grid.layers // grid.replicas, -1).mean(axis=0))


def snapshot_cloud(grid: NodeCloud, part: NodesPart, field: Field) -> Snapshot | None:
    """The density of one or two coordinates on rank 0, None on the others; collective."""
    family, depth = grid.family, grid.layers // grid.replicas
    shown = list(family.shown[: len(CELLS)])
    columns = [part.position[..., shown], field.value[..., None], -field.slope[..., shown], part.mass[..., None]]
    gathered = grid.comm.gather(np.concatenate(columns, axis=2), root=0)
    if gathered is None:
        return None

    # One layout whatever the ranks: NumPy's sums over an axis go in the order of the memory.
    nodes = np.ascontiguousarray(np.concatenate(gathered, axis=1))
    made = [_picture(*_samples(grid, nodes[layer::depth]), len(shown)) for layer in range(depth)]
    points, density, potential, velocity = (np.stack(arrays) for arrays in zip(*made, strict=True))
    return Snapshot(
        family=family.name, coordinates=tuple(family.coordinates[axis] for axis in shown), cell=_SHAPES[len(shown)],
        degree=1, points=points, density=density, potential=potential, velocity=velocity,
    )  # fmt: skip


def _samples(grid: NodeCloud, nodes: Array) -> tuple[Array, Array]:
    """Of one layer θ, V and −∇V (p, 2d + 1) in the coordinates that are shown, and masses (p,), from (K, n, 2d + 2)."""
    if grid.order:  # the replicas are alike
        return between(nodes[0, :, :-1], grid.laws[0].uniforms, grid.order)
    return np.concatenate(nodes[..., :-1]), np.concatenate(nodes[..., -1]) / len(nodes)


def _picture(samples: Array, share: Array, dim: int) -> tuple[Array, Array, Array, Array]:
    """Of one layer the corners of the cells (c, n, d), with ρ (c, n), V (c, n) and −∇V (c, n, d) there.

    Args:
        samples: see `_samples`.
        share: their masses.
        dim: d.
    """
    found = smooth(samples[:, :dim], samples[:, dim:], share)
    fields = [found.places, found.density[..., None], found.means]
    corners = _corners(np.concatenate(fields, axis=-1), dim)
    return corners[..., :dim], corners[..., dim], corners[..., dim + 1], corners[..., dim + 2 :]


def _corners(lattice: Array, dim: int) -> Array:
    """The values (c, 2^d, k) at the corners of the cells of a lattice (n, …, n, k), the first axis fastest."""
    parts = []
    for corner in range(2**dim):
        chosen = tuple(slice(1, None) if corner >> axis & 1 else slice(-1) for axis in range(dim))
        parts.append(lattice[chosen].reshape(-1, lattice.shape[-1]))
    return np.stack(parts, axis=1)
