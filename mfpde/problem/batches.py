"""Batches of samples: which samples each step of a method takes, drawn from a seed.

A batch is a function of the step's number alone, so that a run that is resumed, a finite Transformer and the limit take
the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError

type Index = NDArray[np.int64]


@dataclass(frozen=True)
class Batches:
    """The batches of a set of samples.

    Attributes:
        samples: how many there are.
        size: of a batch; 0 takes all samples.
        sampling: "shuffled" or "independent".
        seed: of the draws.

    Raises:
        InputError: for a batch larger than the set.
    """

    samples: int
    size: int = 0
    sampling: str = "shuffled"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size > self.samples:
            raise InputError(f"training.batch = {self.size}: the task has {self.samples} samples; must be at most that")

    @property
    def taken(self) -> int:
        """Samples of one step."""
        return self.size or self.samples

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch. What fills no batch is left out of it."""
        return self.samples // self.taken

    def at(self, step: int) -> Index:
        """The samples of a step, counted from 0."""
        if self.taken == self.samples:
            return np.arange(self.samples)
        if self.sampling == "independent":
            return _drawn(self.seed, step, self.samples)[: self.taken]
        epoch, place = divmod(step, self.per_epoch)
        return _drawn(self.seed, epoch, self.samples)[place * self.taken : (place + 1) * self.taken]


@lru_cache(maxsize=4)
def _drawn(seed: int, number: int, samples: int) -> Index:
    """A random order of the samples."""
    order = np.random.default_rng([seed, number]).permutation(samples)
    order.flags.writeable = False
    return order
