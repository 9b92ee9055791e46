"""Checkpoints of a run: when one is due, what is in it, and when the run ends on request."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from mfpde.config.identity import Identity
from mfpde.errors import DiskError, InputError, Stopped
from mfpde.output.checkpoint import checkpoint
from mfpde.output.checkpoint.generations import Generations
from mfpde.output.checkpoint.state_dict import checkpoint_errors
from mfpde.parallel.agreement import agree
from mfpde.parallel.signals import Signals, name

if TYPE_CHECKING:
    from mfpde.limit.solver import Solver
    from mfpde.output.writer import RunWriter

_SAVE, _TIME_UP, _SIGNAL = 1.0, 2.0, 100.0  # what a rank requests; to the last the signal's number is added
_RECENT = 16  # steps and checkpoints whose durations are remembered
_CAUTION = 1.5  # by which the longest of them may be exceeded
_MOST_SHOWN = 4  # keys that differ


class Schedule:
    """What this rank requests between two steps: rank 0 looks at the clock, every rank at its signals."""

    def __init__(self, every: float, wall_time: float | None, signals: Signals, watches_clock: bool) -> None:
        """Nothing is due.

        Args:
            every: seconds between checkpoints.
            wall_time: seconds from the start of the command to its end; None without a limit.
            signals: of this process.
            watches_clock: is this rank 0?
        """
        self._every = every
        self._signals = signals
        self._watches_clock = watches_clock

        self._deadline = math.inf if wall_time is None else signals.started + wall_time
        self._steps: deque[float] = deque(maxlen=_RECENT)
        self._saves: deque[float] = deque(maxlen=_RECENT)
        self._polled: float | None = None
        self._saved = time.monotonic()

    def poll(self) -> float:
        """What this rank requests now, 0 for nothing; once a step."""
        self._signals.keep()
        now = time.monotonic()
        if self._polled is not None:  # the model is compiled before the first time, which does not come again
            self._steps.append(now - self._polled)
        self._polled = now

        if self._signals.ending:
            return _SIGNAL + self._signals.ending
        if self._watches_clock and now + self._ahead() > self._deadline:
            return _TIME_UP
        if self._signals.save or (self._watches_clock and now - self._saved > self._every):
            return _SAVE
        return 0.0

    def saved(self, seconds: float) -> None:
        """A checkpoint was written, in this time."""
        self._signals.save = False
        self._saves.append(seconds)
        self._saved = time.monotonic()
        self._polled = None if self._polled is None else self._saved

    def _ahead(self) -> float:
        """How long one more step, and then a checkpoint, may take."""
        return _CAUTION * (max(self._steps, default=0.0) + max(self._saves, default=0.0))


@dataclass
class Checkpointer:
    """Saves a run, and ends it on request; `poll` and `pause` are what `Solver.run` calls.

    Attributes:
        comm: communicator.
        solver: the solver to save.
        schedule: of this rank.
        identity: what a run that goes on from here must have in common with this one.
        generations, writer: of the run directory, on rank 0.
    """

    comm: MPI.Intracomm
    solver: Solver
    schedule: Schedule
    identity: Identity
    generations: Generations | None
    writer: RunWriter | None

    def poll(self) -> float:
        """See `Schedule.poll`."""
        return self.schedule.poll()

    def pause(self, request: float) -> None:
        """Save, and end the run if that was requested; collective.

        Raises:
            Stopped: on every rank, after a checkpoint.
            DiskError: on every rank, when the disk refuses.
        """
        self.save()
        if request == _SAVE:
            return
        number = int(request - _SIGNAL) if request >= _SIGNAL else 0
        why = name(number) if number else "--wall-time is up"
        tau = self.solver.stepper.state.tau
        raise Stopped(f"{why}: stopped at tau = {tau:.6g} and saved; --resume goes on from there", number)

    def save(self) -> None:
        """Write a checkpoint; collective.

        Raises:
            DiskError: on every rank, when the disk refuses; the checkpoints before are as they were.
        """
        start = time.monotonic()
        solver = self.solver.state_dict()
        output = agree(lambda: self.writer.state_dict() if self.writer else None)
        part = agree(lambda: self.generations.new_name() if self.generations else None)

        try:
            checkpoint.write(self.comm, part, solver, {"identity": asdict(self.identity), "output": output})
            agree(lambda: self.generations.accept(part) if self.generations and part else None)
        except DiskError:
            if part is not None:
                part.unlink(missing_ok=True)
            raise

        self.schedule.saved(time.monotonic() - start)


def find(generations: Generations, identity: Identity) -> tuple[Path, dict[str, Any], list[str]]:
    """The newest sound checkpoint: its file, its facts, and a line for every newer one that is damaged; on rank 0.

    Raises:
        InputError: when none is sound, or when it is of another run.
    """
    try:
        path, facts, damaged = generations.newest()
    except LookupError as error:
        raise InputError(f"--resume: no checkpoint is sound: {'; '.join(map(str, error.args))}") from error

    with checkpoint_errors():
        differing = identity.differences(Identity(**facts["identity"]))
    if differing:
        more = len(differing) - _MOST_SHOWN
        shown = "; ".join(differing[:_MOST_SHOWN]) + f" and {more} more" * (more > 0)
        raise InputError(f"--resume: the checkpoint is of another run: {shown}")
    return path, facts, damaged
