"""Starting MPI and PETSc, with one thread per rank; a single process has a thread for each core.

`start()` runs before anything numerical is imported: it fixes the number of threads, starts MPI ahead of PETSc and
DOLFINx, and makes an unexpected exception on one rank end all of them. A hang is the worst error message there is.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py import MPI

from mfpde.errors import InputError
from mfpde.inputs import existing, is_text, show
from mfpde.parallel import caches
from mfpde.parallel.agreement import agree
from mfpde.parallel.signals import abort, in_main_thread, reinstall
from mfpde.parallel.working_ranks import available_cores, communicator

_THREADS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
_FOR_JAX = "NPROC"  # threads that may run compiled programs; each of these programs itself has one
_DEBUGGING = "UCX_DEBUG_SIGNO"  # below MPI: at SIGHUP, even an ignored one, UCX would print its whole state
_LAUNCHERS = (  # number of processes, as set by PMI, Open MPI, Intel MPI, MVAPICH, srun, flux, PALS, jsrun
    "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS",
    "FLUX_JOB_SIZE", "PALS_LOCAL_SIZE", "JSM_NAMESPACE_SIZE",
)  # fmt: skip


def limit_threads() -> None:
    """One thread per rank, for libraries that read the environment when they are imported; no signal handlers of UCX.

    A process that no launcher has started has as many threads for passes over the samples as cores. Values that the
    user has set are kept.
    """
    alone = not any(variable in os.environ for variable in _LAUNCHERS)
    for_jax = str(available_cores()) if alone else "1"
    for variable, value in {**_THREADS, _FOR_JAX: for_jax, _DEBUGGING: "0"}.items():
        os.environ.setdefault(variable, value)


def threads() -> int:
    """Threads that a rank shares its passes over the samples among."""
    given = os.environ.get(_FOR_JAX, "")
    return max(1, int(given)) if given.isdecimal() else 1


def start() -> MPI.Intracomm:
    """Fix threads, start MPI, and make an unexpected exception on one rank end all; idempotent.

    Returns:
        The communicator of the ranks that work: all of them, unless a command lets some sleep (`working_ranks`).

    Raises:
        InputError: when a launcher started several processes but each of them is alone in its MPI, as with an `mpirun`
            of another MPI on the PATH or an `srun` that does not know this MPI; in a process forked from one that had
            started MPI; for arguments or a working directory that no library can start with.
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
    return communicator()


@cache
def _starter() -> int:
    """The process that started MPI; a fork of it inherits the cached value."""
    return os.getpid()


def _check_process() -> None:
    """Raise an error unless MPI, PETSc and DOLFINx can start, or go on, in this process."""
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


def start_petsc(options: Sequence[str] = ()) -> None:
    """Initialise PETSc with options as on a command line, such as `["-ts_monitor"]`; before importing DOLFINx.

    Signals stay with Python and the user: PETSc's handlers end the process at SIGHUP, SIGTERM or a broken pipe.

    Raises:
        InputError: for options, or files of options, with which PETSc does not start.
    """
    import petsc4py  # noqa: PLC0415

    agree(lambda: _check_option_files(options))
    imported = "petsc4py.PETSc" in sys.modules
    try:
        words = ["mfpde", "-no_signal_handler", *options]  # not argv[0]: `python -c` makes it an option, -c
        petsc4py.init(words, comm=communicator())
    except RuntimeError as error:  # PETSc has printed the reason
        raise InputError(f"PETSc does not start with its options ({error}), for the reason above") from error
    if imported and in_main_thread():  # whoever imported it first may have initialised it, with its handlers
        from petsc4py import PETSc  # noqa: PLC0415

        PETSc.Sys.popSignalHandler()
        reinstall()
    _lasting_object()


@cache
def _lasting_object() -> object:
    """A PETSc object that lives as long as the process, and with it PETSc's own copy of the communicator.

    At the end PETSc cleans up with a reduction over that copy, and makes one first where there is none. Objects that
    Python has collected on some ranks and not yet on others would keep it on these alone: some ranks would wait in the
    reduction and others in making a copy, for ever.
    """
    from petsc4py import PETSc  # noqa: PLC0415

    return PETSc.Vec().createMPI((0, 0), comm=PETSc.COMM_WORLD)


def _check_option_files(options: Sequence[str]) -> None:
    for option, value in pairwise(options):
        if option == "-options_file":
            existing(option, Path(value.removesuffix(":yaml")))


def say(line: str) -> None:
    """Show a line of what the command does, at once; called on one rank."""
    if sys.stdout is not None:  # a process may have no standard output
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def warn(line: str) -> None:
    """Print a warning, which does not end the command; called on one rank."""
    sys.stderr.write(f"mfpde: warning: {line}\n")
    sys.stderr.flush()


def _abort(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of the rank that failed and end every rank at once."""
    from mpi4py import MPI  # noqa: PLC0415

    comm = MPI.COMM_WORLD
    where = f"rank {comm.rank} of {comm.size}:\n" if comm.size > 1 else ""
    with suppress(OSError, AttributeError):  # a stream that has gone away, or was never there
        sys.stderr.write(where + "".join(traceback.format_exception(kind, value, trace)))
        sys.stderr.flush()
    if comm.size > 1:
        abort(comm, 1)
