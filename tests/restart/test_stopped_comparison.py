"""A comparison that a signal ends: one line, what was being solved goes on, nothing is half written."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mfpde import open_run
from mfpde.compare import main as compare
from mfpde.runs.checkpointer import Schedule
from mfpde.solve import main as solve
from support.launch import environment
from support.restarts import assert_same, write

DEPTH = ("--depth", "2,3")


@pytest.mark.slow
def test_a_depth_that_is_being_solved_goes_on_bit_for_bit(tmp_path, monkeypatch, capsys):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        assert solve([str(write(tmp_path / name, horizon=0.5))]) == 0
    whole, cut = (tmp_path / name / "tiny" for name in ("whole", "cut"))
    assert compare([str(whole), *DEPTH]) == 0
    history = cut / "compare" / "layers-3" / "history.csv"

    def poll(_schedule: Schedule) -> float:
        there = history.exists() and len(history.read_text().splitlines()) > 2
        return 100.0 + signal.SIGTERM if there else 0.0

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "poll", poll)
        assert compare([str(cut), *DEPTH]) == 143
    line = capsys.readouterr().err
    assert line.startswith(f"mfpde: {history.parent}: SIGTERM: stopped at tau = ")
    assert line.endswith(" and saved; the same command goes on\n")
    assert line.count("\n") == 1
    assert not (cut / "compare" / "summary.json").exists()
    assert compare([str(cut), *DEPTH]) == 0
    out = capsys.readouterr().out
    assert f"going on with {history.parent}\n" in out
    assert len(open_run(history.parent).manifest["resumed"]) == 1
    assert_same(history.parent, whole / "compare" / "layers-3")
    assert compare([str(cut), *DEPTH]) == 0
    assert "going on" not in capsys.readouterr().out  # finished solves stay as they are


@pytest.mark.slow
def test_a_signal_from_outside(tmp_path: Path):
    """Wherever it comes, the exit code is 143, and there is one line."""
    assert solve([str(write(tmp_path, horizon=0.5))]) == 0
    words = [sys.executable, "-m", "mfpde.compare", str(tmp_path / "tiny"), *DEPTH]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as job:
        assert job.stdout is not None
        assert job.stdout.readline().startswith("solving ")
        job.send_signal(signal.SIGTERM)
        _, err = job.communicate(timeout=600)
    assert job.returncode == 143
    assert err.startswith("mfpde: ")
    assert "SIGTERM" in err
    assert err.endswith("the same command goes on\n")
    assert err.count("\n") == 1
    assert not (tmp_path / "tiny" / "compare" / "summary.json").exists()
