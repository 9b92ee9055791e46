"""From a problem to a run directory: the solver and its observers, for the command and the Python interface."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mfpde.config.identity import Identity
from mfpde.config.run_file import RunFile
from mfpde.config.settings import Certified, Output
from mfpde.device import device_of
from mfpde.errors import ComputationError, InputError
from mfpde.inputs import duration, inside
from mfpde.limit.certificate.certificate import gap_kind
from mfpde.limit.companion import Companion
from mfpde.limit.memory_estimate import check as check_memory
from mfpde.limit.solver import STEPS, Solver
from mfpde.limit.specification import Beside, Problem, coarsened, refined
from mfpde.output.checkpoint.checkpoint import read_state
from mfpde.output.checkpoint.generations import Generations
from mfpde.output.checkpoint.state_dict import StateDict, checkpoint_errors
from mfpde.output.directory import MANIFEST, PARTICLES, check_resumable, prepare
from mfpde.output.fields.pvd import series_name
from mfpde.output.fields.series import write_pieces
from mfpde.output.lock import only_writer
from mfpde.output.records.manifest import describe, read_manifest
from mfpde.output.records.progress import Progress
from mfpde.output.records.report import Report
from mfpde.output.writer import RunWriter
from mfpde.parallel.agreement import agree, from_first
from mfpde.parallel.mpi import warn
from mfpde.parallel.signals import Signals
from mfpde.parallel.working_ranks import communicator
from mfpde.runs.checkpointer import Checkpointer, Schedule, find
from mfpde.runs.problem_setup import check_compiler, check_same, check_settings, problem_of, report_times


@dataclass(frozen=True)
class RunOptions:
    """How a run is done, apart from what is solved.

    Attributes:
        overwrite: replace a run that the directory already holds.
        resume: go on with it from its last checkpoint.
        estimate_error: estimate the error of the risk by a finer solve alongside, in the place of a coarser one.
        alone: do not estimate it.
        wall_time: seconds after which the run is saved and ended; None without a limit.
        petsc: the PETSc options given, for the manifest.
        quiet: show no progress.
        signals: that may save or end the run.
    """

    overwrite: bool = False
    resume: bool = False
    estimate_error: bool = False
    alone: bool = False
    wall_time: float | None = None
    petsc: Sequence[str] = ()
    quiet: bool = False
    signals: Signals = field(default_factory=Signals)


@dataclass(frozen=True)
class RunOrigin:
    """Where the problem of a run directory comes from.

    Attributes:
        text: the content of run.toml.
        identity: by which the run is known again.
    """

    text: str
    identity: Identity


def execute(run: RunFile, options: RunOptions | None = None) -> None:
    """Solve a run file into its directory; collective.

    Args:
        run: the resolved run file.
        options: how; the defaults unless given.

    Raises:
        InputError: bad input, before anything is written.
        ComputationError: after the last sound state has been saved.
        Stopped: when a signal or the end of the wall time ended it, after a checkpoint.
    """
    first = communicator().rank == 0
    problem = agree(lambda: problem_of(run, trial=first))
    with inside(run.source):
        origin = agree(lambda: RunOrigin(run.text(), run.identity()))
        solve_into(problem, run.output, origin, options or RunOptions())


def solve_into(problem: Problem, output: Output, origin: RunOrigin, options: RunOptions) -> Path:
    """Solve a problem and write its run directory from rank 0; collective.

    Args:
        problem: what is solved.
        output: where and how often; a new temporary folder unless a directory is given.
        origin: where the problem comes from.
        options: how.

    Returns:
        The run directory.

    Raises:
        InputError: bad input, before anything is written.
        ComputationError: after the last sound state has been saved.
        Stopped: when a signal or the end of the wall time ended it, after a checkpoint.
    """
    comm = communicator()
    first = comm.rank == 0
    flags = {"overwrite": options.overwrite, "resume": options.resume, "estimate_error": options.estimate_error}
    check_settings(problem.model, output.directory, origin.identity, flags)
    agree(lambda: _check_place(problem))
    times = report_times(problem.training, output.every, problem.task.samples)

    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))  # values that are not finite are looked for, and named
        identity = dataclasses.replace(
            origin.identity,
            command={"--estimate-error": options.estimate_error},
            fingerprint=check_same(comm, problem.model, problem.task).tolist(),
        )
        resumed = _found(stack, output, identity) if options.resume else None
        solver = _solver(stack, problem, options, resumed)

        directory = from_first(lambda: _directory(stack, output, options, identity))
        writer = agree(
            lambda: stack.enter_context(_writer(directory, solver, origin, options, resumed)) if first else None
        )
        every = duration("output.checkpoint_every", output.checkpoint_every)
        schedule = Schedule(every, options.wall_time, options.signals, watches_clock=first)
        generations = resumed.generations if resumed else Generations(directory) if first else None
        checkpointer = Checkpointer(comm, solver, schedule, identity, generations, writer)
        _march(times, output.gap, directory, checkpointer, resumed)

    comm.Barrier()
    return directory


def _check_place(problem: Problem) -> None:
    """What compiler, device and file system cannot do shows before anything is written."""
    check_compiler()
    device_of(communicator().rank)
    for family in problem.model.families:
        series_name(family.name)


def _solver(stack: ExitStack, problem: Problem, options: RunOptions, resumed: _Resumed | None) -> Solver:
    """The solver, with a companion that estimates its error; both are closed with the stack."""
    comm = communicator()
    beside = _beside(problem, options)
    check_memory(comm, [problem] if beside is None else [problem, beside.problem])

    companion = None
    if beside is not None:
        other = Solver(comm, beside.problem)
        stack.callback(other.close)
        companion = Companion(other, beside.resolved, beside.unresolved, needed=options.estimate_error)
    solver = Solver(comm, problem, companion)
    stack.callback(solver.close)

    if resumed is not None:
        with checkpoint_errors():
            solver.load_state_dict(resumed.solver)
    return solver


def _beside(problem: Problem, options: RunOptions) -> Beside | None:
    """The problem that is solved alongside."""
    if options.alone:
        return None
    if options.estimate_error:
        return Beside(refined(problem))
    return coarsened(problem)


def _writer(
    directory: Path, solver: Solver, origin: RunOrigin, options: RunOptions, resumed: _Resumed | None
) -> RunWriter:
    """The observer that writes the run directory, on rank 0."""
    problem = solver.problem
    progress = None if options.quiet else Progress(problem.horizon)
    writer = RunWriter(
        directory,
        run_text=origin.text,
        manifest=_manifest(solver.comm.size, origin, options, resumed),
        unknowns=solver.unknowns,
        facts={
            "gap_is": gap_kind(problem.model, problem.task.tokens),
            "frames": {name: density.frame for name, density in problem.densities.items()},
            "nodes": {name: density.nodes for name, density in problem.densities.items() if density.nodes is not None},
            "initial_error": solver.initial_error,
        },
        progress=progress,
        saved=resumed.output if resumed else None,
    )

    if resumed is None:
        _warn(writer, solver)
    else:
        solver.cautions.clear()  # they were shown when the run began
        for line in resumed.lines:
            writer.show(line)
    if progress is not None:
        solver.stepper.watch = progress.advance
    return writer


def _march(
    times: Sequence[float], gap: Certified, directory: Path, checkpointer: Checkpointer, resumed: _Resumed | None
) -> None:
    """To the last of the times, with every report written, and a checkpoint at the end; collective."""
    solver, writer = checkpointer.solver, checkpointer.writer
    reported = before = resumed.output["reported"] if resumed else None
    if resumed is None:
        checkpointer.save()  # compiling may take long, and --resume shall find something

    try:
        for report in solver.run(times, reported, checkpointer, gap):
            _write(report, directory, writer)
            _warn(writer, solver)
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
    if gap == "auto" and solver.few_passes and reported != before and writer is not None:
        writer.show('no gap: beside so few passes over the samples it would be most of the work; output.gap = "always"')
    if reported == before and resumed is not None and writer is not None:
        writer.show(f"finished before, at tau {reported:.6g}; a longer training.horizon goes on from there")


def _warn(writer: RunWriter | None, solver: Solver) -> None:
    """Show the solver's cautions since the last time, and keep them for summary.json."""
    if writer is not None:
        for line in solver.cautions:
            writer.warn(line)
    solver.cautions.clear()


def _write(report: Report, directory: Path, writer: RunWriter | None) -> None:
    """A report: large densities in pieces by every rank, then all else by rank 0; collective."""
    if any(snapshot.piece is not None for snapshot in report.snapshots):
        numbers = from_first(lambda: writer.numbers(report) if writer else {})
        agree(lambda: write_pieces(directory, report.snapshots, numbers, communicator().rank))
    agree(lambda: writer.report(report) if writer else None)


@dataclass(frozen=True)
class _Resumed:
    """What a run goes on from, on every rank; on rank 0 also lines to show, and where it was continued before."""

    solver: StateDict
    output: StateDict
    lines: Sequence[str] = ()
    generations: Generations | None = None
    before: Sequence[Any] = ()


def _found(stack: ExitStack, output: Output, identity: Identity) -> _Resumed:
    """The newest sound checkpoint of the output's directory, on every rank or on none; the directory is then ours."""
    comm = communicator()

    def look() -> _Resumed | None:
        if comm.rank != 0:
            return None
        if output.directory is None:
            raise InputError("resume needs the directory of the run")
        check_resumable(output.directory)
        stack.enter_context(only_writer(output.directory))

        before = read_manifest(output.directory / MANIFEST).get("resumed") or []
        generations = Generations(output.directory)
        path, facts, damaged = find(generations, identity)
        with checkpoint_errors():
            solver, written = read_state(path, facts), dict(facts["output"])
            tau = float(solver["tau"])
        lines = [f"{line}; going on from the one before" for line in damaged]
        return _Resumed(solver, written, [*lines, f"resumed at tau {tau:.6g}"], generations, before)

    mine = agree(look)
    both = comm.bcast((mine.solver, mine.output) if mine else None, root=0)
    return mine or _Resumed(*both)


def _manifest(ranks: int, origin: RunOrigin, options: RunOptions, resumed: _Resumed | None) -> dict[str, object]:
    """What the run is made with, and where it was continued before."""
    manifest = describe(ranks, origin.identity.hashes(), origin.identity.seed, options.petsc)
    if resumed is None:
        return manifest
    now = {"tau": resumed.solver["tau"], "ranks": ranks}
    return {**manifest, "resumed": [*resumed.before, now]}


def _directory(stack: ExitStack, output: Output, options: RunOptions, identity: Identity) -> Path:
    """The run directory, ours alone and ready to be written; on rank 0."""
    if output.directory is None:
        return Path(tempfile.mkdtemp(prefix="mfpde-"))
    if not options.resume:
        stack.enter_context(only_writer(output.directory))
        prepare(output.directory, options.overwrite)
        _check_particles(output.directory / PARTICLES, identity)
    return output.directory


def _check_particles(folder: Path, identity: Identity) -> None:
    """Say of finite Transformers that are there, and stay, that they are not those of this run."""
    if not (folder / MANIFEST).is_file():
        return
    try:
        belong = identity.shares_problem_of(read_manifest(folder / MANIFEST))
    except InputError:  # damaged
        belong = False
    if not belong:
        warn(
            f"{folder} holds finite Transformers of another run (another task, model, initial law, weight decay or "
            "temperature), which stay there; remove the folder, or give another --directory, before you train others"
        )
