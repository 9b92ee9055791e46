"""The interface of a discretisation: what the flow, the reports and the time step ask of densities in space.

`fem.finite_elements` implements it for the families that share a mesh, and `lagrangian.moving_nodes` for one family
whose nodes follow the flow. Each is built once from the problem, with its initial part. Arrays of moments are per
layer: L layers, and g points with s nonlinear coordinates and a moments each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.diagnostics.block_diagnostics import BlockDiagnostics
from mfpde.limit.state import State
from mfpde.output.clouds.nodes import Nodes
from mfpde.output.fields.snapshot import Snapshot
from mfpde.parallel.exact_sum import Share, share_of

Array = NDArray[np.float64]
type Warn = Callable[[str], None]
NOTHING = share_of(np.empty(0))


@dataclass(frozen=True)
class Moments:
    """What the Transformer sees of one family: distinct nonlinear coordinates, with the moments of the density there.

    Attributes:
        points: the nonlinear coordinates (L, g, s), equal on every rank.
        weights: this rank's share of `Family.units`' moments there, (L, u) with u = g·a.
        square: this rank's share of Σ_j m_j |θ_j|², (L,).
    """

    points: Array
    weights: Share
    square: Share


@dataclass(frozen=True)
class MomentRates:
    """How the moments of one family change in τ.

    Attributes:
        moments: the moments.
        motion: velocities of the points (L, g, s), equal on every rank.
        weights: this rank's share of the change of the moments there (L, u).
        square: this rank's share of the change of Σ_j m_j |θ_j|², (L,).
    """

    moments: Moments
    motion: Array
    weights: Share
    square: Share


@dataclass(frozen=True)
class MomentErrors:
    """This rank's shares of what the error of one family is measured by.

    Attributes:
        weights: (L, u); `NOTHING` where `error` does not need them.
        changes: of the weights, by a difference of two states, (L, u).
        square: Σ_j m_j |θ_j|², (L,), or of nodes the squares (L, …) that their `error` needs.
    """

    weights: Share
    changes: Share
    square: Share


@dataclass(frozen=True)
class TableError:
    """How well half of the points of a table, on which the Transformer is evaluated, have the potential between them.

    Attributes:
        count: points along each nonlinear coordinate.
        missed: mean squares of what every other point along each of them misses between.
        varied: mean square of the potential's variation.
    """

    count: tuple[int, ...]
    missed: tuple[float, ...]
    varied: float


@dataclass(frozen=True)
class Instant:
    """When and at which risk a rate is computed, for messages and for bounds on rounding errors."""

    tau: float
    risk: float


class Discretisation[Part, Values](ABC):
    """Densities in space. `Part` is its part of a state or of a rate, `Values` the potential as it needs it.

    Methods are collective only where they say so. Lists are in the order of `members`.

    Attributes:
        cfl_bound: does the speed of the transport bound explicit steps?
        degree: the polynomial degree p on which that bound depends.
        tabulated: are its distinct nodes a table, as fine as the potential asks for?
        members: the places of its families in `Transformer.families`.
        follows: does it move with the density?
        remedy: what to do where no time step, however small, has numbers.
        cell_order: (owned,) a number for each cell or node of this rank that does not depend on the ranks.
    """

    cfl_bound = False
    degree = 0
    tabulated = False
    remedy = "does the update grow without bound? a larger training.weight_decay, or more density.cells, may help"
    members: tuple[int, ...]
    follows: bool
    cell_order: NDArray[np.int64]

    @property
    @abstractmethod
    def unknowns(self) -> int:
        """Unknowns of the density on all ranks."""

    @abstractmethod
    def initial(self, warn: Warn) -> tuple[Part, float]:
        """The initial laws; collective.

        Returns:
            Its part, and by how much that had to be corrected: the largest error, over layers and families, of mass,
            of means in standard deviations, and of covariances in products of them.

        Raises:
            InputError: on every rank, where they do not fit into it; `warn` gets a line where a law is cut off.
        """

    def check(self, part: Part) -> None:  # noqa: B027
        """May a part of a checkpoint be gone on from?

        Raises:
            InputError: where it may not.
        """

    @abstractmethod
    def moments(self, part: Part) -> list[Moments]:
        """The moments of each family."""

    @abstractmethod
    def moment_rates(self, part: Part, rate: Part) -> list[MomentRates]:
        """The moments of each family, and their change along a rate."""

    @abstractmethod
    def potential(self, part: Part, gradient: Sequence[Array], weight_decay: float) -> Values:
        """V from L ∂R/∂w of the moments of all families of the model, and λ."""

    def frame_share(self, part: Part, potential: Values) -> Share:  # noqa: ARG002
        """This rank's share of the integrals that move the frames; empty where there is none to move."""
        return NOTHING

    @abstractmethod
    def rate(self, part: Part, potential: Values, integrals: Array, instant: Instant) -> tuple[Part, float]:
        """The rate by transport, and this rank's largest CFL speed; collective.

        Args:
            part: of the state.
            potential: V.
            integrals: the sum of `frame_share` over all ranks.
            instant: τ and the risk.

        Raises:
            ComputationError: on every rank alike, where a frame cannot follow its density.
        """

    @abstractmethod
    def dissipation(self, part: Part, potential: Values) -> Share:
        """This rank's share of (1/L) Σ_{ℓ,c} ∫|ρ||∇(V + β⁻¹ log|ρ|)|²."""

    @abstractmethod
    def error_shares(self, part: Part, difference: Part) -> list[MomentErrors]:
        """Of each family, what `error` needs to be summed over ranks."""

    @abstractmethod
    def error(self, part: Part, difference: Part, sums: Sequence[tuple[Array, Array, Array]]) -> float:
        """The largest relative size of a difference, from the sums of `error_shares`."""

    def limited(self, part: Part) -> Part:
        """The part with densities that are nonnegative, where that is asked for; collective."""
        return part

    def bounds(self, part: Part) -> Array:  # noqa: ARG002
        """Numbers whose least over the ranks `regrid_share`, `regrid` and `covering` need; empty where none do."""
        return np.empty(0)

    def regrid_share(self, part: Part, bounds: Array) -> Share:  # noqa: ARG002
        """This rank's share of the sums that `regrid` needs, from the least `bounds`; empty where there are none."""
        return NOTHING

    def regrid(self, part: Part, bounds: Array, sums: Array) -> Part:  # noqa: ARG002
        """A part to go on from in the place of this one, the same object where nothing is to be done; collective.

        Args:
            part: of the state.
            bounds: the least of its `bounds` over all ranks.
            sums: the sum of `regrid_share` over all ranks.
        """
        return part

    def covering(self, part: Part, here: Array, ahead: Array) -> Part:  # noqa: ARG002
        """The part with distinct nodes wherever another one has mass, too; the same object where that is so.

        Args:
            part: of the state.
            here: the least of its `bounds` over all ranks.
            ahead: those of the other part.
        """
        return part

    def transferred(self, old: Part, new: Part, gradient: Array) -> Array:  # noqa: ARG002
        """L ∂R/∂w (L, u) at the distinct nodes of one part, interpolated to those of another."""
        return gradient

    def table_error(self, part: Part, gradient: Array, mass: Array) -> TableError | None:  # noqa: ARG002
        """How well a coarser table would do, None where there is no table to choose.

        Args:
            part: of the state.
            gradient: L ∂R/∂w of its family, (L, u).
            mass: the sum of `masses` over all ranks, (L, u).
        """
        return None

    def with_table(self, part: Part, errors: Sequence[TableError]) -> Part:  # noqa: ARG002
        """The part with a table as fine as the errors of all families ask for; the same object where it stays."""
        return part

    def masses(self, part: Part) -> list[Share]:
        """Of each family, this rank's share of the mass at its distinct nodes, (L, u)."""
        return [each.weights for each in self.moments(part)]

    def half_error(self, part: Part) -> float:  # noqa: ARG002
        """How far moments by every other node are off, in standard deviations; 0 where that is unknown; collective."""
        return 0.0

    @abstractmethod
    def diagnose(self, part: Part, potential: Values) -> BlockDiagnostics:
        """The diagnostics of its blocks for reports; collective."""

    @abstractmethod
    def snapshot(self, member: int, part: Part, potential: Values) -> Snapshot | None:
        """The density of its family number `member`, complete on rank 0 or in pieces on all; collective."""

    def cloud(self, part: Part, potential: Values, weight_decay: float) -> Nodes | None:  # noqa: ARG002
        """The nodes of its family on rank 0 where they are a cloud, None elsewhere; collective."""
        return None


type AnyDiscretisation = Discretisation[Any, Any]


def initial_state(discretisations: Sequence[AnyDiscretisation], warn: Warn) -> tuple[State, float]:
    """The initial laws at τ = 0, nonnegative where that is asked for, and the largest error of `initial`; collective.

    Raises:
        InputError: on every rank, where a discretisation does not hold a law.
    """
    parts, errors = zip(*(each.initial(warn) for each in discretisations), strict=True)
    return limited(discretisations, State(0.0, parts)), max(errors)


def limited(discretisations: Sequence[AnyDiscretisation], state: State) -> State:
    """The state with `Discretisation.limited` parts; the same object where nothing changes; collective."""
    return state.with_parts(tuple(each.limited(part) for each, part in zip(discretisations, state.parts, strict=True)))
