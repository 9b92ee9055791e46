"""The effect of a small change of λ, η or ε on finite Transformers: the unit of the power of a comparison.

    Δ_p(τ) = R(τ; p (1 + c)) − R(τ; p),    p = λ, η and, in training by steps, the learning rate ε

is measured on a finite Transformer that the comparison already has: it is trained again with p (1 + c), from the same
units, by the same method and with the same noise. Such common random numbers leave an error of Δ that is small against
Δ itself, of relative size (L M)^(−1/2) (Owen, Monte Carlo theory, methods and examples, 2013, chapter 8). The limit is
not used, since it is what is judged. A difference δ of the risk is the effect of a relative change c δ/|Δ_p| of p.
With another ε the same steps, on the same batches, end at other τ: the difference is that after equally many steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.comparison.evidence import Effect
from mfpde.config.settings import Training
from mfpde.finite.record_files import Record
from mfpde.finite.training import TrainerCache
from mfpde.problem.descent import Descent
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
    """Effects by their names in a run file: of λ, `weight_decay`, where it is not zero, of η, `step`, and of ε.

    Args:
        record: a finite Transformer of this problem.
        model: at its depth.
        task: with its samples.
        training: with λ and β⁻¹, and with the method of training by steps.
        change: c.

    Raises:
        ComputationError: when the changed Transformer cannot be trained.
    """
    found = {}
    for name, other_model, other in _changed(model, training, 1.0 + change):
        descent = Descent.of(other, task.samples)
        times = record.tau if descent is None else descent.taus[record.columns["steps"].astype(int)]

        trained = TrainerCache.of(other_model, task, other).train(record.job, times.tolist(), times[-1:].tolist())
        means = {family: trained.means[family] - before for family, before in record.means.items()}
        found[name] = Effect(record.tau, trained.columns["risk"] - record.columns["risk"], means)
    return found


def _changed(model: Transformer, training: Training, factor: float) -> Iterator[tuple[str, Transformer, Training]]:
    """Per parameter its name, and model and training with a multiple of it."""
    if training.weight_decay > 0.0:
        yield "weight_decay", model, dataclasses.replace(training, weight_decay=factor * training.weight_decay)
    yield "step", dataclasses.replace(model, step=factor * model.step), training
    if training.optimiser is not None:
        faster = dataclasses.replace(training.optimiser, learning_rate=factor * training.optimiser.learning_rate)
        yield "learning_rate", model, dataclasses.replace(training, optimiser=faster)
