"""The nodes of a cloud, of all ranks and replicas, as files and readers have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.sampled.cloud import NodeCloud
from mfpde.limit.state import NodesPart
from mfpde.limit.tables.tabulated_nodes import Field
from mfpde.output.clouds.nodes import Nodes

Array = NDArray[np.float64]


def gather_nodes(grid: NodeCloud, part: NodesPart, field: Field, weight_decay: float) -> Nodes | None:
    """The nodes with V and −∇V on rank 0, None on the others; collective."""
    family, dim = grid.family, grid.family.dim
    columns = [part.position, -field.slope, field.value[..., None], part.mass[..., None] / grid.replicas]
    own = np.concatenate(columns, axis=2)
    gathered = [own] if grid.comm.size == 1 else grid.comm.gather(own, root=0)
    if gathered is None:
        return None

    # From (K L, n, c) of each rank to the nodes of all replicas side by side, in one layout whatever the ranks.
    depth = grid.layers // grid.replicas
    whole = np.concatenate(gathered, axis=1) if len(gathered) > 1 else gathered[0]
    nodes = whole.reshape(grid.replicas, depth, grid.nodes, -1).swapaxes(0, 1).reshape(depth, -1, whole.shape[2])
    u, v = family.nonlinear_axes, family.linear
    shape = (*nodes.shape[:2], *(family.linear_shape or (len(v),)))
    theta, velocity = nodes[..., :dim], nodes[..., dim : 2 * dim]

    return Nodes(
        family=family.name,
        coordinates=family.coordinates,
        linear=family.linear,
        mass=nodes[..., -1].copy(),
        u=_columns(theta, u),
        v=_columns(theta, v).reshape(shape),
        potential=nodes[..., -2].copy(),
        velocity_u=_columns(velocity, u),
        velocity_v=_columns(velocity, v).reshape(shape),
        replica=np.repeat(np.arange(grid.replicas), grid.nodes),
        weight_decay=weight_decay,
        rule=(grid.laws[0].uniforms, grid.order) if grid.order else (0, 0),
    )


def _columns(values: Array, axes: Sequence[int]) -> Array:
    """These columns of (L, n, d), a copy; a slice where they follow each other, as the entries of a matrix do."""
    if len(axes) and axes[-1] - axes[0] == len(axes) - 1:
        return values[..., axes[0] : axes[-1] + 1].copy()
    return np.ascontiguousarray(values[..., list(axes)])
