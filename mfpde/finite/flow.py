"""The gradient flow of a finite Transformer: the energy of its units, and their velocity by differentiating the loss.

    Q = R + (1/L) Σ_{ℓ,c} λ/2 Σ_j w_j |θ_j|²,        dθ_j/dτ = −(L/w_j) ∂Q/∂θ_j

Nothing here knows about densities, moments or potentials: agreement with the limit is evidence only because of that.
Source: docs/equations.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, Units, risk

type Parameters = tuple[jax.Array, ...]
"""Per family θ (L, u, d)."""
type Weights = tuple[jax.Array, ...]
"""Per family w (L, u); the weights of a layer sum to 1."""
type Piece = tuple[jax.Array, jax.Array, jax.Array]
"""Tokens (b, N, D), targets (b, C) and their shares of the mean (b,)."""
type Array = NDArray[np.float64]

_MEMORY = 2**25  # bytes that one piece of the samples may take, roughly; more is no faster: it leaves the cache
_COPIES = 6  # arrays of the size of the largest intermediate that its derivative keeps


@dataclass(frozen=True)
class ParticleFlow:
    """The gradient flow of a model's units: the model, its samples in pieces that fit memory, and the weight decay λ.

    Attributes:
        model: the Transformer.
        tokens: (pieces, b, N, D), the last piece padded.
        targets: (pieces, b, C).
        shares: (pieces, b), 1/n, and 0 for padding.
        weight_decay: λ.
    """

    model: Transformer
    tokens: jax.Array
    targets: jax.Array
    shares: jax.Array
    weight_decay: float

    def risk(self, parameters: Parameters, weights: Weights) -> tuple[jax.Array, jax.Array]:
        """R, and the share of samples whose largest output is where the target is largest."""

        def add(sums: tuple[jax.Array, jax.Array], piece: Piece) -> tuple[tuple[jax.Array, jax.Array], None]:
            loss, hits = risk(self.model, join(parameters, weights), *piece)
            return (sums[0] + loss, sums[1] + hits), None

        start = (jnp.zeros(()), jnp.zeros(()))
        return jax.lax.scan(add, start, (self.tokens, self.targets, self.shares))[0]

    def penalty(self, parameters: Parameters, weights: Weights) -> jax.Array:
        """(λ/2L) Σ_{ℓ,c} Σ_j w_j |θ_j|²."""
        squares = [jnp.sum(w * jnp.sum(p**2, axis=-1)) for p, w in zip(parameters, weights, strict=True)]
        return 0.5 * self.weight_decay / self.model.layers * sum(squares, start=jnp.zeros(()))

    def energy(self, parameters: Parameters, weights: Weights) -> jax.Array:
        """Q."""
        return self.risk(parameters, weights)[0] + self.penalty(parameters, weights)

    def gradient(self, parameters: Parameters, weights: Weights) -> Parameters:
        """∂Q/∂θ_j; differentiates inside the loop over pieces, so that one piece at a time is in memory."""

        def loss(inner: Parameters, piece: Piece) -> jax.Array:
            return risk(self.model, join(inner, weights), *piece)[0]

        def add(sums: Parameters, piece: Piece) -> tuple[Parameters, None]:
            return jax.tree.map(jnp.add, sums, jax.grad(loss)(parameters, piece)), None

        start = jax.grad(self.penalty)(parameters, weights)
        return jax.lax.scan(add, start, (self.tokens, self.targets, self.shares))[0]

    def velocity(self, parameters: Parameters, weights: Weights) -> Parameters:
        """−(L/w_j) ∂Q/∂θ_j; a unit without weight stays where it is."""
        slopes = self.gradient(parameters, weights)
        return tuple(_per_weight(-self.model.layers * s, w) for s, w in zip(slopes, weights, strict=True))


def make_flow(
    model: Transformer, task: Task, weight_decay: float, units: Units, piece: int | None = None, test: bool = False
) -> ParticleFlow:
    """The flow on a task's training samples, or its test samples.

    Args:
        model: the Transformer.
        task: whose samples are trained on.
        weight_decay: λ.
        units: whose number decides, with the tokens', how many samples fit in a piece.
        piece: samples in a piece instead, at most.
        test: take the test samples.

    Raises:
        InputError: when a task without test samples is to be tested.
    """
    tokens, targets = (task.test_tokens, task.test_targets) if test else (task.tokens, task.targets)
    if tokens is None:
        raise InputError("task: has no test samples")
    tokens, targets = np.asarray(tokens), np.asarray(targets)

    places, shares = pieces(len(tokens), piece or _piece(model, tokens.shape[1], units))
    chosen = [jnp.asarray(array) for array in (tokens[places], targets[places], shares)]
    return ParticleFlow(model, chosen[0], chosen[1], chosen[2], weight_decay)


def pieces(samples: int, most: int) -> tuple[NDArray[np.int64], Array]:
    """Samples in pieces of one length.

    Args:
        samples: n, of which a mean is taken.
        most: samples in a piece.

    Returns:
        Their places (pieces, b) and their shares of the mean (pieces, b). Padding repeats the first sample, so that it
        is finite wherever the samples are, with a share of zero.
    """
    count = -(-samples // most)
    size = -(-samples // count)
    places = np.arange(count * size).reshape(count, size)
    return np.where(places < samples, places, 0), np.where(places < samples, 1.0 / samples, 0.0)


def split(units: Units) -> tuple[Parameters, Weights]:
    """θ and w of units, apart."""
    return tuple(theta for theta, _ in units), tuple(weights for _, weights in units)


def join(parameters: Parameters, weights: Weights) -> Units:
    """The units of these θ and w."""
    return tuple(zip(parameters, weights, strict=True))


def _per_weight(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Values (L, u, d) over weights (L, u), 0 where there is no weight."""
    some = weights > 0.0
    return jnp.where(some[..., None], values / jnp.where(some, weights, 1.0)[..., None], 0.0)


def _piece(model: Transformer, tokens: int, units: Units) -> int:
    """How many samples fit: a head has N² numbers a unit, and every layer keeps them for the reverse pass."""
    largest = max(weights.shape[1] for _, weights in units)
    return max(1, _MEMORY // (8 * _COPIES * model.layers * tokens**2 * largest))
