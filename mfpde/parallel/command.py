"""Running the body of a command on the ranks that work, and the sleep of the others.

Expected errors and signals become one line and an exit code.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py import MPI

from mfpde.errors import ComputationError, InputError, Stopped
from mfpde.parallel.agreement import require_equal
from mfpde.parallel.caches import keep_bytecode
from mfpde.parallel.mpi import say, start
from mfpde.parallel.signals import (
    HANDLED,
    Interruption,
    Signals,
    abort,
    all_ranks,
    handling,
    interruptible,
    report_signal,
)
from mfpde.parallel.streams import lasting
from mfpde.parallel.working_ranks import Division, communicator, divide

_DELAY = 0.3  # seconds until a signal is passed on; mostly the launcher gives it to every rank, and the job ends
_LONGEST_SLEEP = 0.1  # seconds; so much later than the others a sleeping rank ends
_SLEPT_FRACTION = 0.1  # of the time slept so far
_DONE = 7001  # tag of the message with which it ends
_PATIENCE = 10.0  # seconds in which all ranks have to fail alike


def run_command(work: Callable[[], int], kept: str = "nothing was lost", signals: Signals | None = None) -> int:
    """Run a command's body on every rank that works, and turn expected errors and signals into a line and an exit code.

    Ranks beyond the cores of their machine sleep until the body ends elsewhere (`working_ranks`).

    Args:
        work: the body.
        kept: for the message when a signal ends a body that does not handle it: what is kept, and how to go on.
        signals: those that the body handles; they are recorded while it runs.

    Returns:
        The body's code, or that of the error (2 bad input, 3 failed computation, 128 + signal).
    """
    with lasting():
        with signals or interruptible():
            keep_bytecode()
            try:
                start()
                words = (Path(sys.argv[0]).name, *sys.argv[1:])
                require_equal({f"argument {k}": word for k, word in enumerate(words)})
                division = divide() if _is_command() else Division(works=True)
                if division.works:
                    return _outcome(work, division.line)
            except InputError as error:
                return _refusal(error)
            except KeyboardInterrupt:
                return report_signal(signal.SIGINT, kept)
            except Interruption as interruption:
                return report_signal(interruption.number, kept)
        return _sleep(division.chief)


def _is_command() -> bool:
    """Was this process started as a command? A script that calls one may go on with all its ranks."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name.partition(".")[0] == "mfpde"


def _refusal(error: InputError) -> int:
    """Print why no command can begin here, once."""
    everyone = all_ranks()
    if everyone is None or everyone.rank == 0:
        sys.stderr.write(f"mfpde: {error}\n")
    return error.exit_code


def _outcome(work: Callable[[], int], line: str) -> int:
    """Run the body and wake the ranks that sleep with its exit code."""
    comm = communicator()
    if line and comm.rank == 0:
        say(line)
    try:
        with permissive():
            code = work()
    except (InputError, ComputationError, Stopped) as error:
        _report_together(comm, f"mfpde: {' '.join(str(error).split())}\n", error.exit_code)
        code = error.exit_code
    except SystemExit as end:  # --help
        _wake(end.code if isinstance(end.code, int) else 0)
        raise
    _wake(code)
    return code


def _wake(code: int) -> None:
    """Let the sleeping ranks end with an exit code; called by the ranks that work, at their end."""
    from mpi4py import MPI  # noqa: PLC0415

    everyone, group = MPI.COMM_WORLD, communicator().group
    if everyone.rank > 0:
        return
    busy = set(group.Translate_ranks(range(group.size), everyone.group))
    MPI.Request.waitall([everyone.isend(code, rank, _DONE) for rank in range(everyone.size) if rank not in busy])


def _sleep(chief: int) -> int:
    """Sleep until the ranks that work are done.

    Args:
        chief: process to which signals that reach this rank are passed on.

    Returns:
        The exit code of the ranks that work.
    """
    from mpi4py import MPI  # noqa: PLC0415

    request = MPI.COMM_WORLD.irecv(source=0, tag=_DONE)
    begun = time.monotonic()
    signals: dict[int, float] = {}  # with the times at which they arrived; they do nothing else here
    with handling(HANDLED, lambda number, _frame: signals.setdefault(number, time.monotonic())):
        while True:
            done, code = request.test()
            if done and code is not None:
                return int(code)
            _pass_on(signals, chief)
            time.sleep(min(_SLEPT_FRACTION * (time.monotonic() - begun), _LONGEST_SLEEP))


def _pass_on(signals: dict[int, float], process: int) -> None:
    """Send a process the signals that arrived some time ago, once: it has not ended by them, and may not have them."""
    for number in [each for each, time_of in signals.items() if time.monotonic() - time_of > _DELAY]:
        del signals[number]
        with suppress(OSError):
            os.kill(process, number)


@contextmanager
def permissive() -> Iterator[None]:
    """JAX without the strictness that a user's environment or script may have switched on.

    It would refuse what is intended here: NumPy arrays where JAX arrays could stand, and broadcasting.
    """
    import jax  # noqa: PLC0415  (ranks that sleep do without)

    with jax.transfer_guard("allow"), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def _report_together(comm: MPI.Intracomm, line: str, code: int) -> None:
    """Rank 0 prints the line once all ranks have failed alike; a rank that fails alone ends the others itself."""
    from mpi4py import MPI  # noqa: PLC0415

    barrier = comm.Ibarrier()
    end = time.monotonic() + _PATIENCE
    while not barrier.Test():
        if time.monotonic() > end:
            sys.stderr.write(f"rank {comm.rank}: {line}")
            sys.stderr.flush()
            abort(MPI.COMM_WORLD, code)
        time.sleep(0.001)
    if comm.rank == 0:
        sys.stderr.write(line)
        sys.stderr.flush()
