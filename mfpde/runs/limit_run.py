"""From a problem to a run directory: the solver and its observers wired together, for the command and the API."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from mfpde.config.run_file import RunFile
from mfpde.config.settings import Output
from mfpde.errors import ComputationError, InputError
from mfpde.inputs import duration, inside
from mfpde.limit.certificate.certificate import gap_kind
from mfpde.limit.memory_estimate import check as check_memory
from mfpde.limit.solver import STEPS, Solver
from mfpde.limit.specification import Problem, refined
from mfpde.output.checkpoint.checkpoint import StateDict, checkpoint_errors, read_state
from mfpde.output.checkpoint.generations import Generations
from mfpde.output.directory import MANIFEST, check_resumable, prepare
from mfpde.output.fields.pvd import series_name
from mfpde.output.fields.series import write_pieces
from mfpde.output.lock import only_writer
from mfpde.output.records.manifest import describe, read_manifest
from mfpde.output.records.progress import Progress
from mfpde.output.records.report import Report
from mfpde.output.writer import RunWriter
from mfpde.parallel.agreement import agree, from_first
from mfpde.parallel.signals import Signals
from mfpde.runs.checkpointer import FINGERPRINT, Checkpointer, Schedule, find
from mfpde.runs.problem_setup import check_compiler, check_same, check_settings, problem_of, report_times


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


@dataclass(frozen=True)
class Source:
    """What a run directory says of where its problem comes from.

    Attributes:
        text: the content of run.toml.
        decisive: key → value of what determines the solution, apart from what this module adds.
        run_hash: of the run; None where there is no run file.
        problem_hash: of what finite Transformers share with it; likewise.
    """

    text: str
    decisive: Mapping[str, object]
    run_hash: str | None = None
    problem_hash: str | None = None


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
    problem = agree(lambda: problem_of(run, trial=first))
    with inside(run.source):
        source = agree(lambda: Source(run.text(), run.decisive(), run.hash(), run.problem_hash()))
        solve_into(problem, run.output, source, manner)


def solve_into(problem: Problem, output: Output, source: Source, manner: Manner) -> Path:
    """Solve a problem and write its run directory from rank 0; collective.

    Args:
        problem: what is solved.
        output: where and how often; a new temporary folder unless a directory is given.
        source: what the directory says of where the problem comes from.
        manner: how.

    Returns:
        The run directory.

    Raises:
        InputError: bad input, before anything is written.
        ComputationError: after the last sound state has been saved.
        Stopped: when a signal or the end of the wall time ended it, after a checkpoint.
    """
    comm = MPI.COMM_WORLD
    first = comm.rank == 0
    given = {"overwrite": manner.overwrite, "resume": manner.resume, "estimate_error": manner.estimate}
    check_settings(problem, output, {**given, **source.decisive})
    agree(lambda: _check_place(problem))
    times = report_times(problem.training, output.every)
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))  # what is not finite is looked for, and named
        same = check_same(comm, problem.model, problem.task)
        decisive = {**source.decisive, "--estimate-error": manner.estimate, FINGERPRINT: same.tolist()}
        resumed = _found(stack, output, decisive) if manner.resume else None
        solver = _solver(stack, problem, manner, resumed)
        directory = from_first(lambda: _directory(stack, output, manner))
        writer = agree(
            lambda: stack.enter_context(_writer(directory, solver, source, manner, resumed)) if first else None
        )
        every = duration("output.checkpoint_every", output.checkpoint_every)
        schedule = Schedule(every, manner.wall_time, manner.signals, watches_clock=first)
        generations = resumed.generations if resumed else Generations(directory) if first else None
        _march(times, directory, Checkpointer(comm, solver, schedule, decisive, generations, writer), resumed)
    comm.Barrier()
    return directory


def _check_place(problem: Problem) -> None:
    """What compiler and file system cannot do shows before anything is written."""
    check_compiler()
    for family in problem.model.families:
        series_name(family.name)


def _solver(stack: ExitStack, problem: Problem, manner: Manner, resumed: _Resumed | None) -> Solver:
    """The solver, with the finer one that estimates its error; both are closed with the stack."""
    comm = MPI.COMM_WORLD
    check_memory(comm, [problem, *([refined(problem)] if manner.estimate else [])])
    finer = Solver(comm, refined(problem)) if manner.estimate else None
    solver = Solver(comm, problem, finer)
    for opened in (solver, *([finer] if finer else [])):
        stack.callback(opened.close)
    if resumed is not None:
        with checkpoint_errors():
            solver.load_state_dict(resumed.solver)
    return solver


def _writer(directory: Path, solver: Solver, source: Source, manner: Manner, resumed: _Resumed | None) -> RunWriter:
    """The observer that writes the run directory, on rank 0."""
    problem = solver.problem
    progress = None if manner.quiet else Progress(problem.training.horizon)
    writer = RunWriter(
        directory,
        run_text=source.text,
        manifest=_manifest(solver.comm.size, source, manner, resumed),
        unknowns=solver.unknowns,
        facts={"gap_is": gap_kind(problem.model, problem.task.tokens)},
        progress=progress,
        saved=resumed.output if resumed else None,
    )
    for line in resumed.lines if resumed else ():
        writer.say(line)
    for line in () if resumed else solver.cautions:
        writer.warn(line)
    if progress is not None:
        solver.stepper.watch = progress.advance
    return writer


def _march(times: Sequence[float], directory: Path, checkpointer: Checkpointer, resumed: _Resumed | None) -> None:
    """To the last of the times, with every report written, and a checkpoint at the end; collective."""
    solver, writer = checkpointer.solver, checkpointer.writer
    reported = before = resumed.output["reported"] if resumed else None
    if resumed is None:
        checkpointer.save()  # compiling may take long, and --resume shall find something
    try:
        for report in solver.run(times, reported, checkpointer):
            _write(report, directory, writer)
            reported = report.tau
            del report  # it is large, and the march goes on before there is another
    except ComputationError:
        if writer is not None:
            writer.last_steps(solver.stepper.history)
        raise
    ending = solver.ending()
    if writer is not None:
        writer.note(ending)
    if reported != before:
        checkpointer.save()
    if ending["ended"] == STEPS:
        raise ComputationError(
            f"ended at tau = {solver.stepper.state.tau:.6g}, before training.horizon = {times[-1]:g}, and saved: "
            "PETSc's option -ts_max_steps, which PETSC_OPTIONS or a .petscrc may hold, allows no more steps"
        )
    if reported == before and resumed is not None and writer is not None:
        writer.say(f"finished before, at tau {reported:.6g}; a longer training.horizon goes on from there")


def _write(report: Report, directory: Path, writer: RunWriter | None) -> None:
    """A report: large densities in pieces by every rank, then all else by rank 0; collective."""
    if any(snapshot.piece is not None for snapshot in report.snapshots):
        numbers = from_first(lambda: writer.numbers(report) if writer else {})
        agree(lambda: write_pieces(directory, report.snapshots, numbers, MPI.COMM_WORLD.rank))
    agree(lambda: writer.report(report) if writer else None)


@dataclass(frozen=True)
class _Resumed:
    """What a run goes on from, on every rank; on rank 0 also lines to show, and where it was continued before."""

    solver: StateDict
    output: StateDict
    lines: Sequence[str] = ()
    generations: Generations | None = None
    before: Sequence[Any] = ()


def _found(stack: ExitStack, output: Output, decisive: Mapping[str, object]) -> _Resumed:
    """The newest sound checkpoint of the output's directory, on every rank or on none; the directory is then ours."""
    comm = MPI.COMM_WORLD

    def look() -> _Resumed | None:
        if comm.rank != 0:
            return None
        if output.directory is None:
            raise InputError("resume needs the directory of the run")
        check_resumable(output.directory)
        stack.enter_context(only_writer(output.directory))
        before = read_manifest(output.directory / MANIFEST).get("resumed") or []
        generations = Generations(output.directory)
        path, facts, damaged = find(generations, decisive)
        with checkpoint_errors():
            solver, written = read_state(path, facts), dict(facts["output"])
            tau = float(solver["tau"])
        lines = [f"{line}; going on from the one before" for line in damaged]
        return _Resumed(solver, written, [*lines, f"resumed at tau {tau:.6g}"], generations, before)

    mine = agree(look)
    both = comm.bcast((mine.solver, mine.output) if mine else None, root=0)
    return mine or _Resumed(*both)


def _manifest(ranks: int, source: Source, manner: Manner, resumed: _Resumed | None) -> dict[str, object]:
    """What the run is made with, and where it was continued before."""
    manifest = describe(ranks=ranks, run_hash=source.run_hash, problem_hash=source.problem_hash, options=manner.options)
    if resumed is None:
        return manifest
    now = {"tau": resumed.solver["tau"], "ranks": ranks}
    return {**manifest, "resumed": [*resumed.before, now]}


def _directory(stack: ExitStack, output: Output, manner: Manner) -> Path:
    """The run directory, ours alone and ready to be written; on rank 0."""
    if output.directory is None:
        return Path(tempfile.mkdtemp(prefix="mfpde-"))
    if not manner.resume:
        stack.enter_context(only_writer(output.directory))
        prepare(output.directory, manner.overwrite)
    return output.directory
