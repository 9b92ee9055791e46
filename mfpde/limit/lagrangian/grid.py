"""Lagrangian nodes: a grid that moves with the flow, the mass of each node constant.

The reference grid is mapped to θ = X(ξ, τ) by Ẋ_j = −∇V(X_j) at its nodes. Mass goes where the nodes go:

    ρ̂(ξ) = ρ(X) det ∇_ξ X does not change,   m_j = ω_j ρ̂(ξ_j),   ∫φ dρ := Σ_j m_j φ(X_j),   d/dτ log ρ(X_j) = ΔV(X_j)

with the weights ω_j of the trapezoidal rule on a uniform grid, which are positive, and exact to all orders for smooth
densities that vanish at its ends. So ρ ≥ 0 at all nodes, the mass is constant, and

    dQ/dτ = −(1/L) Σ_{ℓ,c} Σ_j m_j |∇V(X_j)|²

holds in the semi-discrete scheme to rounding. How close nodes come to each other bounds no step; the rates of the flow
do. The explicit pair is stable while Δ times the largest of them is below 5: of λ + V″, and of the density's feedback
on V, which large readouts make stiff. The error estimate keeps steps below it; a fixed `time.step` has to be chosen so.

The nodes' distinct nonlinear coordinates q soon are as many as the nodes. The Transformer is evaluated on a *table* of
q instead, a uniform grid that covers the nodes of each layer: f(T, (q, v)) ≈ Σ_a v_a Σ_g ℓ_g(q) f(T, (q_g, e_a)) with
splines ℓ_g of degree 7 (`splines`). This is part of the discretisation: V is the interpolant of the exact gradient at
the table's points, and the gradient of the discrete risk in X_j is the interpolant's. The table's error falls with the
eighth power of `density.cells`.

Every rank has all nodes, some megabytes at most; samples are shared out as for the other frames. Sources:
docs/equations.md; Carrillo, Craig & Patacchini, *Calc. Var.* 58 (2019), for gradient flows by particles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mfpde.config.settings import Density
from mfpde.errors import InputError
from mfpde.limit.lagrangian.splines import SUPPORT, at_points, coefficients, collect, spread, spread_change
from mfpde.limit.state import NodesPart
from mfpde.problem.family import Family
from mfpde.problem.laws import Law

Array = NDArray[np.float64]
_NODES = {1: 4, 2: 4, 3: 2}  # per cell and direction, by d, unless density.potential_degree says otherwise
_POINTS = {0: (1, 0), 1: (96, 4), 2: (48, 2), 3: (24, 1)}  # of a table in each direction: at least, and per cell
_MARGIN, _LEAST_MARGIN, _MOST_MARGIN = 0.15, 0.04, 0.6  # of a table around its nodes, in their range
_NARROWEST = 0.02  # range of a table, in initial standard deviations
_EMPTY = 1e-15  # a node of less mass has none: it need not lie in the table
_MOST_NODES = 2**27


@dataclass(frozen=True)
class Field:
    """V (L, n), ∇V (L, n, d) and ΔV (L, n) at the nodes."""

    value: Array
    slope: Array
    laplacian: Array


@dataclass(frozen=True)
class LagrangianGrid:
    """The nodes of one family, and the table on which the Transformer is evaluated for them.

    Attributes:
        family: the family.
        layers: L.
        shape: nodes per direction, d numbers; the last axis runs fastest.
        count: points of the table per nonlinear coordinate, m numbers.
        remapped: may the density be transferred to fresh grids?
        per_cell: intervals between nodes in a cell and direction.
        reach: half-width of the grid in standard deviations, (d,); None for that of the law, or `REACH`.
    """

    family: Family
    layers: int
    shape: tuple[int, ...]
    count: tuple[int, ...]
    remapped: bool
    per_cell: int
    reach: tuple[float, ...] | None

    @cached_property
    def laws(self) -> tuple[Law, ...]:
        """The initial law of each layer."""
        return tuple(self.family.law(layer) for layer in range(self.layers))

    @property
    def nodes(self) -> int:
        """n."""
        return int(np.prod(self.shape))

    @property
    def reference(self) -> Array:
        """ξ (n, d), on [−1, 1]^d."""
        axes = [np.linspace(-1.0, 1.0, count) for count in self.shape]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))

    @property
    def quadrature(self) -> Array:
        """ω (n,): the trapezoidal rule on [−1, 1]^d."""
        weights = np.ones(1)
        for count in self.shape:
            line = np.full(count, 2.0 / (count - 1))
            line[[0, -1]] *= 0.5
            weights = np.multiply.outer(weights, line).ravel()
        return weights

    def theta(self, part: NodesPart) -> Array:
        """Parameters (L, u, d) of the table: (q_g, e_a), a running fastest; (q_g,) alone without linear coordinates."""
        lines = np.meshgrid(*[np.arange(count) for count in self.count], indexing="ij")
        index = np.stack(lines, axis=-1).reshape(-1, len(self.count)) if lines else np.zeros((1, 0))
        return self.family.parameters(part.low[:, None] + part.spacing[:, None] * index)

    def weights(self, part: NodesPart) -> Array:
        """Of the table's points, (L, u): Σ_j m_j v_ja ℓ_g(q_j)."""
        out = self._sums(self.family.directions)
        q, low, spacing, count = self._table_axes(part)
        spread(q, self._sources(part.mass, part.position), low, spacing, count, out)
        return at_points(out, self.count).reshape(self.layers, -1)

    def weight_changes(self, part: NodesPart, motion: Array) -> Array:
        """∂_τ of those weights, (L, u), when the nodes move at `motion` (L, n, d)."""
        out = self._sums(self.family.directions)
        q, low, spacing, count = self._table_axes(part)
        moved = np.ascontiguousarray(motion[..., self.family.nonlinear])
        spread_change(q, moved, self._sources(part.mass, part.position), low, spacing, count, out)
        if self.family.linear:
            spread(q, self._sources(part.mass, motion), low, spacing, count, out)
        return at_points(out, self.count).reshape(self.layers, -1)

    def square(self, part: NodesPart) -> Array:
        """Σ_j m_j |X_j|², (L,)."""
        return np.einsum("ln,lnd->l", part.mass, part.position**2)

    def scale(self, part: NodesPart) -> Array:
        """By what shifts of the nodes are measured (L, d): the standard deviation of each coordinate.

        At least a hundredth of the initial one, and a thousandth of that of all coordinates together, so that a
        coordinate in which the density is a point divides by nothing.
        """
        mean = np.einsum("ln,lnd->ld", part.mass, part.position)
        variance = np.einsum("ln,lnd->ld", part.mass, (part.position - mean[:, None]) ** 2)
        initial = np.array([law.std for law in self.laws])
        return np.sqrt(np.maximum(variance, np.maximum(1e-4 * initial**2, 1e-6 * variance.sum(axis=1, keepdims=True))))

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
        table = coefficients(gradient.reshape(layers, -1, k), self.count)
        value, curved = (np.empty((layers, nodes, k)) for _ in range(2))
        slope = np.empty((layers, nodes, m, k))
        collect(q, table, low, spacing, count, value, slope, curved)

        x = part.position
        factor = x[..., self.family.linear] if self.family.linear else np.ones((layers, nodes, 1))
        gradients = weight_decay * x
        gradients[..., self.family.nonlinear] += np.einsum("lnmk,lnk->lnm", slope, factor)
        gradients[..., self.family.linear] += value[..., : len(self.family.linear)]
        data = (value * factor).sum(axis=2)
        return Field(
            value=data + 0.5 * weight_decay * (x**2).sum(axis=2),
            slope=gradients,
            laplacian=(curved * factor).sum(axis=2) + weight_decay * dim,
        )

    def masses(self, part: NodesPart) -> Array:
        """Of the table's points, (L, u): Σ_j m_j ℓ_g(q_j), for each linear coordinate alike."""
        out = self._sums(1)
        q, low, spacing, count = self._table_axes(part)
        spread(q, np.ascontiguousarray(part.mass[..., None]), low, spacing, count, out)
        return np.repeat(at_points(out, self.count)[..., 0], self.family.directions, axis=1)

    def transferred(self, old: NodesPart, new: NodesPart, gradient: Array) -> Array:
        """Values (L, u) at the points of one table, interpolated to those of another; beyond its ends they go on."""
        _, low, spacing, count = self._table_axes(old)
        points = np.ascontiguousarray(self.theta(new)[:, :: self.family.directions, self.family.nonlinear])
        table = coefficients(gradient.reshape(self.layers, -1, self.family.directions), self.count)
        value, curved = (np.empty((*points.shape[:2], self.family.directions)) for _ in range(2))
        slope = np.empty((*points.shape, self.family.directions))
        collect(points, table, low, spacing, count, value, slope, curved)
        return value.reshape(self.layers, -1)

    def covering(self, part: NodesPart, ahead: NodesPart) -> NodesPart:
        """The nodes with a table that holds those of another part too; the same object where it does."""
        low, high = self._range(ahead)
        top = part.low + part.spacing * (np.array(self.count) - 1.0)
        if (low >= part.low).all() and (high <= top).all():
            return part
        here_low, here_high = self._range(part)
        return self._with_table(part, np.minimum(low, here_low), np.maximum(high, here_high))

    def fit_table(self, part: NodesPart) -> NodesPart:
        """The same nodes with a table that suits them; interpolated values change by its error."""
        low, high, size = self._extent(*self._range(part))
        top = part.low + part.spacing * (np.array(self.count) - 1.0)

        # A table is kept while the nodes neither leave it nor fill too little of it.
        margin = np.minimum(low - part.low, top - high) / size
        slack = np.maximum(low - part.low, top - high) / size
        if (margin >= _LEAST_MARGIN).all() and (slack <= _MOST_MARGIN).all():
            return part

        return self._with_table(part, low, high)

    def _with_table(self, part: NodesPart, low: Array, high: Array) -> NodesPart:
        """The nodes with a table over [low, high] (L, m) and a margin around it."""
        low, _, size = self._extent(low, high)
        spacing = (1.0 + 2.0 * _MARGIN) * size / np.maximum(np.array(self.count) - 1.0, 1.0)
        return replace(part, low=low - _MARGIN * size, spacing=spacing)

    def _extent(self, low: Array, high: Array) -> tuple[Array, Array, Array]:
        """Ends and size (L, m) of what a table has to cover, not narrower than tables may be."""
        size = np.maximum(high - low, self._narrowest)
        middle = 0.5 * (low + high)
        return middle - 0.5 * size, middle + 0.5 * size, size

    def _sums(self, fields: int) -> Array:
        """Where sums over the B-splines are added up, (L, g, k)."""
        return np.zeros((self.layers, int(np.prod([each + SUPPORT - 2 for each in self.count])), fields))

    def _table_axes(self, part: NodesPart) -> tuple[Array, Array, Array, NDArray[np.int64]]:
        q = np.ascontiguousarray(part.position[..., self.family.nonlinear])
        return q, part.low, part.spacing, np.array(self.count, dtype=np.int64)

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
        return _NARROWEST * np.array([law.std for law in self.laws])[:, self.family.nonlinear]

    def _range(self, part: NodesPart) -> tuple[Array, Array]:
        """Least and largest nonlinear coordinates (L, m) of nodes that have mass."""
        q, some = part.position[..., self.family.nonlinear], (part.mass > _EMPTY)[..., None]
        return np.where(some, q, np.inf).min(axis=1), np.where(some, q, -np.inf).max(axis=1)


def moments(part: NodesPart) -> tuple[Array, Array, Array]:
    """Mass (L,), mean (L, d) and covariance (L, d, d) of the nodes."""
    mass = part.mass.sum(axis=1)
    mean = np.einsum("ln,lnd->ld", part.mass, part.position) / mass[:, None]
    centred = part.position - mean[:, None]
    covariance = np.einsum("ln,lni,lnj->lij", part.mass, centred, centred, optimize=True) / mass[:, None, None]
    return mass, mean, covariance


def nested_error(grid: LagrangianGrid, part: NodesPart) -> float:
    """How far means and covariances by every other node in each direction are from those by all nodes.

    The largest over layers and coordinates, in standard deviations and their products: an indicator of how well a
    grid of twice the spacing would do, and large long before this one fails. Infinite for a grid without a middle.
    """
    if any(count % 2 == 0 for count in grid.shape):
        return float("inf")
    every = np.arange(grid.nodes).reshape(grid.shape)[(slice(None, None, 2),) * len(grid.shape)].ravel()
    coarse = replace(part, position=part.position[:, every], mass=part.mass[:, every])
    return distance(moments(part), moments(coarse))


def distance(one: tuple[Array, Array, Array], other: tuple[Array, Array, Array]) -> float:
    """Between means and covariances, in the standard deviations of the first."""
    std = np.sqrt(np.diagonal(one[2], axis1=1, axis2=2))
    mean = np.abs(one[1] - other[1]) / std
    covariance = np.abs(one[2] - other[2]) / (std[:, :, None] * std[:, None, :])
    return max(float(mean.max()), float(covariance.max()))


def build_grid(family: Family, layers: int, density: Density) -> LagrangianGrid:
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

    shape, count = sizes(family, density)
    per = (shape[0] - 1) // density.cells
    if min(shape) < 9:
        raise InputError(
            f"density.cells = {density.cells}: must be at least {-(-8 // per)} with frame = 'lagrangian' "
            f"and {per} nodes per cell and direction"
        )
    if shape[0] ** family.dim > _MOST_NODES:
        most = int((_MOST_NODES ** (1.0 / family.dim) - 1.0) / per)
        raise InputError(
            f"density.cells = {density.cells}: family {family.name!r} has dim = {family.dim}; at most {most} with "
            f"frame = 'lagrangian' and {per} nodes per cell and direction"
        )

    reach = None
    if density.radius is not None:
        reach = tuple(np.broadcast_to(np.asarray(density.radius, dtype=np.float64), (family.dim,)).tolist())
    return LagrangianGrid(family, layers, shape, count, density.remap, per, reach)


def sizes(family: Family, density: Density) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Nodes per direction, and points of the table per nonlinear coordinate."""
    per = _NODES[family.dim] if density.potential_degree is None else density.potential_degree
    m = len(family.nonlinear)
    least, more = _POINTS[m]
    return (density.cells * per + 1,) * family.dim, (max(least, more * density.cells),) * m
