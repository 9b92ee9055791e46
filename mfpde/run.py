"""From a problem to a run directory: the solver and its observers wired together, for the command and the API."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde import parallel
from mfpde.checks import duration, inside
from mfpde.config import RunFile
from mfpde.errors import InputError
from mfpde.keeper import FINGERPRINT, Keeper, Schedule, find
from mfpde.limit.certificate import gap_kind
from mfpde.limit.footprint import check as check_memory
from mfpde.limit.problem import Problem, refined
from mfpde.limit.restart import Saved, understood
from mfpde.limit.solver import Solver, report_times
from mfpde.output.directory import MANIFEST, check_resumable, prepare
from mfpde.output.generations import Generations
from mfpde.output.manifest import describe
from mfpde.output.progress import Progress
from mfpde.output.writer import RunWriter
from mfpde.problem.trial import fingerprint
from mfpde.settings import Output, Training
from mfpde.signals import Signals

_REPORTS = 20  # reports in a horizon unless output.every says otherwise


@dataclass(frozen=True)
class Manner:
    """How a run is done, apart from what is solved.

    Attributes:
        overwrite: replace a run that the directory already holds.
        resume: go on with it.
        estimate: estimate the error of the risk, by a finer solve alongside.
        wall_time: seconds after which the run is saved and ended; None without a limit.
        options: the PETSc options given, for the manifest.
        quiet: show no progress.
        signals: that may save or end the run.
    """

    overwrite: bool = False
    resume: bool = False
    estimate: bool = False
    wall_time: float | None = None
    options: Sequence[str] = ()
    quiet: bool = False
    signals: Signals = field(default_factory=Signals)


def execute(
    run: RunFile,
    overwrite: bool = False,
    options: Sequence[str] = (),
    estimate: bool = False,
    *,
    resume: bool = False,
    wall_time: float | None = None,
    signals: Signals | None = None,
) -> None:
    """Solve a run file into its directory; collective.

    Args:
        run: the resolved run file.
        overwrite: replace a run that the directory already holds.
        options: the PETSc options given, for the manifest.
        estimate: estimate the error of the risk, by a finer solve alongside.
        resume: go on with the run that the directory holds.
        wall_time: seconds after which the run is saved and ended; None without a limit.
        signals: that may save or end the run.

    Raises:
        InputError: bad input, before anything is written.
        ComputationError: after the last sound state has been saved.
        Stopped: when a signal or the end of the wall time ended it, after a checkpoint.
    """
    first = MPI.COMM_WORLD.rank == 0
    manner = Manner(overwrite, resume, estimate, wall_time, options, signals=signals or Signals())
    model, task = parallel.agree(lambda: run.build(trial=first))
    with inside(run.source):
        densities = {family.name: run.densities(family.name) for family in model.families}
        problem = Problem(model, task, run.training, densities, run.time)
        hashes, decisive = parallel.agree(lambda: ((run.hash(), run.problem_hash()), run.decisive()))
        solve_into(problem, run.output, run.text(), decisive, manner, hashes)


def solve_into(
    problem: Problem,
    output: Output,
    text: str,
    decisive: Mapping[str, object],
    manner: Manner,
    hashes: tuple[str | None, str | None] = (None, None),
) -> Path:
    """Solve a problem and write its run directory from rank 0; collective.

    Args:
        problem: what is solved.
        output: where and how often; a new temporary folder unless a directory is given.
        text: the content of run.toml.
        decisive: key → value of what determines the solution.
        manner: how.
        hashes: of the run and of the problem, for the manifest.

    Returns:
        The run directory.

    Raises:
        InputError: bad input, before anything is written.
        ComputationError: after the last sound state has been saved.
        Stopped: when a signal or the end of the wall time ended it, after a checkpoint.
    """
    comm = MPI.COMM_WORLD
    first = comm.rank == 0
    horizon = problem.training.horizon
    times = report_times(horizon, output.every or interval(problem.training))
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))  # what is not finite is looked for, and named
        decisive = {**decisive, "--estimate-error": manner.estimate, FINGERPRINT: _check_same(comm, problem).tolist()}
        resumed = _found(comm, output, decisive) if manner.resume else None
        saved = None if resumed is None else Saved(resumed.path, resumed.facts["solver"])
        check_memory(comm, [problem, *([refined(problem)] if manner.estimate else [])])
        finer = Solver(comm, refined(problem), saved=saved and saved.finer) if manner.estimate else None
        solver = Solver(comm, problem, finer, saved)
        for opened in (solver, *([finer] if finer else [])):
            stack.callback(opened.close)
        made = parallel.agree(lambda: _directory(output, manner) if first else None)
        directory: Path = comm.bcast(made, root=0)

        def observe() -> RunWriter | None:
            if not first:
                return None
            progress = None if manner.quiet else Progress(horizon)
            writer = RunWriter(
                directory,
                run_text=text,
                manifest=_manifest(comm.size, hashes, manner, directory, resumed),
                unknowns=solver.unknowns,
                facts={"gap_is": gap_kind(problem.model, problem.task.tokens)},
                progress=progress,
                written=resumed.facts["output"] if resumed else None,
            )
            for line in resumed.lines if resumed else ():
                writer.say(line)
            if progress is not None:
                solver.stepper.watch = progress.advance
            return stack.enter_context(writer)

        writer = parallel.agree(observe)
        schedule = Schedule(duration("output.checkpoint_every", output.checkpoint_every), manner.wall_time,
                            manner.signals, watches_clock=first)  # fmt: skip
        generations = resumed.generations if resumed else Generations(directory) if first else None
        keeper = Keeper(comm, solver, schedule, decisive, generations, writer)
        reported = resumed.facts["output"]["reported"] if resumed else None
        if resumed is None:
            keeper.save()  # compiling may take long, and --resume shall find something
        before = reported
        for report in solver.run(times, reported, keeper):
            parallel.agree(lambda r=report: writer.report(r) if writer else None)  # type: ignore[misc]
            reported = report.tau
            del report  # it is large, and the march goes on before there is another
        ending = solver.ending()
        if writer is not None:
            writer.note(ending)
        if reported != before:
            keeper.save()
        elif resumed is not None and writer is not None:
            writer.say(f"finished before, at tau {reported:.6g}; a longer training.horizon goes on from there")
    comm.Barrier()
    return directory


def interval(training: Training) -> float:
    """τ between reports unless output.every says otherwise; to stationarity at most 1, as the end is not known."""
    every = training.horizon / _REPORTS
    return every if training.stationary is None else min(every, 1.0)


@dataclass(frozen=True)
class _Resumed:
    """What a run goes on from: file and generations on rank 0, facts on all, and lines to show."""

    path: Path | None
    facts: dict[str, Any]
    lines: list[str]
    generations: Generations | None


def _found(comm: MPI.Intracomm, output: Output, decisive: Mapping[str, object]) -> _Resumed:
    """The newest sound checkpoint of the output's directory, on every rank or on none."""

    def look() -> _Resumed | None:
        if comm.rank != 0:
            return None
        if output.directory is None:
            raise InputError("resume needs the directory of the run")
        check_resumable(output.directory)
        generations = Generations(output.directory)
        path, facts, damaged = find(generations, decisive)
        with understood():
            tau = float(facts["solver"]["state"]["tau"])
        lines = [f"{line}; going on from the one before" for line in damaged]
        return _Resumed(path, facts, [*lines, f"resumed at tau {tau:.6g}"], generations)

    mine = parallel.agree(look)
    facts = comm.bcast(mine.facts if mine else None, root=0)
    return mine or _Resumed(None, facts, [], None)


def _manifest(
    ranks: int, hashes: tuple[str | None, str | None], manner: Manner, directory: Path, resumed: _Resumed | None
) -> dict[str, object]:
    """What the run is made with, and where it was continued before."""
    manifest = describe(ranks=ranks, run_hash=hashes[0], problem_hash=hashes[1], options=manner.options)
    if resumed is None:
        return manifest
    before = json.loads((directory / MANIFEST).read_text(encoding="utf-8")).get("resumed", [])
    return {**manifest, "resumed": [*before, {"tau": resumed.facts["solver"]["state"]["tau"], "ranks": ranks}]}


def _directory(output: Output, manner: Manner) -> Path:
    if output.directory is None:
        return Path(tempfile.mkdtemp(prefix="mfpde-"))
    if not manner.resume:
        prepare(output.directory, manner.overwrite)
    return output.directory


def _check_same(comm: MPI.Intracomm, problem: Problem) -> NDArray[np.float64]:
    """Have all ranks made the same model and task? A user's function may draw numbers of its own on each.

    Returns:
        Rank 0's fingerprint of them.
    """
    mine = fingerprint(problem.model, problem.task)
    if not parallel.same(comm, mine):
        raise InputError("task or model: not the same on every rank; draw random numbers from a fixed seed")
    return np.asarray(comm.bcast(mine, root=0))
