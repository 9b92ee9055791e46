"""Models of neurons alone, and two kinds of heads that act together: what the shipped models do not say."""

from __future__ import annotations

import jax
import numpy as np

from mfpde import Normal, Transformer
from mfpde.problem.models.low_dimensional import neuron, softmax_head


def _directions(channels: int, seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, channels)) / np.sqrt(channels)


def _mean_token(tokens: jax.Array) -> jax.Array:
    return tokens.mean(axis=0)


def neurons(
    channels: int = 2, layers: int = 3, bias: bool = False, activation: str = "tanh", scale: float = 2.0
) -> Transformer:
    """One family of neurons, (a, w) or (a, w, b); the output is the mean token."""
    inward, outward = scale * _directions(channels, 5, 2)
    start = Normal([0.2, 0.5, -0.1][: 2 + bias], [0.5, 0.4, 0.3][: 2 + bias])
    return Transformer([[neuron("neuron", inward, outward, start, activation, bias)]], layers, _mean_token)


def crossed(channels: int = 2, layers: int = 2) -> Transformer:
    """An attention head and a neuron in one stage: both see the same tokens; the output is the mean token."""
    score, out = _directions(channels, 7, channels), _directions(channels, 8, channels)
    inward, outward = _directions(channels, 9, 2)
    head = softmax_head("head", score, out, Normal([0.5, 0.2], [0.4, 0.4]))
    unit = neuron("unit", inward, outward, Normal([-0.2, 0.6], [0.4, 0.3]), "gelu")
    return Transformer([[head, unit]], layers, _mean_token)
