"""The right-hand side of the limit: density → moments → risk and potential → transport.

Overview; derivation in docs/equations.md. Each discretisation turns its density into moments; `limit.backprop` adds
them up over ranks, runs all samples forwards and backwards, and adds up the gradient again; each discretisation makes
the potential of the gradient, and transports its density in it. Two reductions, one more if frames move, and one
neighbour exchange per mesh.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit import discretisation as interface
from mfpde.limit.backprop import Backprop, Outcome
from mfpde.limit.discretisation import AnyDiscretisation, Instant
from mfpde.limit.finiteness import check_finite
from mfpde.limit.state import Part, State
from mfpde.parallel.exact_sum import Share
from mfpde.parallel.reductions import reduce_over_ranks
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]
_LEAST_RISK = 1e-8  # a smaller risk counts as zero: errors relative to it are not controlled


@dataclass(frozen=True)
class Potential:
    """The first variation at a state.

    Attributes:
        values: V per discretisation, as `Discretisation.potential` has it.
        outcome: of the pass over the samples.
        penalty: (λ/2L) Σ Σ_j m_j |θ_j|².
    """

    values: tuple[Any, ...]
    outcome: Outcome
    penalty: float

    @property
    def energy(self) -> float:
        """R + (λ/2L) Σ Σ_j m_j |θ_j|²: Q without entropy."""
        return self.outcome.risk + self.penalty


@dataclass(frozen=True)
class Rate:
    """∂_τ of a state.

    Attributes:
        parts: per discretisation, its rate in the fields of its part of the state.
        speed: this rank's largest CFL speed.
        outcome: of the pass over the samples.
        potential: `Potential.values`, or empty where they are no longer needed.
    """

    parts: tuple[Part, ...]
    speed: float
    outcome: Outcome
    potential: tuple[Any, ...] = ()


@dataclass
class Clock:
    """Wall seconds spent in each part, right-hand sides evaluated, and passes over the samples with a gradient."""

    sweep: float = 0.0
    transport: float = 0.0
    evaluations: int = 0
    passes: int = 0

    @property
    def counted(self) -> float:
        """Seconds of both parts: what else is timed around them must leave these out."""
        return self.sweep + self.transport


@dataclass
class GradientFlow:
    """The Wasserstein gradient flow of Q = R + penalty; `limit.diffusive_flow` adds β⁻¹ entropy.

    Attributes:
        model: the Transformer.
        discretisations: of all its families.
        backprop: passes over the training samples.
        weight_decay: λ.
        clock: of its right-hand sides.
        replicas: K, flows of the same problem side by side, whose mean is reported.
    """

    model: Transformer
    discretisations: tuple[AnyDiscretisation, ...]
    backprop: Backprop
    weight_decay: float
    clock: Clock = field(default_factory=Clock)
    replicas: int = 1

    @property
    def temperature(self) -> float:
        """β⁻¹."""
        return 0.0

    @property
    def degree(self) -> int:
        """The largest polynomial degree, on which the CFL bound depends."""
        return max(each.degree for each in self.discretisations)

    @property
    def tabulated(self) -> bool:
        """Is the Transformer evaluated on tables for some of them?"""
        return any(each.tabulated for each in self.discretisations)

    @property
    def remedy(self) -> str:
        """What to do where no time step has numbers."""
        return self.discretisations[0].remedy

    @property
    def blocks(self) -> int:
        """Densities of each family: L layers in each of K replicas."""
        return self.model.layers * self.replicas

    def each(self, state: State, potential: Potential) -> Iterator[tuple[AnyDiscretisation, Any, Any]]:
        """Every discretisation with its part of the state and its potential."""
        return zip(self.discretisations, state.parts, potential.values, strict=True)

    def rate(self, state: State) -> Rate:
        """∂_τ of a state, without diffusion.

        Raises:
            ComputationError: on every rank alike, when the numbers are no longer finite.
        """
        return self.transport(state, self.potential(state))

    def total(self, state: State, potential: Potential) -> Rate:
        """∂_τ of a state whose potential is known, with all that acts on the density."""
        return self.transport(state, potential)

    def potential(self, state: State) -> Potential:
        """V = η mean_n⟨P, f⟩ + λ/2 |θ|² at the potential's nodes, as the exact gradient of the discrete risk.

        Raises:
            ComputationError: on every rank alike, when the numbers are no longer finite.
        """
        outcome = self.outcome(state)
        start = time.perf_counter()
        values = self._values(state, outcome)
        penalty = self.weight_decay / (2 * self.blocks) * float(sum(s.sum() for s in outcome.square))
        self.clock.sweep += time.perf_counter() - start
        return Potential(values, outcome, penalty)

    def outcome(self, state: State, backprop: Backprop | None = None) -> Outcome:
        """The pass over the samples at a state: R and L ∂R/∂w of its moments.

        Args:
            state: the state.
            backprop: passes over other samples, such as a batch.

        Raises:
            ComputationError: on every rank alike, when the numbers are no longer finite.
        """
        start = time.perf_counter()
        points, weights, square = self.moments(state)
        passes = self.backprop if backprop is None else backprop
        outcome = passes(points, weights, square)
        check_finite(passes, state.tau, outcome, points, weights)

        self.clock.passes += 1
        self.clock.sweep += time.perf_counter() - start
        return outcome

    def transport(self, state: State, potential: Potential) -> Rate:
        """∂_τ of a state whose potential is known, without diffusion."""
        self.clock.evaluations += 1
        start = time.perf_counter()

        # One reduction for the frames of all discretisations, and none where no frame moves.
        integrals = self._sums([each.frame_share(part, values) for each, part, values in self.each(state, potential)])

        instant = Instant(state.tau, potential.outcome.risk)
        rates = [
            each.rate(part, values, sums, instant)
            for (each, part, values), sums in zip(self.each(state, potential), integrals, strict=True)
        ]
        self.clock.transport += time.perf_counter() - start
        speed = max(0.0, *(speed for _, speed in rates))
        return Rate(tuple(rate for rate, _ in rates), speed, potential.outcome, potential.values)

    def driven(self, state: State, outcome: Outcome) -> Rate:
        """∂_τ of a state, without diffusion, in the potential of any outcome: no pass over the samples."""
        start = time.perf_counter()
        values = self._values(state, outcome)
        self.clock.transport += time.perf_counter() - start
        return self.transport(state, Potential(values, outcome, float("nan")))

    def _values(self, state: State, outcome: Outcome) -> tuple[Any, ...]:
        parts = zip(self.discretisations, state.parts, strict=True)
        return tuple(each.potential(part, outcome.slopes, self.weight_decay) for each, part in parts)

    def moments(self, state: State) -> tuple[list[Array], list[Share], list[Share]]:
        """Per family: the points, and this rank's share of the moments there and of Σ m|θ|²."""
        parts = zip(self.discretisations, state.parts, strict=True)
        found = self._by_family([each.moments(part) for each, part in parts])
        return [m.points for m in found], [m.weights for m in found], [m.square for m in found]

    def dissipation(self, state: State, rate: Rate) -> Share:
        """This rank's share of (1/L) Σ_{ℓ,c} ∫|ρ||∇(V + β⁻¹ log|ρ|)|² at a state; no communication."""
        parts = zip(self.discretisations, state.parts, rate.potential, strict=True)
        return reduce(Share.__add__, [each.dissipation(part, values) for each, part, values in parts])

    def energy_rate(self, state: State, potential: Potential, rate: Rate) -> float:
        """dQ/dτ of the discrete energy along a rate, by the chain rule through moments, moving nodes and entropy.

        Q depends on the moments m_j and on the nodes θ_j. The first part, (1/L) Σ V_j ṁ_j, is −dissipation to rounding
        in a fixed frame with k ≤ p and β⁻¹ = 0; nodes that move add Σ_j θ̇_j·∂Q/∂θ_j. Collective; one
        reduction, and two more where nodes move.
        """
        blocks, count = self.blocks, len(self.model.families)
        parts = zip(self.discretisations, state.parts, rate.parts, strict=True)
        rates = self._by_family([each.moment_rates(part, change) for each, part, change in parts])

        summed = self.backprop.sum_over_ranks([*(r.weights for r in rates), *(r.square for r in rates)])
        gradient = potential.outcome.gradient or ()
        data = sum(float((g * c).sum()) for g, c in zip(gradient, summed[:count], strict=True)) / blocks
        decay = self.weight_decay / (2 * blocks) * sum(float(p.sum()) for p in summed[count:])

        if not any(r.motion.any() for r in rates):  # on every rank alike
            return data + decay
        points, still = [r.moments.points for r in rates], [r.moments.weights for r in rates]
        return data + decay + self.backprop.slope(points, still, [r.motion for r in rates])

    def error(self, state: State, rate: Rate, difference: State) -> float:
        """The relative size of a difference to a state, as the Transformer sees it; one reduction.

        The largest of `Discretisation.error`, and of the first-order change of the risk over the risk.

        Args:
            state: the state.
            rate: its rate, with the outcome of its pass over the samples.
            difference: of all parts.
        """
        count = len(self.model.families)
        parts = list(zip(self.discretisations, state.parts, difference.parts, strict=True))
        shares = self._by_family([each.error_shares(part, change) for each, part, change in parts])

        fields = ("weights", "changes", "square")
        summed = self.backprop.sum_over_ranks([getattr(share, name) for name in fields for share in shares])
        sums = list(zip(summed[:count], summed[count : 2 * count], summed[2 * count :], strict=True))
        sizes = [each.error(part, change, [sums[m] for m in each.members]) for each, part, change in parts]

        gradient = rate.outcome.gradient or ()
        risk = sum(float((g * c).sum()) for g, (_, c, _) in zip(gradient, sums, strict=True)) / self.blocks
        return float(np.max([*sizes, abs(risk) / max(rate.outcome.risk, _LEAST_RISK)]))

    def regrid(self, state: State) -> State:
        """The state on the grids to go on from; the same object where all stay.

        Collective: at most two reductions, and more where a grid is made anew.
        """
        (bounds,) = self._bounds(state)
        parts = list(zip(self.discretisations, state.parts, bounds, strict=True))
        sums = self._sums([each.regrid_share(part, least) for each, part, least in parts])
        return state.with_parts(
            tuple(each.regrid(part, least, own) for (each, part, least), own in zip(parts, sums, strict=True))
        )

    def covering(self, state: State, ahead: State) -> State:
        """The state with points at which the potential is known wherever `ahead` has mass, too; one reduction.

        The same object where they are there already.
        """
        parts = zip(self.discretisations, state.parts, *self._bounds(state, ahead), strict=True)
        return state.with_parts(tuple(each.covering(part, here, there) for each, part, here, there in parts))

    def resolved(self, state: State, gradient: Sequence[Array]) -> State:
        """The state with tables as fine as L ∂R/∂w at its moments asks for; the same object where they are so already.

        Collective; one reduction where there are tables.
        """
        if not self.tabulated:
            return state

        mass, parts = self.masses(state), list(zip(self.discretisations, state.parts, strict=True))
        found = [each.table_error(p, gradient[place], mass[place]) for each, p in parts for place in each.members]
        errors = [error for error in found if error is not None]
        return state.with_parts(tuple(each.with_table(part, errors) for each, part in parts))

    def transferred(self, old: State, new: State, gradient: Sequence[Array]) -> tuple[Array, ...]:
        """L ∂R/∂w at the moments of one state, per family, interpolated to those of another."""
        moved = list(gradient)
        for each, part, fresh in zip(self.discretisations, old.parts, new.parts, strict=True):
            for member in each.members:
                moved[member] = each.transferred(part, fresh, moved[member])
        return tuple(moved)

    def masses(self, state: State) -> list[Array]:
        """The density's mass at the distinct nodes of each family, (L, u); one reduction."""
        parts = zip(self.discretisations, state.parts, strict=True)
        return self.backprop.sum_over_ranks(self._by_family([each.masses(part) for each, part in parts]))

    def limited(self, state: State) -> State:
        """The state with nonnegative densities, where that is asked for; collective."""
        return interface.limited(self.discretisations, state)

    def close(self) -> None:
        """Free what belongs to PETSc; collective."""

    def _sums(self, shares: Sequence[Share]) -> list[Array]:
        """The sums of each discretisation over all ranks: one reduction, and none where no share has a number."""
        if any(share.levels.size for share in shares):
            return self.backprop.sum_over_ranks(shares)
        return [share.value for share in shares]

    def _bounds(self, *states: State) -> list[list[Array]]:
        """Per state, the least `bounds` of each discretisation over all ranks; one reduction where there are any."""
        found = [
            each.bounds(part) for state in states for each, part in zip(self.discretisations, state.parts, strict=True)
        ]
        flat = np.concatenate([bounds.ravel() for bounds in found])
        if flat.size:
            flat = reduce_over_ranks(self.backprop.comm, flat, MPI.MIN)

        ends = np.cumsum([bounds.size for bounds in found])[:-1]
        least = [part.reshape(own.shape) for part, own in zip(np.split(flat, ends), found, strict=True)]
        count = len(self.discretisations)
        return [least[first : first + count] for first in range(0, len(least), count)]

    def _by_family[Item](self, found: Sequence[Sequence[Item]]) -> list[Item]:
        """What each discretisation has of its members, in the order of the model's families."""
        places = [place for each in self.discretisations for place in each.members]
        items = [item for part in found for item in part]
        return [item for _, item in sorted(zip(places, items, strict=True), key=lambda pair: pair[0])]
