"""The communicator, one thread per rank, agreement between ranks, and the end of a job that fails.

`start()` runs before anything numerical is imported: it fixes the number of threads, starts MPI ahead of PETSc and
DOLFINx, and makes an unexpected exception on one rank end all of them. A hang is the worst error message there is.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mpi4py import MPI

from mfpde.errors import ComputationError, InputError, Stopped
from mfpde.inputs import existing, is_text, short, show
from mfpde.parallel import caches
from mfpde.parallel.signals import Interruption, Signals, in_main_thread, interruptible, name, reinstall
from mfpde.parallel.streams import lasting

_THREADS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "NPROC": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
_DEBUGGING = "UCX_DEBUG_SIGNO"  # below MPI: at SIGHUP, even an ignored one, UCX would print all that it does
_NAP = 1e-4  # seconds; below it a sleep costs more than it saves
_LONGEST_NAP, _LONG_NAP = 2e-3, 0.05  # in a reduction, of which a step has several, and where something is compiled
_PART = 0.1  # of the time waited so far, to the next look
_TURN = 0.5  # seconds that a rank other than 0 gives rank 0 to say why all end
_SHARED = 30  # characters shown of what two long values have in common
_LAUNCHERS = (  # processes started, by PMI, Open MPI, Intel MPI, MVAPICH, srun, flux, PALS, jsrun
    "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS",
    "FLUX_JOB_SIZE", "PALS_LOCAL_SIZE", "JSM_NAMESPACE_SIZE",
)  # fmt: skip


def limit_threads() -> None:
    """One thread per rank, for libraries that read the environment when they are imported; and signals left alone.

    Values that the user has set win.
    """
    for variable, value in {**_THREADS, _DEBUGGING: "0"}.items():
        os.environ.setdefault(variable, value)


def start() -> MPI.Intracomm:
    """Fix threads, start MPI, and make an unexpected exception on one rank end all; idempotent.

    Returns:
        The communicator of all ranks.

    Raises:
        InputError: when a launcher started several processes but MPI sees only one of them each, which is what a
            `mpirun` of another MPI on the PATH looks like, and an `srun` that does not know this MPI; in a process
            forked from one that had started MPI; for arguments or a working directory that no library can start with.
    """
    limit_threads()
    _check_process()
    from mpi4py import MPI  # noqa: PLC0415  (importing starts MPI; the thread variables come first)

    for variable in _LAUNCHERS:
        count = os.environ.get(variable, "")
        if MPI.COMM_WORLD.size == 1 and count.isdecimal() and int(count) > 1:
            raise InputError(
                f"{variable} = {count} but MPI sees one process: the launcher (mpirun, srun) belongs to another MPI "
                "than the one that mfpde uses; start with the mpirun that stands beside this Python in the same "
                f"environment, or a single process with {variable} unset"
            )
    if sys.excepthook is not _abort:
        sys.excepthook = _abort
        if MPI.COMM_WORLD.rank == 0 and caches.is_temporary():
            warn(f"compiled code goes to {caches.directory()}: no other folder can be written; MFPDE_CACHE names one")
    return MPI.COMM_WORLD


@cache
def _starter() -> int:
    """The process that started MPI; a fork of it remembers."""
    return os.getpid()


def _check_process() -> None:
    """Can MPI, PETSc and DOLFINx start, or go on, in this process?"""
    if _starter() != os.getpid():
        raise InputError(
            "this process was forked after MPI had started, and cannot use it; start processes that solve by spawning "
            "them, as with multiprocessing.get_context('spawn')"
        )
    try:
        Path.cwd()
    except OSError as error:
        raise InputError(f"the working directory: {error.strerror}; change to one that exists") from error
    for word in sys.argv:
        if not is_text(word):
            raise InputError(f"argument {show(word)}: must be a text in UTF-8")


def warn(line: str) -> None:
    """Show a line about something that does not end the command; called on one rank."""
    sys.stderr.write(f"mfpde: warning: {line}\n")
    sys.stderr.flush()


def start_petsc(options: Sequence[str] = ()) -> None:
    """Initialise PETSc with options as on a command line, such as `["-ts_monitor"]`; before importing DOLFINx.

    Signals stay with Python and the user: PETSc's handlers end the process at SIGHUP, SIGTERM or a broken pipe.

    Raises:
        InputError: for options, or files of options, that PETSc does not start with.
    """
    import petsc4py  # noqa: PLC0415

    agree(lambda: _check_option_files(options))
    there = "petsc4py.PETSc" in sys.modules
    try:
        petsc4py.init(["mfpde", "-no_signal_handler", *options])  # not argv[0]: `python -c` makes it an option, -c
    except RuntimeError as error:  # PETSc has said what is wrong
        raise InputError(f"PETSc does not start with its options ({error}), for the reason above") from error
    if there and in_main_thread():  # whoever imported it first may have initialised it, with its handlers
        from petsc4py import PETSc  # noqa: PLC0415

        PETSc.Sys.popSignalHandler()
        reinstall()


def _check_option_files(options: Sequence[str]) -> None:
    for option, value in pairwise(options):
        if option == "-options_file":
            existing(option, Path(value.removesuffix(":yaml")))


def run_command(work: Callable[[], int], kept: str = "nothing was lost", signals: Signals | None = None) -> int:
    """Run a command's body on every rank and turn the polite ways to end early into a line and an exit code.

    Args:
        work: the body.
        kept: said when a signal ends it and the body does not see to that itself: what is there, and how to go on.
        signals: those that the body sees to; they are listened to while it runs.

    Returns:
        The body's code, or that of the error (2 bad input, 3 failed computation, 128 + signal).
    """
    with lasting(), signals or interruptible():
        try:
            comm = start()
        except InputError as error:
            sys.stderr.write(f"mfpde: {error}\n")
            return error.exit_code
        from mfpde.problem import permissive  # noqa: PLC0415  (JAX; after the threads are fixed)

        try:
            alike({f"argument {k}": word for k, word in enumerate((Path(sys.argv[0]).name, *sys.argv[1:]))})
            with permissive():
                return work()
        except (InputError, ComputationError, Stopped) as error:
            _together(comm, f"mfpde: {' '.join(str(error).split())}\n", error.exit_code)
            return error.exit_code
        except KeyboardInterrupt:
            return _interrupted(comm, signal.SIGINT, kept)
        except Interruption as interruption:
            return _interrupted(comm, interruption.number, kept)


def _together(comm: MPI.Intracomm, line: str, code: int, patience: float = 10.0) -> None:
    """Rank 0 prints the line once all ranks have failed alike; a rank that fails alone ends the others itself."""
    barrier = comm.Ibarrier()
    end = time.monotonic() + patience
    while not barrier.Test():
        if time.monotonic() > end:
            sys.stderr.write(f"rank {comm.rank}: {line}")
            sys.stderr.flush()
            comm.Abort(code)
        time.sleep(0.001)
    if comm.rank == 0:
        sys.stderr.write(line)
        sys.stderr.flush()


def _interrupted(comm: MPI.Intracomm, number: int, kept: str) -> int:
    """Say once what is kept; of several ranks some may wait for others in a collective, so that all are ended."""
    code = Stopped.code(number)
    if comm.rank > 0:
        time.sleep(_TURN)
    sys.stderr.write("\n" * sys.stderr.isatty() + f"mfpde: {name(number)}: {kept}\n")
    sys.stderr.flush()
    if comm.size > 1:
        comm.Abort(code)
    return code


def _abort(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    """Print the culprit's traceback and end every rank at once."""
    from mpi4py import MPI  # noqa: PLC0415

    comm = MPI.COMM_WORLD
    where = f"rank {comm.rank} of {comm.size}:\n" if comm.size > 1 else ""
    with suppress(OSError, AttributeError):  # a stream that has gone away, or was never there
        sys.stderr.write(where + "".join(traceback.format_exception(kind, value, trace)))
        sys.stderr.flush()
    if comm.size > 1:
        comm.Abort(1)


def sum_over_ranks(comm: MPI.Intracomm, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of an array over all ranks; one reduction."""
    from mpi4py import MPI  # noqa: PLC0415

    return _reduce(comm, share, MPI.SUM)


def _reduce(comm: MPI.Intracomm, share: NDArray[np.float64], operation: MPI.Op) -> NDArray[np.float64]:
    """An Allreduce that gives way.

    A rank that waits in a blocking reduction spins. Where there are more ranks than cores that takes the core from
    the rank that is being waited for, so there a waiting rank sleeps between looks.
    """
    total = np.empty_like(share)
    if not _crowded(comm.size):
        comm.Allreduce(share, total, op=operation)
        return total
    _doze(comm.Iallreduce(share, total, op=operation), _LONGEST_NAP)
    return total


def barrier(comm: MPI.Intracomm) -> None:
    """Wait for all ranks without taking a core, for waits that may be long."""
    _doze(comm.Ibarrier(), _LONG_NAP)


def _doze(request: MPI.Request, longest: float) -> None:
    """Sleep until a request is done, longer between looks the longer it takes: looking costs, too."""
    begun = time.perf_counter()
    while not request.Test():
        time.sleep(min(max(_NAP, _PART * (time.perf_counter() - begun)), longest))


@cache
def _crowded(ranks: int) -> bool:
    """Are there more ranks than cores, if all of them run on machines like this one?"""
    return ranks > (os.process_cpu_count() or 1) if hasattr(os, "process_cpu_count") else ranks > (os.cpu_count() or 1)


def same(comm: MPI.Intracomm, mine: NDArray[np.float64]) -> bool:
    """Has every rank the numbers of rank 0, to nine digits? Equal on all ranks; collective."""
    first = comm.bcast(mine, root=0)
    equal = mine.shape == first.shape and np.allclose(mine, first, rtol=1e-9, atol=0.0, equal_nan=True)
    return bool(sum_over_ranks(comm, np.array([0.0 if equal else 1.0]))[0] == 0.0)


def alike(settings: Mapping[str, object]) -> None:
    """Refuse settings that are not the same on every rank, before a collective that depends on one. Collective.

    Ranks differ where a script takes a value from the rank's number, where `mpirun` starts several command lines, and
    where a file is another one on another machine.

    Args:
        settings: name → value; two values are the same if they are written alike.

    Raises:
        InputError: on every rank, naming the first that differs.
    """
    from mpi4py import MPI  # noqa: PLC0415

    comm = MPI.COMM_WORLD
    mine = {name: repr(str(value) if isinstance(value, Path) else value) for name, value in settings.items()}
    first = comm.bcast(mine, root=0)

    def compare() -> None:
        for key in (*first, *(n for n in mine if n not in first)):
            here, there = mine.get(key, "not given"), first.get(key, "not given")
            if here != there:
                raise InputError(
                    f"{key} is {_beside(there, here)} on rank 0 and {_beside(here, there)} on rank {comm.rank}; "
                    "it must be the same on every rank"
                )

    agree(compare)


def _beside(text: str, other: str) -> str:
    """A text as in a message, from shortly before where it differs from another one."""
    pairs = zip(text, other, strict=False)
    differ = next((k for k, (here, there) in enumerate(pairs) if here != there), min(len(text), len(other)))
    start = max(differ - _SHARED, 0)
    return "..." * (start > 0) + short(text[start:], 60)


def agree[Result](work: Callable[[], Result]) -> Result:
    """Run rank-local `work` on every rank; if it fails politely on one, it fails with the same line on all.

    A file may exist on one node and not on another. Without agreement the rank that raises would leave the others
    waiting in the next collective.

    Args:
        work: a function that enters no collective.

    Raises:
        InputError: the message of the lowest rank that raised one.
        ComputationError: likewise.
    """
    from mpi4py import MPI  # noqa: PLC0415

    comm = MPI.COMM_WORLD
    result: Result | None = None
    failure: tuple[type[Exception], str] | None = None
    try:
        result = work()
    except (InputError, ComputationError) as error:
        failure = (type(error), str(error))
    first = int(_reduce(comm, np.array([float(comm.rank if failure else comm.size)]), MPI.MIN)[0])
    if first < comm.size:
        kind, text = comm.bcast(failure, root=first)
        raise kind(text)
    return result  # type: ignore[return-value]


def from_first[Result](work: Callable[[], Result]) -> Result:
    """What rank-local `work` gives on rank 0, on every rank; if it fails politely there, it fails on all. Collective.

    Args:
        work: a function that enters no collective.

    Raises:
        InputError: as `agree`.
        ComputationError: likewise.
    """
    from mpi4py import MPI  # noqa: PLC0415

    comm = MPI.COMM_WORLD
    mine = agree(lambda: work() if comm.rank == 0 else None)
    return comm.bcast(mine, root=0)
