"""The csv files of a run: appended report by report, read back bit for bit, open to readers while the run goes on."""

from __future__ import annotations

import csv
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.output.checkpoint.state_dict import StateDict
from mfpde.output.files import append_text, naming, refusing, write_text
from mfpde.output.records.report import BlockIndicators, BlockMoments, Report, Step

type Column = NDArray[np.float64] | NDArray[np.int64] | NDArray[np.str_]
type Value = float | int | str

TABLES = ("history.csv", "gap.csv", "moments.csv", "indicators.csv", "steps.csv", "timings.csv", "singular_values.csv")

_TEXT = frozenset({"family", "bound"})
_COUNTS = frozenset({"layer", "steps", "step", "right_hand_sides", "passes", "accepted"})
"""Columns of whole numbers, without a decimal point; but `step` of steps.csv is a length of time."""


class Table:
    """A csv file that grows; the columns are fixed when it is made."""

    def __init__(self, path: Path, columns: Iterable[str]) -> None:
        """Replace the file by its header alone."""
        self.path = path
        self.columns = tuple(columns)
        self._size = self._checksum = 0
        header = csv_text([self.columns])
        write_text(path, header)
        self._count(header)

    @classmethod
    def from_state(cls, path: Path, saved: StateDict) -> Table:
        """The table that `state_dict` described; `cut` removes later rows.

        Raises:
            InputError: when the file no longer holds what it held then; it stays as it is.
        """
        table = cls.__new__(cls)
        table.path, table._size, table._checksum = path, saved["size"], saved["sum"]
        with refusing(str(path), "; the run cannot be continued"), path.open("rb") as file:
            data = file.read(table._size)
        if len(data) != table._size or zlib.crc32(data) != table._checksum:
            raise InputError(f"{path}: was changed after the checkpoint was written; the run cannot be continued")
        table.columns = tuple(next(csv.reader(io.StringIO(data.decode(), newline=""))))
        return table

    def state_dict(self) -> StateDict:
        """Size and checksum of the file."""
        return {"size": self._size, "sum": self._checksum}

    def cut(self) -> None:
        """Remove the rows that are not this table's."""
        with naming(self.path):
            os.truncate(self.path, self._size)

    def append(self, rows: Iterable[Mapping[str, Value]]) -> None:
        """Add whole rows at once; a column that a row lacks becomes nan.

        Raises:
            ValueError: when a row has a column that the table has not.
        """
        lines = []
        for row in rows:
            if unknown := row.keys() - set(self.columns):
                raise ValueError(f"{self.path.name} has no column {sorted(unknown)}")
            lines.append([_text(name, row.get(name, float("nan"))) for name in self.columns])
        text = csv_text(lines)
        append_text(self.path, text)
        self._count(text)

    def _count(self, text: str) -> None:
        """Add what was written to the size and the checksum of the file."""
        self._size += len(text.encode())
        self._checksum = zlib.crc32(text.encode(), self._checksum)


class Tables:
    """The tables of a run directory; the first report fixes their columns."""

    def __init__(self, directory: Path, saved: StateDict | None = None) -> None:
        """Nothing is written before the first report.

        Args:
            directory: the run's.
            saved: what `state_dict` gave, of tables to continue; they are not changed before `cut`.

        Raises:
            InputError: when one of them cannot be continued.
        """
        self._directory = directory
        self._tables = {name: Table.from_state(directory / name, part) for name, part in (saved or {}).items()}

    def cut(self) -> None:
        """Remove what was written after the checkpoint."""
        for name in TABLES:
            if name in self._tables:
                self._tables[name].cut()
            else:
                (self._directory / name).unlink(missing_ok=True)

    def state_dict(self) -> StateDict:
        """What a checkpoint must know to continue them."""
        return {name: table.state_dict() for name, table in self._tables.items()}

    @property
    def paths(self) -> list[Path]:
        """The files so far."""
        return [table.path for table in self._tables.values()]

    def append(self, report: Report) -> None:
        """Add the report's rows; history.csv last, so that a row there means that the whole report can be read."""
        dim = max((len(block.mean) for block in report.moments), default=0)
        tau: dict[str, Value] = {"tau": report.tau}
        gaps: list[dict[str, Value]] = [
            tau | {"family": family, "layer": layer, "gap": gap} for family, layer, gap in report.gaps
        ]
        self._append("gap.csv", ["tau", "family", "layer", "gap"], gaps)
        self._append("moments.csv", moment_columns(dim), [tau | _moments(block) for block in report.moments])
        self._append("indicators.csv", ["tau", *_fields(BlockIndicators)], [tau | asdict(b) for b in report.indicators])
        self._append_values(report)
        self.append_steps(report.steps)
        self._append("timings.csv", report.timings, [report.timings])
        self._append("history.csv", report.history, [report.history])

    def _append_values(self, report: Report) -> None:
        """Add rows to singular_values.csv, which runs have whose families have matrices."""
        if not report.singular_values:
            return
        columns = [f"sigma_{k}" for k in range(max(len(values) for _, _, values in report.singular_values))]
        rows: list[dict[str, Value]] = []
        for family, layer, values in report.singular_values:
            place: dict[str, Value] = {"tau": report.tau, "family": family, "layer": layer}
            rows.append(place | dict(zip(columns, values.tolist(), strict=False)))
        self._append("singular_values.csv", ["tau", "family", "layer", *columns], rows)

    def append_steps(self, steps: Iterable[Step]) -> None:
        """Add rows to steps.csv alone."""
        self._append("steps.csv", _fields(Step), [asdict(step) for step in steps])

    def _append(self, name: str, columns: Iterable[str], rows: Iterable[Mapping[str, Value]]) -> None:
        if name not in self._tables:
            self._tables[name] = Table(self._directory / name, columns)
        self._tables[name].append(rows)


def moment_columns(dim: int) -> list[str]:
    """The columns of moments.csv for up to `dim` coordinates: the covariance by its upper triangle."""
    means = [f"mean_{i}" for i in range(dim)]
    return ["tau", "family", "layer", "mass", *means, *(f"cov_{i}{j}" for i, j in _upper(dim))]


def _fields(kind: type[BlockIndicators] | type[Step]) -> list[str]:
    return [field.name for field in fields(kind)]


def read_table(path: Path) -> dict[str, Column]:
    """Column name → values: texts (`family`, `bound`) as strings, counts as integers, all else as float64.

    A last row that is still being written is left out; a table that does not exist yet is empty, without columns.

    Raises:
        InputError: when a complete row is not a row of this table.
    """
    with refusing(str(path)):
        if not path.exists():
            return {}
        text = path.read_bytes()

    try:
        complete = text[: text.rfind(b"\n") + 1].decode("utf-8")
        rows = list(csv.reader(io.StringIO(complete, newline="")))
        header, body = (rows[0], rows[1:]) if rows else ([], [])
        columns = list(zip(*body, strict=True)) or [()] * len(header)
        return {name: _column(name, values) for name, values in zip(header, columns, strict=True)}
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a table that mfpde wrote: {error}") from error


def _column(name: str, values: tuple[str, ...]) -> Column:
    if name in _TEXT:
        return np.array(values, dtype=np.str_)
    # Some counts had a decimal point in earlier versions.
    if name == "layer" or (name in _COUNTS and all(value.isdecimal() for value in values)):
        return np.array([int(value) for value in values], dtype=np.int64)
    return np.array([float(value) for value in values], dtype=np.float64)


def _moments(block: BlockMoments) -> dict[str, Value]:
    row: dict[str, Value] = {"family": block.family, "layer": block.layer, "mass": block.mass}
    row |= {f"mean_{i}": value for i, value in enumerate(block.mean)}
    return row | {f"cov_{i}{j}": block.covariance[i, j] for i, j in _upper(len(block.mean))}


def _upper(dim: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(dim) for j in range(i, dim))


def _text(name: str, value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (name in _COUNTS - {"step"} and float(value).is_integer()):
        return str(int(value))
    return repr(float(value))


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """The rows as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
