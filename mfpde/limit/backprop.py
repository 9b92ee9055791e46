"""Moments → risk and potential: this rank's samples through all layers, forwards and backwards.

The two reductions of a right-hand side are made here: the weights of the distinct nodes are summed over the ranks that
hold cells, and the risk with its gradient over the ranks that hold samples. Between them there is no communication.
Both are sums of `parallel.exact_sum`, so that the numbers do not depend on which ranks hold what, nor on how many
threads a single rank shares its samples among.
Source: docs/equations.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.device import device_of, is_cpu
from mfpde.errors import InputError
from mfpde.parallel import reductions
from mfpde.parallel.command import permissive
from mfpde.parallel.exact_sum import LEVELS, Share, pack, split_traced, unpack
from mfpde.parallel.mpi import threads
from mfpde.problem.family import Family, brief
from mfpde.problem.transformer import Transformer, Units, costates, risk

Array = NDArray[np.float64]
type Tiles = tuple[jax.Array, jax.Array, jax.Array]
type Measure = tuple[tuple[jax.Array, jax.Array], ...]
"""Per family points (L, g, s) and the moments there (L, u)."""
_TILE, _SMALL_TILE = 8, 4  # samples of one pass
_MANY = 256  # samples, from which larger tiles are enough for 32 ranks
_DEVICE_TILE = 64  # on a GPU, which a few samples do not fill


@dataclass(frozen=True)
class Outcome:
    """The result of one pass over all samples; equal on every rank.

    Attributes:
        risk: R, the mean loss, on average over replicas of the flow.
        accuracy: share of samples whose largest output is at the target's largest entry, likewise.
        square: Σ_j m_j |θ_j|² per family, each (L,); the penalty is λ/(2L) times their sum.
        gradient: L ∂R/∂w per family, each (L, u), or None after an evaluation.
        risks: R of each replica, (K,); empty where no pass was made.
    """

    risk: float
    accuracy: float
    square: tuple[Array, ...]
    gradient: tuple[Array, ...] | None
    risks: Array = field(default_factory=lambda: np.empty(0))

    @property
    def slopes(self) -> tuple[Array, ...]:
        """The gradient, of a pass that has one."""
        assert self.gradient is not None  # noqa: S101  (only an evaluation has none)
        return self.gradient


class Backprop:
    """Risk and gradient of a Transformer on one set of samples, tiles of samples dealt out to the ranks.

    Everywhere `points` are per family nonlinear coordinates (L, g, s), equal on every rank, and `weights` per family
    this rank's share of the moments of the density there (L, u): `Family.units` makes units of them. K replicas of the
    flow, independent of each other, have their layers one after the other, K·L in the place of L.

    Attributes:
        comm: of the ranks that share the samples.
        model: the Transformer.
        single: are risk and gradient computed in float32? Every other pass, and every sum over samples, is in float64.
        reductions: over ranks, so far.
    """

    def __init__(
        self, comm: MPI.Intracomm, model: Transformer, tokens: Array, targets: Array, *, single: bool = False
    ) -> None:
        """Deal the samples out.

        Raises:
            InputError: when the model's functions cannot compute in float32, and are to.
        """
        self.comm = comm
        self.model = model
        self.single = single
        self.reductions = 0
        self._device = device_of(comm.rank)
        self._tiles = _deal(comm, self._device, tokens, targets)  # of each thread
        self._pool = ThreadPoolExecutor(len(self._tiles))
        self._known: set[object] = set()
        if single:
            self._check_single()

    def deal(self, tokens: Array, targets: Array) -> None:
        """Take other samples, as many as before."""
        self._tiles = _deal(self.comm, self._device, tokens, targets)

    def __call__(
        self, points: Sequence[Array], weights: Sequence[Share | Array], square: Sequence[Share | Array]
    ) -> Outcome:
        """R and L ∂R/∂w from this rank's shares of weights and squares; two reductions.

        Args:
            points: see above.
            weights: see above.
            square: per family this rank's share of Σ_j m_j |θ_j|², shape (L,).
        """
        summed = self.sum_over_ranks([*weights, *square])
        measure, squares = summed[: len(weights)], summed[len(weights) :]

        value, gradient = self.summed(_value_and_gradient, (self.single, _pair(points, measure)), self._tiles)
        total, *slopes = self.sum_over_ranks([Share(part) for part in (value, *gradient)])
        scaled = tuple(self.model.layers * part for part in slopes)
        risk, accuracy = (float(mean) for mean in total.mean(axis=1))
        return Outcome(risk, accuracy, tuple(squares), scaled, total[0])

    def evaluate(self, points: Sequence[Array], weights: Sequence[Share | Array]) -> Outcome:
        """R and accuracy in double precision, no gradient, from this rank's shares of the weights; two reductions."""
        measure = _pair(points, self.sum_over_ranks(weights))
        (total,) = self.sum_over_ranks([Share(self.summed(_value, (measure,), self._tiles))])
        risk, accuracy = (float(mean) for mean in total.mean(axis=1))
        return Outcome(risk, accuracy, (), None, total[0])

    def slope(self, points: Sequence[Array], weights: Sequence[Share | Array], motion: Sequence[Array]) -> float:
        """dR/dτ when the points move with velocities `motion`, (L, g, s) per family, and keep their moments.

        Two reductions.
        """
        measure = _pair(points, self.sum_over_ranks(weights))
        (total,) = self.sum_over_ranks([Share(self.summed(_slope, (measure, tuple(motion)), self._tiles))])
        return float(total)

    def costates(self, points: Sequence[Array], weights: Sequence[Share | Array]) -> list[tuple[jax.Array, jax.Array]]:
        """Of each thread the tokens that the families see, and L ∂R/∂S, of its tiles (t, s, L, K, N, D); one reduction.

        See `mfpde.problem.transformer.costates`.
        """
        return self.called(_costates, (_pair(points, self.sum_over_ranks(weights)),), self._tiles)

    def _check_single(self) -> None:
        one = self.model.layers, 1
        measure = tuple(
            (np.zeros((*one, len(f.nonlinear_axes))), np.zeros((one[0], f.directions))) for f in self.model.families
        )
        try:
            jax.eval_shape(partial(_value_and_gradient, self.model, True), measure, self._tiles[0])
        except Exception as error:  # the user's own code
            raise InputError(
                f"training.precision = 'single': the model does not compute in float32: {brief(error)}; "
                "training.precision = 'double' needs nothing of it"
            ) from error

    def not_finite(self, family: Family, theta: Array) -> tuple[int, int] | None:
        """Layer and number of the first of θ (L, g, d) at which a family's update of the first sample is not finite."""
        tokens = self._tiles[0][0][0, 0]
        for layer, points in enumerate(theta):
            updates = jax.vmap(family.update, in_axes=(None, 0))(tokens, jnp.asarray(points))
            bad = ~np.isfinite(np.asarray(updates).reshape(len(points), -1)).all(axis=1)
            if bad.any():
                return layer, int(bad.argmax())
        return None

    def summed[Tile](self, function: Callable[..., Any], arguments: tuple[object, ...], shares: Sequence[Tile]) -> Any:
        """Exact sums, as levels, over all shares of this rank's tiles; see `called`."""
        found = self.called(function, arguments, shares)
        return jax.tree.map(lambda *levels: reduce(np.add, map(np.asarray, levels)), *found)

    def called[Tile, Result](
        self, function: Callable[..., Result], arguments: tuple[object, ...], shares: Sequence[Tile]
    ) -> list[Result]:
        """A compiled function of the model, of arguments and of a share of this rank's tiles, a thread for each share.

        Collective at its first call with arguments of these shapes. Then rank 0 goes first, and the others find its
        program in the cache on disk: otherwise all ranks of a machine would compile it at once. So do threads.
        """
        leaves = jax.tree.leaves((self.model, arguments, shares[0]))
        program = function, *(np.shape(leaf) if hasattr(leaf, "shape") else leaf for leaf in leaves)
        known = program in self._known
        waits = self.comm.size > 1 and not known
        self._known.add(program)

        def call(share: Tile) -> Result:
            with permissive():  # JAX keeps such settings by thread
                return jax.block_until_ready(function(self.model, *arguments, share))

        if waits and self.comm.rank > 0:
            reductions.barrier(self.comm)
        together = known and len(shares) > 1
        results = list(self._pool.map(call, shares) if together else map(call, shares))
        if waits and self.comm.rank == 0:
            reductions.barrier(self.comm)
        return results

    def sum_over_ranks(self, parts: Sequence[Share | Array]) -> list[Array]:
        """The sum over ranks of several arrays, in one reduction; the same bits for any number of ranks."""
        self.reductions += 1
        return unpack(reductions.sum_over_ranks(self.comm, pack(parts)), parts)


def tile_size(samples: int, on_cpu: bool = True) -> int:
    """Samples of one pass, the same for every tile and whatever the number of ranks, so that sums have the same bits.

    Small ones cost a few per cent more on one rank; 128 samples keep 32 ranks at work instead of 16.
    """
    if not on_cpu:
        return min(samples, _DEVICE_TILE)
    return min(samples, _TILE if samples >= _MANY else _SMALL_TILE)


def threads_of(samples: int, ranks: int) -> int:
    """Threads that a rank shares its tiles among: those of a single process, and no more than there are tiles."""
    return min(threads(), -(-samples // tile_size(samples))) if ranks == 1 else 1


def _pair(points: Sequence[Array], moments: Sequence[Array]) -> Measure:
    """Pairs of points and moments, as the compiled functions take them; NumPy arrays need no conversion."""
    return tuple(zip(points, moments, strict=True))  # type: ignore[arg-type]


def _units(model: Transformer, measure: Measure) -> Units:
    pairs = zip(model.families, measure, strict=True)
    return tuple(family.units(points, moments) for family, (points, moments) in pairs)


def _risks(model: Transformer, units: Units, tile: Tiles) -> jax.Array:
    """Risk and accuracy (2, K) of each replica on one tile."""
    replicas = len(units[0][1]) // model.layers
    if replicas == 1:
        return jnp.stack(risk(model, units, *tile))[:, None]
    apart = jax.tree.map(lambda part: part.reshape(replicas, model.layers, *part.shape[1:]), units)
    return jnp.stack(jax.vmap(lambda own: risk(model, own, *tile))(apart))


def _deal(comm: MPI.Intracomm, device: jax.Device, tokens: Array, targets: Array) -> list[Tiles]:
    """The tiles of each of this rank's threads, on a device: tokens (t, s, N, D), targets (t, s, C), weights (t, s).

    Weights are 1/n, or zero for padding. Every thread of every rank gets the same number of tiles, so that one compiled
    program serves all.
    """
    samples = len(tokens)
    tile = tile_size(samples, is_cpu(device))
    own = threads_of(samples, comm.size) if is_cpu(device) else 1
    workers = comm.size * own
    count = -(-samples // (tile * workers))

    dealt = []
    for worker in range(comm.rank * own, (comm.rank + 1) * own):
        mine = np.concatenate([np.arange(tile) + tile * (worker + workers * t) for t in range(count)])
        inside = mine < samples
        chosen = np.where(inside, mine, 0)
        weights = np.where(inside, 1.0 / samples, 0.0)
        dealt.append(
            (
                jax.device_put(tokens[chosen].reshape(count, tile, *tokens.shape[1:]), device),
                jax.device_put(targets[chosen].reshape(count, tile, *targets.shape[1:]), device),
                jax.device_put(weights.reshape(count, tile), device),
            )
        )
    return dealt


@partial(jax.jit, static_argnums=0)
def _value(model: Transformer, measure: Measure, tiles: Tiles) -> jax.Array:
    """Levels (3, 2, K) of risk and accuracy of this rank's tiles."""
    units = _units(model, measure)

    def tile_value(tile: Tiles) -> jax.Array:
        return _risks(model, units, tile)

    return sum_tiles(tile_value, tiles)


@partial(jax.jit, static_argnums=0)
def _slope(model: Transformer, measure: Measure, motion: tuple[jax.Array, ...], tiles: Tiles) -> jax.Array:
    """Levels (3,) of the derivative of this rank's share of the risk along a motion of the points."""
    points, moments = zip(*measure, strict=True)

    def tile_slope(tile: Tiles) -> jax.Array:
        def shifted(moved: tuple[jax.Array, ...]) -> jax.Array:
            return _risks(model, _units(model, tuple(zip(moved, moments, strict=True))), tile)[0].mean()

        slopes = jax.grad(shifted)(points)  # backwards: a head may have a rule for that direction alone
        return sum((jnp.vdot(slope, velocity) for slope, velocity in zip(slopes, motion, strict=True)), jnp.zeros(()))

    return sum_tiles(tile_slope, tiles)


type _Gradient = tuple[jax.Array, tuple[jax.Array, ...]]


@partial(jax.jit, static_argnums=(0, 1))
def _value_and_gradient(model: Transformer, single: bool, measure: Measure, tiles: Tiles) -> _Gradient:
    """Levels of (risk, accuracy) and of ∂R/∂w per family of this rank's tiles."""

    def tile_gradient(measure: Measure, tile: Tiles) -> _Gradient:
        points, moments = zip(*measure, strict=True)

        def tile_risk(moments: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            values = _risks(model, _units(model, tuple(zip(points, moments, strict=True))), tile)
            return values[0].sum(), values  # of replicas that have nothing in common: each gets its own gradient

        (_, values), gradient = jax.value_and_grad(tile_risk, has_aux=True)(moments)
        return values, gradient

    return sum_tiles(partial(_in_single(tile_gradient) if single else tile_gradient, measure), tiles)


def _in_single(tile_gradient: Callable[[Measure, Tiles], _Gradient]) -> Callable[[Measure, Tiles], _Gradient]:
    """A function that is linear in the weights of samples, computed in float32, from and to float64.

    JAX traces it as where double precision is switched off, so that whatever the model holds is float32, too. Samples
    weigh 1 within, and 1/n, which would round, comes after.
    """

    def computed(measure: Measure, tile: Tiles) -> _Gradient:
        tokens, targets, weights = tile
        most = jnp.max(weights)
        shares = jnp.where(weights > 0.0, 1.0, 0.0)
        given = jax.tree.map(lambda array: array.astype(jnp.float32), (measure, (tokens, targets, shares)))
        with jax.enable_x64(False), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Explicitly requested dtype float64")  # a model may name it
            found = tile_gradient(*given)
        return jax.tree.map(lambda array: most * array.astype(jnp.float64), found)

    return computed


@partial(jax.jit, static_argnums=0)
def _costates(model: Transformer, measure: Measure, tiles: Tiles) -> tuple[jax.Array, jax.Array]:
    units = jax.tree.map(lambda part: part[: model.layers], _units(model, measure))  # of the first replica

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
