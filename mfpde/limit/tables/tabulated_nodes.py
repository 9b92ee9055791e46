"""Nodes that move, and the table on which the Transformer is evaluated for them.

The nodes' distinct nonlinear coordinates q soon are as many as the nodes. The Transformer is evaluated on a *table* of
q instead, a uniform grid that covers the nodes of each layer: with splines ℓ_g of degree 7 (`splines`),

    ∫f(T, (q, v)) dρ ≈ Σ_g f(T, (q_g, B_g)),    B_g = Σ_j m_j ℓ_g(q_j) v_j.

This is part of the discretisation: V is the interpolant of the exact gradient at the table's points, and the gradient
of the discrete risk in X_j is the interpolant's. The table's error falls with the eighth power of its spacing;
`table_size` has it as fine as that error asks for.

Each rank has a contiguous part of the nodes, a multiple of `node_sums.BLOCK` of them (`TabulatedNodes.owners`), and
every rank the tables. Source: docs/equations.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit.lagrangian.node_sums import BLOCK, weighted
from mfpde.limit.state import NodesPart
from mfpde.limit.tables.splines import SUPPORT, at_points, coefficients, collect, spread, spread_change
from mfpde.parallel.compilation import kernel
from mfpde.parallel.exact_sum import LEVELS, Share
from mfpde.parallel.reductions import reduce_over_ranks
from mfpde.problem.family import Family
from mfpde.problem.laws import Law

Array = NDArray[np.float64]
_MARGIN, _LEAST_MARGIN, _MOST_MARGIN = 0.15, 0.04, 0.6  # of a table around its nodes, in their range
_NARROWEST = 0.02  # range of a table, in initial standard deviations
_EMPTY = 1e-15  # a node of less mass has none: it need not lie in the table
_BLOCKS = {0: 1, 1: 1, 2: 2, 3: 8}  # of nodes that are spread onto a table before it is added exactly, by m


@dataclass(frozen=True)
class Field:
    """V (L, n), ∇V (L, n, d) and ΔV (L, n) at the nodes."""

    value: Array
    slope: Array
    laplacian: Array

    def layers(self, count: int) -> Field:
        """Of the first so many layers."""
        return Field(self.value[:count], self.slope[:count], self.laplacian[:count])


@kernel()
def _combine(
    position: Array,
    value: Array,
    slope: Array,
    curvature: Array,
    nonlinear: NDArray[np.int64],
    linear: NDArray[np.int64],
    weight_decay: float,
    potential: Array,
    gradient: Array,
    laplacian: Array,
) -> None:
    """V, ∇V and ΔV at nodes (L, n, d) from G_a, ∇G_a and ΔG_a there; without linear coordinates there is one G."""
    layers, nodes, dim = position.shape
    for b in range(layers):
        for j in range(nodes):
            square, total, curved = 0.0, 0.0, weight_decay * dim
            for c in range(dim):
                square += position[b, j, c] ** 2
                gradient[b, j, c] = weight_decay * position[b, j, c]
            for a in range(value.shape[2]):
                factor = position[b, j, linear[a]] if linear.size else 1.0
                total += value[b, j, a] * factor
                curved += curvature[b, j, a] * factor
                for c in range(nonlinear.size):
                    gradient[b, j, nonlinear[c]] += slope[b, j, c, a] * factor
                if linear.size:
                    gradient[b, j, linear[a]] += value[b, j, a]
            potential[b, j] = total + 0.5 * weight_decay * square
            laplacian[b, j] = curved


@dataclass(frozen=True)
class TabulatedNodes(ABC):
    """The nodes of one family, and the table on which the Transformer is evaluated for them.

    Attributes:
        family: the family.
        layers: L, times the number of replicas.
        least: points that the table has at the begin, and at least, per nonlinear coordinate, m numbers.
        most: at most.
        comm: communicator of the ranks that share the nodes.
        replicas: K flows of the same problem side by side, with nodes of their own; layer ℓ of flow k is number kL + ℓ.
    """

    family: Family
    layers: int
    least: tuple[int, ...]
    most: tuple[int, ...]
    comm: MPI.Intracomm
    replicas: int

    @property
    @abstractmethod
    def nodes(self) -> int:
        """Nodes of a layer on all ranks."""

    @cached_property
    def laws(self) -> tuple[Law, ...]:
        """The initial law of each layer, of all replicas."""
        found = [self.family.law(layer) for layer in range(self.layers // self.replicas)]
        return tuple(found * self.replicas)

    @property
    def block(self) -> int:
        """Nodes whose sums over B-splines are ordinary ones: so many that adding those exactly costs little."""
        return BLOCK * _BLOCKS[len(self.least)]

    @property
    def owners(self) -> list[slice]:
        """The nodes that each rank has: whole blocks."""
        blocks, ranks = -(-self.nodes // self.block), self.comm.size
        ends = [min(self.block * (blocks * rank // ranks), self.nodes) for rank in range(ranks + 1)]
        return [slice(begin, end) for begin, end in pairwise(ends)]

    @property
    def own(self) -> slice:
        """The nodes of this rank: n of them."""
        return self.owners[self.comm.rank]

    def points(self, part: NodesPart) -> Array:
        """Nonlinear coordinates (L, g, s) of the table's points."""
        lines = np.meshgrid(*[np.arange(count) for count in part.count], indexing="ij")
        index = np.stack(lines, axis=-1).reshape(-1, len(lines)) if lines else np.zeros((1, 0))
        return np.asarray(part.low[:, None] + part.spacing[:, None] * index)

    def weights(self, part: NodesPart) -> Share:
        """This rank's share of the weights of the table's points, (L, u): Σ_j m_j v_ja ℓ_g(q_j)."""
        levels = self._levels(part, self.family.directions)
        q, low, spacing, count = self._table_axes(part)
        spread(q, self._sources(part.mass, part.position), low, spacing, count, self.block, levels)
        return Share(levels, partial(self._at_points, shape_of(part)))

    def weight_changes(self, part: NodesPart, motion: Array) -> Share:
        """This rank's share of ∂_τ of those weights, (L, u), when the nodes move at `motion` (L, n, d)."""
        levels = self._levels(part, self.family.directions)
        q, low, spacing, count = self._table_axes(part)
        moved = np.ascontiguousarray(motion[..., self.family.nonlinear_axes])
        spread_change(q, moved, self._sources(part.mass, part.position), low, spacing, count, self.block, levels)
        if self.family.linear:
            spread(q, self._sources(part.mass, motion), low, spacing, count, self.block, levels)
        return Share(levels, partial(self._at_points, shape_of(part)))

    def square(self, part: NodesPart) -> Share:
        """This rank's share of Σ_j m_j |X_j|², (L,)."""
        return Share(weighted(part.mass, (part.position**2).sum(axis=2)[..., None]).levels[..., 0])

    def field(self, part: NodesPart, gradient: Array, weight_decay: float) -> Field:
        """V = Σ_a v_a G_a(q) + λ/2 |θ|² and its derivatives at the nodes.

        Args:
            part: the nodes.
            gradient: G = L ∂R/∂w, (L, u).
            weight_decay: λ.
        """
        q, low, spacing, count = self._table_axes(part)
        layers, nodes, m = q.shape
        k, dim = self.family.directions, self.family.dim
        table = coefficients(gradient.reshape(layers, -1, k), shape_of(part))
        value, curved = (np.empty((layers, nodes, k)) for _ in range(2))
        slope = np.empty((layers, nodes, m, k))
        collect(q, table, low, spacing, count, value, slope, curved)

        field = Field(np.empty((layers, nodes)), np.empty((layers, nodes, dim)), np.empty((layers, nodes)))
        axes = np.array(self.family.nonlinear_axes, np.int64), np.array(self.family.linear, np.int64)
        _combine(part.position, value, slope, curved, *axes, weight_decay, field.value, field.slope, field.laplacian)
        return field

    def masses(self, part: NodesPart) -> Share:
        """This rank's share of Σ_j m_j ℓ_g(q_j) at the table's points, (L, u), for each linear coordinate alike."""
        levels = self._levels(part, 1)
        q, low, spacing, count = self._table_axes(part)
        spread(q, np.ascontiguousarray(part.mass[..., None]), low, spacing, count, self.block, levels)
        points, k = shape_of(part), self.family.directions
        return Share(levels, lambda sums: np.repeat(self._at_points(points, sums), k, axis=1))

    def transferred(self, old: NodesPart, new: NodesPart, gradient: Array) -> Array:
        """Values (L, u) at the points of one table, interpolated to those of another; beyond its ends they go on."""
        _, low, spacing, count = self._table_axes(old)
        k = self.family.directions
        points = self.points(new)
        table = coefficients(gradient.reshape(self.layers, -1, k), shape_of(old))
        value, curved, slope = *(np.empty((*points.shape[:2], k)) for _ in range(2)), np.empty((*points.shape, k))
        collect(points, table, low, spacing, count, value, slope, curved)
        return value.reshape(self.layers, -1)

    def bounds(self, part: NodesPart) -> Array:
        """Least X_j and −X_j (2, L, d) of this rank's nodes that have mass; to be made the least over ranks."""
        some = (part.mass > _EMPTY)[..., None]
        signed = (part.position, -part.position)
        return np.stack([np.where(some, x, np.inf).min(axis=1, initial=np.inf) for x in signed])

    def covering(self, part: NodesPart, here: Array, ahead: Array) -> NodesPart:
        """The nodes with a table that holds those of another part too; the same object where it does.

        Args:
            part: the nodes.
            here: their `bounds`, over all ranks.
            ahead: those of the other part.
        """
        low, high = self._range(ahead)
        top = part.low + part.spacing * (part.count - 1.0)
        if (low >= part.low).all() and (high <= top).all():
            return part
        return self._with_table(part, *self._range(np.minimum(here, ahead)))

    def fit_table(self, part: NodesPart, bounds: Array | None = None) -> NodesPart:
        """The same nodes with a table that suits them; interpolated values change by its error.

        Args:
            part: the nodes.
            bounds: their `bounds` over all ranks, else found here; collective then.
        """
        bounds = reduce_over_ranks(self.comm, self.bounds(part), MPI.MIN) if bounds is None else bounds
        low, high, size = self._extent(*self._range(bounds))
        top = part.low + part.spacing * (part.count - 1.0)

        # A table is kept while the nodes neither leave it nor fill too little of it.
        margin = np.minimum(low - part.low, top - high) / size
        slack = np.maximum(low - part.low, top - high) / size
        if (margin >= _LEAST_MARGIN).all() and (slack <= _MOST_MARGIN).all():
            return part

        return self._with_table(part, low, high)

    def with_points(self, part: NodesPart, points: Sequence[int]) -> NodesPart:
        """The same table with other numbers of points, as far as they are allowed; the same object where they stay."""
        count = np.clip(np.array(points, dtype=np.int64), self.least, self.most)
        if (count == part.count).all():
            return part
        return replace(part, spacing=part.spacing * (part.count - 1.0) / (count - 1.0), count=count)

    def _with_table(self, part: NodesPart, low: Array, high: Array) -> NodesPart:
        """The nodes with a table over [low, high] (L, m) and a margin around it."""
        low, _, size = self._extent(low, high)
        spacing = (1.0 + 2.0 * _MARGIN) * size / np.maximum(part.count - 1.0, 1.0)
        return replace(part, low=low - _MARGIN * size, spacing=spacing)

    def _extent(self, low: Array, high: Array) -> tuple[Array, Array, Array]:
        """Ends and size (L, m) of what a table has to cover, not narrower than tables may be."""
        size = np.maximum(high - low, self._narrowest)
        middle = 0.5 * (low + high)
        return middle - 0.5 * size, middle + 0.5 * size, size

    def _levels(self, part: NodesPart, fields: int) -> Array:
        """Where sums over the B-splines are added up, (3, L, g, k)."""
        return np.zeros((LEVELS, self.layers, int(np.prod(part.count + (SUPPORT - 2))), fields))

    def _at_points(self, count: tuple[int, ...], sums: Array) -> Array:
        """Sums over the B-splines (L, g, k) as those over the splines of the table's points, (L, u)."""
        return at_points(sums, count).reshape(self.layers, -1)

    def _table_axes(self, part: NodesPart) -> tuple[Array, Array, Array, NDArray[np.int64]]:
        q = np.ascontiguousarray(part.position[..., self.family.nonlinear_axes])
        return q, part.low, part.spacing, part.count

    def _sources(self, mass: Array, factor: Array) -> Array:
        """m_j v_ja, (L, n, a), or m_j alone."""
        return np.ascontiguousarray(
            mass[..., None] * factor[..., self.family.linear] if self.family.linear else mass[..., None]
        )

    @property
    def _narrowest(self) -> Array:
        """Least width (L, m) of a table without its margins.

        Second differences over a spacing h have an error of rounding/h². Tables that shrink with a collapsing density
        end in noise; the potential does not vary on so small a scale.
        """
        return _NARROWEST * np.array([law.std for law in self.laws])[:, self.family.nonlinear_axes]

    def _range(self, bounds: Array) -> tuple[Array, Array]:
        """Least and largest nonlinear coordinates (L, m)."""
        low, high = bounds[..., self.family.nonlinear_axes]
        return low, -high


def shape_of(part: NodesPart) -> tuple[int, ...]:
    """Points of the table along each nonlinear coordinate."""
    return tuple(part.count.tolist())
