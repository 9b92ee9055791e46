"""Running the body of a command on every rank: expected errors and signals become one line and an exit code."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import jax

if TYPE_CHECKING:
    from mpi4py import MPI

from mfpde.errors import ComputationError, InputError, Stopped
from mfpde.parallel.agreement import require_equal
from mfpde.parallel.mpi import start
from mfpde.parallel.signals import Interruption, Signals, interruptible, report_signal
from mfpde.parallel.streams import lasting

_PATIENCE = 10.0  # seconds in which all ranks have to fail alike


def run_command(work: Callable[[], int], kept: str = "nothing was lost", signals: Signals | None = None) -> int:
    """Run a command's body on every rank, and turn expected errors and signals into a line and an exit code.

    Args:
        work: the body.
        kept: for the message when a signal ends a body that does not handle it: what is kept, and how to go on.
        signals: those that the body handles; they are recorded while it runs.

    Returns:
        The body's code, or that of the error (2 bad input, 3 failed computation, 128 + signal).
    """
    with lasting(), signals or interruptible():
        try:
            comm = start()
        except InputError as error:
            sys.stderr.write(f"mfpde: {error}\n")
            return error.exit_code

        try:
            require_equal({f"argument {k}": word for k, word in enumerate((Path(sys.argv[0]).name, *sys.argv[1:]))})
            with permissive():
                return work()
        except (InputError, ComputationError, Stopped) as error:
            _report_together(comm, f"mfpde: {' '.join(str(error).split())}\n", error.exit_code)
            return error.exit_code
        except KeyboardInterrupt:
            return report_signal(comm, signal.SIGINT, kept)
        except Interruption as interruption:
            return report_signal(comm, interruption.number, kept)


@contextmanager
def permissive() -> Iterator[None]:
    """JAX without the strictness that a user's environment or script may have switched on.

    It would refuse what is intended here: NumPy arrays where JAX arrays could stand, and broadcasting.
    """
    with jax.transfer_guard("allow"), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def _report_together(comm: MPI.Intracomm, line: str, code: int) -> None:
    """Rank 0 prints the line once all ranks have failed alike; a rank that fails alone ends the others itself."""
    barrier = comm.Ibarrier()
    end = time.monotonic() + _PATIENCE
    while not barrier.Test():
        if time.monotonic() > end:
            sys.stderr.write(f"rank {comm.rank}: {line}")
            sys.stderr.flush()
            comm.Abort(code)
        time.sleep(0.001)
    if comm.rank == 0:
        sys.stderr.write(line)
        sys.stderr.flush()
