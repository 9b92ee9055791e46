"""Finite Transformers, their comparison with the limit, and parameter sweeps as functions: what the commands carry out.

Each calls what `particles`, `compare` and `sweep` call, leaves the same files, and raises the same lines.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfpde.config import given_objects, run_file, toml
from mfpde.config.run_file import RunFile
from mfpde.errors import InputError
from mfpde.figures.run import Run
from mfpde.inputs import file_name, plain, show
from mfpde.output.directory import COMPARE, MANIFEST, RUN_FILE
from mfpde.parallel import mpi
from mfpde.parallel.agreement import agree, require_equal
from mfpde.parallel.command import permissive

if TYPE_CHECKING:
    from mfpde.comparison.findings import Comparison
    from mfpde.finite.trained_particles import Particles
    from mfpde.problem.tasks import Task
    from mfpde.problem.transformer import Transformer
    from mfpde.runs.parameter_sweep import Sweep


@permissive()
def train_particles(
    run: Run | str | Path,
    units: int | Sequence[int | Sequence[int]],
    *,
    seeds: int | None = None,
    layers: int | Sequence[int] = (),
    initial: str = "sampled",
    learning_rate: float | None = None,
    tolerance: float | None = None,
    tau: float | Sequence[float] = (),
    model: Transformer | None = None,
    task: Task | None = None,
    settings: Mapping[str, object] | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
) -> Particles:
    """Train the finite Transformers, of M units a family and layer, whose limit a run is: `python -m mfpde.particles`.

    Units move by θ' = −M L ∇_θ of (risk + decay), the flow whose limit M → ∞ `solve_limit` computes, or by the method
    and the batches of the run file. Those that were trained before are read. Under mpirun every rank calls it with the
    same arguments; the ranks share the Transformers.

    Args:
        run: a run, its directory, or a run file.
        units: M, or several of them, as in `(10, 40, 160)`; with a grid, points per coordinate, as in `[(32, 20)]`.
        seeds: sets of drawn units of each M; needed unless `initial` is a grid.
        layers: depths; that of the run file unless given.
        initial: "sampled", "grid" or "gauss": where units start, and with which weights.
        learning_rate: h of gradient descent in units of τ, which approximates the flow; the flow itself unless given.
        tolerance: of a step of the flow; 1e-6 unless given.
        tau: reports at which units are kept; five of them unless given.
        model: of a run whose model and task were Python objects, once more.
        task: likewise.
        settings: keys of the run file with other values, as in `{"training.horizon": 1.0}`.
        directory: the run directory, to whose folder `particles/` the results go; the run's own unless given.
        progress: show every Transformer that is done, on rank 0.

    Returns:
        The Transformers asked for.

    Raises:
        InputError: the line of the command, before anything is written.
        ComputationError: when the numbers of one fail, after all others are trained and kept.
    """
    mpi.start()
    _require_equal(locals())
    from mfpde.finite.record_files import load, path_of  # noqa: PLC0415  (after MPI is up)
    from mfpde.finite.trained_particles import Particles  # noqa: PLC0415
    from mfpde.runs.finite_runs import execute  # noqa: PLC0415
    from mfpde.runs.training_plan import TrainingPlan, plan_training  # noqa: PLC0415

    def stated() -> TrainingPlan:
        """What can be wrong on this rank alone."""
        return plan_training(
            _run_file(run, _objects(model, task), settings, directory),
            [tuple(_listed(size)) for size in _listed(units)],
            seeds=seeds,
            layers=_listed(layers),
            initial=initial,
            learning_rate=learning_rate,
            tolerance=tolerance,
            tau=_listed(tau),
        )

    plan = agree(stated)
    with _shown(progress):
        execute(plan)
    records = agree(lambda: tuple(load(path_of(plan.folder, job)) for job in plan.jobs))
    return Particles(plan.folder, records)


@permissive()
def compare_run(
    run: Run | str | Path,
    *,
    depths: Sequence[int] = (),
    change: float | None = None,
    model: Transformer | None = None,
    task: Task | None = None,
    run_file: str | Path | None = None,
    progress: bool = False,
) -> Comparison:
    """Compare the limit of a run with the finite Transformers trained for it: `python -m mfpde.compare`.

    Depths of finite Transformers at which the limit has not been solved are solved; figures and a report go to the
    folder `compare/` of the run. Under mpirun every rank calls it with the same arguments.

    Args:
        run: a finished run, or its directory.
        depths: L to compare with L = ∞, at least two; none unless given.
        change: relative, of λ, η and a learning rate, that must have been seen for a match; 0.05 unless given.
        model: of a run whose model and task were Python objects, once more.
        task: likewise.
        run_file: where the directory, or the files that its run file names, were moved.
        progress: show what is done, on rank 0.

    Returns:
        The verdict with its checks.

    Raises:
        InputError: the line of the command, when there is nothing to compare.
        ComputationError: when a depth that is solved fails.
    """
    mpi.start()
    mpi.start_petsc()
    _require_equal(locals())
    from mfpde.comparison.findings import Comparison  # noqa: PLC0415  (after MPI and PETSc are up)
    from mfpde.runs.comparison_inputs import checked_change, checked_depths  # noqa: PLC0415
    from mfpde.runs.comparison_run import compare  # noqa: PLC0415

    def stated() -> tuple[Path, Path | RunFile | None, list[int], float | None]:
        """What can be wrong on this rank alone."""
        place, objects = _directory(run), _objects(model, task)
        moved = None if run_file is None else file_name("run_file", run_file, "the name of a run file")
        given = moved if objects is None else _run_file(place, objects, None, None)
        return place, given, checked_depths(_listed(depths)), checked_change(change)

    place, given, wanted, least = agree(stated)
    with _shown(progress):
        found = compare(place, given, wanted, least)
    return Comparison.of(found, place / COMPARE)


@permissive()
def sweep_runs(
    run: str | Path,
    over: Mapping[str, Sequence[object]],
    *,
    settings: Mapping[str, object] | None = None,
    directory: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Sweep:
    """Solve a run file for every combination of values of some of its keys: `python -m mfpde.sweep`.

    Runs that are finished are not solved again, one that was stopped goes on. Under mpirun every rank calls it with the
    same arguments; all of them solve one run after the other.

    Args:
        run: the run file.
        over: keys and their values, as in `{"training.weight_decay": [0.3, 0.1, 0.03]}`.
        settings: keys of the run file with other values in all runs.
        directory: where the runs go, a folder each; NAME-sweep beside the run file's own NAME unless given.
        overwrite: replace other runs that are already there.
        progress: show what is done, on rank 0.

    Returns:
        The runs, and a table with a row each.

    Raises:
        InputError: the line of the command, before one is solved.
        ComputationError: at the end, when some of the runs failed; the others have been solved.
    """
    mpi.start()
    mpi.start_petsc()
    _require_equal(locals())
    from mfpde.runs.parameter_sweep import Sweep, SweepPlan, execute, plan  # noqa: PLC0415  (after MPI and PETSc are up)

    def stated() -> SweepPlan:
        """What can be wrong on this rank alone."""
        path = file_name("run", run, "the name of a run file")
        if not isinstance(over, Mapping):
            raise InputError(f"over = {show(over)}: must be keys with lists of values")
        swept = {str(key): _listed(values) for key, values in over.items()}
        return plan(path, swept, _overrides(settings), None if directory is None else str(directory), overwrite)

    planned = agree(stated)
    with _shown(progress):
        execute(planned)
    return agree(lambda: Sweep.of(planned))


def _objects(model: Transformer | None, task: Task | None) -> tuple[Transformer, Task] | None:
    """Both or none."""
    if model is None and task is None:
        return None
    if model is None or task is None:
        raise InputError("model and task: give both of them, those that the run was solved with, or none")
    return model, task


def _run_file(
    run: Run | str | Path,
    objects: tuple[Transformer, Task] | None,
    settings: Mapping[str, object] | None,
    directory: str | Path | None,
) -> RunFile:
    """The run file of a run, or the one that is named; of Python objects what stands for it."""
    place = run.directory if isinstance(run, Run) else file_name("run", run, "a run, its directory, or a run file")
    if not place.is_dir():
        if objects is not None:
            raise InputError(f"run {place}: a run file names its model and task; leave out those given here")
        return run_file.load(place, _overrides(settings), directory)

    if not (place / MANIFEST).is_file():
        raise InputError(f"run directory {place}: holds no run of mfpde ({MANIFEST} is missing)")
    named, given = "task" in Run(place).run_file[1], place / RUN_FILE
    where = place if directory is None else file_name("directory", directory, "the name of a folder")
    if named and objects is not None:
        raise InputError(f"run directory {place}: its run file names its model and task; leave out those given here")
    if named:
        return run_file.load(given, _overrides(settings), where)

    if objects is None:
        raise InputError(f"run directory {place}: its model and its task were Python objects; give both of them here")
    found = given_objects.given_run(given, *objects, _overrides(settings), where)
    if not found.identity().shares_problem_of(Run(place).manifest):
        raise InputError(
            f"run directory {place}: was solved with another model, task, weight decay or temperature than those given"
        )
    return found


def _directory(run: Run | str | Path) -> Path:
    """The directory of a run."""
    return run.directory if isinstance(run, Run) else file_name("run", run, "a run or its directory")


def _overrides(settings: Mapping[str, object] | None) -> list[str]:
    """Texts as after `--set`."""
    if not isinstance(settings or {}, Mapping):
        raise InputError(f"settings = {show(settings)}: must be keys with values")
    return [toml.override(str(key), value) for key, value in (settings or {}).items()]


def _listed(values: Any) -> list[Any]:
    """Several values, or one, as a list of Python's own; a text is one value."""
    values = plain(values)
    if isinstance(values, str) or not isinstance(values, Sequence):
        return [values]
    return [plain(value) for value in values]


@contextmanager
def _shown(progress: bool) -> Iterator[None]:
    """What a command writes to standard output as it goes is shown or not."""
    with nullcontext() if progress else redirect_stdout(io.StringIO()):
        yield


def _require_equal(arguments: Mapping[str, object]) -> None:
    """Refuse arguments that differ between ranks, before a collective depends on one. Collective."""
    require_equal({name: repr(value) for name, value in arguments.items()})
