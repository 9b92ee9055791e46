"""Lagrangian nodes as a discretisation (`limit.discretisation`): one family whose density moves with its nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.config.settings import Density
from mfpde.limit.diagnostics.block_diagnostics import BlockDiagnostics
from mfpde.limit.diagnostics.lagrangian_diagnostics import diagnose_nodes, snapshot_nodes
from mfpde.limit.discretisation import NOTHING, Discretisation, Instant, MomentErrors, MomentRates, Moments
from mfpde.limit.fem.law_coverage import judge
from mfpde.limit.lagrangian.grid import Field, LagrangianGrid, build_grid
from mfpde.limit.lagrangian.initial_nodes import initial_nodes
from mfpde.limit.lagrangian.remap import renew
from mfpde.limit.specification import Problem
from mfpde.limit.state import NodesPart
from mfpde.output.fields.snapshot import Snapshot
from mfpde.parallel.exact_sum import Share, share_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MovingNodes(Discretisation[NodesPart, Field]):
    """The nodes of one family; every rank has all of them, and rank 0 adds them to sums over ranks.

    Each rank computes the potential at its share of them.

    Attributes:
        comm: communicator.
        members: the place of the family in `Transformer.families`.
        grid: of the nodes.
        density: the family's settings.
        margin: by which the initial grid is wider than they say.
    """

    comm: MPI.Intracomm
    members: tuple[int, ...]
    grid: LagrangianGrid
    density: Density
    margin: float = 1.0
    follows = True
    cell_order = np.empty(0, dtype=np.int64)

    @property
    def unknowns(self) -> int:
        """Nodes of all layers."""
        return self.grid.nodes * self.grid.layers

    def initial(self, warn: Callable[[str], None]) -> tuple[NodesPart, float]:
        """See `Discretisation.initial`."""
        nodes, held, error = initial_nodes(self.grid, self.margin)
        judge(self.grid.family.name, self.density, held, warn)
        return nodes, error

    def moments(self, part: NodesPart) -> list[Moments]:
        """The weights of the table's points."""
        weights, square = self.grid.weights(part), self.grid.square(part)
        return [Moments(self.grid.theta(part), self._share(weights), self._share(square))]

    def moment_rates(self, part: NodesPart, rate: NodesPart) -> list[MomentRates]:
        """The table's points stay, and weights change with the nodes."""
        (now,) = self.moments(part)
        change = self._share(self.grid.weight_changes(part, rate.position))
        square = self._share(2.0 * np.einsum("ln,lnd,lnd->l", part.mass, part.position, rate.position))
        return [MomentRates(now, np.zeros_like(now.theta), change, square)]

    def potential(self, part: NodesPart, gradient: Sequence[Array], weight_decay: float) -> Field:
        """V, ∇V and ΔV at this rank's share of the nodes."""
        own = part if self.comm.size == 1 else part.chosen(self._shares()[self.comm.rank])
        return self.grid.field(own, gradient[self.members[0]], weight_decay)

    def piece_sizes(self, ranks: int) -> list[int]:
        """See `Discretisation.piece_sizes`: V, ∇V and ΔV of as many nodes."""
        numbers = self.grid.layers * (self.grid.family.dim + 2)
        return [numbers * (share.stop - share.start) for share in self._shares()] if ranks > 1 else [0]

    def piece(self, potential: Field) -> Array:
        """See `Discretisation.piece`."""
        columns = (potential.value[..., None], potential.slope, potential.laplacian[..., None])
        return np.concatenate(columns, axis=2).ravel()

    def whole(self, _potential: Field, pieces: Sequence[Array]) -> Field:
        """See `Discretisation.whole`."""
        layers, width = self.grid.layers, self.grid.family.dim + 2
        columns = np.concatenate([piece.reshape(layers, -1, width) for piece in pieces], axis=1)
        value, slope, laplacian = (np.ascontiguousarray(c) for c in np.split(columns, [1, width - 1], axis=2))
        return Field(value[..., 0], slope, laplacian[..., 0])

    def _shares(self) -> list[slice]:
        """The nodes whose potential each rank computes."""
        ends = [self.grid.nodes * rank // self.comm.size for rank in range(self.comm.size + 1)]
        return [slice(begin, end) for begin, end in pairwise(ends)]

    def rate(self, part: NodesPart, potential: Field, _integrals: Array, _instant: Instant) -> tuple[NodesPart, float]:
        """Ẋ = −∇V and d/dτ log ρ = ΔV at the nodes; the other fields are those of the state."""
        return replace(part, position=-potential.slope, log_density=potential.laplacian), 0.0

    def dissipation(self, part: NodesPart, potential: Field) -> Share:
        """(1/L) Σ_j m_j |∇V(X_j)|²."""
        squares = part.mass * (potential.slope**2).sum(axis=2) / self.grid.layers
        return self._share(np.asarray(squares.sum()))

    def error_shares(self, part: NodesPart, difference: NodesPart) -> list[MomentErrors]:
        """Only the change of the weights, for that of the risk: `error` measures the nodes themselves."""
        return [MomentErrors(NOTHING, self._share(self.grid.weight_changes(part, difference.position)), NOTHING)]

    def error(self, part: NodesPart, difference: NodesPart, _sums: Sequence[tuple[Array, Array, Array]]) -> float:
        """Root mean squares over the nodes: of their shifts, relative to `scale`, and of the changes of log ρ."""
        squares = np.einsum("ln,lnd->ld", part.mass, difference.position**2) / self.grid.scale(part) ** 2
        moved = np.sqrt(squares.sum(axis=1))
        log = np.where(part.mass > 0.0, difference.log_density, 0.0)
        return max(0.0, float(moved.max()), float(np.sqrt((part.mass * log**2).sum(axis=1)).max()))

    def covering(self, part: NodesPart, ahead: NodesPart) -> NodesPart:
        """See `LagrangianGrid.covering`."""
        return self.grid.covering(part, ahead)

    def transferred(self, old: NodesPart, new: NodesPart, gradient: Array) -> Array:
        """See `LagrangianGrid.transferred`."""
        return self.grid.transferred(old, new, gradient)

    def masses(self, part: NodesPart) -> list[Share]:
        """See `LagrangianGrid.masses`."""
        return [self._share(self.grid.masses(part))]

    def regrid(self, part: NodesPart) -> NodesPart:
        """A table that suits the nodes, and fresh nodes where the old ones sample the density badly; collective.

        Rank 0 decides, so that all ranks go on from the same bits.
        """
        fresh = None
        if self.comm.rank == 0:
            fresh = renew(self.grid, self.grid.fit_table(part))
            if fresh is part:
                fresh = None
        fresh = self.comm.bcast(fresh, root=0)
        return part if fresh is None else fresh

    def diagnose(self, part: NodesPart, potential: Field) -> BlockDiagnostics:
        """Sums over the nodes."""
        return diagnose_nodes(self.grid, part, potential)

    def snapshot(self, _member: int, part: NodesPart, potential: Field) -> Snapshot:
        """The density on the cells between the nodes, see `diagnostics.lagrangian_diagnostics`."""
        return snapshot_nodes(self.grid, part, potential, self.comm.rank, self.comm.size)

    def _share(self, value: Array) -> Share:
        """What every rank has and only rank 0 is to add to a sum over ranks."""
        return share_of(value if self.comm.rank == 0 else np.zeros_like(value))


def build_moving_nodes(comm: MPI.Intracomm, problem: Problem) -> tuple[MovingNodes, ...]:
    """One per family with frame = "lagrangian".

    Raises:
        InputError: for settings that do not suit them.
    """
    model, found = problem.model, []
    for place, family in enumerate(model.families):
        density = problem.densities[family.name]
        if density.frame == "lagrangian":
            grid = build_grid(family, model.layers, density)
            found.append(MovingNodes(comm, (place,), grid, density, problem.margin))
    return tuple(found)
