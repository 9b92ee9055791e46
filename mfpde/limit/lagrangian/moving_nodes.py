"""Lagrangian nodes as a discretisation (`limit.discretisation`): one family whose density moves with its nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.config.settings import Density
from mfpde.limit.diagnostics.block_diagnostics import BlockDiagnostics
from mfpde.limit.diagnostics.lagrangian_diagnostics import diagnose_nodes, snapshot_nodes
from mfpde.limit.discretisation import NOTHING
from mfpde.limit.fem.law_coverage import judge
from mfpde.limit.lagrangian.following_nodes import TabledNodes, table_accuracy
from mfpde.limit.lagrangian.grid import LagrangianGrid, build_grid
from mfpde.limit.lagrangian.initial_nodes import initial_nodes
from mfpde.limit.lagrangian.remap import renew
from mfpde.limit.lagrangian.resolution import distortion, distortion_share, nested
from mfpde.limit.specification import Problem
from mfpde.limit.state import NodesPart
from mfpde.limit.tables.tabulated_nodes import Field
from mfpde.output.fields.snapshot import Snapshot
from mfpde.parallel.exact_sum import Share

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MovingNodes(TabledNodes):
    """The nodes of one family on a grid.

    Attributes:
        grid: of the nodes.
        density: the family's settings.
        margin: by which the initial grid is wider than they say.
    """

    grid: LagrangianGrid
    density: Density
    margin: float

    def initial(self, warn: Callable[[str], None]) -> tuple[NodesPart, float]:
        """See `Discretisation.initial`."""
        nodes, held, error = initial_nodes(self.grid, self.margin)
        judge(self.grid.family.name, self.density, held, warn)
        return nodes, error

    def regrid_share(self, part: NodesPart, bounds: Array) -> Share:
        """See `remap.distortion_share`; nothing where no remap is tried any more."""
        if np.isinf(part.patience[0]):
            return NOTHING
        return distortion_share(self.grid, part, 0.5 * (bounds[0] - bounds[1]))

    def regrid(self, part: NodesPart, bounds: Array, sums: Array) -> NodesPart:
        """A table that suits the nodes, and fresh nodes where the old ones sample the density badly."""
        fitted = self.grid.fit_table(part, bounds)
        return fitted if np.isinf(part.patience[0]) else renew(self.grid, fitted, distortion(self.grid, sums))

    def half_error(self, part: NodesPart) -> float:
        """See `resolution.nested`; two reductions."""
        return nested(self.grid, part)[1]

    def diagnose(self, part: NodesPart, potential: Field) -> BlockDiagnostics:
        """Sums over the nodes of all ranks."""
        return diagnose_nodes(self.grid, part, potential).over_replicas(self.grid.replicas)

    def snapshot(self, _member: int, part: NodesPart, potential: Field) -> Snapshot | None:
        """The density on the cells between the nodes of the first replica, see `diagnostics.lagrangian_diagnostics`."""
        depth = self.grid.layers // self.grid.replicas
        first = replace(self.grid, layers=depth, replicas=1)
        return snapshot_nodes(first, part.layers(depth), potential.layers(depth))


def build_moving_nodes(comm: MPI.Intracomm, problem: Problem) -> tuple[MovingNodes, ...]:
    """One per family with frame = "lagrangian" and no `density.nodes`.

    Raises:
        InputError: for settings that do not suit them.
    """
    model, found, accuracy = problem.model, [], table_accuracy(problem.time)
    for place, family in enumerate(model.families):
        density = problem.densities[family.name]
        if density.frame == "lagrangian" and density.nodes is None:
            grid = build_grid(family, model.layers, density, comm, problem.replicas)
            found.append(MovingNodes(comm, (place,), grid, accuracy, density, problem.margin))
    return tuple(found)
