"""From a job to its record: train one finite Transformer, and measure it at the times of the reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jax
import numpy as np
from numpy.typing import NDArray

from mfpde.errors import ComputationError
from mfpde.finite.flow import Parameters, ParticleFlow, Weights, make_flow, split
from mfpde.finite.jobs import Job, Method
from mfpde.finite.methods import Trainer, TrainingSnapshot, gradient_descent, runge_kutta
from mfpde.finite.optimiser_steps import optimiser_steps
from mfpde.finite.record_files import Record, has_time
from mfpde.problem.descent import Descent
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, Units

if TYPE_CHECKING:
    from mfpde.config.settings import Training

Array = NDArray[np.float64]
type TestRisk = Callable[[Parameters, Weights], tuple[jax.Array, jax.Array]]
"""Risk and accuracy on the test samples."""


@dataclass
class TrainerCache:
    """Trains jobs of one model; what was compiled for one shape of units is kept for the next job of that shape.

    Attributes:
        model: at the depth of the jobs.
        task: training and test samples.
        weight_decay: λ.
        temperature: β⁻¹.
        descent: the method that all jobs train by; None for the flow.
    """

    model: Transformer
    task: Task
    weight_decay: float
    temperature: float = 0.0
    descent: Descent | None = None
    _compiled: dict[tuple[Method, tuple[int, ...]], tuple[Trainer, TestRisk | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Transformer, task: Task, training: Training) -> TrainerCache:
        """For the training of a run file."""
        return cls(model, task, training.weight_decay, training.temperature, Descent.of(training, task.samples))

    def train(self, job: Job, times: Sequence[float], kept: Sequence[float]) -> Record:
        """Train one job.

        Args:
            job: whose depth is the model's.
            times: τ of reports, increasing from 0.
            kept: those of them at which the units are kept.

        Raises:
            ComputationError: naming the job, when its numbers fail.
        """
        units = job.units(self.model)
        trainer, test_risk = self._compile(job.method, units)
        rows, moments, thetas = [], [], []
        try:
            for snapshot in trainer.snapshots(units, times, seed=job.seed):
                rows.append(self._row(snapshot, test_risk))
                moments.append([_moments(*pair) for pair in snapshot.units])
                if has_time(kept, snapshot.tau):
                    thetas.append([np.asarray(theta) for theta, _ in snapshot.units])
        except ComputationError as error:
            raise ComputationError(f"{job.name}: {error}") from error

        names = [family.name for family in self.model.families]
        return Record(
            job=job,
            columns={name: np.array([row[name] for row in rows]) for name in rows[0]},
            means={name: np.stack([m[c][0] for m in moments]) for c, name in enumerate(names)},
            covariances={name: np.stack([m[c][1] for m in moments]) for c, name in enumerate(names)},
            kept=np.array([t for t in times if has_time(kept, t)]),
            theta={name: np.stack([t[c] for t in thetas]) for c, name in enumerate(names)},
            weights={name: np.asarray(units[c][1]) for c, name in enumerate(names)},
        )

    def _compile(self, method: Method, units: Units) -> tuple[Trainer, TestRisk | None]:
        """Compile once per method and number of units; only the last is kept, since jobs of one shape come together."""
        key = (method, tuple(weights.shape[1] for _, weights in units))
        if key not in self._compiled:
            trainer = self._trainer(method, make_flow(self.model, self.task, self.weight_decay, units))
            test_risk = None
            if self.task.test_tokens is not None:
                test_risk = jax.jit(make_flow(self.model, self.task, self.weight_decay, units, test=True).risk)
            self._compiled = {key: (trainer, test_risk)}
        return self._compiled[key]

    def _trainer(self, method: Method, flow: ParticleFlow) -> Trainer:
        if self.descent is not None:
            return optimiser_steps(flow, self.descent)
        if method.learning_rate is None:
            return runge_kutta(flow, method.tolerance)
        return gradient_descent(flow, method.learning_rate, self.temperature)

    def _row(self, snapshot: TrainingSnapshot, test_risk: TestRisk | None) -> dict[str, float]:
        """The columns of one report; accuracies are those of a classification only."""
        test = test_risk(*split(snapshot.units)) if test_risk is not None else None
        row = {name: getattr(snapshot, name) for name in ("tau", "risk", "penalty", "energy", "steps")}

        if test is not None:
            row["test_risk"] = test[0]
        if self.task.classification:
            row["accuracy"] = snapshot.accuracy
        if self.task.classification and test is not None:
            row["test_accuracy"] = test[1]
        return {name: float(value) for name, value in row.items()}


def _moments(theta: jax.Array, weights: jax.Array) -> tuple[Array, Array]:
    """Mean (L, d) and covariance (L, d, d) of units θ (L, u, d) of weights (L, u)."""
    points, share = np.asarray(theta), np.asarray(weights)
    mean = np.einsum("lu,lud->ld", share, points)
    centred = points - mean[:, None]
    return mean, np.einsum("lu,lui,luj->lij", share, centred, centred)
