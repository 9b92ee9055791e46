"""From a problem to a run directory: the solver and its observers wired together, for the command and the API."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from mpi4py import MPI

from mfpde import parallel
from mfpde.config import RunFile
from mfpde.limit.solver import Problem, Solver
from mfpde.output.directory import prepare
from mfpde.output.manifest import describe
from mfpde.output.progress import Progress
from mfpde.output.writer import RunWriter
from mfpde.settings import Output

_REPORTS = 20  # reports in a horizon unless output.every says otherwise


def execute(run: RunFile, overwrite: bool, options: Sequence[str] = ()) -> None:
    """Solve a run file into its directory; collective.

    Args:
        run: the resolved run file.
        overwrite: replace a run that the directory already holds.
        options: the PETSc options given, for the manifest.

    Raises:
        InputError: bad input, before anything is written.
        ComputationError: after the last sound state has been saved.
    """
    model, task = parallel.agree(run.build)
    densities = {family.name: run.densities(family.name) for family in model.families}
    problem = Problem(model, task, run.training, densities, run.time)
    run_hash = parallel.agree(run.hash)
    solve_into(problem, run.output, run.text(), run_hash, overwrite=overwrite, options=options)


def solve_into(
    problem: Problem,
    output: Output,
    text: str,
    run_hash: str | None = None,
    *,
    overwrite: bool,
    options: Sequence[str] = (),
    quiet: bool = False,
) -> None:
    """Solve a problem and write its run directory from rank 0; collective.

    Args:
        problem: what is solved.
        output: with a directory.
        text: the content of run.toml.
        run_hash: for the manifest.
        overwrite: replace a run that the directory already holds.
        options: for the manifest.
        quiet: show no progress.

    Raises:
        InputError: bad input, before anything is written.
        ComputationError: after the last sound state has been saved.
    """
    comm = MPI.COMM_WORLD
    first = comm.rank == 0
    directory = Path(output.directory or ".")
    horizon = problem.training.horizon
    with ExitStack() as stack:
        solver = Solver(comm, problem)
        stack.callback(solver.close)
        parallel.agree(lambda: prepare(directory, overwrite) if first else None)

        def observe() -> RunWriter | None:
            if not first:
                return None
            manifest = describe(ranks=comm.size, run_hash=run_hash, options=options)
            progress = None if quiet else Progress(horizon)
            writer = RunWriter(directory, run_text=text, manifest=manifest, unknowns=solver.unknowns, progress=progress)
            if progress is not None:
                solver.stepper.watch = progress.advance
            return stack.enter_context(writer)

        writer = parallel.agree(observe)
        for report in solver.run(output.every or horizon / _REPORTS):
            parallel.agree(lambda r=report: writer.report(r) if writer else None)  # type: ignore[misc]
