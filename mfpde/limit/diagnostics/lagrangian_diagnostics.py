"""Diagnostics and snapshots of Lagrangian nodes: sums over the nodes, and the cells between them."""

from __future__ import annotations

import numpy as np

from mfpde.limit.diagnostics.block_diagnostics import BlockDiagnostics
from mfpde.limit.diagnostics.sampled_fields import in_pieces
from mfpde.limit.lagrangian.grid import Field, LagrangianGrid, moments, nested_error
from mfpde.limit.lagrangian.initial_nodes import is_cut
from mfpde.limit.state import NodesPart
from mfpde.output.fields.snapshot import Piece, Snapshot

_CELLS = {1: "interval", 2: "quadrilateral", 3: "hexahedron"}


def diagnose_nodes(grid: LagrangianGrid, part: NodesPart, field: Field) -> BlockDiagnostics:
    """The columns of the reports; equal on every rank.

    Integrals are sums Σ_j m_j φ(X_j), ρ̂ is ρ in θ, the boundary is that of the grid where it cuts a law off, and the
    resolution is the error of nested quadratures, `nested_error`.
    """
    mass, mean, covariance = moments(part)
    dissipated = np.einsum("ln,lnd->l", part.mass, field.slope**2)
    weighted = part.mass * np.where(part.mass > 0.0, part.log_density, 0.0)
    inner = 1.0 - 2.0 * grid.per_cell / (max(grid.shape) - 1)
    edge = np.abs(grid.reference).max(axis=1) > inner + 1e-9
    cut = np.array([is_cut(grid, law) for law in grid.laws])
    return BlockDiagnostics(
        mass=mass,
        mean=mean,
        covariance=covariance,
        entropy=weighted.sum(axis=1),
        dissipation=dissipated,
        descent=dissipated,
        negative_mass=np.maximum(-part.mass, 0.0).sum(axis=1),
        boundary_mass=np.where(cut, part.mass[:, edge].sum(axis=1), 0.0),
        resolution=np.full(grid.layers, nested_error(grid, part)),
        min_density=np.exp(part.log_density).min(axis=1),
    )


def snapshot_nodes(grid: LagrangianGrid, part: NodesPart, field: Field, rank: int = 0, ranks: int = 1) -> Snapshot:
    """Density, potential and velocity at the nodes, multilinear in the cells between neighbours: nowhere negative.

    Every rank holds all nodes. A snapshot too large for one file is cut into as many pieces as there are ranks.
    """
    dim = grid.family.dim
    number = np.arange(grid.nodes).reshape(grid.shape)
    corners = []
    for corner in range(2**dim):
        picked = tuple(slice(1, None) if corner >> axis & 1 else slice(None, -1) for axis in range(dim))
        corners.append(number[picked].ravel())
    cells = np.stack(corners, axis=1)
    piece = None
    if in_pieces(ranks, float(grid.layers * cells.size)):
        mine = np.array_split(np.arange(len(cells)), ranks)
        piece = Piece(tuple(r for r in range(ranks) if len(mine[r])), mine[rank])
        cells = cells[mine[rank]]
    return Snapshot(
        family=grid.family.name, coordinates=tuple(grid.family.coordinates), cell=_CELLS[dim], degree=1,
        points=part.position[:, cells], density=np.exp(part.log_density)[:, cells],
        potential=field.value[:, cells], velocity=-field.slope[:, cells],
        piece=piece,
    )  # fmt: skip
