"""Moments → risk and potential: this rank's samples through all layers, forwards and backwards.

The two reductions of a right-hand side are made here: the weights of the distinct nodes are summed over the ranks that
hold cells, and the risk with its gradient over the ranks that hold samples. Between them there is no communication.
Both are sums of `parallel.exact_sum`, so that the numbers do not depend on which ranks hold what.
Source: docs/equations.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.parallel import reductions
from mfpde.parallel.exact_sum import LEVELS, Share, pack, split_traced, unpack
from mfpde.problem.family import Family
from mfpde.problem.transformer import Transformer, Units, costates, risk

Array = NDArray[np.float64]
type Tiles = tuple[jax.Array, jax.Array, jax.Array]
TILE = 8  # samples of one pass: one shape for every tile, whatever the number of ranks


@dataclass(frozen=True)
class Outcome:
    """The result of one pass over all samples; equal on every rank.

    Attributes:
        risk: R, the mean loss.
        accuracy: share of samples whose largest output is at the target's largest entry.
        square: Σ_j m_j |θ_j|² per family, each (L,); the penalty is λ/(2L) times their sum.
        gradient: L ∂R/∂w per family, each (L, u), or None after an evaluation.
    """

    risk: float
    accuracy: float
    square: tuple[Array, ...]
    gradient: tuple[Array, ...] | None

    @property
    def slopes(self) -> tuple[Array, ...]:
        """The gradient, of a pass that has one."""
        assert self.gradient is not None  # noqa: S101  (only an evaluation has none)
        return self.gradient


class Backprop:
    """Risk and gradient of a Transformer on one set of samples, tiles of samples dealt out to the ranks.

    Everywhere `theta` are per family the parameters (L, u, d) of the distinct nodes, equal on every rank, and `weights`
    per family this rank's share of their weights (L, u).
    """

    def __init__(self, comm: MPI.Intracomm, model: Transformer, tokens: Array, targets: Array) -> None:
        self.comm = comm
        self.model = model
        self.reductions = 0
        self._tiles = _deal(comm, tokens, targets)
        self._known: set[object] = set()

    def __call__(
        self, theta: Sequence[Array], weights: Sequence[Share | Array], square: Sequence[Share | Array]
    ) -> Outcome:
        """R and L ∂R/∂w from this rank's shares of weights and squares; two reductions.

        Args:
            theta: see above.
            weights: see above.
            square: per family this rank's share of Σ_j m_j |θ_j|², shape (L,).
        """
        summed = self.sum_over_ranks([*weights, *square])
        measure, squares = summed[: len(weights)], summed[len(weights) :]

        value, gradient = self._run(_value_and_gradient, _pair(theta, measure))
        total, *slopes = self.sum_over_ranks([Share(np.asarray(part)) for part in (value, *gradient)])
        scaled = tuple(self.model.layers * part for part in slopes)
        return Outcome(float(total[0]), float(total[1]), tuple(squares), scaled)

    def evaluate(self, theta: Sequence[Array], weights: Sequence[Share | Array]) -> Outcome:
        """R and accuracy without the gradient, from this rank's shares of the weights; two reductions."""
        units = _pair(theta, self.sum_over_ranks(weights))
        (total,) = self.sum_over_ranks([Share(np.asarray(self._run(_value, units)))])
        return Outcome(float(total[0]), float(total[1]), (), None)

    def slope(self, theta: Sequence[Array], weights: Sequence[Share | Array], motion: Sequence[Array]) -> float:
        """dR/dτ when the nodes move with velocities `motion`, (L, u, d) per family, and keep their weights.

        Two reductions.
        """
        units = _pair(theta, self.sum_over_ranks(weights))
        (total,) = self.sum_over_ranks([Share(np.asarray(self._run(_slope, units, tuple(motion))))])
        return float(total)

    def costates(self, theta: Sequence[Array], weights: Sequence[Share | Array]) -> tuple[jax.Array, jax.Array]:
        """The tokens that the families see, and L ∂R/∂S, of this rank's tiles (t, TILE, L, K, N, D); one reduction.

        See `mfpde.problem.transformer.costates`.
        """
        return self._run(_costates, _pair(theta, self.sum_over_ranks(weights)))

    def not_finite(self, family: Family, theta: Array) -> tuple[int, int] | None:
        """Layer and number of the first of θ (L, u, d) at which a family's update of the first sample is not finite."""
        tokens = self._tiles[0][0, 0]
        for layer, points in enumerate(theta):
            updates = jax.vmap(family.update, in_axes=(None, 0))(tokens, jnp.asarray(points))
            bad = ~np.isfinite(np.asarray(updates).reshape(len(points), -1)).all(axis=1)
            if bad.any():
                return layer, int(bad.argmax())
        return None

    def _run[Result](self, function: Callable[..., Result], *arguments: object) -> Result:
        """A compiled function of the model, of arguments and of this rank's tiles; collective at its first call."""
        return self.call(function, self.model, *arguments, self._tiles)

    def call[Result](self, function: Callable[..., Result], *arguments: object) -> Result:
        """A compiled function, collective at its first call with arguments of these shapes.

        Then rank 0 goes first, and the others find its program in the cache on disk: otherwise all ranks of a machine
        would compile it at once.
        """
        leaves = jax.tree.leaves(arguments)
        program = function, *(np.shape(leaf) if hasattr(leaf, "shape") else leaf for leaf in leaves)
        waits = self.comm.size > 1 and program not in self._known
        self._known.add(program)

        if waits and self.comm.rank > 0:
            reductions.barrier(self.comm)
        result = function(*arguments)
        if waits and self.comm.rank == 0:
            reductions.barrier(self.comm)
        return result

    def sum_over_ranks(self, parts: Sequence[Share | Array]) -> list[Array]:
        """The sum over ranks of several arrays, in one reduction; the same bits for any number of ranks."""
        self.reductions += 1
        return unpack(reductions.sum_over_ranks(self.comm, pack(parts)), parts)


def _pair(theta: Sequence[Array], weights: Sequence[Array]) -> Units:
    """Pairs of θ and weights, as the compiled functions take them; NumPy arrays need no conversion."""
    return tuple(zip(theta, weights, strict=True))  # type: ignore[arg-type]


def _deal(comm: MPI.Intracomm, tokens: Array, targets: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """This rank's tiles: tokens (t, TILE, N, D), targets (t, TILE, C), weights (t, TILE) with 1/n or zero padding.

    Every rank gets the same number of tiles, so that one compiled program serves all.
    """
    samples = len(tokens)
    tile = min(TILE, samples)
    count = -(-samples // (tile * comm.size))

    mine = np.concatenate([np.arange(tile) + tile * (comm.rank + comm.size * t) for t in range(count)])
    inside = mine < samples
    chosen = np.where(inside, mine, 0)
    weights = np.where(inside, 1.0 / samples, 0.0)

    return (
        jnp.asarray(tokens[chosen].reshape(count, tile, *tokens.shape[1:])),
        jnp.asarray(targets[chosen].reshape(count, tile, *targets.shape[1:])),
        jnp.asarray(weights.reshape(count, tile)),
    )


@partial(jax.jit, static_argnums=0)
def _value(model: Transformer, units: Units, tiles: Tiles) -> jax.Array:
    """Levels (3, 2) of risk and accuracy of this rank's tiles."""

    def tile_value(tile: Tiles) -> jax.Array:
        return jnp.stack(risk(model, units, *tile))

    return sum_tiles(tile_value, tiles)


@partial(jax.jit, static_argnums=0)
def _slope(model: Transformer, units: Units, motion: tuple[jax.Array, ...], tiles: Tiles) -> jax.Array:
    """Levels (3,) of the derivative of this rank's share of the risk along a motion of the nodes."""
    theta, weights = zip(*units, strict=True)

    def tile_slope(tile: Tiles) -> jax.Array:
        def shifted(moved: tuple[jax.Array, ...]) -> jax.Array:
            return risk(model, tuple(zip(moved, weights, strict=True)), *tile)[0]

        slopes = jax.grad(shifted)(theta)  # backwards: a head may have a rule for that direction alone
        return sum((jnp.vdot(slope, velocity) for slope, velocity in zip(slopes, motion, strict=True)), jnp.zeros(()))

    return sum_tiles(tile_slope, tiles)


@partial(jax.jit, static_argnums=0)
def _value_and_gradient(model: Transformer, units: Units, tiles: Tiles) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Levels of (risk, accuracy) and of ∂R/∂w per family of this rank's tiles."""
    theta, weights = zip(*units, strict=True)

    def tile_risk(weights: tuple[jax.Array, ...], tile: Tiles) -> tuple[jax.Array, jax.Array]:
        return risk(model, tuple(zip(theta, weights, strict=True)), *tile)

    def tile_gradient(tile: Tiles) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        (value, correct), gradient = jax.value_and_grad(tile_risk, has_aux=True)(weights, tile)
        return jnp.stack([value, correct]), gradient

    return sum_tiles(tile_gradient, tiles)


@partial(jax.jit, static_argnums=0)
def _costates(model: Transformer, units: Units, tiles: Tiles) -> tuple[jax.Array, jax.Array]:
    def of_tile(tile: Tiles) -> tuple[jax.Array, jax.Array]:
        found = costates(model, units, *jax.lax.optimization_barrier(tile))
        return jax.lax.optimization_barrier(found)

    return jax.lax.map(of_tile, tiles)


def sum_tiles[Tile, Result](function: Callable[[Tile], Result], tiles: Tile) -> Result:
    """Levels of the sum of a function of each tile, one at a time so that memory does not grow with the samples.

    The barriers keep a tile's program what it is, whatever the number of tiles: fused with its surroundings it might
    round differently.
    """
    function = jax.jit(function)  # traced once, though it is called in two places

    def add(total: Result, tile: Tile) -> tuple[Result, None]:
        found = jax.lax.optimization_barrier(function(jax.lax.optimization_barrier(tile)))
        return jax.tree.map(lambda sums, terms: sums + split_traced(terms), total, found), None

    shapes = jax.eval_shape(function, jax.tree.map(lambda array: array[0], tiles))
    start = jax.tree.map(lambda shape: jnp.zeros((LEVELS, *shape.shape), shape.dtype), shapes)
    return jax.lax.scan(add, start, tiles)[0]
