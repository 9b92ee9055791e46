"""Tasks that are drawn from a seed: regression in context, single numbers, and targets that a teacher makes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mfpde.inputs import real, whole
from mfpde.problem.datasets.splits import MOST_TOKENS, check_counts, split
from mfpde.problem.tasks import Task, generator
from mfpde.problem.transformer import Transformer, residual_stream


def in_context_regression(
    samples: int = 128, context: int = 8, noise: float = 0.1, test_samples: int = 0, seed: int = 0
) -> Task:
    """Scalar linear regression in context: tokens (x_j, w x_j + noise), then the query (x, 0); the target is w x.

    Each sample draws w and all x from standard normal laws.

    Args:
        samples: training samples.
        context: examples per sample.
        noise: standard deviation of the noise on the examples' y.
        test_samples: further samples for testing.
        seed: of all draws.
    """
    check_counts(samples, test_samples, whole("task.context", context, 1, MOST_TOKENS) + 1, 2)
    real("task.noise", noise, least=0.0)

    rng = generator("task.seed", seed)
    count = samples + test_samples
    slope = rng.normal(size=(count, 1))
    x = rng.normal(size=(count, context + 1))
    y = slope * x
    tokens = np.stack([x, y + noise * rng.normal(size=x.shape)], axis=2)
    tokens[:, -1, 1] = 0.0
    return split(tokens, y[:, -1:], samples)


def scalars(
    samples: int = 8,
    target_mean: float = 1.0,
    target_std: float = 0.5,
    mean: float = 0.0,
    std: float = 1.0,
    seed: int = 0,
) -> Task:
    """One token of one channel per sample, and one number as its target, both normal: the exact solutions' task."""
    check_counts(samples)
    real("task.std", std, least=0.0)
    real("task.target_std", target_std, least=0.0)

    rng = generator("task.seed", seed)
    x, y = rng.normal(mean, std, size=samples), rng.normal(target_mean, target_std, size=samples)
    return Task(x[:, None, None], y[:, None])


def teacher(
    model: Transformer,
    samples: int = 64,
    tokens: int = 4,
    channels: int = 2,
    units: int = 3,
    spread: float = 1.0,
    test_samples: int = 0,
    seed: int = 0,
) -> Task:
    """A realisable task: targets are the outputs of the same model under a known measure.

    In every layer and family the measure has `units` atoms of equal weight, drawn from a normal law around the
    initial mean with `spread` times the initial standard deviation. Tokens are standard normal.

    Args:
        model: whose stages, layers and readout the teacher shares.
        samples: training samples.
        tokens: N.
        channels: D.
        units: atoms per layer and family.
        spread: of the atoms.
        test_samples: further samples for testing.
        seed: of tokens and atoms.
    """
    for name, count in (("tokens", tokens), ("channels", channels), ("units", units)):
        whole(f"task.{name}", count, 1, MOST_TOKENS)
    check_counts(samples, test_samples, tokens, channels)

    rng = generator("task.seed", seed)
    stream = rng.normal(size=(samples + test_samples, tokens, channels))

    weights = jnp.full((model.layers, units), 1.0 / units)
    measure = []
    for family in model.families:
        laws = [family.law(layer) for layer in range(model.layers)]
        mean, std = (np.stack([np.asarray(getattr(law, name)) for law in laws]) for name in ("mean", "std"))
        atoms = mean[:, None] + spread * std[:, None] * rng.normal(size=(model.layers, units, family.dim))
        measure.append((jnp.asarray(atoms), weights))

    def output(sample: jax.Array) -> jax.Array:
        return model.readout(residual_stream(model, tuple(measure), sample))

    targets = np.asarray(jax.vmap(output)(jnp.asarray(stream)))
    return split(stream, targets, samples)
