"""What is kept of a finite Transformer that was trained: a file of its own, complete or not there."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.finite.jobs import Job, Method
from mfpde.output.files import naming, replacing

Array = NDArray[np.float64]
_SUFFIX = ".npz"


@dataclass(frozen=True, eq=False)
class Record:
    """A finite Transformer along its training.

    Attributes:
        job: which one it is.
        columns: per name (t,): tau, risk, penalty, energy, steps, and where they exist test_risk, accuracy,
            test_accuracy.
        means: per family E θ (t, L, d) under its units' weights.
        covariances: per family Cov θ (t, L, d, d).
        kept: τ (s,) at which units were kept.
        theta: per family θ (s, L, u, d).
        weights: per family w (L, u).
    """

    job: Job
    columns: Mapping[str, Array]
    means: Mapping[str, Array]
    covariances: Mapping[str, Array]
    kept: Array
    theta: Mapping[str, Array]
    weights: Mapping[str, Array]

    @property
    def tau(self) -> Array:
        """τ of the reports (t,)."""
        return self.columns["tau"]

    def covers(self, times: Array, kept: Array) -> bool:
        """Has it reports at these times, and units at these?"""
        return all(bool(np.isclose(self.tau, t, rtol=1e-9, atol=1e-12).any()) for t in times) and all(
            bool(np.isclose(self.kept, t, rtol=1e-9, atol=1e-12).any()) for t in kept
        )


def path_of(folder: Path, job: Job) -> Path:
    """The file of a job."""
    return folder / f"{job.name}{_SUFFIX}"


def save(folder: Path, record: Record) -> None:
    """Write a record in one step.

    Raises:
        OSError: when the disk refuses.
    """
    arrays = {f"column/{name}": values for name, values in record.columns.items()}
    for name in record.theta:
        arrays[f"mean/{name}"] = record.means[name]
        arrays[f"covariance/{name}"] = record.covariances[name]
        arrays[f"theta/{name}"] = record.theta[name]
        arrays[f"weights/{name}"] = record.weights[name]
    about = np.array(json.dumps(asdict(record.job)))
    path = path_of(folder, record.job)
    with naming(path), replacing(path) as part, part.open("wb") as file:
        np.savez(file, kept=record.kept, about=about, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> Record:
    """Read a record.

    Raises:
        InputError: when the file is none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return Record(
            job=_job(json.loads(str(arrays["about"]))),
            columns=_group(arrays, "column"),
            means=_group(arrays, "mean"),
            covariances=_group(arrays, "covariance"),
            kept=arrays["kept"],
            theta=_group(arrays, "theta"),
            weights=_group(arrays, "weights"),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not the file of a finite Transformer that mfpde trained") from error


def load_all(folder: Path) -> list[Record]:
    """All records of a folder, in the order of their names."""
    return [load(path) for path in sorted(folder.glob(f"*{_SUFFIX}"))]


def _job(said: Mapping[str, Any]) -> Job:
    return Job(said["initial"], tuple(said["size"]), said["layers"], said["seed"], Method(**said["method"]))


def _group(arrays: Mapping[str, Array], group: str) -> dict[str, Array]:
    return {name.partition("/")[2]: values for name, values in arrays.items() if name.startswith(f"{group}/")}
