"""An ordinary Vision Transformer as families of high dimension, whose limit has random nodes without a table.

θ holds all matrices of one head, or of one block of hidden neurons; M units side by side are multi-head attention with
M heads, and an MLP with M blocks. Dosovitskiy et al., An image is worth 16×16 words, ICLR 2021; in the scaling 1/M of
Gao et al., arXiv 2410.23610, section 2, whose Figure 1 trains such models.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from mfpde.errors import InputError
from mfpde.inputs import whole
from mfpde.problem.family import Family
from mfpde.problem.laws import Normal
from mfpde.problem.tasks import Task, generator
from mfpde.problem.transformer import Loss, Transformer

_MOST_CHANNELS = 1024
_SMALL = 1e-5  # what the normalisation adds to the variance, as is usual


def vision_transformer(
    task: Task,
    key: int = 4,
    hidden: int = 4,
    layers: int = 6,
    loss: Loss = "cross_entropy",
    gain: float = 1.0,
    seed: int = 0,
) -> Transformer:
    """Pre-norm Transformer: multi-head attention, then a two-layer MLP; a random linear readout of the class token.

    Args:
        task: `embedded-digits`, or any other: the last token is read.
        key: channels k of a head's queries, keys and values.
        hidden: neurons h of an MLP block; M blocks have hM in a layer.
        layers: L.
        loss: squared loss on unit vectors, or cross-entropy in nats or bits.
        gain: standard deviation of the output matrices at the start.
        seed: of the readout, which is never fitted.
    """
    channels, classes = task.tokens.shape[2], task.targets.shape[1]
    if channels < 2:
        raise InputError(f"model: a normalised token needs at least 2 channels; the task's have {channels}")

    stages = [[attention_head("attention", channels, key, gain)], [mlp_block("mlp", channels, hidden, gain)]]
    reading = jnp.asarray(generator("model.seed", seed).normal(size=(channels, classes)) / math.sqrt(channels))
    return Transformer(stages, layers, lambda tokens: normalised(tokens)[-1] @ reading, loss=loss)


def attention_head(name: str, channels: int, key: int, gain: float = 1.0) -> Family:
    """One head of multi-head attention, θ = (Q, K, V, O): softmax(X Q (X K)ᵀ/√k) X V O with X the normalised tokens.

    Q, K, V are (D, k), O is (k, D); d = 4 D k. Jointly linear in O.

    Args:
        name: of the family.
        channels: D.
        key: k.
        gain: standard deviation of O at the start; Q, K, V start with 1/√D.
    """
    whole("model.key", key, 1, _MOST_CHANNELS)
    size = channels * key

    def update(tokens: jax.Array, theta: jax.Array) -> jax.Array:
        query, keys, value = (theta[k * size : (k + 1) * size].reshape(channels, key) for k in range(3))
        out = theta[3 * size :].reshape(key, channels)
        x = normalised(tokens)
        weights = jax.nn.softmax((x @ query) @ (x @ keys).T / math.sqrt(key), axis=-1)
        return weights @ (x @ value) @ out

    std = [*np.full(3 * size, 1.0 / math.sqrt(channels)), *np.full(size, gain)]
    initial = Normal([0.0] * (4 * size), std)
    return Family(name, 4 * size, update, initial, linear=tuple(range(3 * size, 4 * size)))


def mlp_block(name: str, channels: int, hidden: int, gain: float = 1.0) -> Family:
    """A block of h hidden neurons of a two-layer MLP, θ = (A, b, B): gelu(X A + b) B with X the normalised tokens.

    A is (D, h), b is (h,), B is (h, D); d = 2 D h + h. Jointly linear in B.

    Args:
        name: of the family.
        channels: D.
        hidden: h.
        gain: standard deviation of B at the start; A starts with 1/√D, b with 0.1.
    """
    whole("model.hidden", hidden, 1, _MOST_CHANNELS)
    size = channels * hidden

    def update(tokens: jax.Array, theta: jax.Array) -> jax.Array:
        inward, bias = theta[:size].reshape(channels, hidden), theta[size : size + hidden]
        outward = theta[size + hidden :].reshape(hidden, channels)
        return jax.nn.gelu(normalised(tokens) @ inward + bias) @ outward

    std = [*np.full(size, 1.0 / math.sqrt(channels)), *np.full(hidden, 0.1), *np.full(size, gain)]
    dim = 2 * size + hidden
    return Family(name, dim, update, Normal([0.0] * dim, std), linear=tuple(range(size + hidden, dim)))


def normalised(tokens: jax.Array) -> jax.Array:
    """Layer normalisation without gain or bias: every token (..., D) with mean 0 and variance 1."""
    centred = tokens - tokens.mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + _SMALL)
