"""Finite elements as a discretisation (`limit.discretisation`): the families that share a mesh, and their frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit.diagnostics.block_diagnostics import BlockDiagnostics
from mfpde.limit.diagnostics.mesh_diagnostics import diagnose, dissipation
from mfpde.limit.diagnostics.sampled_fields import gather
from mfpde.limit.discretisation import NOTHING, Discretisation, Instant, MomentErrors, MomentRates, Moments
from mfpde.limit.fem import mesh as meshes
from mfpde.limit.fem.collapse import check_width, covariance_lost
from mfpde.limit.fem.frame import Frame, Motion, at_rest, follow
from mfpde.limit.fem.moments import MomentMap, build_moment_map
from mfpde.limit.fem.projection import InitialLaws
from mfpde.limit.fem.space import Space, build_space
from mfpde.limit.positivity.limiter import Limiter, build_limiter
from mfpde.limit.specification import Problem, potential_degree
from mfpde.limit.state import FemPart
from mfpde.limit.transport.transport import Transport, velocity_moments
from mfpde.output.fields.snapshot import Snapshot
from mfpde.parallel.exact_sum import Share, share_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FiniteElements(Discretisation[FemPart, Array]):
    """DG_p densities of several families on one mesh, all their layers side by side as blocks.

    Attributes:
        space: the pair of spaces.
        transport: on it.
        members: the places of the families in `Transformer.families`.
        moment_maps: of each family.
        laws: the initial ones.
        temperature: β⁻¹.
        follows: do the frames follow the densities?
        nonnegative_copies: are densities in files made nonnegative?
        limiter: of positivity = "scheme".
    """

    space: Space
    transport: Transport
    members: tuple[int, ...]
    moment_maps: tuple[MomentMap, ...]
    laws: InitialLaws
    temperature: float = 0.0
    follows: bool = False
    nonnegative_copies: bool = False
    limiter: Limiter | None = None
    cfl_bound = True
    remedy = "take density.frame = 'lagrangian' where it can be used, or more density.cells"

    @property
    def linear(self) -> list[tuple[int, ...]]:
        """The linear coordinates of each block's family, (b,)."""
        return [family.linear for family in self.laws.families for _ in range(self.laws.layers)]

    @property
    def unknowns(self) -> int:
        """Density coefficients on all ranks."""
        return self.space.global_cells * self.space.size * self.transport.blocks

    @property
    def degree(self) -> int:  # type: ignore[override]
        """p."""
        return self.space.degree

    @property
    def cell_order(self) -> NDArray[np.int64]:  # type: ignore[override]
        """(owned,) the number of each cell in an order that does not depend on the ranks."""
        return self.space.cell_order

    def initial(self, warn: Callable[[str], None]) -> tuple[FemPart, float]:
        """See `Discretisation.initial`."""
        return self.laws.project(self.space, warn)

    def moments(self, part: FemPart) -> list[Moments]:
        """The moments m_j of each family at the distinct nodes of the potential."""
        found = [(each, *each.weights(self.space, part.density, part.frame)) for each in self.moment_maps]
        return [Moments(each.points(part.frame), weights, square) for each, weights, square in found]

    def moment_rates(self, part: FemPart, rate: FemPart) -> list[MomentRates]:
        """Moments change with the density, and with frames that move the nodes."""
        frame, moved = part.frame, rate.frame
        sum_of_both = Frame(frame.centre + moved.centre, frame.matrix + moved.matrix)

        rates = []
        for each, now in zip(self.moment_maps, self.moments(part), strict=True):
            at_rest_change, square = each.weights(self.space, rate.density, frame)
            by_motion, moved_size = each.weights(self.space, part.density, moved)
            _, both = each.weights(self.space, part.density, sum_of_both)
            weights = at_rest_change + by_motion if each.linear else at_rest_change
            rates.append(MomentRates(now, each.points(moved), weights, square + both - now.square - moved_size))
        return rates

    def potential(self, part: FemPart, gradient: Sequence[Array], weight_decay: float) -> Array:
        """Nodal values V (c, j, b) on all cells of this rank."""
        out = np.empty((*self.space.nodes.shape[:2], self.transport.blocks))
        for place, each in zip(self.members, self.moment_maps, strict=True):
            each.potential(gradient[place], self.space, part.frame, weight_decay, out)
        return out

    def frame_share(self, part: FemPart, potential: Array) -> Share:
        """See `Transport.gradient_moments`; empty for frames at rest."""
        return self.transport.gradient_moments(part.density, potential) if self.follows else NOTHING

    def rate(self, part: FemPart, potential: Array, integrals: Array, instant: Instant) -> tuple[FemPart, float]:
        """∂_τ ρ̂ and (ċ, Ȧ), without diffusion; one neighbour exchange."""
        motion = self._follow(part.frame, integrals, instant) if self.follows else at_rest(part.frame)
        rate, speeds = self.transport.rate(part.density, potential, motion)
        return FemPart(rate, motion.rate(part.frame)), float(speeds.max())

    def _follow(self, frame: Frame, integrals: Array, instant: Instant) -> Motion:
        moments = velocity_moments(integrals, frame.metric)
        try:
            motion = follow(frame, moments, self.linear, self.temperature)
        except np.linalg.LinAlgError as error:
            raise covariance_lost(moments, instant.tau, self._name) from error
        check_width(self.space, frame, moments, instant.tau, instant.risk, self._name)
        return motion

    def _name(self, block: int) -> str:
        """Family and layer of a block."""
        member, layer = divmod(block, self.laws.layers)
        return f"family {self.laws.families[member].name!r}, layer {layer}"

    def dissipation(self, part: FemPart, potential: Array) -> Share:
        """With |ρ| for ρ, so that undershoots do not lower it."""
        terms = dissipation(self.space, part.density, part.frame, potential, self.temperature, absolute=True)
        return share_of(terms / self.laws.layers, axes=(0, 1))

    def error_shares(self, part: FemPart, difference: FemPart) -> list[MomentErrors]:
        """The changes of weights are those in the present frames."""
        shares = []
        for each in self.moment_maps:
            weights, square = each.weights(self.space, part.density, part.frame)
            changes, _ = each.weights(self.space, difference.density, part.frame)
            shares.append(MomentErrors(weights, changes, square))
        return shares

    def error(self, part: FemPart, difference: FemPart, sums: Sequence[tuple[Array, Array, Array]]) -> float:
        """The largest change over blocks of the weights, and of the frame in its own coordinates.

        Changes of the weights are summed as absolute values, and relative to the sum of the weights; or, if the weights
        have a linear coordinate as a factor, whose mean may vanish, to the root mean square of θ.
        """
        relative = []
        for family, (weight, change, square) in zip(self.laws.families, sums, strict=True):
            scale = np.abs(weight).sum(axis=1)
            if family.linear:
                scale = np.maximum(scale, np.sqrt(np.abs(square)))
            relative.append(np.abs(change).sum(axis=1) / scale)

        inverse, shift = part.frame.inverse, difference.frame
        relative.append(np.abs(inverse @ shift.matrix))
        relative.append(np.abs(np.einsum("bij,bj->bi", inverse, shift.centre)))
        return float(np.max([each.max() for each in relative]))

    def limited(self, part: FemPart) -> FemPart:
        """See `positivity.limiter`."""
        if self.limiter is None:
            return part
        return FemPart(*self.limiter(part.density, part.frame, self.linear if self.follows else None))

    def diagnose(self, part: FemPart, potential: Array) -> BlockDiagnostics:
        """Integrals over the whole mesh."""
        return diagnose(self.space, part.density, part.frame, potential, self.temperature)

    def snapshot(self, member: int, part: FemPart, potential: Array) -> Snapshot | None:
        """The density at Lagrange points, see `diagnostics.sampled_fields`."""
        blocks = slice(member * self.laws.layers, (member + 1) * self.laws.layers)
        family = self.laws.families[member]
        return gather(self.space, family, blocks, part, potential, nonnegative_copy=self.nonnegative_copies)


def build_finite_elements(comm: MPI.Intracomm, problem: Problem) -> tuple[FiniteElements, ...]:
    """One per distinct (dimension, mesh, degrees) of the families on meshes; collective.

    Raises:
        InputError: on every rank, for an unsuitable mesh.
    """
    return tuple(_on_one_mesh(comm, problem, places) for places in problem.shared_meshes())


def _on_one_mesh(comm: MPI.Intracomm, problem: Problem, places: Sequence[int]) -> FiniteElements:
    layers, families = problem.model.layers, [problem.model.families[place] for place in places]
    densities = [problem.densities[family.name] for family in families]
    dim, density = families[0].dim, densities[0]

    if density.mesh is not None:
        mesh = meshes.read(comm, density.mesh, dim)
    else:
        mesh = meshes.box(comm, dim, density.cells, simplex=density.cell_type == "simplex")
    space = build_space(comm, mesh, density.degree, potential_degree(density))

    return FiniteElements(
        space=space,
        transport=Transport(space, len(places) * layers),
        members=tuple(places),
        moment_maps=tuple(
            build_moment_map(space, tuple(family.linear), slice(f * layers, (f + 1) * layers))
            for f, family in enumerate(families)
        ),
        laws=InitialLaws(families, densities, layers, problem.margin),
        temperature=problem.training.temperature,
        follows=density.frame == "comoving",
        nonnegative_copies=density.positivity != "off",
        limiter=build_limiter(space) if density.positivity == "scheme" else None,
    )
