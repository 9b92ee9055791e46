"""Tasks: samples of tokens with targets, for training and for testing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import plain, show, whole

Array = NDArray[np.float64]
_MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Task:
    """Training samples and, optionally, test samples.

    Attributes:
        tokens: (n, N, D).
        targets: (n, C) numbers; or labels (n,) of an integer type, 0 … C − 1, which become unit vectors.
        test_tokens: (n', N, D) or None.
        test_targets: like targets, or None.
        classes: C of a classification. Labels count it themselves, unless some classes have no sample.
        classification: True with labels, or where `classes` is given: accuracy is a column of the history.

    Raises:
        InputError: for shapes that do not fit, values that are not finite, labels that leave classes empty, or no
            samples.
    """

    tokens: Array
    targets: Array
    test_tokens: Array | None = None
    test_targets: Array | None = None
    classes: int | None = None
    classification: bool = field(default=False, init=False)

    def __repr__(self) -> str:
        tokens, channels = self.tokens.shape[1:]
        test = "" if self.test_tokens is None else f" and {len(self.test_tokens)} for testing"
        kind = "classes" if self.classification else "targets"
        return f"Task({self.samples} samples{test}: {tokens} × {channels} tokens, {self.targets.shape[1]} {kind})"

    def __post_init__(self) -> None:
        if (self.test_tokens is None) != (self.test_targets is None):
            raise InputError("task: test_tokens and test_targets come together, or neither")
        kinds = ("",) if self.test_tokens is None else ("", "test_")  # prefixes of the arrays' names

        tokens = {kind: _tokens(f"{kind}tokens", getattr(self, f"{kind}tokens")) for kind in kinds}
        targets = {k: _targets(f"{k}targets", getattr(self, f"{k}targets"), len(tokens[k])) for k in kinds}
        for name, arrays in (("tokens", tokens), ("targets", targets)):
            if arrays[kinds[-1]].shape[1:] != arrays[""].shape[1:]:
                shapes = f"shape {arrays['test_'].shape}, {name} {arrays[''].shape}"
                raise InputError(f"task: test_{name} have {shapes}; all but the number of samples must agree")

        classes = plain(self.classes)
        if targets[""].ndim == 1:
            classes = _count_classes(list(targets.values()), classes)
            targets = {kind: _unit_vectors(labels, classes) for kind, labels in targets.items()}
        elif classes is not None and classes != targets[""].shape[1]:
            raise InputError(f"task: classes = {show(classes)}, but targets have shape {targets[''].shape}")

        for kind in kinds:
            object.__setattr__(self, f"{kind}tokens", tokens[kind])
            object.__setattr__(self, f"{kind}targets", targets[kind])
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "classification", classes is not None)

    @property
    def samples(self) -> int:
        """n, the number of training samples."""
        return len(self.tokens)


def generator(key: str, seed: int) -> np.random.Generator:
    """Random numbers from a seed.

    Raises:
        InputError: naming the key, for anything but a whole number from 0.
    """
    return np.random.default_rng(whole(key, seed, 0, 2**63 - 1))


def _numbers(name: str, values: object) -> Array:
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError(array.dtype)
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"task: {name} must be an array of numbers ({error})") from error
    if not np.isfinite(array).all():
        raise InputError(f"task: {name} holds {int((~np.isfinite(array)).sum())} values that are not finite")
    return array


def _tokens(name: str, values: object) -> Array:
    array = _numbers(name, values)
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"task: {name} has shape {array.shape}; must be (samples, tokens, channels), none of them 0")
    return array


def _targets(name: str, values: object, samples: int) -> Array:
    """Numbers (n, C), or labels (n,) from 0."""
    array = _numbers(name, values)
    if array.ndim not in (1, 2) or len(array) != samples or array.size == 0:
        raise InputError(f"task: {name} has shape {array.shape}; must be ({samples}, outputs) or labels ({samples},)")
    if array.ndim == 1 and (np.asarray(values).dtype.kind == "f" or (array < 0).any()):
        raise InputError(
            f"task: {name} has shape ({samples},) and so must hold labels 0, 1, 2, … of an integer type, by "
            f"astype(int); give numbers that are to be fitted the shape ({samples}, 1)"
        )
    return array


def _count_classes(labels: Sequence[Array], given: object) -> int:
    """C. A class without a sample is a mistake in how they are counted, unless the user gives their number."""
    present = np.unique(np.concatenate(labels)).astype(np.int64)
    most = int(present[-1])
    if given is not None:
        classes = whole("task: classes", given, 2, _MOST_CLASSES)
        if most >= classes:
            raise InputError(f"task: classes = {classes}, but there is a label {most}; must be at least {most + 1}")
        return classes

    if most >= _MOST_CLASSES:
        raise InputError(f"task: targets hold the label {most}; at most {_MOST_CLASSES - 1}")
    if len(present) == 1:
        raise InputError(f"task: all labels are {most}; needs two classes, or their number in classes")
    if len(present) <= most:
        shown = ", ".join(map(str, present[:4])) + ", …" * (len(present) > 4)
        gap = int(np.flatnonzero(present != np.arange(len(present)))[0])
        raise InputError(
            f"task: no sample has the label {gap}: labels are {shown} and must count classes from 0 without gaps; "
            f"where a class is meant to have no sample, give classes = {most + 1}"
        )
    return most + 1


def _unit_vectors(labels: Array, classes: int) -> Array:
    """(n,) -> (n, C)."""
    return np.asarray(labels[:, None] == np.arange(classes), dtype=np.float64)
