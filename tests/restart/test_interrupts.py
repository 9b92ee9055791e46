"""Ctrl-C in a script or notebook, and what becomes of the user's own handlers: PETSc keeps out of both."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import mfpde
from mfpde.limit.diffusion.interior_penalty import InteriorPenalty
from mfpde.limit.gradient_flow import GradientFlow
from mfpde.limit.timestepping.stepper import Stepper
from mfpde.output.lock import LOCK
from mfpde.parallel.signals import Signals
from support.launch import run

FAMILY = mfpde.Family("bump", 1, lambda tokens, theta: jnp.tanh(theta[0] * tokens), mfpde.Normal([0.3], [0.5]))
MODEL = mfpde.Transformer([[FAMILY]], 2, lambda tokens: tokens[-1, :1])
TASK = mfpde.Task(np.ones((4, 3, 2)), np.ones((4, 1)))


def solve(horizon: float = 0.2, temperature: float = 0.0, **named: Any) -> mfpde.Run:
    return mfpde.solve_limit(
        MODEL, TASK, weight_decay=0.1, horizon=horizon, temperature=temperature,
        density=mfpde.Density(degree=1, cells=8, frame="comoving"), time=mfpde.Time(step=0.01), **named,
    )  # fmt: skip


def raising(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, count: int, what: BaseException) -> None:
    """Let the count-th call of a method raise."""
    right, calls = getattr(owner, name), []

    def wrong(*words: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == count:
            raise what
        return right(*words, **named)

    monkeypatch.setattr(owner, name, wrong)


PLACES = {
    "in a stage": (GradientFlow, "transport", 30, 0.0),
    "before a step is tried": (Stepper, "solveStep", 5, 0.0),
    "when a step is judged": (Stepper, "adaptStep", 5, 0.0),
    "in a linear system in a step": (InteriorPenalty, "apply", 40, 0.05),
}


@pytest.mark.parametrize("what", [KeyboardInterrupt(), ZeroDivisionError("a user's")])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_raised_under_petsc_comes_out_as_it_is(
    place: str, what: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, count, temperature = PLACES[place]
    with monkeypatch.context() as patch:
        raising(patch, owner, name, count, what)
        with pytest.raises(type(what)) as caught:
            solve(temperature=temperature)
    assert caught.value is what
    assert solve(temperature=temperature).taus[-1] == 0.2  # the next call works


def test_ctrl_c_is_a_keyboard_interrupt_and_the_run_goes_on(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    for seconds in (0.0, 0.013, 0.13):
        history = tmp_path / f"{seconds}" / "history.csv"

        def press(history: Path = history, seconds: float = seconds) -> None:
            end = time.monotonic() + 60.0
            while not history.exists() and time.monotonic() < end:
                time.sleep(0.002)
            time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            solve(1000.0, every=1.0, directory=history.parent)
        thread.join()
        assert signal.getsignal(signal.SIGINT) is before
    assert not (history.parent / LOCK).exists()
    with pytest.raises(mfpde.InputError, match="holds a run"):
        solve(directory=history.parent)
    assert solve(0.5, every=0.25, directory=history.parent, overwrite=True).taus[-1] == 0.5


# PETSc is there before mfpde, with its handlers; or mfpde starts it. Then SIGTERM is the system's, or the user's own.
SCRIPT = """
import os, signal, sys
if sys.argv[1] == "petsc first":
    from mpi4py import MPI
    import dolfinx
import numpy as np, jax.numpy as jnp, mfpde
heard = []
signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
family = mfpde.Family("bump", 1, lambda t, theta: jnp.tanh(theta[0] * t), mfpde.Normal([0.3], [0.5]))
model = mfpde.Transformer([[family]], 2, lambda t: t[-1, :1])
mfpde.solve_limit(model, mfpde.Task(np.ones((4, 3, 2)), np.ones((4, 1))), weight_decay=0.1, horizon=0.1,
                  density=mfpde.Density(degree=1, cells=8, frame="comoving"))
for number in (signal.SIGUSR1, signal.SIGTERM):
    os.kill(os.getpid(), number)
assert heard == [signal.SIGUSR1, signal.SIGTERM], heard
read, write = os.pipe()
os.close(read)
try:
    os.write(write, b"x")
except BrokenPipeError:
    print("a broken pipe is an exception", flush=True)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("first", ["petsc first", "mfpde first"])
def test_a_script_keeps_its_handlers_and_sigterm_is_not_petscs(first: str) -> None:
    ended = run("-c", SCRIPT, first)
    assert ended.stderr == ""
    assert ended.stdout == "a broken pipe is an exception\n"
    assert ended.returncode == -signal.SIGTERM


AFTER = """
import os, signal, sys
signal.signal(signal.SIGHUP, getattr(signal, sys.argv[1]))
from mfpde.parallel import mpi
mpi.start()
mpi.start_petsc()
os.kill(os.getpid(), signal.SIGHUP)
print("still there")
"""


def test_a_closed_terminal_ends_a_script_unless_it_is_ignored() -> None:
    """UCX, which mpi4py may load with MPI, has a use of its own for SIGHUP; and `-c` is no option of PETSc's."""
    ended = run("-c", AFTER, "SIG_DFL")
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGHUP, "", "")
    ended = run("-c", AFTER, "SIG_IGN")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "still there\n", "")


def test_nohup_is_heeded() -> None:
    """A signal that was ignored when the command began stays so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signals.keep()
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
            assert signals.ending == 0
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            assert signals.ending == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_end_of_processor_time_comes_every_second_and_means_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step under way and its checkpoint may take longer than that."""
    ended: list[int] = []
    monkeypatch.setattr("mfpde.parallel.signals._end", lambda number, _line: ended.append(number))
    monkeypatch.setattr("mfpde.parallel.signals._TWICE", 0.0)
    with Signals() as signals:
        signals.keep()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGXCPU)
            time.sleep(0.05)
        assert signals.ending == signal.SIGXCPU
        assert ended == []
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        assert ended == [signal.SIGTERM]
