"""The finite Transformers of a run file after their training, as one table and one record each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfpde.finite.jobs import Job
from mfpde.finite.record_files import Record
from mfpde.output.records.tables import Column

_COUNTS = frozenset({"steps"})  # columns of whole numbers


@dataclass(frozen=True, eq=False)
class Particles:
    """Finite Transformers that were trained.

    Attributes:
        directory: the folder `particles/` of the run.
        records: one a Transformer: its job, columns, moments, and units at the τ at which they were kept.
    """

    directory: Path
    records: tuple[Record, ...]

    def __repr__(self) -> str:
        sizes = ", ".join(dict.fromkeys(_size(record.job) for record in self.records))
        return f"Particles({len(self.records)} finite Transformers of M = {sizes or 'none'} in {str(self.directory)!r})"

    @property
    def history(self) -> dict[str, Column]:
        """The columns of the folder's history.csv for these Transformers: a row per record and report.

        `initial`, `units` (M, or points per coordinate as in "32x20"), `layers`, `seed` and `method` say which
        Transformer; the others are those of `Run.history`: `tau`, `risk`, `penalty`, `energy`, `steps`, and where they
        exist `test_risk`, `accuracy` and `test_accuracy`.
        """
        counts = np.array([len(record.tau) for record in self.records], dtype=np.int64)

        def repeated(entry: Callable[[Job], str | int]) -> Column:
            return np.repeat(np.array([entry(record.job) for record in self.records]), counts)

        about = {
            "initial": repeated(lambda job: job.initial),
            "units": repeated(_size if any(len(r.job.size) > 1 for r in self.records) else lambda job: job.size[0]),
            "layers": repeated(lambda job: job.layers),
            "seed": repeated(lambda job: job.seed),
            "method": repeated(lambda job: job.method.name),
        }
        names = dict.fromkeys(name for record in self.records for name in record.columns)
        return about | {name: self._column(name) for name in names}

    def _column(self, name: str) -> NDArray[np.float64] | NDArray[np.int64]:
        """The values of all records; nan where one has no such column."""
        missing = (np.full(len(record.tau), np.nan) for record in self.records)
        both = zip(self.records, missing, strict=True)
        values = np.concatenate([record.columns.get(name, nothing) for record, nothing in both])
        return values.astype(np.int64) if name in _COUNTS else values


def _size(job: Job) -> str:
    return "x".join(map(str, job.size))
