"""A study of finite Transformers: one job for every size, depth and seed, distributed over the ranks by cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from mfpde.errors import InputError
from mfpde.finite.initial_units import sampled_units, tensor_units
from mfpde.parallel import memory
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, Units

type Initial = Literal["sampled", "grid", "gauss"]
type Size = tuple[int, ...]
"""M of sampled units; points per coordinate of a grid, the last of them for all further coordinates."""

INITIALS: tuple[Initial, ...] = ("sampled", "grid", "gauss")
_STAGES = 20  # copies of all units that a step of the Runge–Kutta pair and its controller hold
_COPIES = 6  # arrays of the size of the largest intermediate that its derivative keeps


@dataclass(frozen=True)
class Method:
    """How to train: by the flow, adaptively or in steps of one length, or by the method of the run file.

    Attributes:
        learning_rate: h of gradient descent that approximates the flow, in units of τ; None where steps leave no error
            to extrapolate: the flow, and a method, whose steps the limit has as well.
        tolerance: of a step of the flow.
        optimiser: training.method of the run file; empty for the flow.
    """

    learning_rate: float | None = None
    tolerance: float = 1e-6
    optimiser: str = ""

    @property
    def name(self) -> str:
        """Its part of a file's name."""
        if self.optimiser:
            return self.optimiser
        return f"flow-{self.tolerance:g}" if self.learning_rate is None else f"descent-{self.learning_rate:g}"


@dataclass(frozen=True)
class Job:
    """One finite Transformer to train.

    Attributes:
        initial: where its units start: drawn, on a uniform grid, or at Gauss points.
        size: M, or points per coordinate.
        layers: L.
        seed: of units and noise; 0 where nothing is drawn.
        method: how it is trained.
    """

    initial: Initial
    size: Size
    layers: int
    seed: int
    method: Method

    @property
    def name(self) -> str:
        """Unique among the jobs of a run file; the name of its record."""
        size = "x".join(map(str, self.size))
        return f"{self.initial}-{size}-layers-{self.layers}-{self.method.name}-seed-{self.seed}"

    def units(self, model: Transformer) -> Units:
        """The units at τ = 0, per family θ (L, u, d) and w (L, u)."""
        if self.initial == "sampled":
            return sampled_units(model, self.size[0], self.seed)
        return tensor_units(self.initial, model, self._points(model))

    def count(self, model: Transformer) -> int:
        """Units in one layer of the largest family."""
        if self.initial == "sampled":
            return self.size[0]
        return max(math.prod(points) for points in self._points(model).values())

    def _points(self, model: Transformer) -> dict[str, list[int]]:
        return {f.name: [self.size[min(k, len(self.size) - 1)] for k in range(f.dim)] for f in model.families}

    def cost(self, model: Transformer, task: Task) -> float:
        """Proportional to the time of a right-hand side."""
        return float(model.layers * len(model.families) * self.count(model) * task.tokens[0].size * task.samples)

    def memory(self, model: Transformer, task: Task) -> float:
        """Estimated bytes: units in all stages of a step, and one sample's pass through all layers and back."""
        units = self.count(model) * model.layers
        parameters = sum(family.dim for family in model.families)
        return 8.0 * units * (_STAGES * parameters + _COPIES * task.tokens.shape[1] ** 2)


def plan(initial: Initial, sizes: Sequence[Size], layers: Sequence[int], seeds: int, method: Method) -> list[Job]:
    """All jobs of a study; nothing is drawn for a grid, which has one seed.

    Raises:
        InputError: for sizes, depths or seeds below 1, naming the option.
    """
    smallest = min((n for size in sizes for n in size), default=0)
    if smallest < 1:
        raise InputError(f"--units {_listed(sizes)}: must be whole numbers, at least 1, as in 10,40,160")
    if seeds < 1:
        raise InputError(f"--seeds {seeds}: must be a whole number, at least 1")
    if not layers or min(layers) < 1:
        raise InputError(f"--layers {','.join(map(str, layers))}: must be whole numbers, at least 1, as in 4,8,16")
    if initial == "sampled" and any(len(size) > 1 for size in sizes):
        raise InputError(f"--units {_listed(sizes)}: points per coordinate are for --initial grid and gauss")
    if initial != "sampled" and seeds > 1:
        raise InputError(f"--seeds {seeds}: nothing is drawn with --initial {initial}; leave it out")
    if initial != "sampled" and smallest < 2:
        raise InputError(f"--units {_listed(sizes)}: a grid needs at least 2 points per coordinate")

    unique = list(dict.fromkeys(sizes))
    return [Job(initial, s, n, seed, method) for s, n, seed in product(unique, dict.fromkeys(layers), range(seeds))]


def _listed(sizes: Iterable[Size]) -> str:
    return ",".join("x".join(map(str, size)) for size in sizes)


def deal[Item](items: Sequence[Item], costs: Sequence[float], ranks: int) -> list[list[Item]]:
    """Items for every rank, longest processing time first, each to the rank with the least load so far (Graham, 1969).

    The result is the same on every rank, and needs no communication.
    """
    loads = np.zeros(ranks)
    dealt: list[list[Item]] = [[] for _ in range(ranks)]
    for k in sorted(range(len(items)), key=lambda k: -costs[k]):
        rank = int(loads.argmin())
        dealt[rank].append(items[k])
        loads[rank] += costs[k]
    return dealt


def check_memory(jobs: Iterable[tuple[Job, Transformer, Task]], ranks: int, free: float | None = None) -> None:
    """Refuse jobs that do not fit, before any of them starts.

    Args:
        jobs: each with its model and task.
        ranks: that may each run the largest job at a time on this machine.
        free: bytes; those of this machine unless given.

    Raises:
        InputError: naming the largest size, the memory that it needs and the memory that is free.
    """
    share = (memory.available() if free is None else free) / ranks
    needed, job = max(((job.memory(model, task), job) for job, model, task in jobs), key=lambda pair: pair[0])
    if needed > share:
        among = f" for each of {ranks} ranks" if ranks > 1 else ""
        raise InputError(
            f"--units {_listed([job.size])}: needs about {memory.in_gibibytes(needed)} with {job.layers} layers; "
            f"{memory.in_gibibytes(share)} are free{among}"
        )
