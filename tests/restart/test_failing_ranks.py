"""What breaks a run from inside: a full disk, a rank that raises; and the job script of docs/clusters.md."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from mfpde.output.checkpoint.checkpoint import FORMAT, read_facts
from mfpde.solve import main
from support.launch import run
from support.restarts import assert_same, write

ROOT = Path(__file__).parents[2]


def test_a_disk_that_is_full_at_a_checkpoint(tmp_path, capsys):
    """A limit on the size of files stands for the disk: one line, exit code 3; both generations stay, and go on."""
    (tmp_path / "straight").mkdir()
    settings = {"time": "step = 0.01", "horizon": 1.0}
    rare = ["--set", "output.every=1.0"]  # so that no report comes in between
    assert main([str(write(tmp_path / "straight", **settings)), *rare]) == 0
    path = write(tmp_path, every="0.0001s", **settings)
    folder = tmp_path / "tiny" / "checkpoint"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        while not folder.is_dir() or max((int(p.stem) for p in folder.glob("*.npz")), default=0) < 30:
            time.sleep(0.005)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))

    thread = threading.Thread(target=fill)
    thread.start()
    capsys.readouterr()
    code = main([str(path), *rare])
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    thread.join()
    line = capsys.readouterr().err
    assert code == 3
    assert re.fullmatch(rf"mfpde: {folder}: \d+.npz cannot be written: File too large\n", line)
    kept = sorted(folder.iterdir())
    assert len(kept) == 2
    assert [read_facts(file)["format"] for file in kept] == [FORMAT, FORMAT]
    assert main([str(path), *rare, "--resume"]) == 0
    assert_same(tmp_path / "straight" / "tiny", tmp_path / "tiny")


RAISING = """
import sys
from mfpde.parallel import mpi
rank = mpi.start().rank
mpi.start_petsc()
import importlib
place, name, count = sys.argv[1:4]
module, _, kind = place.partition(":")
where = importlib.import_module(module)
where = getattr(where, kind) if kind else where
right, calls = getattr(where, name), []
def wrong(*words, **named):
    calls.append(1)
    if rank == 1 and len(calls) == int(count):
        import pathlib, time
        pathlib.Path("raised").write_text(str(time.time()))
        raise KeyError("the culprit")
    return right(*words, **named)
setattr(where, name, wrong)
from mfpde.solve import main
sys.exit(main(["tiny.toml"]))
"""
PHASES = {
    "checkpoint": ("mfpde.output.checkpoint.checkpoint", "write", 3),
    "task": ("mfpde.config.run_file:RunFile", "build", 1),
    "mesh": ("mfpde.limit.fem.finite_elements", "build_finite_elements", 1),
    "initial state": ("mfpde.limit.solver", "initial_state", 1),
    "first checkpoint": ("mfpde.output.checkpoint.checkpoint", "write", 1),
    "first report": ("mfpde.limit.diagnostics.reporter:Reporter", "report", 1),
    "step": ("mfpde.limit.gradient_flow:GradientFlow", "rate", 7),
    "transport": ("mfpde.limit.gradient_flow:GradientFlow", "transport", 9),
    "error of a step": ("mfpde.limit.gradient_flow:GradientFlow", "error", 2),
    "later report": ("mfpde.limit.diagnostics.reporter:Reporter", "report", 3),
    "gather": ("mfpde.limit.fem.finite_elements", "gather", 2),
    "certificate": ("mfpde.limit.diagnostics.reporter", "certify", 1),
}


@pytest.mark.parametrize(
    "phase", [p if p == "checkpoint" else pytest.param(p, marks=pytest.mark.study) for p in PHASES]
)
def test_a_rank_that_raises_ends_the_job_with_its_traceback(phase, tmp_path):
    """Within half a minute on busy cores (a second on idle ones), wherever the other rank is waiting."""
    write(tmp_path, horizon=0.5, time="tolerance = 1e-6", every="0.0001s")
    (tmp_path / "raising.py").write_text(RAISING)
    place, name, count = PHASES[phase]
    ended = run("raising.py", place, name, str(count), ranks=2, directory=tmp_path)
    assert time.time() - float((tmp_path / "raised").read_text()) < 30.0
    assert ended.returncode not in (0, 2, 3)
    assert "rank 1 of 2:\nTraceback" in ended.stderr
    assert "KeyError: 'the culprit'" in ended.stderr


def test_the_job_script_passes_signals_on_and_puts_itself_back(tmp_path):
    """The script of docs/clusters.md with stand-ins for srun and scontrol."""
    script = re.search(r"^```bash\n(.*?)^```$", (ROOT / "docs" / "clusters.md").read_text(), re.MULTILINE | re.DOTALL)
    assert script
    (tmp_path / "job.sh").write_text(script[1])
    (tmp_path / "srun").write_text(
        'echo "$@" >> srun.log\ntrap "echo saved >> srun.log" USR1\ntrap "echo stopped >> srun.log; exit 143" TERM\n'
        "touch ready\nwhile :; do sleep 0.05; done\n"
    )
    (tmp_path / "scontrol").write_text('echo "$@" >> scontrol.log\n')
    for name in ("srun", "scontrol"):
        (tmp_path / name).write_text("#!/bin/bash\n" + (tmp_path / name).read_text())
        (tmp_path / name).chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SCRATCH": str(tmp_path), "SLURM_JOB_ID": "17"}
    for _ in range(2):
        with subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=os.environ | variables) as job:
            while not (tmp_path / "ready").exists():
                time.sleep(0.02)
            (tmp_path / "ready").unlink()
            job.send_signal(signal.SIGUSR1)
            time.sleep(0.5)
            assert job.poll() is None
            job.send_signal(signal.SIGTERM)
            assert job.wait(200) == 143
        (tmp_path / "digits" / "checkpoint").mkdir(parents=True, exist_ok=True)
        (tmp_path / "digits" / "checkpoint" / "00000001.npz").touch()
    command = f"python -m mfpde.solve runs/digits.toml --directory {tmp_path}/digits"
    expected = [command, "saved", "stopped", f"{command} --resume", "saved", "stopped"]
    assert (tmp_path / "srun.log").read_text().splitlines() == expected
    assert (tmp_path / "scontrol.log").read_text().splitlines() == ["requeue 17"] * 2
