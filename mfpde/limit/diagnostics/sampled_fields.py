"""Density, potential and velocity of one family at Lagrange points in true θ, collected on rank 0.

Cells come in the mesh's own order, so that files do not depend on the number of ranks. A snapshot too large for one
file (`LARGEST_FILE`) stays in pieces on the ranks that hold it, and reads the same.
"""

from __future__ import annotations

from collections.abc import Callable

import basix
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit.fem.elements import density_element, potential_element
from mfpde.limit.fem.frame import Frame
from mfpde.limit.fem.space import Space
from mfpde.limit.positivity.bernstein import nonnegative
from mfpde.limit.state import FemPart
from mfpde.output.fields.snapshot import Piece, Snapshot, in_pieces
from mfpde.problem.family import Family

Array = NDArray[np.float64]


def gather(
    space: Space, family: Family, blocks: slice, part: FemPart, potential: Array, *, nonnegative_copy: bool
) -> Snapshot | None:
    """The snapshot of one family on rank 0, None on the others, or its pieces on all of them; collective.

    Args:
        space: the space.
        family: the family.
        blocks: its blocks among those of the space.
        part: densities and frames of all blocks.
        potential: nodal values (c, j, b) of all blocks.
        nonnegative_copy: is what is written made nonnegative?
    """
    degree = max(space.degree, 1)
    lattice = basix.create_element(basix.ElementFamily.P, space.cell, degree, basix.LagrangeVariant.equispaced).points
    shape = potential_element(space.cell, 1).tabulate(0, lattice)[0, :, :, 0]
    own, chart = part.density[..., blocks], Frame(part.frame.centre[blocks], part.frame.matrix[blocks])

    piece = None
    if in_pieces(space.comm.size, float(chart.blocks * space.global_cells * len(lattice))):
        piece = Piece(tuple(np.flatnonzero(space.comm.allgather(len(own))).tolist()), space.cell_order)
    places = _places(space) if piece is None else []

    def layered(values: Callable[[slice], Array], *shape: int) -> Array:
        """(L, cells, n, …) from a function of some of the cells with values (c, n, …, L)."""
        first = places[0] if space.comm.size == 1 and places else np.arange(space.owned)
        made = np.empty((chart.blocks, space.owned, len(lattice), *shape))
        for cells in space.batches(chart.blocks * len(lattice) * space.dim**2):
            made[:, first[cells]] = np.moveaxis(values(cells), -1, 0)
        return made if piece is not None or space.comm.size == 1 else _collect(space.comm, places, made)

    def density_of(copy: Array) -> Array:
        table = density_element(space.cell, space.degree).tabulate(0, lattice)[0, :, :, 0]
        return layered(lambda cells: np.einsum("ni,cib->cnb", table, copy[cells]) / chart.determinant)

    # One quantity after the other and few cells at a time, so that rank 0 holds each only once.
    points = layered(lambda cells: chart.theta(space.part(cells).points(shape)), space.dim)
    rho = density_of(nonnegative(space, own) if nonnegative_copy else own)
    nodal = potential_element(space.cell, space.potential_degree).tabulate(1, lattice)[..., 0]
    mine = potential[: space.owned, :, blocks]
    potentials = layered(lambda cells: np.einsum("nj,cjb->cnb", nodal[0], mine[cells]))
    velocity = layered(
        lambda cells: -_gradient(space.part(cells), lattice, nodal[1:], mine[cells], chart.inverse), space.dim
    )

    if piece is None and space.comm.rank != 0:
        return None
    return Snapshot(
        family=family.name, coordinates=tuple(family.coordinates), cell=space.cell.name, degree=degree,
        points=points, density=rho, potential=potentials, velocity=velocity, piece=piece,
    )  # fmt: skip


def _places(space: Space) -> list[NDArray[np.int64]]:
    """On rank 0, where each rank's cells stand in the mesh's own order; collective."""
    orders = space.comm.gather(space.cell_order, root=0)
    if orders is None:
        return []
    place = np.argsort(np.argsort(np.concatenate(orders)))
    return np.split(place, np.cumsum([len(order) for order in orders])[:-1])


def _collect(comm: MPI.Intracomm, places: list[NDArray[np.int64]], own: Array) -> Array:
    """(L, cells, …) of all ranks on rank 0 from (L, c, …) of each; nothing on the others; collective."""
    parts = comm.gather(None if comm.rank == 0 else own, root=0)
    if parts is None:
        return np.empty(0)
    parts[0] = own
    whole = np.empty((len(own), sum(map(len, places)), *own.shape[2:]))
    for place, part in zip(places, parts, strict=True):
        whole[:, place] = part
    return whole


def _gradient(space: Space, lattice: Array, table: Array, values: Array, inverse: Array) -> Array:
    """∇_θ V (c, n, d, L) from nodal values (c, j, L): A⁻ᵀ Kᵀ times the reference gradient."""
    local = np.einsum("anj,cjb->cnab", table, values)
    if space.affine:
        reference = np.einsum("cak,cnab->cnkb", space.inverse_jacobian[: space.owned, 0], local)
    else:
        reference = np.einsum("cnak,cnab->cnkb", space.inverse_jacobian_at(lattice), local)
    return np.asarray(np.einsum("bki,cnkb->cnib", inverse, reference))
