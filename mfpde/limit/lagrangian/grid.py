"""Lagrangian nodes: a grid that moves with the flow, the mass of each node constant.

The reference grid is mapped to θ = X(ξ, τ) by Ẋ_j = −∇V(X_j) at its nodes. Mass goes where the nodes go:

    ρ̂(ξ) = ρ(X) det ∇_ξ X does not change,   m_j = ω_j ρ̂(ξ_j),   ∫φ dρ := Σ_j m_j φ(X_j),   d/dτ log ρ(X_j) = ΔV(X_j)

with the weights ω_j of the trapezoidal rule, positive, and exact to all orders for smooth densities that vanish at the
grid's ends. So ρ ≥ 0 at all nodes, the mass is constant, and

    dQ/dτ = −(1/L) Σ_{ℓ,c} Σ_j m_j |∇V(X_j)|²

holds in the semi-discrete scheme to rounding. How close nodes come to each other bounds no step; the rates of the flow
do. The explicit pair is stable while Δ times the largest of them is below 5: of λ + V″, and of the density's feedback
on V, which large readouts make stiff. The error estimate keeps steps below it; a fixed `time.step` has to be chosen so.

The Transformer is evaluated on tables (`limit.tables.tabulated_nodes`). Sources: docs/equations.md; Carrillo, Craig &
Patacchini, *Calc. Var.* 58 (2019), for gradient flows by particles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.config.settings import Density
from mfpde.errors import InputError
from mfpde.limit.lagrangian.node_weights import graded
from mfpde.limit.tables.table_size import table_range
from mfpde.limit.tables.tabulated_nodes import TabulatedNodes
from mfpde.problem.family import Family

Array = NDArray[np.float64]
_NODES = {1: 4, 2: 4, 3: 2}  # per cell and direction, by d, unless density.potential_degree says otherwise
_MOST_NODES = 2**27
BEND = 3.0  # b of graded lines …
_BENDING = 10.0  # … but no larger than intervals by this, so that a normal law has its moments to 1e-10


@dataclass(frozen=True)
class LagrangianGrid(TabulatedNodes):
    """The nodes of one family on a grid.

    Attributes:
        shape: nodes per direction, d numbers; the last axis runs fastest.
        remapped: may the density be transferred to fresh grids?
        per_cell: intervals between nodes in a cell and direction.
        reach: half-width of the grid in standard deviations, (d,); None for that of the law, or `REACH`.
    """

    shape: tuple[int, ...]
    remapped: bool
    per_cell: int
    reach: tuple[float, ...] | None

    @property
    def nodes(self) -> int:
        """Nodes of a layer on all ranks."""
        return int(np.prod(self.shape))

    @property
    def everywhere(self) -> LagrangianGrid:
        """All of it on this rank."""
        return replace(self, comm=MPI.COMM_SELF)

    @property
    def index(self) -> tuple[NDArray[np.int64], ...]:
        """The place (n,) of this rank's nodes in each direction."""
        return np.unravel_index(np.arange(self.own.start, self.own.stop), self.shape)

    @cached_property
    def bend(self) -> float:
        """b of the graded lines of the grid; zero, for uniform ones, where a law is not smooth on the whole line."""
        smooth = [law.smooth for law in self.laws]
        return min(BEND, (min(self.shape) - 1) / _BENDING) if all(smooth) else 0.0

    @property
    def lines(self) -> list[tuple[Array, Array]]:
        """ξ along each direction, on [−1, 1], and dξ/ds."""
        return [graded(np.linspace(-1.0, 1.0, count), self.bend) for count in self.shape]

    @property
    def reference(self) -> Array:
        """ξ (n, d), on [−1, 1]^d."""
        return np.stack([line[place] for (line, _), place in zip(self.lines, self.index, strict=True)], axis=-1)

    @property
    def stretch(self) -> Array:
        """det dξ/ds (n,)."""
        return np.prod([slope[place] for (_, slope), place in zip(self.lines, self.index, strict=True)], axis=0)

    @property
    def quadrature(self) -> Array:
        """(n,) the trapezoidal rule in s on [−1, 1]^d; ω is this times `stretch`."""
        weights = np.ones(1)
        for count, place in zip(self.shape, self.index, strict=True):
            line = np.full(count, 2.0 / (count - 1))
            line[[0, -1]] *= 0.5
            weights = weights * line[place]
        return weights


def build_grid(
    family: Family, layers: int, density: Density, comm: MPI.Intracomm = MPI.COMM_SELF, replicas: int = 1
) -> LagrangianGrid:
    """The nodes of one family: `cells` times `potential_degree` intervals in each direction.

    Raises:
        InputError: for meshes that are no uniform grids, or too many nodes.
    """
    for key in ("mesh", "cell_type"):
        if getattr(density, key) not in (None, "tensor"):
            raise InputError(
                f"density.{key} = {str(getattr(density, key))!r}: frame = 'lagrangian' moves the nodes of a uniform "
                "grid; must be cell_type = 'tensor' without a mesh"
            )

    shape, least, most = sizes(family, density)
    per = (shape[0] - 1) // density.cells
    if min(shape) < 9:
        raise InputError(
            f"density.cells = {density.cells}: must be at least {-(-8 // per)} with frame = 'lagrangian' "
            f"and {per} nodes per cell and direction"
        )
    if shape[0] ** family.dim > _MOST_NODES:
        cells = int((_MOST_NODES ** (1.0 / family.dim) - 1.0) / per)
        raise InputError(
            f"density.cells = {density.cells}: family {family.name!r} has dim = {family.dim}; at most {cells} with "
            f"frame = 'lagrangian' and {per} nodes per cell and direction"
        )

    reach = None
    if density.radius is not None:
        reach = tuple(np.broadcast_to(np.asarray(density.radius, dtype=np.float64), (family.dim,)).tolist())
    blocks = layers * replicas
    return LagrangianGrid(family, blocks, least, most, comm, replicas, shape, density.remap, per, reach)


def sizes(family: Family, density: Density) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Nodes per direction, and the least and most points of the table per nonlinear coordinate."""
    per = _NODES[family.dim] if density.potential_degree is None else density.potential_degree
    least, most = table_range(len(family.nonlinear_axes), density.cells)
    return (density.cells * per + 1,) * family.dim, least, most
