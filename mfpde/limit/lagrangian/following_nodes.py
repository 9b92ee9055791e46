"""What all nodes have in common as a discretisation (`limit.discretisation`): one family whose mass moves with them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.config.settings import Time
from mfpde.errors import InputError
from mfpde.limit.discretisation import (
    NOTHING,
    Discretisation,
    Instant,
    MomentErrors,
    MomentRates,
    Moments,
    TableError,
)
from mfpde.limit.lagrangian.node_sums import beside, weighted
from mfpde.limit.state import NodesPart
from mfpde.limit.tables.table_size import chosen, coarse_error, rung
from mfpde.limit.tables.tabulated_nodes import Field, TabulatedNodes, shape_of
from mfpde.parallel.exact_sum import Share

Array = NDArray[np.float64]
_ACCURATE = 1e-6  # relative error of the potential by a table where steps are fixed …
_SHARE = 5.0  # … and otherwise in the tolerance of a step: the risk is off by less than a tenth of that
_ENLARGED = 2.0**8  # differences of nodes in exact sums, which drop what is below 2⁻⁸¹ of their squares


@dataclass(frozen=True)
class FollowingNodes(Discretisation[NodesPart, Field]):
    """The nodes of one family, shared by the ranks.

    Attributes:
        comm: communicator.
        members: the place of the family in `Transformer.families`.
        grid: of the nodes.
    """

    comm: MPI.Intracomm
    members: tuple[int, ...]
    grid: TabulatedNodes
    follows = True

    @property
    def cell_order(self) -> NDArray[np.int64]:  # type: ignore[override]
        """(n,) the number of each node of this rank among all nodes."""
        return np.arange(self.grid.own.start, self.grid.own.stop)

    @property
    def unknowns(self) -> int:
        """Nodes of all layers."""
        return self.grid.nodes * self.grid.layers

    def moment_rates(self, part: NodesPart, rate: NodesPart) -> list[MomentRates]:
        """Moments change with the nodes, and no point that they are taken at moves."""
        (now,) = self.moments(part)
        change = self._changes(part, rate.position)
        growth = 2.0 * (part.position * rate.position).sum(axis=2)
        square = Share(weighted(part.mass, growth[..., None]).levels[..., 0])
        return [MomentRates(now, np.zeros_like(now.points), change, square)]

    def rate(self, part: NodesPart, potential: Field, _integrals: Array, _instant: Instant) -> tuple[NodesPart, float]:
        """Ẋ = −∇V and d/dτ log ρ = ΔV at the nodes; the other fields are those of the state."""
        return replace(part, position=-potential.slope, log_density=potential.laplacian), 0.0

    def dissipation(self, part: NodesPart, potential: Field) -> Share:
        """(1/L) Σ_j m_j |∇V(X_j)|²."""
        squares = (potential.slope**2).sum(axis=2) / self.grid.layers  # on average over replicas
        return Share(weighted(part.mass, squares[..., None]).levels.sum(axis=(1, 2)))

    def error_shares(self, part: NodesPart, difference: NodesPart) -> list[MomentErrors]:
        """The change of the weights, for that of the risk; and as squares (L, 3 d + 1) what `error` needs.

        These are sums of X and X² around the initial mean, and of the squares of the differences of X and log ρ.
        """
        mean, unit = self._origin
        values = part.position - mean[:, None]
        sums = [weighted(part.mass, values), weighted(part.mass, np.square(values, out=values))]

        np.multiply(difference.position, _ENLARGED / unit[:, None], out=values)
        sums.append(weighted(part.mass, np.square(values, out=values)))
        thinned = _ENLARGED * np.where(part.mass > 0.0, difference.log_density, 0.0)[..., None]
        sums.append(weighted(part.mass, np.square(thinned, out=thinned)))
        return [MomentErrors(NOTHING, self._changes(part, difference.position), beside(sums))]

    def error(self, _part: NodesPart, _difference: NodesPart, sums: Sequence[tuple[Array, Array, Array]]) -> float:
        """Root mean squares over the nodes: of their shifts, relative to their deviation, and of the changes of log ρ.

        The deviation in a coordinate counts as a hundredth of the initial one, and a thousandth of that of all
        coordinates together, at least, so that a coordinate in which the density is a point divides by nothing.
        """
        first, second, shifts, thinned = np.split(sums[0][2], [d := self.grid.family.dim, 2 * d, 3 * d], axis=1)
        variance = np.maximum(second - first**2, 0.0)
        initial = np.array([law.std for law in self.grid.laws])
        least = np.maximum(1e-4 * initial**2, 1e-6 * variance.sum(axis=1, keepdims=True))

        moved = shifts * self._origin[1] ** 2 / np.maximum(variance, least)
        return float(np.sqrt(np.maximum(moved.sum(axis=1), thinned[:, 0])).max() / _ENLARGED)

    @property
    def _origin(self) -> tuple[Array, Array]:
        """Initial means, and units in which differences are summed: deviations, the largest for one that is zero."""
        mean, std = np.array([law.mean for law in self.grid.laws]), np.array([law.std for law in self.grid.laws])
        largest = np.where(std.max(axis=1, keepdims=True) > 0.0, std.max(axis=1, keepdims=True), 1.0)
        return mean, np.where(std > 0.0, std, largest)

    @abstractmethod
    def _changes(self, part: NodesPart, motion: Array) -> Share:
        """This rank's share of how the moments change when the nodes move at `motion`, (L, u)."""


@dataclass(frozen=True)
class TabledNodes(FollowingNodes):
    """Nodes for which the Transformer is evaluated on a table.

    Attributes:
        accuracy: the largest relative error of the table.
    """

    accuracy: float
    tabulated = True

    def check(self, part: NodesPart) -> None:
        """See `Discretisation.check`: are the numbers of the table's points such as `table_size` chooses?"""
        points = shape_of(part)
        ends = zip(self.grid.least, points, self.grid.most, strict=True)
        if not all(low <= number <= high and number == rung(number) for low, number, high in ends):
            raise InputError(
                f"its tables of family {self.grid.family.name!r} have {list(points)} points; "
                f"must be on the ladder from {list(self.grid.least)} to {list(self.grid.most)}"
            )

    def moments(self, part: NodesPart) -> list[Moments]:
        """The weights of the table's points."""
        return [Moments(self.grid.points(part), self.grid.weights(part), self.grid.square(part))]

    def potential(self, part: NodesPart, gradient: Sequence[Array], weight_decay: float) -> Field:
        """V, ∇V and ΔV at this rank's nodes."""
        return self.grid.field(part, gradient[self.members[0]], weight_decay)

    def bounds(self, part: NodesPart) -> Array:
        """See `TabulatedNodes.bounds`."""
        return self.grid.bounds(part)

    def covering(self, part: NodesPart, here: Array, ahead: Array) -> NodesPart:
        """See `TabulatedNodes.covering`."""
        return self.grid.covering(part, here, ahead)

    def transferred(self, old: NodesPart, new: NodesPart, gradient: Array) -> Array:
        """See `TabulatedNodes.transferred`."""
        return self.grid.transferred(old, new, gradient)

    def table_error(self, part: NodesPart, gradient: Array, mass: Array) -> TableError | None:
        """See `Discretisation.table_error`."""
        return coarse_error(gradient, mass, shape_of(part)) if part.count.size else None

    def with_table(self, part: NodesPart, errors: Sequence[TableError]) -> NodesPart:
        """See `Discretisation.with_table`."""
        return self.grid.with_points(part, chosen(errors, shape_of(part), self.accuracy)) if part.count.size else part

    def masses(self, part: NodesPart) -> list[Share]:
        """See `TabulatedNodes.masses`."""
        return [self.grid.masses(part)]

    def _changes(self, part: NodesPart, motion: Array) -> Share:
        return self.grid.weight_changes(part, motion)


def table_accuracy(time: Time) -> float:
    """The largest relative error of tables: a part of the tolerance of a step, by which the risk is off by a tenth."""
    return _ACCURATE if time.step is not None else _SHARE * time.relative_tolerance
