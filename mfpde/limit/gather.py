"""Density, potential and velocity of one family at Lagrange points in true θ, collected on rank 0.

Cells come in the mesh's own order, so that files do not depend on the number of ranks.
"""

from __future__ import annotations

import basix
import numpy as np
from numpy.typing import NDArray

from mfpde.limit.frame import Frame
from mfpde.limit.limiter import nonnegative
from mfpde.limit.space import density_element, potential_element
from mfpde.limit.state import Group
from mfpde.output.snapshot import Snapshot
from mfpde.problem.family import Family

Array = NDArray[np.float64]


def gather(
    group: Group, family: Family, blocks: slice, density: Array, frame: Frame, potential: Array
) -> Snapshot | None:
    """The snapshot of one family on rank 0, None on the others; collective.

    Args:
        group: the family's group.
        family: the family.
        blocks: its blocks in the group.
        density: coefficients (owned, i, b) of all blocks.
        frame: the frames of all blocks.
        potential: nodal values (c, j, b) of all blocks.
    """
    space = group.space
    degree = max(space.degree, 1)
    lattice = basix.create_element(basix.ElementFamily.P, space.cell, degree, basix.LagrangeVariant.equispaced).points
    shape = potential_element(space.cell, 1).tabulate(0, lattice)[0, :, :, 0]
    theta = frame.theta(space.points(shape))[..., blocks]  # (c, n, d, L)
    table = density_element(space.cell, space.degree).tabulate(0, lattice)[0, :, :, 0]
    own = density[..., blocks]
    copy = own if group.positivity == "off" else nonnegative(space, own)
    rho = np.einsum("ni,cib->cnb", table, copy) / frame.determinant[blocks]
    nodal = potential_element(space.cell, space.potential_degree).tabulate(1, lattice)[..., 0]
    values = potential[: space.owned, :, blocks]
    velocity = -_gradient(group, lattice, nodal[1:], values, np.linalg.inv(frame.matrix[blocks]))
    parts = space.comm.gather(
        (space.cell_order, theta, rho, np.einsum("nj,cjb->cnb", nodal[0], values), velocity), root=0
    )
    if parts is None:
        return None
    order = np.argsort(np.concatenate([part[0] for part in parts]))
    points, rho, values, velocity = (
        np.moveaxis(np.concatenate([part[k] for part in parts])[order], -1, 0) for k in range(1, 5)
    )
    return Snapshot(
        family=family.name, coordinates=tuple(family.coordinates), cell=space.cell.name, degree=degree,
        points=points, density=rho, potential=values, velocity=velocity,
    )  # fmt: skip


def _gradient(group: Group, lattice: Array, table: Array, values: Array, inverse: Array) -> Array:
    """∇_θ V (c, n, d, L) from nodal values (c, j, L): A⁻ᵀ Kᵀ times the reference gradient."""
    space = group.space
    local = np.einsum("anj,cjb->cnab", table, values)
    if space.affine:
        reference = np.einsum("cak,cnab->cnkb", space.inverse_jacobian[: space.owned, 0], local)
    else:
        reference = np.einsum("cnak,cnab->cnkb", space.inverse_jacobian_at(lattice), local)
    return np.asarray(np.einsum("bki,cnkb->cnib", inverse, reference))
