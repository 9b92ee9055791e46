"""One layer, squared loss: energies that are convex in the density, whose minima are known independently."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mfpde import Family, Normal, Task, Transformer
from mfpde.problem.models.low_dimensional import neuron

INPUTS = np.linspace(-2.0, 2.5, 12)


def two_clusters() -> Task:
    """y − x = 3 tanh 2x − 4 tanh x/2: neurons of two kinds, with weights that cost."""
    return _task(3.0 * np.tanh(2.0 * INPUTS) - 4.0 * np.tanh(0.5 * INPUTS))


def one_slope(slope: float = 1.2) -> Task:
    """y − x = tanh(1.2 x): what a single slope w does alone."""
    return _task(np.tanh(slope * INPUTS))


def neurons(std: float = 1.0, mean: float = 0.0) -> Transformer:
    """a tanh(w x) from a Gaussian."""
    return Transformer([[neuron("neuron", [1.0], [1.0], Normal([mean, mean], [std, std]))]], 1, _last)


def slopes(mean: float = 0.0, std: float = 1.0) -> Transformer:
    """tanh(w x), one parameter, from a Gaussian."""
    return Transformer([[Family("slope", 1, _slope, Normal([mean], [std]), coordinates=("w",))]], 1, _last)


def _slope(tokens: jax.Array, theta: jax.Array) -> jax.Array:
    return jnp.tanh(theta[0] * tokens)


def _last(tokens: jax.Array) -> jax.Array:
    return tokens[-1]


def _task(residual: np.ndarray) -> Task:
    return Task(INPUTS[:, None, None], (INPUTS + residual)[:, None])
