"""Diagnostics and snapshots of Lagrangian nodes: sums over the nodes, and the cells between them."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit.diagnostics.block_diagnostics import BlockDiagnostics
from mfpde.limit.diagnostics.cell_masses import NodeCells, divided, scaled
from mfpde.limit.lagrangian.grid import LagrangianGrid
from mfpde.limit.lagrangian.initial_nodes import is_cut
from mfpde.limit.lagrangian.node_exchange import assembled
from mfpde.limit.lagrangian.node_sums import summed, weighted
from mfpde.limit.lagrangian.resolution import nested
from mfpde.limit.state import NodesPart
from mfpde.limit.tables.tabulated_nodes import Field
from mfpde.output.fields.snapshot import Piece, Snapshot, in_pieces
from mfpde.parallel.reductions import reduce_over_ranks

Array = NDArray[np.float64]
_CELLS = {1: "interval", 2: "quadrilateral", 3: "hexahedron"}


def diagnose_nodes(grid: LagrangianGrid, part: NodesPart, field: Field) -> BlockDiagnostics:
    """The columns of the reports; equal on every rank. Collective; three reductions of sums and one of minima.

    Integrals are sums Σ_j m_j φ(X_j), ρ̂ is ρ in θ, the boundary is that of the grid where it cuts a law off, and the
    resolution is the error of nested quadratures, `resolution.nested`.
    """
    (mass, mean, covariance), resolution = nested(grid, part)
    inner = 1.0 - 2.0 * grid.per_cell / (max(grid.shape) - 1)
    edge = np.abs(grid.reference).max(axis=1) > inner + 1e-9
    entropy = np.where(part.mass > 0.0, part.log_density, 0.0)
    columns = [(field.slope**2).sum(axis=2), entropy, np.broadcast_to(edge, part.mass.shape), part.mass < 0.0]
    (sums,) = summed(grid.comm, [weighted(part.mass, np.stack(columns, axis=2).astype(np.float64))])

    dissipated, weighted_log, at_edge, negative = sums.T
    least = np.exp(part.log_density).min(axis=1, initial=np.inf)
    cut = np.array([is_cut(grid, law) for law in grid.laws])
    return BlockDiagnostics(
        mass=mass,
        mean=mean,
        covariance=covariance,
        entropy=weighted_log,
        dissipation=dissipated,
        descent=dissipated,
        negative_mass=np.maximum(-negative, 0.0),
        boundary_mass=np.where(cut, at_edge, 0.0),
        resolution=np.full(grid.layers, resolution),
        min_density=reduce_over_ranks(grid.comm, least, MPI.MIN),
    )


def snapshot_nodes(grid: LagrangianGrid, part: NodesPart, field: Field) -> Snapshot | None:
    """Density, potential and velocity at the nodes, multilinear in the cells between neighbours: nowhere negative.

    Each cell holds its mass, and cells between nodes that are torn apart are divided, see `cell_masses`.

    Complete on rank 0 and None on the others, or in pieces on all, as `sampled_fields.gather` has it; collective. A
    rank's piece are the cells whose first corner it has.
    """
    dim, ranks, corners = grid.family.dim, grid.comm.size, _corners(grid)
    cells = int(np.prod([count - 1 for count in grid.shape]))
    pieces = in_pieces(ranks, float(grid.layers * cells * 2**dim))
    wanted = _with_neighbours(grid, int(corners.max())) if pieces else [slice(grid.nodes), *[slice(0)] * (ranks - 1)]
    wanted = [slice(*nodes.indices(grid.nodes)) for nodes in wanted]

    # By a cell whose corners are alike:
    held = part.mass / grid.quadrature * np.prod(2.0 / (np.array(grid.shape) - 1.0))
    scalars = np.stack([np.exp(part.log_density), field.value, held], axis=2)
    values = assembled(grid, np.concatenate([part.position, -field.slope, scalars], axis=2), wanted)
    if not pieces and grid.comm.rank != 0:
        return None

    first = _first_corners(grid, grid.own if pieces else wanted[0])
    at = values[:, (first[:, None] + corners) - wanted[grid.comm.rank].start]
    points, velocity, (density, potential, held) = at[..., :dim], at[..., dim : 2 * dim], np.moveaxis(at, -1, 0)[-3:]
    fields = np.concatenate([potential[..., None], velocity], axis=-1)
    made = divided(NodeCells(points, density, held, fields, _numbers(grid, first)), cells)

    some = tuple(rank for rank, owner in enumerate(grid.owners) if len(_first_corners(grid, owner)))
    return Snapshot(
        family=grid.family.name, coordinates=tuple(grid.family.coordinates), cell=_CELLS[dim], degree=1,
        points=made.points, density=scaled(made), potential=made.fields[..., 0], velocity=made.fields[..., 1:],
        piece=Piece(some, made.number) if pieces else None,
    )  # fmt: skip


def _corners(grid: LagrangianGrid) -> NDArray[np.int64]:
    """How far the 2^d corners of a cell are from its first one, in the numbers of nodes."""
    dim, steps = grid.family.dim, np.cumprod([1, *grid.shape[:0:-1]])[::-1]  # to the next node in each direction
    return np.array([sum(step for axis, step in enumerate(steps) if corner >> axis & 1) for corner in range(2**dim)])


def _with_neighbours(grid: LagrangianGrid, reach: int) -> list[slice]:
    """The nodes of each rank, and so many more that its cells have all corners."""
    return [slice(o.start, o.stop + reach if o.stop > o.start else o.start) for o in grid.owners]


def _first_corners(grid: LagrangianGrid, nodes: slice) -> NDArray[np.int64]:
    """Those of the nodes from which a cell goes on in every direction."""
    numbers = np.arange(nodes.start, nodes.stop)
    inside = [place < count - 1 for place, count in zip(np.unravel_index(numbers, grid.shape), grid.shape, strict=True)]
    return numbers[np.all(inside, axis=0)]


def _numbers(grid: LagrangianGrid, first: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of the cells with these first corners, last axis fastest."""
    places = np.unravel_index(first, grid.shape)
    return np.ravel_multi_index(places, [count - 1 for count in grid.shape])
