"""MNIST-1D: signals of 40 values in ten classes (Greydanus and Kobak, Scaling down deep learning with MNIST-1D, 2024).

The package `mnist1d` draws them from templates, offline and from a seed of its own; nothing is kept on disk.
"""

from __future__ import annotations

import random
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import whole
from mfpde.problem.datasets.splits import MOST_FREE
from mfpde.problem.tasks import Array, Task, generator

TRAINING, TEST, LENGTH = 4000, 1000, 40  # of the published set


def mnist1d(
    samples: int = TRAINING, test_samples: int = TEST, patch: int = 8, stride: int = 4, free: int = 16, seed: int = 0
) -> Task:
    """MNIST-1D's signals as overlapping patches, and a class token.

    The published set of 4,000 and 1,000 signals, less the mean of the 4,000 and divided by their standard deviation. A
    token has the `patch` values of a piece of the signal, and `free` channels that start at zero; pieces begin every
    `stride` values. The class token is the last one, and starts at zero. Tokens do not hold their place.

    Args:
        samples: training signals; fewer than all are drawn from the seed.
        test_samples: test signals, likewise.
        patch: values of a token.
        stride: from the beginning of a token to that of the next one.
        free: channels that start at zero.
        seed: of the choice of fewer signals than there are; with all of them it has no effect.

    Raises:
        InputError: for values out of range, and without the package.
    """
    whole("task.samples", samples, 1, TRAINING)
    whole("task.test_samples", test_samples, 0, TEST)
    whole("task.patch", patch, 1, LENGTH)
    whole("task.stride", stride, 1, LENGTH)
    whole("task.free", free, 0, MOST_FREE)
    rng = generator("task.seed", seed)
    signals, labels = _published()

    kept = [_some(rng, TRAINING, samples), TRAINING + _some(rng, TEST, test_samples)]
    mean, std = signals[:TRAINING].mean(), signals[:TRAINING].std()
    tokens = [_tokens((signals[rows] - mean) / std, patch, stride, free) for rows in kept]
    if not test_samples:
        return Task(tokens[0], labels[kept[0]], classes=10)
    return Task(tokens[0], labels[kept[0]], tokens[1], labels[kept[1]], classes=10)


def _published() -> tuple[Array, NDArray[np.int64]]:
    """All signals (5000, 40), the training set first, and their labels.

    The package draws from the generators that a whole process shares, and sets their seeds; they stay as they were.
    """
    try:
        data = import_module("mnist1d.data")
    except ImportError as error:
        needs = "needs the package mnist1d, which is not installed: pip install 'mfpde[signals]'"
        raise InputError(f"task.name = 'mnist1d': {needs}") from error

    plain, shared = random.getstate(), np.random.get_state()  # noqa: NPY002  (the package's own)
    try:
        made = data.make_dataset(data.get_dataset_args())
    finally:
        random.setstate(plain)
        np.random.set_state(shared)  # noqa: NPY002

    signals = np.concatenate([made["x"], made["x_test"]]).astype(np.float64)
    return signals, np.concatenate([made["y"], made["y_test"]]).astype(np.int64)


def _some(rng: np.random.Generator, count: int, wanted: int) -> NDArray[np.int64]:
    """Which of so many signals are taken: all in their order, or a part in an order that is drawn."""
    order = rng.permutation(count)
    return np.arange(count) if wanted == count else order[:wanted]


def _tokens(signals: Array, patch: int, stride: int, free: int) -> Array:
    """(n, 40) -> (n, N, D): all patches, then the class token."""
    pieces = np.lib.stride_tricks.sliding_window_view(signals, patch, axis=1)[:, ::stride]
    count = pieces.shape[1]

    tokens = np.zeros((len(signals), count + 1, patch + free))
    tokens[:, :count, :patch] = pieces
    return tokens
