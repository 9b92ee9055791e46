"""The tasks that come with mfpde, and tasks from a file of arrays.

Every generated task draws its training samples first and then its test samples, from one seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import existing, inside, real, show, whole
from mfpde.problem.tasks import Array, Task, generator
from mfpde.problem.transformer import Transformer, residual_stream

FREE_CHANNELS = 4  # channels of the digits' tokens that start at zero, unless another number is given
_MOST_SAMPLES, _MOST_TOKENS, _MOST_FREE = 10**8, 10_000, 4096
_MOST_ENTRIES = 2**28  # 2 GB
_MOST_WIDTH = 1024


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
    whole("task.free", free, 0, _MOST_FREE)

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
    return _split(tokens, targets, samples, len(chosen))


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
    whole("task.width", width, 2, _MOST_WIDTH)

    raw = digits(10, samples, test_samples, patch, centred, free=0, seed=seed)
    pixels = patch * patch
    embedding = generator("task.seed", seed).normal(size=(raw.tokens.shape[2], width))
    embedding[:pixels] /= math.sqrt(pixels)
    test = None if raw.test_tokens is None else raw.test_tokens @ embedding
    return Task(raw.tokens @ embedding, raw.targets, test, raw.test_targets, classes=10)


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
    _check_counts(samples, test_samples, whole("task.context", context, 1, _MOST_TOKENS) + 1, 2)
    real("task.noise", noise, least=0.0)

    rng = generator("task.seed", seed)
    count = samples + test_samples
    slope = rng.normal(size=(count, 1))
    x = rng.normal(size=(count, context + 1))
    y = slope * x
    tokens = np.stack([x, y + noise * rng.normal(size=x.shape)], axis=2)
    tokens[:, -1, 1] = 0.0
    return _split(tokens, y[:, -1:], samples)


def scalars(
    samples: int = 8,
    target_mean: float = 1.0,
    target_std: float = 0.5,
    mean: float = 0.0,
    std: float = 1.0,
    seed: int = 0,
) -> Task:
    """One token of one channel per sample, and one number as its target, both normal: the exact solutions' task."""
    _check_counts(samples)
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
        whole(f"task.{name}", count, 1, _MOST_TOKENS)
    _check_counts(samples, test_samples, tokens, channels)

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
    return _split(stream, targets, samples)


def from_npz(path: Path) -> Task:
    """A task from a NumPy archive with `tokens`, `targets` and optionally `test_tokens`, `test_targets`, `classes`.

    Raises:
        InputError: for a missing or damaged file, Python objects in it, missing or unknown names, wrong shapes.
    """
    where = f"task.npz = {str(existing('task.npz', path))!r}"
    known = ("tokens", "targets", "test_tokens", "test_targets", "classes")
    arrays: dict[str, Any]
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            arrays = {} if isinstance(archive, np.ndarray) else {name: _array(archive, name) for name in archive.files}
    except Exception as error:  # a parser meets anything in a damaged file
        reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        raise InputError(f"{where}: not a readable archive of arrays ({reason[:160]})") from error

    missing, unknown = {"tokens", "targets"} - set(arrays), set(arrays) - set(known)
    if missing or unknown:
        raise InputError(f"{where}: holds {sorted(arrays)}; needs tokens and targets, and may hold {known[2:]}")
    with inside(where):
        return Task(**arrays)


def _split(tokens: Array, targets: NDArray[Any], samples: int, classes: int | None = None) -> Task:
    """The first samples for training, all others, if there are any, for testing."""
    if len(tokens) == samples:
        return Task(tokens, targets, classes=classes)
    return Task(tokens[:samples], targets[:samples], tokens[samples:], targets[samples:], classes)


def _check_counts(samples: int, test_samples: int = 0, tokens: int = 1, channels: int = 1) -> None:
    """The sizes of a generated task: whole numbers, and arrays that fit into memory."""
    whole("task.samples", samples, 1, _MOST_SAMPLES)
    whole("task.test_samples", test_samples, 0, _MOST_SAMPLES)
    entries = (samples + test_samples) * tokens * channels
    if entries > _MOST_ENTRIES:
        raise InputError(f"task.samples = {samples}: {entries} numbers in all tokens; at most {_MOST_ENTRIES}")


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


def _array(archive: Mapping[str, NDArray], name: str) -> NDArray:
    """One array of an archive, which an error names."""
    try:
        return archive[name]
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from error
