"""The potential anywhere in parameter space, with its derivatives.

A forward and reverse pass at a fixed measure gives the tokens T in front of the families of each layer, and the
co-states L ∂R/∂S of what they add (`mfpde.problem.transformer.costates`). The data part of the potential pairs these
with the update,

    V(θ) = Σ_n Σ_k ⟨L ∂R/∂S^n_k, f(T^n_k, θ)⟩,

at any θ, node or not, for every depth, loss and number of ranks; its derivatives in θ are those of f, taken backwards.
Source: docs/equations.md.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mfpde.limit.backprop import Backprop, sum_tiles
from mfpde.parallel.exact_sum import Share
from mfpde.problem.family import Family, integrate
from mfpde.problem.programs import Program, trace
from mfpde.problem.transformer import Transformer, additions

Array = NDArray[np.float64]
type Costates = tuple[jax.Array, jax.Array]
"""T and L ∂R/∂S of this rank's tiles (t, n, L, K, N, D), or of one tile (n, L, K, N, D)."""


@dataclass(frozen=True)
class Jet:
    """The reduced potential W(q) = min over jointly linear coordinates of V, at q (L, u, m) of one family.

    With linear coordinates v, V = v·G(q) + λ/2 |v|² + λ/2 |q|² and W = λ/2 |q|² − |G|²/(2λ), reached at v = −G/λ;
    without, W = V. Where W is not finite it is +∞: nothing is claimed there.

    Attributes:
        value: W (L, u).
        gain: the decrease of W by the data, W = λ/2 |q|² − gain (L, u).
        derivatives: of W and of the gain, or None if not requested.
    """

    value: Array
    gain: Array
    derivatives: Derivatives | None = None


@dataclass(frozen=True)
class Derivatives:
    """First and second derivatives in q; the gain's may be far smaller than those of λ/2 |q|².

    Attributes:
        slope: ∂W/∂q (L, u, m).
        curvature: ∂²W/∂q² (L, u, m, m).
        gain_slope: of the gain, likewise.
        gain_curvature: of the gain, likewise.
    """

    slope: Array
    curvature: Array
    gain_slope: Array
    gain_curvature: Array


@dataclass(frozen=True)
class _Slopes:
    """Derivatives in q of the data part of V at (q, v) of one family, with v = G of linear coordinates.

    Attributes:
        first: ∂V (L, u, m); with linear coordinates ⟨G, ∂G⟩.
        second: ∂²V (L, u, m, m); ⟨G, ∂²G⟩.
        mixed: ∂G (L, u, m, a); empty without linear coordinates.
    """

    first: Array
    second: Array
    mixed: Array


def eliminate_linear(
    linear: bool, weight_decay: float, points: Array, data: Array, slopes: _Slopes | None = None
) -> Jet:
    """Eliminate the linear coordinates.

    Args:
        linear: has the family any?
        weight_decay: λ > 0.
        points: q (L, u, m).
        data: G (L, u, a); a = 1 and G the data part of V without linear coordinates.
        slopes: for derivatives.
    """
    m, decay = points.shape[2], weight_decay
    gain = (data**2).sum(axis=2) / (2.0 * decay) if linear else -data[..., 0]
    value = 0.5 * decay * (points**2).sum(axis=2) - gain
    sound = np.isfinite(value)
    value, gain = np.where(sound, value, np.inf), np.where(sound, gain, 0.0)
    if slopes is None:
        return Jet(value, gain)

    if linear:
        gain_slope = slopes.first / decay
        gain_curvature = (np.einsum("luia,luja->luij", slopes.mixed, slopes.mixed) + slopes.second) / decay
    else:
        gain_slope, gain_curvature = -slopes.first, -slopes.second

    parts = (decay * points - gain_slope, decay * np.eye(m) - gain_curvature, gain_slope, gain_curvature)
    return Jet(value, gain, Derivatives(*(np.nan_to_num(part) for part in parts)))


class PotentialProbes:
    """Evaluates W of some families of a model at a fixed measure; each call is one reduction, or two for derivatives.

    G is the derivative of V in v. V is linear in v, so that ⟨G, ∂G⟩ and ⟨G, ∂²G⟩ are the derivatives of V at v = G: the
    cost does not grow with the number of linear coordinates.
    """

    def __init__(
        self,
        backprop: Backprop,
        places: tuple[int, ...],
        weight_decay: float,
        points: list[Array],
        weights: list[Share],
    ) -> None:
        """One pass over the samples; collective.

        Args:
            backprop: of the training samples.
            places: of the families to evaluate, which have nonlinear coordinates.
            weight_decay: λ > 0.
            points: of the measure, per family (L, g, s).
            weights: this rank's share of the moments there, per family (L, u).
        """
        self.backprop, self.places, self.weight_decay = backprop, places, weight_decay
        self._costates = backprop.costates(points, weights)

    def of(self, places: tuple[int, ...]) -> PotentialProbes:
        """The same for other families, without another pass."""
        other = copy(self)
        other.places = places
        return other

    def agree(self, more: bool) -> bool:
        """The answer of rank 0: ranks whose numbers differ by rounding must not make different numbers of calls."""
        return bool(self.backprop.comm.bcast(more, root=0))

    def __call__(self, points: Sequence[Array], derivatives: bool) -> list[Jet]:
        """W at points q (L, u, m) of each of `places`; collective."""
        data = self.gradients(points)
        slopes: list[_Slopes | None] = [None] * len(data)
        if derivatives:
            tables = self._ahead(points, data, order=2)
            slopes = [_slopes(table, q.shape[2], n) for (table, n), q in zip(tables, points, strict=True)]
        return [
            eliminate_linear(bool(family.linear), self.weight_decay, q, g, own)
            for family, q, g, own in zip(self._families, points, data, slopes, strict=True)
        ]

    def gradients(self, points: Sequence[Array]) -> list[Array]:
        """G (L, u, a) at points q (L, u, m), the data part of V where there are no linear coordinates; collective."""
        still = [np.zeros((*q.shape[:2], len(f.linear))) for f, q in zip(self._families, points, strict=True)]
        return self._tables(points, still, order=0)

    def slopes(self, points: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """W (L, u) and ∂W/∂q (L, u, m), as `__call__` but without second derivatives; collective."""
        data, decay = self.gradients(points), self.weight_decay
        values, found = [], []
        ahead = self._ahead(points, data, order=1)
        for family, q, g, (table, size) in zip(self._families, points, data, ahead, strict=True):
            values.append(eliminate_linear(bool(family.linear), decay, q, g).value)
            found.append(decay * q + (-size * table / decay if family.linear else table))
        return values, found

    @property
    def _families(self) -> list[Family]:
        return [self.backprop.model.families[place] for place in self.places]

    def _ahead(self, points: Sequence[Array], data: Sequence[Array], *, order: int) -> list[tuple[Array, Array]]:
        """Derivatives at v = G / |G|, and |G|: of length one, as exact sums drop what is tiny."""
        sizes = [_sizes(family, g) for family, g in zip(self._families, data, strict=True)]
        at = [g[..., : len(f.linear)] / n for f, g, n in zip(self._families, data, sizes, strict=True)]
        return list(zip(self._tables(points, at, order=order), sizes, strict=True))

    def _tables(self, points: Sequence[Array], linear: Sequence[Array], *, order: int) -> list[Array]:
        """The columns of `_Table` at (q, v) of each of `places`; one reduction."""
        theta = tuple(family.join(q, v) for family, q, v in zip(self._families, points, linear, strict=True))
        levels = self.backprop.summed(_columns, (self.places, order, theta), self._costates)
        return self.backprop.sum_over_ranks([Share(level) for level in levels])


def _sizes(family: Family, data: Array) -> Array:
    """|G| (L, u, 1), or one where it is zero and without linear coordinates."""
    size = np.sqrt((data**2).sum(axis=2, keepdims=True))
    return np.where((size > 0.0) & bool(family.linear), size, 1.0)


def _slopes(table: Array, m: int, size: Array) -> _Slopes:
    """From the columns of `_Table` at v = G / |G|: m first ones, m(m + 1)/2 second ones, m·a mixed ones."""
    pairs = [(i, j) for i in range(m) for j in range(i, m)]
    second = np.empty((*table.shape[:2], m, m))
    for column, (i, j) in enumerate(pairs, start=m):
        second[..., i, j] = second[..., j, i] = size[..., 0] * table[..., column]
    mixed = table[..., m + len(pairs) :].reshape(*table.shape[:2], m, -1)
    return _Slopes(size * table[..., :m], second, mixed)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _columns(
    model: Transformer, places: tuple[int, ...], order: int, theta: tuple[jax.Array, ...], costates: Costates
) -> tuple[jax.Array, ...]:
    """Levels of the columns of `_Table` at θ (L, u, d) of each place, (L, u, columns), from this rank's tiles."""

    def of_tile(tile: Costates) -> tuple[jax.Array, ...]:
        tables: dict[int, jax.Array] = {}
        for members, program, held in _grouped(model, places, theta, tile):
            family = model.families[members[0]]
            table = _Table(program, family.nonlinear_axes, family.linear, order)
            given = jnp.stack([theta[places.index(place)] for place in members])
            seen, costate = (_of_layers(part, additions(model, family)) for part in tile)

            def layer(at: tuple[jax.Array, ...], table: _Table = table, held: Any = held) -> jax.Array:
                return jax.vmap(table, in_axes=(0, 0, None, None))(held, *at)

            found = jax.lax.map(layer, (jnp.swapaxes(given, 0, 1), seen, costate))
            tables |= {place: found[:, k] for k, place in enumerate(members)}
        return tuple(tables[place] for place in places)

    return sum_tiles(of_tile, costates)


def _grouped(
    model: Transformer, places: tuple[int, ...], theta: tuple[jax.Array, ...], tile: Costates
) -> Iterator[tuple[list[int], Program, Any]]:
    """The places whose families share a program and their stage, with the arrays that they hold, stacked."""
    groups: dict[Hashable, list[tuple[int, Program]]] = {}
    for place, points in zip(places, theta, strict=True):
        family = model.families[place]
        program = trace(partial(integrate, family), tile[0][0, 0, 0], points[0], jnp.ones(points.shape[1]))
        where = additions(model, family)
        groups.setdefault((program.form, where.start, where.stop), []).append((place, program))
    for members in groups.values():
        held = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(program.held for _, program in members))
        yield [place for place, _ in members], members[0][1], held


def _of_layers(part: jax.Array, where: slice) -> jax.Array:
    """T or L ∂R/∂S of some places (L, n·k, N, D), from those of all (n, L, K, N, D)."""
    chosen = jnp.swapaxes(part[:, :, where], 0, 1)
    return chosen.reshape(chosen.shape[0], -1, *chosen.shape[3:])


@dataclass(frozen=True)
class _Table:
    """V's data part at θ (u, d) in one layer: G, or its derivatives in the nonlinear coordinates."""

    program: Program
    nonlinear: tuple[int, ...]
    linear: tuple[int, ...]
    order: int

    def __call__(self, held: Any, theta: jax.Array, seen: jax.Array, costate: jax.Array) -> jax.Array:
        """(u, columns) from T and L ∂R/∂S (n, N, D): G, (u, a), or V without linear coordinates, (u, 1).

        Of order 1 instead ∂V (u, m), and of order 2 after it ∂²V from the diagonal on (u, m(m + 1)/2), and the mixed
        ones (u, m·a).
        Unit u alone has a part in V(θ_u): reverse mode finds the derivatives of all units at once.
        """

        def paired(theta: jax.Array, weights: jax.Array) -> jax.Array:
            updates = jax.vmap(lambda tokens: self.program.run(held, tokens, theta, weights))(seen)
            return jnp.vdot(costate, updates)

        ones = jnp.ones(len(theta))
        if self.order == 0:
            if self.linear:
                return jax.grad(paired)(theta, ones)[:, self.linear]
            return jax.grad(paired, argnums=1)(theta, ones)[:, None]

        if self.order == 1:
            return jax.grad(paired)(theta, ones)[:, self.nonlinear]

        first, second, mixed = [], [], []
        for k, axis in enumerate(self.nonlinear):

            def along(at: jax.Array, axis: int = axis) -> tuple[jax.Array, jax.Array]:
                slope = jax.grad(paired)(at, ones)[:, axis]
                return slope.sum(), slope

            curved, slope = jax.grad(along, has_aux=True)(theta)
            first.append(slope)
            second += [curved[:, other] for other in self.nonlinear[k:]]
            mixed += [curved[:, other] for other in self.linear]
        return jnp.stack([*first, *second, *mixed], axis=1)
