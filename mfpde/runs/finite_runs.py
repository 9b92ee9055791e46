"""From a run file to DIR/particles: finite Transformers of many sizes, depths and seeds, distributed over the ranks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import jax
import numpy as np
from mpi4py import MPI

from mfpde.config.run_file import RunFile
from mfpde.device import device_of
from mfpde.errors import ComputationError, InputError
from mfpde.finite.jobs import Job, check_memory, deal
from mfpde.finite.record_files import load, load_all, path_of, save
from mfpde.finite.trained_particles import Particles
from mfpde.finite.training import TrainerCache
from mfpde.inputs import inside
from mfpde.output.directory import MANIFEST, RUN_FILE, check_writable
from mfpde.output.files import failing_clearly, write_json, write_text
from mfpde.output.lock import LOCK, only_writer
from mfpde.output.records.manifest import describe, read_manifest
from mfpde.output.records.tables import csv_text
from mfpde.parallel.agreement import agree, from_first
from mfpde.parallel.mpi import say
from mfpde.parallel.working_ranks import communicator
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer
from mfpde.runs.problem_setup import check_same
from mfpde.runs.training_plan import TrainingPlan

HISTORY = "history.csv"
_PAUSE = 0.2  # seconds between looks of a rank that has nothing left to do

type _Problems = Mapping[int, tuple[Transformer, Task]]
"""Number of layers → model and task."""


def execute(plan: TrainingPlan) -> None:
    """Train all jobs that are not done yet, and write history.csv; collective.

    Raises:
        InputError: bad input, before anything is written.
        ComputationError: after all other jobs are done and kept.
    """
    comm = communicator()
    first = comm.rank == 0
    device = agree(lambda: device_of(comm.rank))
    problems = {n: _problem(comm, plan.run.with_layers(n)) for n in dict.fromkeys(job.layers for job in plan.jobs)}
    samples = next(task.samples for _, task in problems.values())
    times = agree(lambda: plan.times(samples))
    kept = agree(lambda: plan.chosen(times))
    agree(lambda: check_memory(((j, *problems[j.layers]) for j in plan.jobs), comm.size))
    from_first(lambda: _check(plan))

    with ExitStack() as stack:
        from_first(lambda: stack.enter_context(only_writer(plan.folder)))
        todo = from_first(lambda: _todo(plan, times, kept))
        from_first(lambda: _begin(plan, comm.size))

        costs = [job.cost(*problems[job.layers]) for job in todo]
        mine = deal(todo, costs, comm.size)[comm.rank]
        progress = _TrainingProgress(plan.folder, todo) if first else None
        with jax.default_device(device):
            failure = _train(plan, problems, mine, times, kept, progress)
        _wait(comm, progress)
        from_first(lambda: _history(plan.folder))
    agree(lambda: _raise(failure))


def _problem(comm: MPI.Intracomm, run: RunFile) -> tuple[Transformer, Task]:
    """Model and task at one depth, the same on every rank."""
    first = comm.rank == 0
    model, task = agree(lambda: run.build(trial=first))
    with inside(run.source):
        check_same(comm, model, task)
    return model, task


def _check(plan: TrainingPlan) -> None:
    """Refuse a folder that cannot be used, or that holds the particles of another run file.

    Raises:
        InputError: naming it.
    """
    folder = plan.folder
    check_writable(folder)
    if (folder / MANIFEST).is_file():
        if not plan.run.identity().shares_problem_of(read_manifest(folder / MANIFEST)):
            raise InputError(
                f"directory {folder}: holds particles of another run file (another task, model, initial law, weight "
                "decay or temperature); --directory chooses another"
            )
    elif folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise InputError(f"directory {folder}: holds files but no particles of mfpde (no {MANIFEST}); choose another")


def _todo(plan: TrainingPlan, times: Sequence[float], kept: Sequence[float]) -> list[Job]:
    """The jobs that have no record yet, or one that ends too early.

    Raises:
        InputError: when somebody has begun other particles there since `_check`, or a record cannot be read.
    """
    _check(plan)

    def done(job: Job) -> bool:
        path = path_of(plan.folder, job)
        return path.is_file() and load(path).covers(np.array(times), np.array(kept))

    return [job for job in plan.jobs if not done(job)]


def _begin(plan: TrainingPlan, ranks: int) -> None:
    with failing_clearly(plan.folder):
        plan.folder.mkdir(parents=True, exist_ok=True)
        if not (plan.folder / MANIFEST).is_file():
            write_text(plan.folder / RUN_FILE, plan.run.text(plan.folder))
            identity = plan.run.identity()
            hashes = {"run_hash": None, "problem_hash": identity.problem_hash}
            write_json(plan.folder / MANIFEST, describe(ranks, hashes, identity.seed))


def _train(
    plan: TrainingPlan,
    problems: _Problems,
    jobs: Sequence[Job],
    times: Sequence[float],
    kept: Sequence[float],
    progress: _TrainingProgress | None,
) -> ComputationError | None:
    """Train this rank's jobs; the first failure, after all of them were tried."""
    failure: ComputationError | None = None
    caches = {n: TrainerCache.of(*both, plan.run.training) for n, both in problems.items()}

    for job in jobs:
        try:
            with np.errstate(all="ignore"):
                record = caches[job.layers].train(job, times, kept)
            with failing_clearly(plan.folder):
                save(plan.folder, record)
        except ComputationError as error:
            failure = failure or error
        if progress is not None:
            progress.update()
    return failure


def _wait(comm: MPI.Intracomm, progress: _TrainingProgress | None) -> None:
    """Until every rank is done; a sleeping rank takes no core from a working one."""
    request = comm.Ibarrier()
    done = False
    while not done:
        done = request.Test()
        if progress is not None:
            progress.update()
        if not done:
            time.sleep(_PAUSE)


def _raise(failure: ComputationError | None) -> None:
    if failure is not None:
        raise failure


class _TrainingProgress:
    """Rank 0's view of all ranks' work, by the files that appear."""

    def __init__(self, folder: Path, jobs: Sequence[Job]) -> None:
        self._folder = folder
        self._open = list(jobs)
        self._count = len(jobs)
        self._start = time.time()
        say(f"{self._count} finite Transformers to train")

    def update(self) -> None:
        """Show the jobs that were done since the last update."""
        for job in [job for job in self._open if self._is_new(path_of(self._folder, job))]:
            self._open.remove(job)
            risk = load(path_of(self._folder, job)).columns["risk"][-1]
            done = self._count - len(self._open)
            say(f"{done}/{self._count}  {job.name}  risk {risk:.6g}  wall {time.time() - self._start:.1f} s")

    def _is_new(self, path: Path) -> bool:
        """A record that ended too early may have been there before."""
        return path.is_file() and path.stat().st_mtime >= self._start - 1.0


def _history(folder: Path) -> None:
    """history.csv: a row per record and report, of all records in the folder."""
    columns = Particles(folder, tuple(load_all(folder))).history
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    with failing_clearly(folder):
        write_text(folder / HISTORY, csv_text([list(columns), *rows]))
