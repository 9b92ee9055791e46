"""Clouds of nodes as discretisations (`limit.discretisation`), with a table and without.

K replicas of the flow, each with n nodes of its own a layer, know nothing of each other. The mean of their risks is
reported, with its standard error by their spread. What a spread cannot show is a bias, O(1/n) as a potential answers to
its own nodes: the companion with half as many nodes does.

With up to three nonlinear coordinates, and more nodes than the largest table has points, the Transformer is evaluated
on a table, whatever the number of linear coordinates. Otherwise every node is a unit of its own, at the cost of a
finite Transformer of n units in each replica; its potential is known along the path of each node, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit.diagnostics.block_diagnostics import BlockDiagnostics
from mfpde.limit.diagnostics.cloud_diagnostics import diagnose_cloud, snapshot_cloud
from mfpde.limit.diagnostics.cloud_nodes import gather_nodes
from mfpde.limit.discretisation import Instant, Moments
from mfpde.limit.lagrangian.following_nodes import FollowingNodes, TabledNodes, table_accuracy
from mfpde.limit.sampled.cloud import NodeCloud, build_cloud
from mfpde.limit.specification import Problem
from mfpde.limit.state import NodesPart
from mfpde.limit.tables.table_size import MOST_TABLED
from mfpde.limit.tables.tabulated_nodes import Field
from mfpde.output.clouds.nodes import Nodes
from mfpde.output.fields.snapshot import Snapshot
from mfpde.parallel.exact_sum import Share, share_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CloudNodes(FollowingNodes):
    """The nodes of one family, all of the same mass.

    Attributes:
        grid: of the nodes.
    """

    grid: NodeCloud
    remedy = "does the update grow without bound? a larger training.weight_decay may help"

    def initial(self, warn: Callable[[str], None]) -> tuple[NodesPart, float]:  # noqa: ARG002
        """See `Discretisation.initial`; what was matched is said in `sampled.sequences`, and nothing is cut off."""
        return self.grid.start(), 0.0

    def rate(self, part: NodesPart, potential: Field, _integrals: Array, _instant: Instant) -> tuple[NodesPart, float]:
        """Ẋ = −∇V at the nodes; what the density is at them, nobody asks."""
        return replace(part, position=-potential.slope, log_density=np.zeros_like(part.log_density)), 0.0

    def diagnose(self, part: NodesPart, potential: Field) -> BlockDiagnostics:
        """Sums over the nodes of all replicas."""
        return diagnose_cloud(self.grid, part, potential)

    def snapshot(self, _member: int, part: NodesPart, potential: Field) -> Snapshot | None:
        """The density of the first coordinates, see `diagnostics.cloud_diagnostics`."""
        return snapshot_cloud(self.grid, part, potential)

    def cloud(self, part: NodesPart, potential: Field, weight_decay: float) -> Nodes | None:
        """The nodes of all replicas."""
        return gather_nodes(self.grid, part, potential, weight_decay)


@dataclass(frozen=True)
class SampledNodes(CloudNodes, TabledNodes):
    """The nodes of one family, with a table."""

    def regrid(self, part: NodesPart, bounds: Array, sums: Array) -> NodesPart:  # noqa: ARG002
        """A table that suits the nodes."""
        return self.grid.fit_table(part, bounds)


@dataclass(frozen=True)
class SeparateNodes(CloudNodes):
    """The nodes of one family, each a unit of its own; their parameters are what the Transformer sees.

    In the place of moments stand the parameters X and the mass of all nodes, (L, n·(d + 1)), and in that of the
    potential at a table's points L ∂R/∂X_j, which is m_j ∇V, and L ∂R/∂m_j, which is V, both without weight decay.
    """

    def initial(self, warn: Callable[[str], None]) -> tuple[NodesPart, float]:
        """As with a table; one line says what many coordinates cost."""
        family, nodes = self.grid.family, self.grid.nodes * self.grid.replicas
        if len(family.nonlinear_axes) > MOST_TABLED:
            warn(
                f"family {family.name!r}: {len(family.nonlinear_axes)} nonlinear coordinates have no table: each of "
                f"{nodes} nodes is a unit of its own, at the cost of a finite Transformer of as many; risk_std and "
                "risk_error tell the accuracy, gaps are those of a local search, pictures are projections"
            )
        return super().initial(warn)

    def moments(self, part: NodesPart) -> list[Moments]:
        """The parameters and the masses of all nodes."""
        square, known = self.grid.square(part), np.concatenate([part.position, part.mass[..., None]], axis=2)
        return [Moments(np.empty((self.grid.layers, self.grid.nodes, 0)), self._everywhere(known), square)]

    def potential(self, part: NodesPart, gradient: Sequence[Array], weight_decay: float) -> Field:
        """V and ∇V at this rank's nodes; ΔV nowhere."""
        own = gradient[self.members[0]].reshape(self.grid.layers, self.grid.nodes, -1)[:, self.grid.own]
        value = own[..., -1] + 0.5 * weight_decay * (part.position**2).sum(axis=2)
        slope = own[..., :-1] / part.mass[..., None] + weight_decay * part.position
        return Field(value, slope, np.zeros(value.shape))

    def masses(self, part: NodesPart) -> list[Share]:
        """m_j for each parameter of every node, and for its mass."""
        return [self._everywhere(np.repeat(part.mass[..., None], self.grid.family.dim + 1, axis=2))]

    def _changes(self, part: NodesPart, motion: Array) -> Share:  # noqa: ARG002
        return self._everywhere(np.concatenate([motion, np.zeros_like(motion[..., :1])], axis=2))

    def _everywhere(self, own: Array) -> Share:
        """This rank's share of an array of all nodes (L, n·c), zero but for its own nodes' (L, n, c)."""
        whole = np.zeros((self.grid.layers, self.grid.nodes, own.shape[2]))
        whole[:, self.grid.own] = own
        return share_of(whole.reshape(self.grid.layers, -1))


def build_sampled_nodes(comm: MPI.Intracomm, problem: Problem) -> tuple[CloudNodes, ...]:
    """One per family with `density.nodes`."""
    model, found, accuracy = problem.model, list[CloudNodes](), table_accuracy(problem.time)
    for place, family in enumerate(model.families):
        nodes = problem.densities[family.name].nodes
        if nodes is None:
            continue
        order = problem.order(family)
        grid = build_cloud(family, place, model.layers, nodes, problem.replicas, comm, order)
        if grid.tabled:
            found.append(SampledNodes(comm, (place,), grid, accuracy))
        else:
            found.append(SeparateNodes(comm, (place,), grid))
    return tuple(found)
