"""Heads and neurons with whole arrays of linear coordinates: value matrices and output vectors.

A unit is θ = (u, v): u ∈ R^s mixes s fixed forms, which only a table in u has to resolve, and v, in which the update is
linear, is an array of any size (`mfpde.problem.family`). The functions are written with the public interface alone: a
head of one's own looks the same. T are the tokens (N, D), and forms, positions and features are fixed by the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from mfpde.errors import InputError
from mfpde.inputs import one_of, real, whole
from mfpde.problem.family import Family
from mfpde.problem.laws import Law, Normal, Zero
from mfpde.problem.tasks import Task, generator
from mfpde.problem.transformer import Loss, Transformer

type Initial = tuple[Law, Law] | Callable[[int], tuple[Law, Law]]
type Query = Literal["all", "last"]
type Places = Literal["any", "relative", "absolute", "mixed"]
_NEVER = -1e30  # score of a token that may not be seen


def value_head(
    name: str,
    forms: ArrayLike,
    initial: Initial,
    places: ArrayLike | None = None,
    query: Query = "all",
    causal: bool = False,
) -> Family:
    """Softmax attention with a value matrix, softmax_j(Σ_k u_k (T_i A_k T_jᵀ + P_k[i, j])) T_j V; u (s,) and V (D, D).

    Args:
        name: of the family.
        forms: A, key–query forms (s, D, D).
        initial: laws of u and of V.
        places: P, scores of places (s, N, N); none unless given.
        query: "last" has only the last token attend, and be added to: class attention.
        causal: no token sees those behind it.

    Raises:
        InputError: for forms that are not s square matrices, or places that do not fit.
    """
    compared = jnp.asarray(np.asarray(forms, dtype=np.float64))
    if compared.ndim != 3 or compared.shape[1] != compared.shape[2]:
        raise InputError(f"family {name!r}: forms have shape {compared.shape}; must be (s, D, D)")
    mixed, channels = compared.shape[:2]
    one_of(f"family {name!r}: query", query, ("all", "last"))
    scores = None if places is None else jnp.asarray(np.asarray(places, dtype=np.float64))
    if scores is not None and (scores.ndim != 3 or len(scores) != mixed or scores.shape[1] != scores.shape[2]):
        raise InputError(f"family {name!r}: places have shape {scores.shape}; must be ({mixed}, N, N)")

    def mixtures(tokens: jax.Array, u: jax.Array) -> jax.Array:
        """What the heads (…, s) attend to, (…, n, D)."""
        asking = _asking(tokens, query)
        each = jnp.einsum("id,kde,je->kij", asking, compared, tokens)  # the same for all units
        if scores is not None:
            each = each + scores[:, -len(asking) :]
        score = jnp.tensordot(u, each, axes=1)
        if causal:
            behind = jnp.arange(len(tokens)) > jnp.arange(len(tokens))[-len(asking) :, None]
            score = jnp.where(behind, _NEVER, score)
        return jax.nn.softmax(score, axis=-1) @ tokens

    def update(tokens: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
        return _placed(tokens, query, mixtures(tokens, u) @ v)

    def integral(tokens: jax.Array, theta: jax.Array, weights: jax.Array) -> jax.Array:
        values = weights[:, None, None] * theta[:, mixed:].reshape(-1, channels, channels)
        return _placed(tokens, query, jnp.einsum("wid,wde->ie", mixtures(tokens, theta[:, :mixed]), values))

    return Family(
        name, nonlinear=mixed, linear_shape=(channels, channels), update=update, initial=initial, integral=integral
    )


def vector_neuron(
    name: str, features: ArrayLike, initial: Initial, offset: float = 0.0, query: Query = "all"
) -> Family:
    """MLP neuron with an output vector, tanh(Σ_k u_k ⟨T_i, e_k⟩ + offset) a; u (s,) and a (D,).

    Args:
        name: of the family.
        features: e, fixed directions (s, D).
        initial: laws of u and of a.
        offset: inside the activation.
        query: "last" acts on the last token alone.

    Raises:
        InputError: for features that are not s vectors.
    """
    read = jnp.asarray(np.asarray(features, dtype=np.float64))
    if read.ndim != 2:
        raise InputError(f"family {name!r}: features have shape {read.shape}; must be (s, D)")
    one_of(f"family {name!r}: query", query, ("all", "last"))
    shift = jnp.asarray([offset], dtype=jnp.float64)  # an array: neurons that differ in it alone share a program

    def fired(tokens: jax.Array, u: jax.Array) -> jax.Array:
        """Of neurons (…, s) at the tokens that they act on, (…, n)."""
        asking = _asking(tokens, query)
        return jnp.tanh(u @ (asking @ read.T).T + shift)

    def update(tokens: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
        return _placed(tokens, query, fired(tokens, u)[:, None] * v)

    def integral(tokens: jax.Array, theta: jax.Array, weights: jax.Array) -> jax.Array:
        s = len(read)
        return _placed(tokens, query, fired(tokens, theta[:, :s]).T @ (weights[:, None] * theta[:, s:]))

    return Family(
        name, nonlinear=len(read), linear_shape=read.shape[1:], update=update, initial=initial, integral=integral
    )


def value_attention(
    task: Task,
    heads: int = 8,
    neurons: int = 8,
    layers: int = 4,
    query: Query = "last",
    loss: Loss = "cross_entropy",
    contrast: float = 2.0,
    content: float | None = None,
    places: Places = "any",
    causal: bool = False,
    spread: float = 0.5,
    reading: float = 0.5,
    seed: int = 0,
    forms: int = 1,
) -> Transformer:
    """Families of heads with value matrices, then of neurons with output vectors; a random readout of the last token.

    A head of family h has s numbers u: it mixes the tokens by softmax(Σ_k u_k (T_i A_hk T_jᵀ + P_hk[i, j])), with A and
    P drawn from the seed, and adds them through a trained matrix V. A neuron of family n reads Σ_k u_k ⟨T, e_nk⟩, and
    adds a trained vector.

    Args:
        task: whose last token is read, as in `embedded-digits`.
        heads: attention families, named head_0, …
        neurons: neuron families, named neuron_0, …
        layers: L.
        query: "last" has only the last token attend, and be added to.
        loss: squared loss on the targets, or cross-entropy in nats or bits.
        contrast: standard deviation of the places' scores P.
        content: standard deviation of the contents' scores T_i A T_jᵀ of independent tokens of mean square one, over
            √D; half of `contrast` unless given.
        places: what P_h[i, j] depends on: "any" draws a matrix, "relative" depends on j − i alone and "absolute" on j
            alone; "mixed" has them in turn, the first head relative.
        causal: no token sees those behind it.
        spread: initial standard deviation of the output vectors, and of what value matrices make of a unit vector; 0
            has all of them zero at the start.
        reading: standard deviation of the readout, which is never fitted.
        seed: of all that is fixed.
        forms: s, how many forms a head mixes, and features a neuron.
    """
    if whole("model.heads", heads, 0, 1000) + whole("model.neurons", neurons, 0, 1000) < 1:
        raise InputError(f"model.heads = {heads}, model.neurons = {neurons}: needs at least one family")
    one_of("model.places", places, ("any", "relative", "absolute", "mixed"))
    whole("model.forms", forms, 1, 100)
    strength = 0.5 * contrast if content is None else real("model.content", content, least=0.0)
    real("model.spread", spread, least=0.0)
    rng = generator("model.seed", seed)
    tokens, channels = task.tokens.shape[1:]

    stages: list[list[Family]] = [[], []]
    for k in range(heads):
        form = strength * rng.normal(size=(forms, channels, channels)) / math.sqrt(channels)
        score = contrast * np.concatenate([_places(rng, places, tokens, k) for _ in range(forms)])
        start = Normal([0.0] * forms, [1.0] * forms), _around_zero(spread / math.sqrt(channels))
        stages[0].append(value_head(f"head_{k}", form, start, score, query, causal))
    for k in range(neurons):
        feature = 1.5 * rng.normal(size=(forms, channels)) / math.sqrt(forms * channels)
        offset = float(rng.normal())
        start = Normal([1.0] * forms, [1.0] * forms), _around_zero(spread)
        stages[1].append(vector_neuron(f"neuron_{k}", feature, start, offset, query))

    rows = jnp.asarray(reading * rng.normal(size=(channels, task.targets.shape[1])))
    return Transformer([stage for stage in stages if stage], layers, lambda tokens: tokens[-1] @ rows, loss=loss)


def _places(rng: np.random.Generator, kind: Places, tokens: int, head: int) -> np.ndarray:
    """Scores of places (1, N, N) of a head, standard normal."""
    if kind == "mixed":
        kind = "absolute" if head % 2 else "relative"
    if kind == "any":
        return rng.normal(size=(1, tokens, tokens))
    if kind == "absolute":
        return np.broadcast_to(rng.normal(size=(1, 1, tokens)), (1, tokens, tokens))
    ahead = np.arange(tokens) - np.arange(tokens)[:, None] + tokens - 1
    return rng.normal(size=(1, 2 * tokens - 1))[:, ahead]


def _around_zero(std: float) -> Law:
    """The law of every entry of v."""
    return Normal([0.0], [std]) if std else Zero()


def _asking(tokens: jax.Array, query: Query) -> jax.Array:
    """The tokens that are added to, (n, D)."""
    return tokens if query == "all" else tokens[-1:]


def _placed(tokens: jax.Array, query: Query, added: jax.Array) -> jax.Array:
    """What is added to these (n, D), beside nothing for the others (N, D)."""
    return added if query == "all" else jnp.zeros_like(tokens).at[-1].set(added[0])
