"""The nodes of a cloud, of all ranks and replicas, as files and readers have them."""

from __future__ import annotations

import numpy as np

from mfpde.limit.sampled.cloud import NodeCloud
from mfpde.limit.state import NodesPart
from mfpde.limit.tables.tabulated_nodes import Field
from mfpde.output.clouds.nodes import Nodes


def gather_nodes(grid: NodeCloud, part: NodesPart, field: Field, weight_decay: float) -> Nodes | None:
    """The nodes with V and −∇V on rank 0, None on the others; collective."""
    family, dim = grid.family, grid.family.dim
    columns = [part.position, -field.slope, field.value[..., None], part.mass[..., None] / grid.replicas]
    gathered = grid.comm.gather(np.concatenate(columns, axis=2), root=0)
    if gathered is None:
        return None

    # From (K L, n, c) of each rank to the nodes of all replicas side by side, in one layout whatever the ranks.
    depth = grid.layers // grid.replicas
    whole = np.concatenate(gathered, axis=1) if len(gathered) > 1 else gathered[0]
    nodes = whole.reshape(grid.replicas, depth, grid.nodes, -1).swapaxes(0, 1).reshape(depth, -1, whole.shape[2])
    u, v = list(family.nonlinear_axes), list(family.linear)
    shape = (*nodes.shape[:2], *(family.linear_shape or (len(v),)))

    return Nodes(
        family=family.name,
        coordinates=family.coordinates,
        linear=family.linear,
        mass=nodes[..., -1].copy(),
        u=nodes[..., u],
        v=np.ascontiguousarray(nodes[..., v]).reshape(shape),
        potential=nodes[..., -2].copy(),
        velocity_u=nodes[..., [dim + axis for axis in u]],
        velocity_v=np.ascontiguousarray(nodes[..., [dim + axis for axis in v]]).reshape(shape),
        replica=np.repeat(np.arange(grid.replicas), grid.nodes),
        weight_decay=weight_decay,
        rule=(grid.laws[0].uniforms, grid.order) if grid.order else (0, 0),
    )
