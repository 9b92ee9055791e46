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

from mfpde.config import run_file, toml
from mfpde.config.identity import Identity
from mfpde.errors import ComputationError, InputError
from mfpde.figures.plots.sweep_curves import draw_sweep
from mfpde.inputs import inside, show
from mfpde.output.directory import SUMMARY, check
from mfpde.output.files import failing_clearly, write_text
from mfpde.output.lock import only_writer
from mfpde.output.reader import RunReader
from mfpde.output.records.tables import csv_text
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


def plan(
    path: Path, over: Sequence[str], overrides: Sequence[str], directory: str | None, overwrite: bool
) -> SweepPlan:
    """Everything that can be wrong with any of the runs is found here, before one is solved; no collective.

    Args:
        path: the run file.
        over: texts `a.b=x,y,…`.
        overrides: as after `--set`, for all runs.
        directory: of the sweep; NAME-sweep beside the run file's own directory unless given.
        overwrite: a directory that holds another run is replaced.

    Raises:
        InputError: one line naming key, value and what is allowed.
    """
    swept = _parse(over)
    folder = _folder(path, overrides, directory)

    members = []
    for values in product(*swept.values()):
        chosen = dict(zip(swept, values, strict=True))
        own_folder = folder / "_".join(f"{key}-{_word(value)}" for key, value in chosen.items())
        sets = [f"{key}={toml.value(value)}" for key, value in chosen.items()]
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


def _parse(over: Sequence[str]) -> dict[str, list[Any]]:
    """Key → values."""
    swept: dict[str, list[Any]] = {}
    for text in over:
        key, equals, given = (part.strip() for part in text.partition("="))
        if not equals or not key or not given or key.startswith(("name", "output.directory")):
            raise InputError(f"--over {text}: must look like table.key=value,value,…")
        if key in swept:
            raise InputError(f"--over {text}: {key} is swept twice")

        words = [word.strip() for word in given.split(",")]
        values = toml.line(f"values = [{given}]").get("values", words)  # bare words are strings
        if "\n" in given or not values or "" in values:
            raise InputError(f"--over {text}: must look like table.key=value,value,…")
        swept[key] = values

    count = math.prod(map(len, swept.values()))
    if count > _MOST:
        raise InputError(f"--over: {count} runs; at most {_MOST}")
    return swept


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
    rows = list(_rows(plan))
    keys = list(plan.members[0].values)
    columns = [*keys, *(c for c in _COLUMNS if any(c in row for row in rows)), "ended", "outcome", "directory"]
    table = [columns, *([row.get(column, "nan") for column in columns] for row in rows)]
    with failing_clearly(plan.directory):
        plan.directory.mkdir(parents=True, exist_ok=True)
        write_text(plan.directory / TABLE, csv_text(table))
        draw_sweep(rows, keys, plan.directory / "sweep")


def _rows(plan: SweepPlan) -> Iterator[dict[str, Any]]:
    """Swept values, the last row of the history, and how the run ended."""
    for member in plan.members:
        if not (member.directory / SUMMARY).is_file() or not is_begun(member.directory, member.identity):
            continue
        run = RunReader(member.directory)
        history, summary = run.history, run.summary or {}
        last = {name: float(history[name][-1]) for name in _COLUMNS if name in history and len(history[name])}
        end = {"ended": summary.get("ended", ""), "outcome": summary.get("outcome"), "directory": member.directory.name}
        yield {**member.values, **last, **end}
