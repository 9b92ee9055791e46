"""Signals from outside: noticed at once, acted on between two steps.

Python runs a signal's handler between two instructions of its own, which may be a minute away while a model is being
compiled. A thread hears of it without delay, through a pipe that the interpreter writes to. As long as there is nothing
to lose it ends the job then and there; later it only takes note, and the time loop asks.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import NoReturn, Self

from mfpde.errors import Stopped

# A closed terminal, the end of processor time, and the warning of some queues end a run as SIGTERM does.
_LIKE_TERM = (signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR2)
_ENDING = (signal.SIGINT, *_LIKE_TERM)
_NOTED = (*_ENDING, signal.SIGUSR1)
_IN_PERSON = (signal.SIGINT, signal.SIGTERM)  # a second one means it; SIGXCPU comes every second by itself
_TWICE = 1.0  # seconds; mpirun and the terminal may both pass on one Ctrl-C, a second one comes later
_TURN = 0.5  # seconds that a rank other than 0 gives rank 0 to end the job with its line


class Signals:
    """The signals that have come so far; a context manager that listens while it is open.

    Outside the main thread Python cannot listen, and nothing is ever noted.

    Attributes:
        ending: SIGINT, SIGTERM and what counts as it, the one with the largest number of those that came; 0 before.
        save: SIGUSR1 came; the reader sets it back.
        started: monotonic clock when the command began.
    """

    def __init__(self, line: str = "ended before the first step; nothing was lost") -> None:
        """Nothing has come.

        Args:
            line: said where a signal ends the job at once, since there is nothing to save.
        """
        self.ending = 0
        self.save = False
        self.started = time.monotonic()
        self._line = line
        self._polite = False
        self._last = -float("inf")
        self._before: dict[int, object] = {}
        self._pipe: tuple[int, int] | None = None
        self._wakeup = -1

    def keep(self) -> None:
        """From now on there is something to save: signals are noted, and end nothing by themselves."""
        self._polite = True

    def free(self) -> None:
        """From now on there is nothing to save: a signal ends the job at once, as does one that was noted before."""
        self._polite = False
        if self.ending:
            _end(self.ending, self._line)

    def __enter__(self) -> Self:
        if not in_main_thread():
            return self
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._before = {number: signal.getsignal(number) for number in _NOTED if not _is_waved_off(number)}
        for number in self._before:
            signal.signal(number, _heard)
        threading.Thread(target=self._listen, args=(self._pipe[0],), name="signals", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pipe is None:
            return
        for number, handler in self._before.items():
            if handler is not None:  # None: not Python's, and not to be had back
                signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._pipe[1])  # the thread reads the end of the pipe, and closes its own
        self._pipe = None

    def _listen(self, pipe: int) -> None:
        while heard := os.read(pipe, 1):
            self._note(heard[0])
        os.close(pipe)

    def _note(self, number: int) -> None:
        if number == signal.SIGUSR1:
            self.save = True
        if number not in _ENDING:
            return
        now = time.monotonic()
        again = bool(self.ending) and now - self._last > _TWICE and number in _IN_PERSON
        self._last = now
        self.ending = max(self.ending, number)
        if not self._polite:
            _end(number, self._line)
        if again:
            _end(number, "a second time: ended at once; --resume goes on from the last checkpoint")


class Interruption(BaseException):
    """A signal that ends a command, raised as Ctrl-C raises KeyboardInterrupt.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(name(number))
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Signals that would kill the process raise `Interruption` instead, where nobody has said otherwise."""
    mine = [number for number in _LIKE_TERM if in_main_thread() and signal.getsignal(number) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def reinstall() -> None:
    """Put Python's handlers in place once more, after a library has set the system's own; in the main thread."""
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if handler not in (None, signal.SIG_DFL):
            signal.signal(number, handler)


def in_main_thread() -> bool:
    """Is this the thread in which Python lets handlers be set?"""
    return threading.current_thread() is threading.main_thread()


def name(number: int) -> str:
    """SIGTERM and the like."""
    return signal.Signals(number).name


def _heard(_number: int, _frame: object) -> None:
    """The thread knows already."""


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise Interruption(number)


def _is_waved_off(number: int) -> bool:
    """Has whoever started this process switched the signal off, as `nohup` does with SIGHUP?"""
    return number not in _IN_PERSON and signal.getsignal(number) is signal.SIG_IGN


def _end(number: int, line: str) -> None:
    """End every rank from this thread: the main one may be deep in a compiler."""
    mpi = sys.modules.get("mpi4py.MPI")  # not imported yet when a signal comes early
    comm = mpi.COMM_WORLD if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized() else None
    if comm is not None and comm.rank > 0:
        time.sleep(_TURN)
    sys.stderr.write(f"mfpde: {name(number)}: {line}\n")
    sys.stderr.flush()
    code = Stopped.code(number)
    if comm is not None and comm.size > 1:
        comm.Abort(code)
    os._exit(code)
