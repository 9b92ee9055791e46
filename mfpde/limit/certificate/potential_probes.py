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
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mfpde.limit.backprop import Backprop, sum_tiles
from mfpde.parallel.exact_sum import Share
from mfpde.problem.family import integrate
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


def eliminate_linear(linear: bool, weight_decay: float, points: Array, table: Array) -> Jet:
    """Eliminate the linear coordinates.

    Args:
        linear: has the family any?
        weight_decay: λ > 0.
        points: q (L, u, m).
        table: G (L, u, a, 1) or with its m gradients and m(m+1)/2 second derivatives, (L, u, a, columns); a = 1 and
            G the data part of V without linear coordinates.
    """
    m = points.shape[2]
    data, decay = table[..., 0], weight_decay
    gain = (data**2).sum(axis=2) / (2.0 * decay) if linear else -data[..., 0]
    value = 0.5 * decay * (points**2).sum(axis=2) - gain
    sound = np.isfinite(value)
    value, gain = np.where(sound, value, np.inf), np.where(sound, gain, 0.0)
    if table.shape[3] == 1:
        return Jet(value, gain)

    slope = table[..., 1 : m + 1]  # (L, u, a, m)
    second = np.empty((*slope.shape, m))
    for column, (i, j) in enumerate(_pairs(m)):
        second[..., i, j] = second[..., j, i] = table[..., m + 1 + column]

    if linear:
        gain_slope = np.einsum("lua,luai->lui", data, slope) / decay
        curved = np.einsum("luai,luaj->luij", slope, slope) + np.einsum("lua,luaij->luij", data, second)
        gain_curvature = curved / decay
    else:
        gain_slope, gain_curvature = -slope[:, :, 0], -second[:, :, 0]

    parts = (decay * points - gain_slope, decay * np.eye(m) - gain_curvature, gain_slope, gain_curvature)
    return Jet(value, gain, Derivatives(*(np.nan_to_num(part) for part in parts)))


class PotentialProbes:
    """Evaluates W of some families of a model at a fixed measure; each call is one reduction."""

    def __init__(
        self, backprop: Backprop, places: tuple[int, ...], weight_decay: float, theta: list[Array], weights: list[Share]
    ) -> None:
        """One pass over the samples; collective.

        Args:
            backprop: of the training samples.
            places: of the families to evaluate, which have nonlinear coordinates.
            weight_decay: λ > 0.
            theta: the measure's units, per family (L, u, d).
            weights: this rank's share of their weights, per family (L, u).
        """
        self.backprop, self.places, self.weight_decay = backprop, places, weight_decay
        self._costates = backprop.costates(theta, weights)

    def agree(self, more: bool) -> bool:
        """The answer of rank 0: ranks whose numbers differ by rounding must not make different numbers of calls."""
        return bool(self.backprop.comm.bcast(more, root=0))

    def __call__(self, points: Sequence[Array], derivatives: bool) -> list[Jet]:
        """W at points q (L, u, m) of each of `places`; collective."""
        families = [self.backprop.model.families[place] for place in self.places]
        theta = tuple(family.parameters(q) for family, q in zip(families, points, strict=True))
        shares = self.backprop.call(_tables, self.backprop.model, self.places, derivatives, theta, self._costates)
        tables = self.backprop.sum_over_ranks([Share(np.asarray(share)) for share in shares])
        jets = []
        for family, q, table in zip(families, points, tables, strict=True):
            shaped = table.reshape(*q.shape[:2], family.directions, -1)
            jets.append(eliminate_linear(bool(family.linear), self.weight_decay, q, shaped))
        return jets


@partial(jax.jit, static_argnums=(0, 1, 2))
def _tables(
    model: Transformer, places: tuple[int, ...], derivatives: bool, theta: tuple[jax.Array, ...], costates: Costates
) -> tuple[jax.Array, ...]:
    """Levels of V's data part at θ (L, u, d) of each place, (L, u, columns), from this rank's tiles."""

    def of_tile(tile: Costates) -> tuple[jax.Array, ...]:
        tables: dict[int, jax.Array] = {}
        for members, program, held in _grouped(model, places, theta, tile):
            family = model.families[members[0]]
            table = _Table(program, family.nonlinear, derivatives)
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
    """V's data part at θ (u, d) in one layer, with its first and second derivatives in the nonlinear coordinates."""

    program: Program
    nonlinear: tuple[int, ...]
    derivatives: bool

    def __call__(self, held: Any, theta: jax.Array, seen: jax.Array, costate: jax.Array) -> jax.Array:
        """(u, columns) from T and L ∂R/∂S (n, N, D): V, its gradient, and its second derivatives from the diagonal on.

        V is linear in the weights of units, and unit u alone has a part in V(θ_u): reverse mode finds every value, and
        every derivative, of all units at once.
        """

        def paired(theta: jax.Array, weights: jax.Array) -> jax.Array:
            updates = jax.vmap(lambda tokens: self.program.run(held, tokens, theta, weights))(seen)
            return jnp.vdot(costate, updates)

        def slope(theta: jax.Array) -> jax.Array:
            return jax.grad(paired)(theta, jnp.ones(len(theta)))

        columns = [jax.grad(paired, argnums=1)(theta, jnp.zeros(len(theta)))]
        if self.derivatives:
            first = slope(theta)
            columns += [first[:, axis] for axis in self.nonlinear]
            for k, axis in enumerate(self.nonlinear):
                second = jax.grad(lambda at, axis=axis: slope(at)[:, axis].sum())(theta)
                columns += [second[:, other] for other in self.nonlinear[k:]]
        return jnp.stack(columns, axis=1)


def _pairs(m: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(m) for j in range(i, m)]
