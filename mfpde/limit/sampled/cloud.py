"""Clouds of nodes: random ones of a law, of the same mass, in K replicas of the flow; or those of a midpoint rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit.sampled.midpoint_rule import law_rule
from mfpde.limit.sampled.sequences import law_points
from mfpde.limit.state import NodesPart
from mfpde.limit.tables.table_size import MOST_TABLED, table_range
from mfpde.limit.tables.tabulated_nodes import TabulatedNodes
from mfpde.output.clouds.midpoint_lattice import rule_size
from mfpde.problem.family import Family

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NodeCloud(TabulatedNodes):
    """The nodes of one family.

    Attributes:
        count: n, nodes of a layer and replica.
        place: of the family in the model, by which its nodes differ from those of others.
        order: of the midpoint rule in each random coordinate of the law; 0 for random nodes.
    """

    count: int
    place: int
    order: int = 0

    @property
    def nodes(self) -> int:
        """n."""
        return self.count

    @cached_property
    def tabled(self) -> bool:
        """Has even the largest table fewer points than there are nodes? Otherwise each node is a unit of its own."""
        return len(self.family.nonlinear_axes) <= MOST_TABLED and int(np.prod(self.most)) < self.count

    def start(self) -> NodesPart:
        """This rank's nodes of the initial laws."""
        depth = self.layers // self.replicas
        position = np.empty((self.layers, self.own.stop - self.own.start, self.family.dim))
        mass = np.full(position.shape[:2], 1.0 / self.count)
        for block, law in enumerate(self.laws):
            if self.order:
                points, mass[block] = (array[self.own] for array in law_rule(law, self.order))
            else:
                replica, layer = divmod(block, depth)
                rng = np.random.default_rng([replica, layer, self.place])
                points = law_points(law, self.count, self.family.linear, rng)[self.own]
            position[block] = points

        table = np.zeros((self.layers, len(self.least)))
        count, patience = np.array(self.least, dtype=np.int64), np.array([np.inf])
        part = NodesPart(position, np.zeros(mass.shape), mass, table, table, count, patience)
        return self.fit_table(part) if self.tabled else part


def build_cloud(
    family: Family, place: int, layers: int, nodes: int, replicas: int, comm: MPI.Intracomm, order: int = 0
) -> NodeCloud:
    """The cloud of a family, whose nodes all replicas share; of a rule each has all.

    Args:
        family: the family.
        place: in the model.
        layers: L.
        nodes: of a layer in all replicas together.
        replicas: K.
        comm: communicator.
        order: of the rule; 0 for random nodes.
    """
    count = rule_size(family.law(0).uniforms, order) if order else nodes // replicas
    least, most = table_range(len(family.nonlinear_axes))
    return NodeCloud(family, replicas * layers, least, most, comm, replicas, count=count, place=place, order=order)
