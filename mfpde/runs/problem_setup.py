"""From settings to a problem and the times of its reports, for the commands that solve or train."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mpi4py import MPI

from mfpde.config.identity import Identity
from mfpde.config.run_file import RunFile
from mfpde.config.settings import LATEST, Training
from mfpde.errors import InputError
from mfpde.inputs import inside
from mfpde.limit.specification import Problem
from mfpde.output.reader import RunReader
from mfpde.parallel.agreement import equal_on_ranks, require_equal
from mfpde.problem.descent import Descent
from mfpde.problem.from_run import FromRun
from mfpde.problem.model_checks import fingerprint
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

_REPORTS = 20  # reports in a horizon unless output.every says otherwise
_MOST_REPORTS = 1e5

FromRun.reader = RunReader  # a problem knows of no files of results


def problem_of(run: RunFile, trial: bool = True) -> Problem:
    """The problem that a run file states; runs the user's code if the file names some. No collective.

    Args:
        run: the run file.
        trial: try the model on a sample; of several ranks it is enough that one does.

    Raises:
        InputError: one line naming file, key and what is wrong.
    """
    model, task = run.build(trial=trial)
    with inside(run.source):
        densities = {family.name: run.densities(family.name) for family in model.families}
        return Problem(model, task, run.training, densities, run.time)


def check_settings(model: Transformer, directory: Path | None, identity: Identity, flags: Mapping[str, object]) -> None:
    """Have all ranks been given the same settings? Collective, and before any collective that depends on one of them.

    Args:
        model: the Transformer.
        directory: where the results go.
        identity: of the run.
        flags: name → value of whatever else must be the same.

    Raises:
        InputError: on every rank, naming the first that differs.
    """
    built = {f"model.{name}": getattr(model, name) for name in ("layers", "step", "depth", "norm", "loss")}
    stages = [[(f.name, f.dim, f.linear, type(f.initial).__name__) for f in stage] for stage in model.stages]
    require_equal({**built, "model.stages": stages, **identity.values(), "output.directory": directory, **flags})


def check_compiler() -> None:
    """Does numba compile here? The solver's kernels are written for processors, and Python cannot run them.

    Raises:
        InputError: if NUMBA_DISABLE_JIT is set.
    """
    from numba.core import config  # noqa: PLC0415  (a study of finite Transformers does without)

    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        raise InputError("NUMBA_DISABLE_JIT is set, but the solver runs compiled only; unset it")


def check_same(comm: MPI.Intracomm, model: Transformer, task: Task) -> NDArray[np.float64]:
    """Have all ranks made the same model and task? A user's function may draw numbers of its own on each. Collective.

    Returns:
        Rank 0's fingerprint of them.

    Raises:
        InputError: on every rank, if not.
    """
    mine = fingerprint(model, task)
    if not equal_on_ranks(comm, mine):
        raise InputError("task or model: not the same on every rank; draw random numbers from a fixed seed")
    return np.asarray(comm.bcast(mine, root=0))


def report_times(training: Training, every: float | None, samples: int) -> list[float]:
    """τ of the reports after the one at 0: multiples of `every` below the horizon, then the horizon.

    A multiple within rounding of the horizon is dropped. In training by steps `every` counts these.

    Args:
        training: with the horizon, or the steps.
        every: τ between reports; a twentieth of the horizon unless given, and to stationarity at most 1, as the end
            is not known.
        samples: of the task.

    Raises:
        InputError: when that is more reports than anyone reads, and for parts of a step.
    """
    descent = Descent.of(training, samples)
    if descent is not None:
        return _report_steps(descent, every)

    horizon = training.horizon
    if every is None:
        every = horizon / _REPORTS if training.stationary is None else min(horizon / _REPORTS, 1.0)
    if horizon / every > _MOST_REPORTS:
        unless = ", which it is unless given" if horizon == LATEST else ""
        raise InputError(
            f"output.every = {every!r}: more than {_MOST_REPORTS:.0e} reports to training.horizon = {horizon!r}"
            f"{unless}; must be at least {horizon / _MOST_REPORTS:g}"
        )

    # Multiples of `every`; the last gives way to the horizon where rounding alone keeps them apart.
    count = int(np.floor(horizon / every * (1 + 1e-12)))
    inner = [k * every for k in range(1, count + 1)]
    return [tau for tau in inner if tau < horizon * (1 - 1e-9)] + [horizon]


def _report_steps(descent: Descent, every: float | None) -> list[float]:
    """τ after every so many steps, and after the last."""
    if every is None:
        every = max(1, round(descent.steps / _REPORTS))
    if every != round(every):
        raise InputError(f"output.every = {every!r}: counts steps (training.method); must be a whole number")
    if descent.steps / every > _MOST_REPORTS:
        raise InputError(
            f"output.every = {every!r}: more than {_MOST_REPORTS:.0e} reports in {descent.steps} steps; "
            f"must be at least {descent.steps / _MOST_REPORTS:g}"
        )
    return [float(descent.taus[k]) for k in [*range(int(every), descent.steps, int(every)), descent.steps]]
