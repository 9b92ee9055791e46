"""What the files say of carried densities: sums over nodes, and cells between them to look at."""

from __future__ import annotations

import numpy as np

from mfpde.limit.diagnostics.block_diagnostics import BlockDiagnostics
from mfpde.limit.diagnostics.sampled_fields import in_pieces
from mfpde.limit.lagrangian.nodes import Carried, Field, Material, moments, nested_error
from mfpde.output.fields.snapshot import Piece, Snapshot

_CELLS = {1: "interval", 2: "quadrilateral", 3: "hexahedron"}


def diagnose_nodes(material: Material, carried: Carried, field: Field) -> BlockDiagnostics:
    """The columns of the reports; equal on every rank.

    Integrals are sums Σ_j m_j φ(X_j), ρ̂ is ρ in θ, the boundary is that of the grid, and the resolution is the error
    of nested quadratures, `nested_error`.
    """
    mass, mean, covariance = moments(carried)
    dissipated = np.einsum("ln,lnd->l", carried.mass, field.slope**2)
    weighted = carried.mass * np.where(carried.mass > 0.0, carried.log_density, 0.0)
    inner = 1.0 - 2.0 * material.per_cell / (max(material.shape) - 1)
    edge = np.abs(material.reference).max(axis=1) > inner + 1e-9
    return BlockDiagnostics(
        mass=mass,
        mean=mean,
        covariance=covariance,
        entropy=weighted.sum(axis=1),
        dissipation=dissipated,
        descent=dissipated,
        negative_mass=np.maximum(-carried.mass, 0.0).sum(axis=1),
        boundary_mass=carried.mass[:, edge].sum(axis=1),
        resolution=np.full(material.layers, nested_error(material, carried)),
        min_density=np.exp(carried.log_density).min(axis=1),
    )


def snapshot_nodes(material: Material, carried: Carried, field: Field, rank: int = 0, ranks: int = 1) -> Snapshot:
    """Density, potential and velocity at the nodes, multilinear in the cells between neighbours: nowhere negative.

    Every rank holds all nodes. What would be too large a file is cut into as many pieces as there are ranks.
    """
    dim = material.family.dim
    number = np.arange(material.nodes).reshape(material.shape)
    corners = []
    for corner in range(2**dim):
        picked = tuple(slice(1, None) if corner >> axis & 1 else slice(None, -1) for axis in range(dim))
        corners.append(number[picked].ravel())
    cells = np.stack(corners, axis=1)
    piece = None
    if in_pieces(ranks, float(material.layers * cells.size)):
        mine = np.array_split(np.arange(len(cells)), ranks)
        piece = Piece(tuple(r for r in range(ranks) if len(mine[r])), mine[rank])
        cells = cells[mine[rank]]
    return Snapshot(
        family=material.family.name, coordinates=tuple(material.family.coordinates), cell=_CELLS[dim], degree=1,
        points=carried.position[:, cells], density=np.exp(carried.log_density)[:, cells],
        potential=field.value[:, cells], velocity=-field.slope[:, cells],
        piece=piece,
    )  # fmt: skip
