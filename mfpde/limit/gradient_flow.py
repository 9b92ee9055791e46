"""The right-hand side of the limit: density → units → risk and potential → transport.

Told once (docs/equations.md): `limit.fem.moments` turns ρ_h into weights of units, `limit.backprop` adds them up over
ranks, runs all samples forwards and backwards, and adds up again; `fem.moments` spreads the gradient to the nodes of
the potential; `transport` advects. Two reductions, one more if frames move, and one neighbour exchange per mesh.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import ComputationError
from mfpde.limit.backprop import Outcome, Sweep
from mfpde.limit.diagnostics.block_diagnostics import dissipation
from mfpde.limit.diffusion.diffusion import Diffusion
from mfpde.limit.energy import entropy_rate
from mfpde.limit.fem.frame import Frame, Motion, VelocityMoments, at_rest, follow
from mfpde.limit.lagrangian import nodes
from mfpde.limit.lagrangian.nodes import Carried, Field, Material
from mfpde.limit.lagrangian.remap import renew
from mfpde.limit.state import Group, State
from mfpde.limit.transport.transport import velocity_moments
from mfpde.output.checkpoint.checkpoint import StateDict
from mfpde.parallel.exact_sum import Share, share_of
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]
_NOTHING = share_of(np.empty(0))
_LEAST_RISK = 1e-8  # a risk below is as good as zero: errors relative to it are not asked for


@dataclass(frozen=True)
class Potential:
    """The first variation at a state: per group the nodal potential V (c, j, b); and what the sweep said."""

    values: tuple[Array, ...]
    outcome: Outcome
    penalty: float

    @property
    def energy(self) -> float:
        """R + (λ/2L) Σ Σ_j m_j |θ_j|²: Q without entropy."""
        return self.outcome.risk + self.penalty


@dataclass(frozen=True)
class Rate:
    """∂_τ ρ̂ (owned, i, b) and (ċ, Ȧ) per group, this rank's largest CFL speed, and the sweep that led to them.

    `potential` are its nodal values (c, j, b) per group.
    Of carried densities, Ẋ = −∇V and d/dτ log ρ = ΔV at the nodes; their other fields are those of the state.
    """

    density: tuple[Array, ...]
    frame: tuple[Frame, ...]
    speed: float
    outcome: Outcome
    potential: tuple[Array, ...] = ()
    carried: tuple[Carried, ...] = ()


@dataclass
class Clock:
    """Wall seconds spent in each part, and right-hand sides evaluated."""

    sweep: float = 0.0
    transport: float = 0.0
    evaluations: int = 0

    @property
    def counted(self) -> float:
        """Seconds of both parts: what else is timed around them must leave these out."""
        return self.sweep + self.transport


@dataclass
class Flow:
    """The Wasserstein gradient flow of Q = R + penalty + β⁻¹ entropy, on meshes (`groups`) or carried by nodes.

    `diffusion` has one operator per group where β⁻¹ > 0, and is empty otherwise.
    """

    model: Transformer
    groups: tuple[Group, ...]
    sweep: Sweep
    weight_decay: float
    diffusion: tuple[Diffusion, ...] = ()
    carried: tuple[Material, ...] = ()
    clock: Clock = field(default_factory=Clock)

    @property
    def temperature(self) -> float:
        """β⁻¹."""
        return self.diffusion[0].temperature if self.diffusion else 0.0

    def rate(self, state: State) -> Rate:
        """∂_τ ρ̂ at a state, without diffusion.

        Raises:
            ComputationError: on every rank alike, when the numbers are no longer finite.
        """
        return self.transport(state, self.potential(state))

    def transport(self, state: State, potential: Potential) -> Rate:
        """∂_τ ρ̂ at a state whose potential is known, without diffusion."""
        self.clock.evaluations += 1
        start = time.perf_counter()
        motions = self._motions(state, potential)
        rates, speed = [], 0.0
        for group, density, values, motion in zip(self.groups, state.density, potential.values, motions, strict=True):
            rate, speeds = group.transport.rate(density, values, motion)
            rates.append(rate)
            speed = max(speed, float(speeds.max()))
        moved = tuple(motion.rate(frame) for motion, frame in zip(motions, state.frame, strict=True))
        carried = tuple(
            replace(density, position=-seen.slope, log_density=seen.laplacian)
            for density, seen in zip(state.carried, self.fields(state, potential), strict=True)
        )
        self.clock.transport += time.perf_counter() - start
        return Rate(tuple(rates), moved, speed, potential.outcome, potential.values, carried)

    def dissipation(self, state: State, rate: Rate) -> Share:
        """This rank's share of (1/L) Σ_{ℓ,c} ∫|ρ||∇(V + β⁻¹ log|ρ|)|² at a state; no communication, no sweep."""
        parts = zip(self.groups, state.density, state.frame, rate.potential, strict=True)
        cells = [dissipation(*part, self.temperature, absolute=True) / self.model.layers for part in parts]
        shares = [share_of(terms, axes=(0, 1)) for terms in cells]
        for density, moving in zip(state.carried, rate.carried, strict=True):
            squares = density.mass * (moving.position**2).sum(axis=2) / self.model.layers
            shares.append(self._mine(np.asarray(squares.sum())))
        return reduce(Share.__add__, shares)

    def fields(self, state: State, potential: Potential) -> tuple[Field, ...]:
        """V, ∇V and ΔV at the nodes of all carried densities."""
        gradient = potential.outcome.gradient or ()
        return tuple(
            material.field(nodes, gradient[material.place], self.weight_decay)
            for material, nodes in zip(self.carried, state.carried, strict=True)
        )

    def settle(self, state: State) -> State:
        """What is done between steps: tables that suit the carried nodes, and fresh nodes where those degrade.

        Rank 0 decides; collective.
        """
        comm, fresh = self.sweep.comm, None
        if comm.rank == 0:
            fresh = tuple(
                renew(material, material.settle(nodes))
                for material, nodes in zip(self.carried, state.carried, strict=True)
            )
            if all(new is old for new, old in zip(fresh, state.carried, strict=True)):
                fresh = None
        fresh = comm.bcast(fresh, root=0)
        return state if fresh is None else replace(state, carried=fresh)

    def _mine(self, share: Array) -> Share:
        """What every rank has and one is to add to a sum over ranks."""
        return share_of(share if self.sweep.comm.rank == 0 else np.zeros_like(share))

    def diffuse(self, state: State) -> tuple[Array, ...]:
        """β⁻¹ Δ_θ ρ of every group in its frame, (owned, i, b); one neighbour exchange per group."""
        start = time.perf_counter()
        parts = zip(self.diffusion, state.density, state.frame, strict=True)
        rates = tuple(operator.rate(density, frame.metric) for operator, density, frame in parts)
        self.clock.transport += time.perf_counter() - start
        return rates

    def total(self, state: State, potential: Potential) -> Rate:
        """∂_τ ρ̂ at a state whose potential is known, diffusion and all."""
        rate = self.transport(state, potential)
        if not self.diffusion:
            return rate
        both = tuple(a + b for a, b in zip(rate.density, self.diffuse(state), strict=True))
        return replace(rate, density=both)

    def implicit(self, right: State, step: float, guess: tuple[Array, ...]) -> tuple[Array, ...]:
        """u with u − t β⁻¹ Δ_θ u = ρ of the state `right`, in its frames; collective.

        Args:
            right: the right side, and the frames.
            step: t.
            guess: of u.

        Raises:
            ComputationError: on every rank alike, when a linear system is not solved.
        """
        start = time.perf_counter()
        parts = zip(self.diffusion, right.density, right.frame, guess, strict=True)
        solved = tuple(operator.solve(r, frame.metric, step, near) for operator, r, frame, near in parts)
        self.clock.transport += time.perf_counter() - start
        return solved

    def state_dict(self) -> list[StateDict | None]:
        """What the next solution of `implicit` depends on besides its arguments, per group."""
        return [operator.state_dict() for operator in self.diffusion]

    def load_state_dict(self, saved: Sequence[StateDict | None]) -> None:
        """Go on from what `state_dict` gave."""
        for operator, known in zip(self.diffusion, saved, strict=True):
            operator.load_state_dict(known)

    def _motions(self, state: State, potential: Potential) -> list[Motion]:
        """How the frames move at a state: at rest, or with the density, for one more reduction over all groups."""
        shares = [
            group.transport.gradient_moments(density, values)
            for group, density, _, values in self.each(state, potential)
            if group.comoving
        ]
        if not shares:
            return [at_rest(frame) for frame in state.frame]
        sums = iter(self.sweep.sum_over_ranks(shares))
        motions = []
        for group, frame in zip(self.groups, state.frame, strict=True):
            if not group.comoving:
                motions.append(at_rest(frame))
                continue
            moments = velocity_moments(next(sums), frame.metric)
            try:
                motions.append(follow(frame, moments, group.linear, self.temperature))
            except np.linalg.LinAlgError as error:
                raise self._collapsed(state.tau, group, moments) from error
            self._check_width(state.tau, group, frame, moments, potential.outcome.risk)
        return motions

    def each(self, state: State, potential: Potential) -> Iterator[tuple[Group, Array, Frame, Array]]:
        """Group, density coefficients, frames and nodal potential of every group."""
        return zip(self.groups, state.density, state.frame, potential.values, strict=True)

    def potential(self, state: State) -> Potential:
        """V = η mean_n⟨P, f⟩ + λ/2 |θ|² at the potential's nodes, as the exact gradient of the discrete risk.

        Raises:
            ComputationError: on every rank alike, when the numbers are no longer finite.
        """
        start = time.perf_counter()
        theta, weights, square = self.units(state)
        outcome = self.sweep(theta, weights, square)
        assert outcome.gradient is not None  # noqa: S101  (a sweep, not an evaluation)
        self._check(state.tau, outcome, theta)
        values = self._nodal(state, outcome.gradient)
        penalty = self.weight_decay / (2 * self.model.layers) * float(sum(s.sum() for s in outcome.square))
        self.clock.sweep += time.perf_counter() - start
        return Potential(values, outcome, penalty)

    def driven(self, state: State, outcome: Outcome) -> Rate:
        """∂_τ ρ̂ at a state, without diffusion, in the potential of any outcome: no sweep."""
        assert outcome.gradient is not None  # noqa: S101
        start = time.perf_counter()
        values = self._nodal(state, outcome.gradient)
        self.clock.transport += time.perf_counter() - start
        return self.transport(state, Potential(values, outcome, float("nan")))

    def _nodal(self, state: State, gradient: Sequence[Array]) -> tuple[Array, ...]:
        """V (c, j, b) per group from L ∂R/∂w of all units."""
        values = []
        for group, frame in zip(self.groups, state.frame, strict=True):
            out = np.empty((*group.space.nodes.shape[:2], group.transport.blocks))
            for place, units in zip(group.members, group.units, strict=True):
                units.potential(gradient[place], group.space, frame, self.weight_decay, out)
            values.append(out)
        return tuple(values)

    def energy_rate(self, state: State, potential: Potential, rate: Rate) -> float:
        """dQ/dτ of the discrete energy along a rate, by the chain rule through moments, moving nodes and entropy.

        Q depends on the moments m_j and on the nodes θ_j. The first part, (1/L) Σ V_j ṁ_j, is −dissipation to rounding
        in a fixed frame with k ≤ p and β⁻¹ = 0; nodes that move add Σ_j θ̇_j·∂Q/∂θ_j. Collective; three reductions.
        """
        layers, count = self.model.layers, len(self.model.families)
        theta, motion = ([np.empty(0)] * count for _ in range(2))
        still, changes, penalty = ([_NOTHING] * count for _ in range(3))
        for g, (group, density, frame, _) in enumerate(self.each(state, potential)):
            moved = rate.frame[g]
            sum_of_both = Frame(frame.centre + moved.centre, frame.matrix + moved.matrix)
            for place, units in zip(group.members, group.units, strict=True):
                at_rest_change, square = units.weights(group.space, rate.density[g], frame)
                still[place], size = units.weights(group.space, density, frame)
                carried, moved_size = units.weights(group.space, density, moved)
                _, both = units.weights(group.space, density, sum_of_both)
                changes[place] = at_rest_change + carried if units.linear else at_rest_change
                penalty[place] = square + both - size - moved_size
                theta[place], motion[place] = units.theta(frame), units.motion(rate.frame[g])
        for material, now, moving in zip(self.carried, state.carried, rate.carried, strict=True):
            place = material.place
            theta[place] = material.theta(now)
            motion[place] = np.zeros_like(theta[place])
            still[place] = self._mine(material.weights(now))
            changes[place] = self._mine(material.weight_changes(now, moving.position))
            penalty[place] = self._mine(2.0 * np.einsum("ln,lnd,lnd->l", now.mass, now.position, moving.position))
        summed = self.sweep.sum_over_ranks([*changes, *penalty])
        gradient = potential.outcome.gradient or ()
        data = sum(float((g * c).sum()) for g, c in zip(gradient, summed[:count], strict=True)) / layers
        decay = self.weight_decay / (2 * layers) * sum(float(p.sum()) for p in summed[count:])
        return data + decay + self.sweep.slope(theta, still, motion) + self._entropy_rate(state, rate)

    def _entropy_rate(self, state: State, rate: Rate) -> float:
        """β⁻¹/L Σ dS/dτ along a rate; collective where β⁻¹ > 0, then one reduction."""
        if not self.diffusion:
            return 0.0
        parts = zip(self.groups, state.density, state.frame, rate.density, rate.frame, strict=True)
        summed = self.sweep.sum_over_ranks([share_of(entropy_rate(*part), axes=(0,)) for part in parts])
        return self.temperature / self.model.layers * sum(float(s.sum()) for s in summed)

    def error(self, state: State, rate: Rate, difference: State) -> float:
        """The relative size of a difference to a state, as the Transformer sees it; one reduction.

        The largest of: over blocks, the sum of absolute changes of the units' weights over that of the weights (or, if
        the weights carry a linear coordinate whose mean may vanish, over the root mean square of θ), and the frame's
        change in its own coordinates; and the first-order change of the risk over the risk.

        Args:
            state: the state.
            rate: its rate, with the outcome of its sweep.
            difference: of densities and frames.
        """
        count = len(self.model.families)
        weights, changes, square = ([_NOTHING] * count for _ in range(3))
        for material, now, moving in zip(self.carried, state.carried, difference.carried, strict=True):
            changes[material.place] = self._mine(material.weight_changes(now, moving.position))
        for group, density, change, frame in zip(
            self.groups, state.density, difference.density, state.frame, strict=True
        ):
            for place, units in zip(group.members, group.units, strict=True):
                weights[place], square[place] = units.weights(group.space, density, frame)
                changes[place] = units.weights(group.space, change, frame)[0]
        summed = self.sweep.sum_over_ranks([*weights, *changes, *square])
        sizes, moved, squares = summed[:count], summed[count : 2 * count], summed[2 * count :]
        relative = [np.array([nodes.error(self.carried, state.carried, difference.carried)])]
        of_nodes = {material.place for material in self.carried}
        for place, family in enumerate(self.model.families):
            if place in of_nodes:
                continue
            weight, change, size = sizes[place], moved[place], squares[place]
            scale = np.abs(weight).sum(axis=1)
            if family.linear:
                scale = np.maximum(scale, np.sqrt(np.abs(size)))
            relative.append(np.abs(change).sum(axis=1) / scale)
        for frame, shift in zip(state.frame, difference.frame, strict=True):
            relative.append(np.abs(frame.inverse @ shift.matrix))
            relative.append(np.abs(np.einsum("bij,bj->bi", frame.inverse, shift.centre)))
        gradient = rate.outcome.gradient or ()
        risk = sum(float((g * c).sum()) for g, c in zip(gradient, moved, strict=True)) / self.model.layers
        return max(*(float(r.max()) for r in relative), abs(risk) / max(rate.outcome.risk, _LEAST_RISK))

    def units(self, state: State) -> tuple[list[Array], list[Share], list[Share]]:
        """Per family: the units' parameters, and this rank's share of their weights and of Σ m|θ|²."""
        count = len(self.model.families)
        theta = [np.empty(0)] * count
        weights, square = [_NOTHING] * count, [_NOTHING] * count
        for group, density, frame in zip(self.groups, state.density, state.frame, strict=True):
            for place, units in zip(group.members, group.units, strict=True):
                theta[place] = units.theta(frame)
                weights[place], square[place] = units.weights(group.space, density, frame)
        for material, carried in zip(self.carried, state.carried, strict=True):
            place = material.place
            theta[place] = material.theta(carried)
            weights[place], square[place] = self._mine(material.weights(carried)), self._mine(material.square(carried))
        return theta, weights, square

    def _collapsed(self, tau: float, group: Group, moments: VelocityMoments) -> ComputationError:
        """What to say when a frame cannot follow its density."""
        worst = int(np.linalg.eigvalsh(moments.covariance)[:, 0].argmin())
        return ComputationError(
            f"the covariance is no longer positive definite at tau = {tau:.6g}, {self._name(group, worst)}: the "
            "density is narrower than a cell; raise density.cells or density.degree, or take density.frame = "
            '"lagrangian"'
        )

    def _check_width(self, tau: float, group: Group, frame: Frame, moments: VelocityMoments, risk: float) -> None:
        """Does the potential still vary over the density by more than its rounding errors?

        These are ε R, of the risk R, and between neighbouring nodes Δξ apart slopes of ε R/Δξ. In the frame they are
        speeds of ε R |D|/Δξ, D = A⁻¹A⁻ᵀ; a density that they move through its own width in the time τ so far is a point
        to double precision, and steps shrink without end.

        Raises:
            ComputationError: on every rank alike, when it does not.
        """
        space = group.space
        per_unit = 0.5 * space.potential_degree * space.global_cells ** (1.0 / space.dim)  # nodes, of a mesh [−1, 1]^d
        noise = np.finfo(float).eps * risk * per_unit * np.linalg.norm(frame.metric, axis=(1, 2)) * tau
        worst = int(noise.argmax())
        if not noise[worst] > 1.0:
            return
        variance = np.diagonal(frame.matrix[worst] @ moments.covariance[worst] @ frame.matrix[worst].T)
        raise ComputationError(
            f"the density is a point at tau = {tau:.6g}, {self._name(group, worst)}: its standard deviation "
            f"{np.sqrt(variance.min()):.2g} is lost in the rounding of the potential, and a co-moving "
            'frame cannot follow it; density.frame = "lagrangian" can'
        )

    def _name(self, group: Group, block: int) -> str:
        """Family and layer of a group's block."""
        member, layer = divmod(block, self.model.layers)
        return f"family {self.model.families[group.members[member]].name!r}, layer {layer}"

    def _check(self, tau: float, outcome: Outcome, theta: Sequence[Array]) -> None:
        """Are risk and gradient finite?

        Raises:
            ComputationError: on every rank, if not; it names a θ at which an update is not, where there is one.
        """
        assert outcome.gradient is not None  # noqa: S101
        if np.isfinite(outcome.risk) and all(np.isfinite(g).all() for g in outcome.gradient):
            return
        for family, points in zip(self.model.families, theta, strict=True):
            place = self.sweep.not_finite(family, points)
            if place is not None:
                at = np.array2string(points[place], precision=4, separator=", ")
                raise ComputationError(
                    f"not finite at tau = {tau:.6g}: the update of family {family.name!r} in layer {place[0]} at "
                    f"theta = {at}; the mesh holds this point, so that the update must be finite there"
                )
        self._check_tables(tau, outcome.square)
        if not np.isfinite(outcome.risk):
            raise ComputationError(
                f"not finite at tau = {tau:.6g}: the risk is {outcome.risk}, though densities, and the updates of the "
                "first sample, are finite; is the readout finite for every sample?"
            )
        self._check_tables(tau, outcome.gradient)

    def _check_tables(self, tau: float, tables: Sequence[Array]) -> None:
        """Is a table per family, (L, …), finite in every layer?"""
        for family, table in zip(self.model.families, tables, strict=True):
            bad = ~np.isfinite(table.reshape(self.model.layers, -1)).all(axis=1)
            if bad.any():
                raise ComputationError(
                    f"not finite at tau = {tau:.6g}, family {family.name!r}, layer {int(bad.argmax())}"
                )
