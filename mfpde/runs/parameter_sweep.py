"""A parameter sweep: runs that differ in some keys, planned as a whole, solved one by one, summed up in a table."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mfpde.config import run_file, toml
from mfpde.config.identity import Identity
from mfpde.errors import ComputationError, InputError
from mfpde.figures.plots.sweep_curves import draw_sweep
from mfpde.figures.run import Run, open_run
from mfpde.inputs import inside, show
from mfpde.output.directory import SUMMARY, check
from mfpde.output.files import failing_clearly, write_text
from mfpde.output.lock import only_writer
from mfpde.output.reader import RunReader
from mfpde.output.records.tables import Column, csv_text
from mfpde.parallel.agreement import from_first
from mfpde.parallel.mpi import say
from mfpde.parallel.signals import Signals
from mfpde.parallel.working_ranks import communicator
from mfpde.runs.limit_run import RunOptions
from mfpde.runs.limit_run import execute as solve
from mfpde.runs.problem_setup import problem_of, report_times
from mfpde.runs.run_status import is_begun, is_done, is_resumable, stopped_within

TABLE = "sweep.csv"
_COLUMNS = (
    "tau", "risk", "penalty", "energy", "dissipation", "gap", "risk_error", "steps", "test_risk", "accuracy",
    "test_accuracy",
)  # fmt: skip
_MOST = 1000  # runs of one sweep


@dataclass(frozen=True)
class SweepMember:
    """One run of the sweep.

    Attributes:
        values: of the swept keys.
        run: the run file with them.
        directory: where the run goes.
        identity: of the run.
        finished: its directory holds this very run, done.
    """

    values: Mapping[str, Any]
    run: run_file.RunFile
    directory: Path
    identity: Identity
    finished: bool


@dataclass(frozen=True)
class SweepPlan:
    """The runs of a sweep, in the order in which they are solved.

    Attributes:
        directory: of the sweep.
        members: every combination of the values.
    """

    directory: Path
    members: tuple[SweepMember, ...]


@dataclass(frozen=True, eq=False)
class Sweep:
    """The runs of a sweep that are there.

    Attributes:
        directory: of the sweep.
        runs: in the order in which they were solved: the last key varies fastest.
        table: the columns of sweep.csv, a row a run: swept keys, the last row of the run's history, and how it ended.
    """

    directory: Path
    runs: tuple[Run, ...]
    table: Mapping[str, Column]

    @classmethod
    def of(cls, plan: SweepPlan) -> Sweep:
        """The runs of a plan, read back."""
        rows = sweep_rows(plan)
        columns = sweep_columns(rows, list(plan.members[0].values))
        table = {name: _column([row.get(name, math.nan) for row in rows]) for name in columns}
        return cls(plan.directory, tuple(open_run(plan.directory / row["directory"]) for row in rows), table)

    def __repr__(self) -> str:
        keys = ", ".join(name for name in self.table if "." in name)
        return f"Sweep({len(self.runs)} runs over {keys} in {str(self.directory)!r})"


def _column(values: Sequence[Any]) -> Column:
    """An array of numbers or of texts; of objects where values are neither, or some of both."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float} or kinds in ({str}, {bool}):
        return np.array(values)
    column = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        column[place] = value
    return column


def plan(
    path: Path, swept: Mapping[str, Sequence[Any]], overrides: Sequence[str], directory: str | None, overwrite: bool
) -> SweepPlan:
    """Everything that can be wrong with any of the runs is found here, before one is solved; no collective.

    Args:
        path: the run file.
        swept: keys and their values.
        overrides: as after `--set`, for all runs.
        directory: of the sweep; NAME-sweep beside the run file's own directory unless given.
        overwrite: a directory that holds another run is replaced.

    Raises:
        InputError: one line naming key, value and what is allowed.
    """
    _check_values(swept)
    folder = _folder(path, overrides, directory)

    members = []
    for values in product(*swept.values()):
        chosen = dict(zip(swept, values, strict=True))
        own_folder = folder / "_".join(f"{key}-{_word(value)}" for key, value in chosen.items())
        sets = [toml.override(key, value) for key, value in chosen.items()]
        run = run_file.load(path, [*overrides, *sets], own_folder)
        _check(run)

        identity = run.identity()
        check(own_folder, overwrite or is_begun(own_folder, identity))
        members.append(SweepMember(chosen, run, own_folder, identity, is_done(own_folder, identity)))

    names = [member.directory.name for member in members]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"--over: several runs would be {min(twice)}; give each value once")
    return SweepPlan(folder, tuple(members))


def execute(plan: SweepPlan, signals: Signals | None = None) -> None:
    """Solve what is not finished; the table and the figure are brought up to date after every run; collective.

    Args:
        plan: the runs.
        signals: that may save or end the run under way, and the sweep with it.

    Raises:
        InputError: for what only shows when a solver is made.
        ComputationError: at the end, when some of the runs failed; the others have been solved.
        Stopped: when a signal ended it, after a checkpoint.
    """
    first = communicator().rank == 0
    failed = []
    with ExitStack() as stack:
        from_first(lambda: stack.enter_context(only_writer(plan.directory)))

        for number, member in enumerate(plan.members, start=1):
            place = f"run {number} of {len(plan.members)}"
            if first:
                values = ", ".join(f"{key} = {show(value)}" for key, value in member.values.items())
                say(f"{place}: {values}{': finished before' if member.finished else ''}")
            try:
                with stopped_within(place):
                    _solve(member, signals or Signals())
            except ComputationError as error:
                failed.append(f"{member.directory.name}: {error}")
            from_first(lambda: _sum_up(plan))
    if failed:
        raise ComputationError(f"{len(failed)} of {len(plan.members)} runs failed; {failed[0]}")


def _solve(member: SweepMember, signals: Signals) -> None:
    """Solve a run that is not finished, from its last checkpoint or from its beginning; collective."""
    if not member.finished:
        resume = from_first(lambda: is_resumable(member.directory, member.identity))
        solve(member.run, RunOptions(overwrite=not resume, resume=resume, signals=signals))


def _folder(path: Path, overrides: Sequence[str], directory: str | None) -> Path:
    """The directory of the sweep."""
    if directory is None:
        own = run_file.load(path, overrides).directory
        folder = own.with_name(f"{own.name}-sweep")
    else:
        folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--directory {folder}: is a file, not a folder")
    return folder


def parse(over: Sequence[str]) -> dict[str, list[Any]]:
    """Key → values, of texts `a.b=x,y,…`.

    Raises:
        InputError: for a text that is none of these, and for a key that comes twice.
    """
    swept: dict[str, list[Any]] = {}
    for text in over:
        key, equals, given = (part.strip() for part in text.partition("="))
        if not equals or not _may_be_swept(key) or not given:
            raise InputError(f"--over {text}: must look like table.key=value,value,…")
        if key in swept:
            raise InputError(f"--over {text}: {key} is swept twice")

        words = [word.strip() for word in given.split(",")]
        values = toml.line(f"values = [{given}]").get("values", words)  # bare words are strings
        if "\n" in given or not values or "" in values:
            raise InputError(f"--over {text}: must look like table.key=value,value,…")
        swept[key] = values
    return swept


def _may_be_swept(key: str) -> bool:
    """Is it a key, and none that says where the run goes?"""
    return bool(key) and not key.startswith(("name", "output.directory"))


def _check_values(swept: Mapping[str, Sequence[Any]]) -> None:
    """Refuse keys that cannot be swept, keys without values, and too many combinations."""
    for key, values in swept.items():
        if not _may_be_swept(key) or isinstance(values, str) or not values:
            raise InputError(f"--over {key} = {show(values)}: must be a key of the run file and a list of its values")
    count = math.prod(map(len, swept.values()))
    if not swept:
        raise InputError("--over: no key and no values; give one at least")
    if count > _MOST:
        raise InputError(f"--over: {count} runs; at most {_MOST}")


def _word(value: object) -> str:
    """A value as part of a folder's name."""
    return re.sub(r"[^\w.+-]+", "_", str(value)).strip("_") or "_"


def _check(run: run_file.RunFile) -> None:
    """Model, task and settings of a run fit together."""
    problem = problem_of(run, trial=communicator().rank == 0)
    with inside(run.source):
        report_times(run.training, run.output.every, problem.task.samples)


def _sum_up(plan: SweepPlan) -> None:
    """Write the table and the figure of the runs that are there."""
    rows = sweep_rows(plan)
    keys = list(plan.members[0].values)
    columns = sweep_columns(rows, keys)
    table = [columns, *([row.get(column, "nan") for column in columns] for row in rows)]
    with failing_clearly(plan.directory):
        plan.directory.mkdir(parents=True, exist_ok=True)
        write_text(plan.directory / TABLE, csv_text(table))
        draw_sweep(rows, keys, plan.directory / "sweep")


def sweep_columns(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """The columns of the table: swept keys, those of the history that some run has, and how it ended."""
    return [*keys, *(c for c in _COLUMNS if any(c in row for row in rows)), "ended", "outcome", "directory"]


def sweep_rows(plan: SweepPlan) -> list[dict[str, Any]]:
    """A row for every run that is there: swept values, the last row of the history, and how the run ended."""
    return list(_rows(plan))


def _rows(plan: SweepPlan) -> Iterator[dict[str, Any]]:
    for member in plan.members:
        if not (member.directory / SUMMARY).is_file() or not is_begun(member.directory, member.identity):
            continue
        run = RunReader(member.directory)
        history, summary = run.history, run.summary or {}
        last = {name: history[name][-1].item() for name in _COLUMNS if name in history and len(history[name])}
        end = {"ended": summary.get("ended", ""), "outcome": summary.get("outcome"), "directory": member.directory.name}
        yield {**member.values, **last, **end}
