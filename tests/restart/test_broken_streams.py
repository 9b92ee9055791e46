"""Pipes that break and streams that are closed end the talking of every command, and nothing else."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mfpde import open_run
from mfpde.parallel.command import run_command
from mfpde.parallel.signals import Interruption
from support.launch import environment
from support.restarts import write

# All commands in one process. Before each one, standard output is broken anew, or was closed by the shell.
COMMANDS = """
import json, os, sys
how = sys.argv[1]
from mfpde import compare, info, particles, plot, solve, sweep
def broken():
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)
    os.close(write)
codes = {}
def do(name, main, *words):
    if how == "broken":
        broken()
    try:
        codes[name] = main(list(words))
    except SystemExit as end:
        codes[name] = end.code
do("help", solve.main, "--help")
do("info", info.main)
do("solve", solve.main, "tiny.toml")
do("resume", solve.main, "tiny.toml", "--resume", "--set", "training.horizon=0.75")
do("particles", particles.main, "tiny.toml", "--units", "2", "--seeds", "2", "--set", "training.horizon=0.25")
do("compare", compare.main, "tiny", "--depth", "2,4")
do("sweep", sweep.main, "tiny.toml", "--over", "training.weight_decay=0.1,0.2")
do("plot", plot.main, "tiny", "--no-animation")
do("watch", plot.main, "tiny", "--watch")
do("bad", solve.main, "no-such.toml")
json.dump(codes, open("codes.json", "w"))
"""


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(PYTHON=sys.executable), capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("how", ["broken", "closed"])
def test_every_command_goes_on_without_a_listener(how: str, tmp_path: Path) -> None:
    write(tmp_path, horizon=0.5)
    user = (tmp_path / "user.py").read_text()
    (tmp_path / "user.py").write_text(user.replace("def task():", "def task():\n    print('from the user')"))
    (tmp_path / "commands.py").write_text(COMMANDS)
    done = shell(f'"$PYTHON" commands.py {how}{" >&-" if how == "closed" else ""}', tmp_path)
    assert done.stderr == "mfpde: run file = 'no-such.toml': no such file\n"
    assert done.returncode == 0
    codes = json.loads((tmp_path / "codes.json").read_text())
    assert codes.pop("bad") == 2
    assert set(codes.values()) == {0}, codes
    assert open_run(tmp_path / "tiny").summary["outcome"] == "done"
    assert open_run(tmp_path / "tiny").taus[-1] == 0.75
    assert (tmp_path / "tiny" / "figures" / "report.html").is_file()
    assert len((tmp_path / "tiny-sweep" / "sweep.csv").read_text().splitlines()) == 3


def test_head_ends_the_talking_and_not_the_run(tmp_path: Path) -> None:
    """`| head -1`, all streams closed, and a disk that is full under standard output, each in a process of its own."""
    write(tmp_path, horizon=0.5)
    solve = '"$PYTHON" -m mfpde.solve tiny.toml --directory'
    done = shell(f"{solve} a | head -1; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tau 0 ")
    done = shell(f"{solve} b <&- >&- 2>&-", tmp_path)
    assert done.returncode == 0
    done = shell(f"{solve} c >/dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (0, "mfpde: standard output cannot be written: No space left on device\n")
    texts = [(tmp_path / name / "history.csv").read_text() for name in "abc"]
    assert texts[0] == texts[1] == texts[2]
    assert len(texts[0].splitlines()) == 4


def test_signals_end_commands_that_have_nothing_to_save(capsys: pytest.CaptureFixture[str]) -> None:
    """As Ctrl-C: one line that says what is kept; Python's handlers are as before."""
    codes = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGXCPU: 152, signal.SIGUSR2: 140, signal.SIGINT: 130}

    def work(number: int) -> int:
        os.kill(os.getpid(), number)
        return 0

    for number, code in codes.items():
        before = signal.getsignal(number)
        assert run_command(lambda n=number: work(n), "figures that were finished are there") == code
        assert capsys.readouterr().err == f"mfpde: {number.name}: figures that were finished are there\n"
        assert signal.getsignal(number) == before


def test_an_interruption_is_no_exception_that_code_may_catch() -> None:
    assert not issubclass(Interruption, Exception | KeyboardInterrupt)
    assert Interruption(signal.SIGHUP).number == signal.SIGHUP


def test_a_stream_that_breaks_later_loses_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            if "c" in text:
                raise BrokenPipeError
            return super().write(text)

    stream = Gone()
    monkeypatch.setattr(sys, "stdout", stream)

    def talk() -> int:
        lines: Sequence[str] = ("a\n", "b\n", "c\n", "d\n")
        sys.stdout.writelines(lines)
        print("still here", flush=True)  # noqa: T201  (a user's function may)
        assert not sys.stdout.isatty()
        return 0

    assert run_command(talk) == 0
    assert stream.getvalue().startswith("a\nb\n")
    assert sys.stdout is stream
