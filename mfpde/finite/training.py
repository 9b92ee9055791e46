"""From a job to its record: train one finite Transformer, and look at it at the times of the reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from numpy.typing import NDArray

from mfpde.errors import ComputationError
from mfpde.finite.flow import make_flow, split
from mfpde.finite.jobs import Job, Method
from mfpde.finite.methods import Snapshot, Trainer, gradient_descent, runge_kutta
from mfpde.finite.record_files import Record
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, Units

Array = NDArray[np.float64]
type Tested = Callable[[Units], tuple[float, float]]
"""Risk and accuracy on the test samples."""


@dataclass
class School:
    """Trains jobs of one model; what was compiled for a shape serves all jobs of that shape.

    Attributes:
        model: at the depth of the jobs.
        task: training and test samples.
        weight_decay: λ.
        temperature: β⁻¹.
    """

    model: Transformer
    task: Task
    weight_decay: float
    temperature: float = 0.0
    _compiled: dict[tuple[Method, tuple[int, ...]], tuple[Trainer, Tested | None]] = field(default_factory=dict)

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
        trainer, tested = self._ways(job.method, units)
        rows, moments, thetas = [], [], []
        try:
            for snapshot in trainer.snapshots(units, times, seed=job.seed):
                rows.append(self._row(snapshot, tested))
                moments.append([_moments(*pair) for pair in snapshot.units])
                if np.isclose(kept, snapshot.tau, rtol=1e-9, atol=1e-12).any():
                    thetas.append([np.asarray(theta) for theta, _ in snapshot.units])
        except ComputationError as error:
            raise ComputationError(f"{job.name}: {error}") from error
        names = [family.name for family in self.model.families]
        return Record(
            job=job,
            columns={name: np.array([row[name] for row in rows]) for name in rows[0]},
            means={name: np.stack([m[c][0] for m in moments]) for c, name in enumerate(names)},
            covariances={name: np.stack([m[c][1] for m in moments]) for c, name in enumerate(names)},
            kept=np.array([t for t in times if np.isclose(kept, t, rtol=1e-9, atol=1e-12).any()]),
            theta={name: np.stack([t[c] for t in thetas]) for c, name in enumerate(names)},
            weights={name: np.asarray(units[c][1]) for c, name in enumerate(names)},
        )

    def _ways(self, method: Method, units: Units) -> tuple[Trainer, Tested | None]:
        """Compiled once per method and number of units."""
        key = (method, tuple(weights.shape[1] for _, weights in units))
        if key not in self._compiled:
            flow = make_flow(self.model, self.task, self.weight_decay, units)
            if method.learning_rate is None:
                trainer = runge_kutta(flow, method.tolerance)
            else:
                trainer = gradient_descent(flow, method.learning_rate, self.temperature)
            self._compiled = {key: (trainer, self._tested(units))}  # jobs of one shape follow each other
        return self._compiled[key]

    def _tested(self, units: Units) -> Tested | None:
        if self.task.test_tokens is None:
            return None
        risk = jax.jit(make_flow(self.model, self.task, self.weight_decay, units, test=True).risk)

        def tested(now: Units) -> tuple[float, float]:
            loss, hits = risk(*split(now))
            return float(loss), float(hits)

        return tested

    def _row(self, snapshot: Snapshot, tested: Tested | None) -> dict[str, float]:
        row = {
            "tau": snapshot.tau,
            "risk": snapshot.risk,
            "penalty": snapshot.penalty,
            "energy": snapshot.energy,
            "steps": float(snapshot.steps),
        }
        test = tested(snapshot.units) if tested is not None else None
        if test is not None:
            row["test_risk"] = test[0]
        if self.task.classification:
            row["accuracy"] = snapshot.accuracy
            if test is not None:
                row["test_accuracy"] = test[1]
        return row


def _moments(theta: jax.Array, weights: jax.Array) -> tuple[Array, Array]:
    """Mean (L, d) and covariance (L, d, d) of units θ (L, u, d) of weights (L, u)."""
    points, share = np.asarray(theta), np.asarray(weights)
    mean = np.einsum("lu,lud->ld", share, points)
    centred = points - mean[:, None]
    return mean, np.einsum("lu,lui,luj->lij", share, centred, centred)
