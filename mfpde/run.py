"""From a problem to a run directory: the solver and its observers wired together, for the command and the API."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from mpi4py import MPI

from mfpde import parallel
from mfpde.checks import inside
from mfpde.config import RunFile
from mfpde.errors import InputError
from mfpde.limit.certificate import gap_kind
from mfpde.limit.problem import Problem, refined
from mfpde.limit.solver import Solver, report_times
from mfpde.output.directory import prepare
from mfpde.output.manifest import describe
from mfpde.output.progress import Progress
from mfpde.output.writer import RunWriter
from mfpde.problem.trial import fingerprint
from mfpde.settings import Output, Training

_REPORTS = 20  # reports in a horizon unless output.every says otherwise


def execute(run: RunFile, overwrite: bool, options: Sequence[str] = (), estimate: bool = False) -> None:
    """Solve a run file into its directory; collective.

    Args:
        run: the resolved run file.
        overwrite: replace a run that the directory already holds.
        options: the PETSc options given, for the manifest.
        estimate: estimate the error of the risk, by a finer solve alongside.

    Raises:
        InputError: bad input, before anything is written.
        ComputationError: after the last sound state has been saved.
    """
    first = MPI.COMM_WORLD.rank == 0
    model, task = parallel.agree(lambda: run.build(trial=first))
    with inside(run.source):
        densities = {family.name: run.densities(family.name) for family in model.families}
        problem = Problem(model, task, run.training, densities, run.time)
        hashes = parallel.agree(lambda: (run.hash(), run.problem_hash()))
        solve_into(problem, run.output, run.text(), *hashes, overwrite=overwrite, options=options, estimate=estimate)


def solve_into(
    problem: Problem,
    output: Output,
    text: str,
    run_hash: str | None = None,
    problem_hash: str | None = None,
    *,
    overwrite: bool,
    options: Sequence[str] = (),
    estimate: bool = False,
    quiet: bool = False,
) -> Path:
    """Solve a problem and write its run directory from rank 0; collective.

    Args:
        problem: what is solved.
        output: where and how often; a new temporary folder unless a directory is given.
        text: the content of run.toml.
        run_hash: for the manifest.
        problem_hash: for the manifest.
        overwrite: replace a run that the directory already holds.
        options: for the manifest.
        estimate: estimate the error of the risk, by a finer solve alongside.
        quiet: show no progress.

    Returns:
        The run directory.

    Raises:
        InputError: bad input, before anything is written.
        ComputationError: after the last sound state has been saved.
    """
    comm = MPI.COMM_WORLD
    first = comm.rank == 0
    horizon = problem.training.horizon
    times = report_times(horizon, output.every or _interval(problem.training))
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))  # what is not finite is looked for, and named
        _check_same(comm, problem)
        finer = Solver(comm, refined(problem)) if estimate else None
        solver = Solver(comm, problem, finer)
        for opened in (solver, *([finer] if finer else [])):
            stack.callback(opened.close)
        made = parallel.agree(lambda: _directory(output, overwrite) if first else None)
        directory: Path = comm.bcast(made, root=0)

        def observe() -> RunWriter | None:
            if not first:
                return None
            manifest = describe(ranks=comm.size, run_hash=run_hash, problem_hash=problem_hash, options=options)
            progress = None if quiet else Progress(horizon)
            writer = RunWriter(
                directory,
                run_text=text,
                manifest=manifest,
                unknowns=solver.unknowns,
                facts={"gap_is": gap_kind(problem.model, problem.task.tokens)},
                progress=progress,
            )
            if progress is not None:
                solver.stepper.watch = progress.advance
            return stack.enter_context(writer)

        writer = parallel.agree(observe)
        for report in solver.run(times):
            parallel.agree(lambda r=report: writer.report(r) if writer else None)  # type: ignore[misc]
        ending = solver.ending()
        if writer is not None:
            writer.note(ending)
    comm.Barrier()
    return directory


def _interval(training: Training) -> float:
    """τ between reports unless output.every says otherwise: how long a run to stationarity takes is not known."""
    every = training.horizon / _REPORTS
    return every if training.stationary is None else min(every, 1.0)


def _directory(output: Output, overwrite: bool) -> Path:
    if output.directory is None:
        return Path(tempfile.mkdtemp(prefix="mfpde-"))
    prepare(output.directory, overwrite)
    return output.directory


def _check_same(comm: MPI.Intracomm, problem: Problem) -> None:
    """Have all ranks made the same model and task? A user's function may draw numbers of its own on each."""
    if not parallel.same(comm, fingerprint(problem.model, problem.task)):
        raise InputError("task or model: not the same on every rank; draw random numbers from a fixed seed")
