"""The effect of a small change of λ or of η on finite Transformers: the unit of the power of a comparison.

    Δ_p(τ) = R(τ; p (1 + c)) − R(τ; p),    p = λ, η

is measured on a finite Transformer that the comparison already has: it is trained again with p (1 + c), from the same
units, by the same method and with the same noise. Such common random numbers leave an error of Δ that is small against
Δ itself, of relative size (L M)^(−1/2) (Owen, Monte Carlo theory, methods and examples, 2013, chapter 8). The PDE is
not used, since it is what is judged. A difference δ of the risk is the effect of a relative change c δ/|Δ_p| of p.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.comparison.evidence import Effect
from mfpde.config.settings import Training
from mfpde.finite.record_files import Record
from mfpde.finite.training import TrainerCache
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]
_ENOUGH = 400  # units in all layers of a family, from which Δ is known to some 5 %


def witness(records: Sequence[Record], model: Transformer) -> Record:
    """The record on which effects are measured: the smallest of the longest with enough units, else the largest.

    Args:
        records: of one depth, at least one.
        model: at that depth.
    """
    longest = max(len(r.tau) for r in records)
    whole = sorted((r for r in records if len(r.tau) == longest), key=lambda r: (r.job.count(model), r.job.seed))
    enough = [r for r in whole if model.layers * r.job.count(model) >= _ENOUGH]
    return enough[0] if enough else whole[-1]


def effects(record: Record, model: Transformer, task: Task, training: Training, change: float) -> dict[str, Effect]:
    """Effects of λ, where it is not zero, and of η, by their names in a run file: `weight_decay` and `step`.

    Args:
        record: a finite Transformer of this problem.
        model: at its depth.
        task: with its samples.
        training: with λ and β⁻¹.
        change: c.

    Raises:
        ComputationError: when the changed Transformer cannot be trained.
    """
    decay, heat, factor = training.weight_decay, training.temperature, 1.0 + change
    changed = {"weight_decay": TrainerCache(model, task, factor * decay, heat)} if decay > 0.0 else {}
    changed["step"] = TrainerCache(dataclasses.replace(model, step=factor * model.step), task, decay, heat)

    times, found = [float(tau) for tau in record.tau], {}
    for name, trainers in changed.items():
        other = trainers.train(record.job, times, times[-1:])
        means = {family: other.means[family] - before for family, before in record.means.items()}
        found[name] = Effect(record.tau, other.columns["risk"] - record.columns["risk"], means)
    return found
