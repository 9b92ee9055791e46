"""The record of a trained finite Transformer, in a file of its own that is written whole or not at all."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
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
_GROUPS = {"column": "columns", "mean": "means", "covariance": "covariances", "theta": "theta", "weights": "weights"}
"""Groups of arrays in a file, and the attributes of a record that they hold."""


@dataclass(frozen=True, eq=False)
class Record:
    """A finite Transformer along its training.

    Attributes:
        job: what was trained.
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
        """Has it reports at all of `times`, and units at all of `kept`?"""
        return all(has_time(self.tau, t) for t in times) and all(has_time(self.kept, t) for t in kept)


def has_time(times: Array | Sequence[float], tau: float) -> bool:
    """Is τ among these times, up to rounding?"""
    return bool(np.isclose(times, tau, rtol=1e-9, atol=1e-12).any())


def path_of(folder: Path, job: Job) -> Path:
    """The file of a job."""
    return folder / f"{job.name}{_SUFFIX}"


def save(folder: Path, record: Record) -> None:
    """Write a record in one step.

    Raises:
        OSError: when the disk refuses.
    """
    groups = {group: getattr(record, attribute) for group, attribute in _GROUPS.items()}
    arrays = {f"{group}/{name}": values for group, mapping in groups.items() for name, values in mapping.items()}
    about = np.array(json.dumps(asdict(record.job)))
    path = path_of(folder, record.job)
    with naming(path), replacing(path) as part, part.open("wb") as file:
        np.savez(file, kept=record.kept, about=about, **arrays)


def load(path: Path) -> Record:
    """Read a record.

    Raises:
        InputError: when it is not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}

        groups: dict[str, dict[str, Array]] = {attribute: {} for attribute in _GROUPS.values()}
        for path_in_file, values in arrays.items():
            group, _, name = path_in_file.partition("/")
            if name:
                groups[_GROUPS[group]][name] = values
        return Record(job=_job(json.loads(str(arrays["about"]))), kept=arrays["kept"], **groups)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not the file of a finite Transformer that mfpde trained") from error


def load_all(folder: Path) -> list[Record]:
    """All records of a folder, in the order of their names."""
    return [load(path) for path in sorted(folder.glob(f"*{_SUFFIX}"))]


def _job(facts: Mapping[str, Any]) -> Job:
    return Job(facts["initial"], tuple(facts["size"]), facts["layers"], facts["seed"], Method(**facts["method"]))
