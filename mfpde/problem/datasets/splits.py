"""What the shipped tasks share: sizes that fit into memory, and the split into training and test samples."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import whole
from mfpde.problem.tasks import Array, Task

MOST_TOKENS, MOST_FREE, MOST_WIDTH = 10_000, 4096, 1024
_MOST_SAMPLES = 10**8
_MOST_ENTRIES = 2**28  # 2 GB


def split(tokens: Array, targets: NDArray[Any], samples: int, classes: int | None = None) -> Task:
    """The first samples for training, all others, if there are any, for testing."""
    if len(tokens) == samples:
        return Task(tokens, targets, classes=classes)
    return Task(tokens[:samples], targets[:samples], tokens[samples:], targets[samples:], classes)


def check_counts(samples: int, test_samples: int = 0, tokens: int = 1, channels: int = 1) -> None:
    """The sizes of a generated task: whole numbers, and arrays that fit into memory."""
    whole("task.samples", samples, 1, _MOST_SAMPLES)
    whole("task.test_samples", test_samples, 0, _MOST_SAMPLES)
    entries = (samples + test_samples) * tokens * channels
    if entries > _MOST_ENTRIES:
        raise InputError(f"task.samples = {samples}: {entries} numbers in all tokens; at most {_MOST_ENTRIES}")
