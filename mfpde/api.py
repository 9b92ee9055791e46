"""The solver as a function, for scripts and notebooks; a notebook user never needs the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mfpde.config.given_objects import identity_of, text_of
from mfpde.config.settings import Density, Optimiser, Output, Time, Training
from mfpde.errors import InputError
from mfpde.figures.run import Run, open_run
from mfpde.inputs import file_name, reject_unknown, show
from mfpde.parallel import mpi
from mfpde.parallel.agreement import agree
from mfpde.parallel.command import permissive
from mfpde.problem.model_checks import digest, try_out
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

if TYPE_CHECKING:
    from mfpde.limit.specification import Problem
    from mfpde.runs.limit_run import RunOrigin


@permissive()
def solve_limit(
    model: Transformer,
    task: Task,
    *,
    weight_decay: float,
    horizon: float | None = None,
    stationary: float | None = None,
    temperature: float = 0.0,
    precision: Literal["double", "single"] = "double",
    optimiser: Optimiser | None = None,
    density: Density | Mapping[str, Density] | None = None,
    time: Time | None = None,
    every: float | None = None,
    directory: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    estimate_error: bool = False,
    progress: bool = False,
) -> Run:
    """Solve ∂_τ ρ = ∇·(ρ ∇V) + β⁻¹ Δρ for all layers and families to τ = horizon, or to stationarity.

    Under mpirun every rank calls it with the same arguments; all of them get the run to read.

    Args:
        model: the Transformer.
        task: the samples.
        weight_decay: λ ≥ 0.
        horizon: final τ, at the latest; may be left out where `stationary` is given, and is 10⁴ then, and is left out
            with an optimiser, which has steps.
        stationary: end as soon as (1/L) Σ∫|ρ||∇V|² is at most this.
        temperature: β⁻¹ ≥ 0, the noise of the gradient descent.
        precision: of the numbers in a pass over the samples; "single" is float32.
        optimiser: training by steps, such as `Optimiser("adamw", learning_rate=0.01, steps=400, batch=64)`, in the
            place of the flow; `every` counts them.
        density: the discretisation of all families, or of each by name.
        time: the time step; the CFL bound unless given.
        every: τ between reports; a twentieth of the horizon unless given, and at most 1 where `stationary` is.
        directory: where the results go; a new temporary folder unless given.
        overwrite: replace a run that the directory already holds.
        resume: go on with it, from its last checkpoint.
        estimate_error: fill the column `risk_error` by a finer solve alongside, not by a coarser one.
        progress: show how far it is, on rank 0.

    Returns:
        The run, read back.

    Raises:
        InputError: for values that do not fit, before anything is written.
        ComputationError: when the numbers fail; the last sound state has been saved.
    """
    comm = mpi.start()
    mpi.start_petsc()
    from mfpde.limit.specification import Problem  # noqa: PLC0415  (after MPI and PETSc are up)
    from mfpde.runs.limit_run import RunOptions, solve_into  # noqa: PLC0415

    def stated() -> tuple[Problem, Output]:
        """What can be wrong on this rank alone."""
        # A horizon of None is allowed.
        training = Training(weight_decay, horizon, temperature, stationary, precision, optimiser)  # type: ignore[arg-type]
        if resume and (overwrite or directory is None):
            raise InputError("resume = True: needs the directory of a run, and excludes overwrite")
        output = _output(directory, every)

        if comm.rank == 0:
            try_out(model, task)
        densities, steps = _densities(model, density), _of_kind("time", time or Time(), Time)
        return Problem(model, task, training, densities, steps), output

    problem, output = agree(stated)
    quiet = not (progress and sys.stdout)
    options = RunOptions(overwrite=overwrite, resume=resume, estimate_error=estimate_error, quiet=quiet)
    return open_run(solve_into(problem, output, _origin(problem, output), options))


@permissive()
def generate_text(
    run: Run | str | Path, length: int = 400, *, temperature: float = 1.0, seed: int = 0, start: str | None = None
) -> str:
    """What the limit of a finished run of the task "text" writes, from its last checkpoint.

    Under mpirun every rank calls it with the same arguments.

    Args:
        run: the run, or its directory.
        length: characters that are written after `start`.
        temperature: T of softmax(o/T), from which each character is drawn; at 0 the likeliest is written.
        seed: of the draws.
        start: a text to go on from; the beginning of what was held out unless given.

    Returns:
        The start and what follows it.

    Raises:
        InputError: for values out of range, a start of unknown characters, a directory without such a run.
    """
    mpi.start()
    mpi.start_petsc()
    from mfpde.runs.text_generation import written  # noqa: PLC0415  (after MPI and PETSc are up)

    return agree(lambda: written(run, length, temperature, seed, start))


def _output(directory: str | Path | None, every: float | None) -> Output:
    """Where and how often results are written."""
    where = None if directory is None else file_name("directory", directory, "the name of a folder")
    return Output(directory=where, every=every)


def _densities(model: Transformer, density: Density | Mapping[str, Density] | None) -> dict[str, Density]:
    """The discretisation of every family, by its name."""
    names = [family.name for family in model.families]
    if not isinstance(density, Mapping):
        return dict.fromkeys(names, _of_kind("density", density or Density(), Density))
    reject_unknown("density", density, names)
    return {name: _of_kind("density", density.get(name, Density()), Density) for name in names}


def _of_kind[Settings: (Density, Time)](key: str, value: Settings, kind: type[Settings]) -> Settings:
    """A value of that kind; Python's callers may have given another."""
    if not isinstance(value, kind):
        raise InputError(f"{key} = {show(value)}: must be a mfpde.{kind.__name__}")
    return value


def _origin(problem: Problem, output: Output) -> RunOrigin:
    """run.toml and identity of a model and a task that are Python objects."""
    from mfpde.runs.limit_run import RunOrigin  # noqa: PLC0415  (after MPI and PETSc are up)

    objects = digest(problem.model, problem.task)
    settings = (problem.training, problem.time, problem.densities, output)
    return RunOrigin(text_of(*settings), identity_of(*settings, objects))
