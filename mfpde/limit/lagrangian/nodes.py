"""Densities carried by the flow: a grid of nodes that moves with it, the mass of each node constant.

The reference grid is carried to θ = X(ξ, τ) by Ẋ_j = −∇V(X_j) at its nodes. Mass goes where the nodes go:

    ρ̂(ξ) = ρ(X) det ∇_ξ X does not change,   m_j = ω_j ρ̂(ξ_j),   ∫φ dρ := Σ_j m_j φ(X_j),   d/dτ log ρ(X_j) = ΔV(X_j)

with the weights ω_j of the trapezoidal rule on a uniform grid, which are positive, and exact to all orders for smooth
densities that vanish at its ends. So ρ ≥ 0 at all nodes, the mass is constant, and

    dQ/dτ = −(1/L) Σ_{ℓ,c} Σ_j m_j |∇V(X_j)|²

holds in the semi-discrete scheme to rounding. How close nodes come to each other bounds no step; the rates of the flow
do. The explicit pair is stable while Δ times the largest of them is below 5: of λ + V″, and of the density's feedback
on V, which large readouts make stiff. The error estimate sees to that; a fixed `time.step` has to be chosen so.

The nodes' distinct nonlinear coordinates q soon are as many as the nodes. The Transformer is evaluated on a *table* of
q instead, a uniform grid that covers the nodes of each layer: f(T, (q, v)) ≈ Σ_a v_a Σ_g ℓ_g(q) f(T, (q_g, e_a)) with
local polynomials ℓ_g of degree 7. This is part of the discretisation: V is the interpolant of the exact gradient at
the table's points, and the gradient of the discrete risk in X_j is the interpolant's. The table's error falls with the
eighth power of `density.cells`.

Every rank has all nodes, some megabytes at most; samples are shared out as for the other frames. Sources:
docs/equations.md; Carrillo, Craig & Patacchini, *Calc. Var.* 58 (2019), for gradient flows by particles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mfpde.config.settings import Density
from mfpde.errors import InputError
from mfpde.limit.fem.law_coverage import share_of_box
from mfpde.limit.lagrangian.interpolation import TABLE, collect, spread, spread_change
from mfpde.problem.family import Family
from mfpde.problem.laws import Law
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]
REACH = 5.5  # half-width of the grid in standard deviations, unless the law's support is narrower
_NODES = 4  # per cell and direction, unless density.potential_degree says otherwise
_POINTS = {0: (1, 0), 1: (96, 4), 2: (48, 2), 3: (24, 1)}  # of a table in each direction: at least, and per cell
_MARGIN, _LEAST_MARGIN, _MOST_MARGIN = 0.15, 0.04, 0.6  # of a table around its nodes, in their range
_NARROWEST = 0.02  # range of a table, in initial standard deviations
PATIENCE = 0.05  # the distortion of a grid that needs no other (`limit.lagrangian.remap`)
_EMPTY = 1e-15  # a node of less mass has none: it need not lie in the table
_MOST_NODES = 2**27


@dataclass(frozen=True)
class Carried:
    """The state of one family's nodes, L layers of n nodes; equal on every rank.

    Attributes:
        position: X_j, (L, n, d).
        log_density: log ρ(X_j), (L, n); −∞ where there is no mass.
        mass: m_j ≥ 0, (L, n); each layer's sum is one.
        low: first point of the layer's table, (L, m) for the m nonlinear coordinates.
        spacing: of the table, (L, m).
        patience: (1,) the distortion above which a remap is tried; infinite when it never is (`lagrangian.remap`).
    """

    position: Array
    log_density: Array
    mass: Array
    low: Array
    spacing: Array
    patience: Array


@dataclass(frozen=True)
class Field:
    """V (L, n), ∇V (L, n, d) and ΔV (L, n) at the nodes."""

    value: Array
    slope: Array
    laplacian: Array


@dataclass(frozen=True)
class Material:
    """One family whose density is carried: the grid of its nodes, and the units that stand for it.

    Attributes:
        place: of the family in `Transformer.families`.
        family: the family.
        layers: L.
        shape: nodes per direction, d numbers; the last axis runs fastest.
        count: points of the table per nonlinear coordinate, m numbers.
        remapped: may the density be carried over to fresh grids?
        per_cell: intervals between nodes in a cell and direction.
        reach: half-width of the grid in standard deviations, (d,); None for that of the law, or `REACH`.
    """

    place: int
    family: Family
    layers: int
    shape: tuple[int, ...]
    count: tuple[int, ...]
    remapped: bool
    per_cell: int
    reach: tuple[float, ...] | None

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

    def theta(self, carried: Carried) -> Array:
        """Parameters (L, u, d) of the units: (q_g, e_a), a running fastest; (q_g,) alone without linear coordinates."""
        lines = np.meshgrid(*[np.arange(count) for count in self.count], indexing="ij")
        index = np.stack(lines, axis=-1).reshape(-1, len(self.count)) if lines else np.zeros((1, 0))
        return self.family.parameters(carried.low[:, None] + carried.spacing[:, None] * index)

    def weights(self, carried: Carried) -> Array:
        """Of the units, (L, u): Σ_j m_j v_ja ℓ_g(q_j)."""
        out = self._table()
        q, low, spacing, count = self._grid(carried)
        spread(q, self._sources(carried.mass, carried.position), low, spacing, count, TABLE, out)
        return out.reshape(self.layers, -1)

    def weight_changes(self, carried: Carried, motion: Array) -> Array:
        """∂_τ of the units' weights, (L, u), when the nodes move at `motion` (L, n, d)."""
        out = self._table()
        q, low, spacing, count = self._grid(carried)
        moved = np.ascontiguousarray(motion[..., self.family.nonlinear])
        spread_change(q, moved, self._sources(carried.mass, carried.position), low, spacing, count, TABLE, out)
        if self.family.linear:
            spread(q, self._sources(carried.mass, motion), low, spacing, count, TABLE, out)
        return out.reshape(self.layers, -1)

    def square(self, carried: Carried) -> Array:
        """Σ_j m_j |X_j|², (L,)."""
        return np.einsum("ln,lnd->l", carried.mass, carried.position**2)

    def field(self, carried: Carried, gradient: Array, weight_decay: float) -> Field:
        """V = Σ_a v_a G_a(q) + λ/2 |θ|² and its derivatives at the nodes.

        Args:
            carried: the nodes.
            gradient: G = L ∂R/∂w of the units, (L, u).
            weight_decay: λ.
        """
        q, low, spacing, count = self._grid(carried)
        layers, nodes, m = q.shape
        k, dim = self.family.directions, self.family.dim
        table = np.ascontiguousarray(gradient.reshape(layers, -1, k))
        value, slope, curved = (
            np.empty((layers, nodes, k)),
            np.empty((layers, nodes, m, k)),
            np.empty((layers, nodes, k)),
        )
        collect(q, table, low, spacing, count, TABLE, value, slope, curved)
        x = carried.position
        factor = x[..., self.family.linear] if self.family.linear else np.ones((layers, nodes, 1))
        gradients = weight_decay * x
        gradients[..., self.family.nonlinear] += np.einsum("lnmk,lnk->lnm", slope, factor)
        gradients[..., self.family.linear] += value[..., : len(self.family.linear)]
        data = (value * factor).sum(axis=2)
        return Field(
            data + 0.5 * weight_decay * (x**2).sum(axis=2),
            gradients,
            (curved * factor).sum(axis=2) + weight_decay * dim,
        )

    def settle(self, carried: Carried) -> Carried:
        """The same nodes with a table that suits them; what the table says changes by its error."""
        low, high = self._range(carried)
        top = carried.low + carried.spacing * (np.array(self.count) - 1.0)
        size = np.maximum(high - low, self._narrowest)
        middle = 0.5 * (low + high)
        low, high = middle - 0.5 * size, middle + 0.5 * size
        margin = np.minimum(low - carried.low, top - high) / size
        slack = np.maximum(low - carried.low, top - high) / size
        if (margin >= _LEAST_MARGIN).all() and (slack <= _MOST_MARGIN).all():
            return carried
        begin, width = low - _MARGIN * size, (1.0 + 2.0 * _MARGIN) * size
        return replace(carried, low=begin, spacing=width / np.maximum(np.array(self.count) - 1.0, 1.0))

    def start(self, margin: float = 1.0) -> Carried:
        """The initial laws at the nodes of a grid around each layer's mean.

        Args:
            margin: by which the grid is wider than the settings say, but for laws of bounded support.

        Raises:
            InputError: when a law has no mass there.
        """
        positions, logs, masses = [], [], []
        for layer in range(self.layers):
            law = self.family.law(layer)
            half = self._reach(law, margin) * np.asarray(law.std)
            theta = np.asarray(law.mean) + half * self.reference
            density = law.density(theta)
            mass = density * self.quadrature * np.prod(half)
            if not mass.sum() > 0.0:
                raise InputError(
                    f"initial.{self.family.name}: the law has no mass at the nodes; "
                    "enlarge density.radius or density.cells"
                )
            positions.append(theta)
            masses.append(mass / mass.sum())
            with np.errstate(divide="ignore"):
                logs.append(np.log(density / mass.sum()))
        shape = (self.layers, len(self.count))
        made = self.settle(
            Carried(
                np.stack(positions), np.stack(logs), np.stack(masses), np.zeros(shape), np.zeros(shape), np.zeros(1)
            )
        )
        return replace(made, patience=np.array([PATIENCE if self.remapped else np.inf]))

    def held(self, margin: float = 1.0) -> tuple[Array, Array]:
        """∫ρ₀ over each layer's grid, and the width of its widest cell in standard deviations, both (L,)."""
        laws = [self.family.law(layer) for layer in range(self.layers)]
        reach = np.array([self._reach(law, margin) for law in laws])
        std = np.array([law.std for law in laws])
        shares = [share_of_box(law, half) for law, half in zip(laws, reach * std, strict=True)]
        return np.array(shares), 2.0 * self.per_cell * reach.max(axis=1) / (max(self.shape) - 1)

    def _reach(self, law: Law, margin: float) -> Array:
        """Half-widths of the initial grid in standard deviations, (d,)."""
        if self.reach is not None:
            return margin * np.array(self.reach)
        return np.full(law.dim, min(margin * REACH, law.support))

    def _table(self) -> Array:
        return np.zeros((self.layers, int(np.prod(self.count)), self.family.directions))

    def _grid(self, carried: Carried) -> tuple[Array, Array, Array, NDArray[np.int64]]:
        q = np.ascontiguousarray(carried.position[..., self.family.nonlinear])
        return q, carried.low, carried.spacing, np.array(self.count, dtype=np.int64)

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
        laws = [self.family.law(layer) for layer in range(self.layers)]
        return _NARROWEST * np.array([law.std for law in laws])[:, self.family.nonlinear]

    def _range(self, carried: Carried) -> tuple[Array, Array]:
        """Least and largest nonlinear coordinates (L, m) of nodes that have mass."""
        q, some = carried.position[..., self.family.nonlinear], (carried.mass > _EMPTY)[..., None]
        return np.where(some, q, np.inf).min(axis=1), np.where(some, q, -np.inf).max(axis=1)


def moments(carried: Carried) -> tuple[Array, Array, Array]:
    """Mass (L,), mean (L, d) and covariance (L, d, d) of the nodes."""
    mass = carried.mass.sum(axis=1)
    mean = np.einsum("ln,lnd->ld", carried.mass, carried.position) / mass[:, None]
    centred = carried.position - mean[:, None]
    covariance = np.einsum("ln,lni,lnj->lij", carried.mass, centred, centred, optimize=True) / mass[:, None, None]
    return mass, mean, covariance


def nested_error(material: Material, carried: Carried) -> float:
    """How far means and covariances by every other node in each direction are from those by all nodes.

    The largest over layers and coordinates, in standard deviations and their products: an indicator of how well a
    grid of twice the spacing would do, and large long before this one fails. Infinite for a grid without a middle.
    """
    if any(count % 2 == 0 for count in material.shape):
        return float("inf")
    every = np.arange(material.nodes).reshape(material.shape)[(slice(None, None, 2),) * len(material.shape)].ravel()
    coarse = replace(carried, position=carried.position[:, every], mass=carried.mass[:, every])
    return distance(moments(carried), moments(coarse))


def distance(one: tuple[Array, Array, Array], other: tuple[Array, Array, Array]) -> float:
    """Between means and covariances, in the standard deviations of the first."""
    std = np.sqrt(np.diagonal(one[2], axis1=1, axis2=2))
    mean = np.abs(one[1] - other[1]) / std
    covariance = np.abs(one[2] - other[2]) / (std[:, :, None] * std[:, None, :])
    return max(float(mean.max()), float(covariance.max()))


def build_material(model: Transformer, place: int, density: Density) -> Material:
    """The nodes of one family: `cells` times `potential_degree` intervals in each direction.

    Raises:
        InputError: for meshes that are no uniform grids, or too many nodes.
    """
    family = model.families[place]
    for key in ("mesh", "cell_type"):
        if getattr(density, key) not in (None, "tensor"):
            raise InputError(
                f"density.{key} = {str(getattr(density, key))!r}: frame = 'lagrangian' carries the nodes of a uniform "
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
    return Material(place, family, model.layers, shape, count, density.remap, per, reach)


def sizes(family: Family, density: Density) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Nodes per direction, and points of the table per nonlinear coordinate."""
    per = _NODES if density.potential_degree is None else density.potential_degree
    m = len(family.nonlinear)
    least, more = _POINTS[m]
    return (density.cells * per + 1,) * family.dim, (max(least, more * density.cells),) * m


def error(material: Sequence[Material], carried: Sequence[Carried], difference: Sequence[Carried]) -> float:
    """The relative size of a difference: root mean squares of nodes' moves over that of θ, and of changes of log ρ."""
    largest = 0.0
    for each, now, change in zip(material, carried, difference, strict=True):
        moved = np.sqrt(np.einsum("ln,lnd->l", now.mass, change.position**2) / each.square(now))
        log = np.where(now.mass > 0.0, change.log_density, 0.0)
        largest = max(largest, float(moved.max()), float(np.sqrt((now.mass * log**2).sum(axis=1)).max()))
    return largest
