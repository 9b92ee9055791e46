"""Signals from outside: recorded at once, acted on between two steps.

Python runs a signal's handler between two instructions of its own, which may be a minute away while a model is being
compiled. A thread learns of it without delay, through a pipe that the interpreter writes to. As long as there is
nothing to save the thread ends the job immediately; later it only records the signal for the time loop.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

if TYPE_CHECKING:
    from mpi4py import MPI

from mfpde.errors import Stopped

# A closed terminal, the end of processor time, and the warning of some queues end a run as SIGTERM does.
_LIKE_TERM = (signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR2)
_ENDING = (signal.SIGINT, *_LIKE_TERM)
HANDLED = (*_ENDING, signal.SIGUSR1)
_IN_PERSON = (signal.SIGINT, signal.SIGTERM)  # a second one ends at once; SIGXCPU comes every second by itself
_TWICE = 1.0  # seconds; mpirun and the terminal may both forward one Ctrl-C, a second one comes later
_HEARD = 0.3  # seconds in which mpirun passes on what a rank wrote: at an abort it may leave the rest unread
_RANK_0_FIRST = 0.5  # seconds in which rank 0 may end the job with its line, before another rank does


class Signals:
    """The signals received so far; a context manager that records them while it is open.

    Outside the main thread Python installs no handlers, and nothing is recorded.

    Attributes:
        ending: the largest number of the signals received that end a run (SIGINT, SIGTERM and its like); 0 before.
        save: SIGUSR1 was received; whoever acts on it resets it.
        started: monotonic clock when the command began.
    """

    def __init__(self, line: str = "ended before the first step; nothing was lost") -> None:
        """No signal has been received.

        Args:
            line: the message when a signal ends the job at once, since there is nothing to save.
        """
        self.ending = 0
        self.save = False
        self.started = time.monotonic()
        self._line = line
        self._kept = False
        self._last = -float("inf")
        self._handling = ExitStack()
        self._pipe: tuple[int, int] | None = None
        self._wakeup = -1

    def keep(self) -> None:
        """From now on there is something to save: signals are recorded, and the time loop acts on them."""
        self._kept = True

    def free(self) -> None:
        """From now on there is nothing to save: a signal ends the job at once, also one that was recorded before."""
        self._kept = False
        if self.ending:
            _end(self.ending, self._line)

    def __enter__(self) -> Self:
        if not in_main_thread():
            return self
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._handling.enter_context(handling(HANDLED, _handle))
        threading.Thread(target=self._listen, args=(self._pipe[0],), name="signals", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pipe is None:
            return
        self._handling.close()
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._pipe[1])  # the thread reads the end of the pipe, and closes its own
        self._pipe = None

    def _listen(self, pipe: int) -> None:
        while received := os.read(pipe, 1):
            self._record(received[0])
        os.close(pipe)

    def _record(self, number: int) -> None:
        if number == signal.SIGUSR1:
            self.save = True
        if number not in _ENDING:
            return

        now = time.monotonic()
        again = bool(self.ending) and now - self._last > _TWICE and number in _IN_PERSON
        self._last = now
        self.ending = max(self.ending, number)

        if not self._kept:
            _end(number, self._line)
        if again:
            _end(number, "a second time: ended at once; --resume goes on from the last checkpoint")


class Interruption(BaseException):
    """A signal that ends a command, raised as Ctrl-C raises KeyboardInterrupt.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(name(number))
        self.number = number


@contextmanager
def handling(numbers: Iterable[int], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """A handler of signals, but of those that were switched off when the process was started; in the main thread."""
    before = {number: signal.getsignal(number) for number in numbers if not _is_ignored(number)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            if earlier is not None:  # None: not installed by Python, and cannot be restored
                signal.signal(number, earlier)


@contextmanager
def interruptible() -> Iterator[None]:
    """Signals that would kill the process raise `Interruption` instead, unless they have a handler already."""
    mine = [number for number in _LIKE_TERM if in_main_thread() and signal.getsignal(number) is signal.SIG_DFL]
    with handling(mine, _interrupt):
        yield


def reinstall() -> None:
    """Install Python's handlers once more, after a library has set the system's own; in the main thread."""
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if handler not in (None, signal.SIG_DFL):
            signal.signal(number, handler)


def in_main_thread() -> bool:
    """Is this the thread in which Python allows handlers to be set?"""
    return threading.current_thread() is threading.main_thread()


def name(number: int) -> str:
    """SIGTERM and the like."""
    return signal.Signals(number).name


def _handle(_number: int, _frame: object) -> None:
    """Nothing to do: the thread has recorded the signal already."""


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise Interruption(number)


def _is_ignored(number: int) -> bool:
    """Was the signal switched off when the process was started, as `nohup` does with SIGHUP?"""
    return number not in _IN_PERSON and signal.getsignal(number) is signal.SIG_IGN


def all_ranks() -> MPI.Intracomm | None:
    """All ranks, also those that sleep; None where MPI has not been started yet, or has ended."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi.COMM_WORLD if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized() else None


def abort(everyone: MPI.Intracomm, code: int) -> None:
    """End every rank with an exit code, once what this one wrote has been read."""
    time.sleep(_HEARD)
    everyone.Abort(code)


def report_signal(number: int, line: str) -> int:
    """Print once that a signal ends the job, and end the other ranks, which may wait in a collective.

    Returns:
        The exit code, on one rank alone.
    """
    everyone = all_ranks()
    if everyone is not None and everyone.rank > 0:
        time.sleep(_RANK_0_FIRST)
    sys.stderr.write("\n" * sys.stderr.isatty() + f"mfpde: {name(number)}: {line}\n")
    sys.stderr.flush()

    code = Stopped.code(number)
    if everyone is not None and everyone.size > 1:
        abort(everyone, code)
    return code


def _end(number: int, line: str) -> None:
    """End every rank from the recording thread: the main one may be deep in a compiler."""
    os._exit(report_signal(number, line))
