"""The ten digits of scikit-learn, as patches with their places or as embedded patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import show, whole
from mfpde.problem.datasets.splits import MOST_FREE, MOST_WIDTH, split
from mfpde.problem.tasks import Array, Task, generator

FREE_CHANNELS = 4  # channels of the digits' tokens that start at zero, unless another number is given


def digits(
    classes: int | Sequence[int] = 10,
    samples: int = 1000,
    test_samples: int = 400,
    patch: int = 4,
    centred: bool = False,
    free: int = FREE_CHANNELS,
    seed: int = 0,
) -> Task:
    """scikit-learn's 8×8 images of handwritten digits as patch tokens and a class token.

    A token has patch² channels of grey values between −1 and 1, one channel per patch position and one for the class
    token (one-hot), and `free` channels that start at zero. The class token is the last one.

    Args:
        classes: how many digits from 0 on, or a list of digits; labels count them in that order.
        samples: training images, drawn from the seed.
        test_samples: test images, disjoint from the training images.
        patch: side of a patch: 1, 2, 4 or 8.
        centred: subtract the mean of the training images from every image, and divide by the standard deviation of all
            that is left of them. What all images share is the slowest thing to unlearn.
        free: channels that start at zero.
        seed: of the split.
    """
    if isinstance(classes, Sequence) and not isinstance(classes, str):
        chosen = [whole("task.classes", digit, 0, 9) for digit in classes]
    else:
        chosen = list(range(whole("task.classes", classes, 2, 10)))
    if len(chosen) < 2 or len(set(chosen)) != len(chosen):
        raise InputError(f"task.classes = {show(classes)}: must be 2 … 10, or a list of at least two different digits")
    if patch not in (1, 2, 4, 8):
        raise InputError(f"task.patch = {patch!r}: must be 1, 2, 4 or 8")
    whole("task.free", free, 0, MOST_FREE)

    every, labels = _images()
    keep = np.flatnonzero(np.isin(labels, chosen))
    if not (samples >= 1 and test_samples >= 0 and samples + test_samples <= len(keep)):
        raise InputError(
            f"task.samples = {samples!r}, test_samples = {test_samples!r}: at least 1 and 0, "
            f"and at most {len(keep)} together"
        )

    order = generator("task.seed", seed).permutation(keep)[: samples + test_samples]
    images = every[order] / 8.0 - 1.0
    if centred:
        images -= images[:samples].mean(axis=0)
        images /= images[:samples].std()
    tokens = _patches(images, patch, free)
    targets = np.array([chosen.index(label) for label in labels[order]])
    return split(tokens, targets, samples, len(chosen))


def embedded_digits(
    width: int = 16, samples: int = 1000, test_samples: int = 400, patch: int = 4, centred: bool = True, seed: int = 0
) -> Task:
    """The ten digits with a patch embedding: token = E pixels + position, and a class token, all drawn from the seed.

    The embedding is a linear map of all channels of the tokens of `digits`; it is not trained.

    Args:
        width: D, channels of a token.
        samples: as for `digits`, with the next four.
        test_samples: test images.
        patch: side of a patch.
        centred: subtract the mean of the training images.
        seed: of the split and of the embedding.
    """
    whole("task.width", width, 2, MOST_WIDTH)

    raw = digits(10, samples, test_samples, patch, centred, free=0, seed=seed)
    pixels = patch * patch
    embedding = generator("task.seed", seed).normal(size=(raw.tokens.shape[2], width))
    embedding[:pixels] /= math.sqrt(pixels)
    test = None if raw.test_tokens is None else raw.test_tokens @ embedding
    return Task(raw.tokens @ embedding, raw.targets, test, raw.test_targets, classes=10)


def _images() -> tuple[Array, NDArray[np.int64]]:
    """scikit-learn's images (1797, 8, 8), grey values 0 … 16, and their labels, from the file in its package.

    Its `load_digits` reads the same file, behind an import that takes as long as all else before the first step.
    """
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise InputError("task.name = 'digits': the images come with scikit-learn, which is not installed")

    table = np.loadtxt(Path(package.submodule_search_locations[0]) / "datasets/data/digits.csv.gz", delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def _patches(images: Array, patch: int, free: int) -> Array:
    """(n, 8, 8) -> (n, N, D): grey values, one-hot positions and free channels of all patches, then the class token."""
    side = 8 // patch
    count = side * side
    cut = images.reshape(-1, side, patch, side, patch).transpose(0, 1, 3, 2, 4).reshape(-1, count, patch * patch)

    tokens = np.zeros((len(images), count + 1, patch * patch + count + 1 + free))
    tokens[:, :count, : patch * patch] = cut
    tokens[:, :, patch * patch : patch * patch + count + 1] = np.eye(count + 1)
    return tokens
