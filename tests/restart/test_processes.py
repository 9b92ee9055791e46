"""Real processes that are told to stop or killed at random moments, and the run that they leave behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from launch import environment
from mfpde.output.reader import open_run
from mfpde.solve import main
from restarts import assert_same, told_tau, write

# The command; every rank leaves its process id, so that a test can send a signal to one of them.
COMMAND = """
import os, sys
from mfpde import parallel
from mfpde.solve import main
rank = parallel.start().rank
open(f"{rank}.pid", "w").write(str(os.getpid()))
sys.exit(main(sys.argv[1:]))
"""


class Job:
    """The command on some ranks, under way."""

    def __init__(self, folder: Path, ranks: int, *words: str) -> None:
        self.folder, self.ranks = folder, ranks
        for rank in range(ranks):
            (folder / f"{rank}.pid").unlink(missing_ok=True)
        (folder / "command.py").write_text(COMMAND)
        command = [sys.executable, "command.py", "tiny.toml", *words]
        if ranks > 1:
            command = [str(Path(sys.executable).parent / "mpirun"), "-n", str(ranks), *command]
        self.checkpoints = newest(self.folder)
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_for_checkpoints(self, count: int) -> None:
        """Until so many new ones have been written, or the job has ended."""
        end = time.monotonic() + 200.0
        while newest(self.folder) < self.checkpoints + count and self.process.poll() is None:
            assert time.monotonic() < end, self.end()
            time.sleep(0.005)

    def signal(self, number: int, rank: int | None = None) -> None:
        """To one rank, or to the process that was started: mpirun passes it on."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid if rank is None else int((self.folder / f"{rank}.pid").read_text()), number)

    def end(self, timeout: float = 200.0) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            raise
        return self.process.returncode, out, err


def test_ranks_stopped_in_every_way_are_the_run_that_was_not(tmp_path: Path) -> None:
    """Two ranks: SIGUSR1 and SIGTERM on one, SIGKILL of one; one rank to the end. Bit for bit what one rank makes."""
    straight = tmp_path / "straight"
    straight.mkdir()
    assert main([str(write(straight))]) == 0

    path = write(tmp_path, every="0.001s")
    job = Job(tmp_path, 2)
    job.wait_for_checkpoints(random.randrange(2, 6))
    job.signal(signal.SIGUSR1, rank=1)
    time.sleep(0.05)
    job.signal(signal.SIGTERM, rank=1)
    code, _, err = job.end()
    assert code == 143, err
    assert err.count("\n") == 1
    assert told_tau(err) < 2.0

    job = Job(tmp_path, 2, "--resume")
    job.wait_for_checkpoints(random.randrange(2, 6))
    job.signal(signal.SIGKILL, rank=1)
    code, _, _ = job.end()
    assert code not in (0, 2, 3)

    assert main([str(path), "--resume"]) == 0
    assert_same(straight / "tiny", tmp_path / "tiny")
    assert [entry["ranks"] for entry in open_run(tmp_path / "tiny").manifest["resumed"]] == [2, 1]


@pytest.mark.study
def test_mpirun_passes_signals_on_and_three_ranks_are_undisturbed(tmp_path: Path) -> None:
    """SIGINT and SIGTERM to mpirun, on three ranks throughout."""
    straight = tmp_path / "straight"
    straight.mkdir()
    write(straight)
    assert Job(straight, 3).end()[0] == 0
    write(tmp_path, every="0.001s")
    words: list[str] = []
    for number, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        job = Job(tmp_path, 3, *words)
        job.wait_for_checkpoints(random.randrange(2, 6))
        job.signal(number)
        code, _, err = job.end()
        assert code == expected, err
        assert err.startswith(f"mfpde: {number.name}: stopped at tau")
        assert err.count("\n") == 1
        words = ["--resume"]
    assert Job(tmp_path, 3, *words).end()[0] == 0
    assert_same(straight / "tiny", tmp_path / "tiny")


# A process in which all is imported, and that forks the command: a kill then costs a second, not five.
FORKS = """
import json, os, sys
from mfpde import parallel
parallel.start()
parallel.start_petsc()
import mfpde.run
from mfpde.solve import main
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(json.loads(line)))
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def kill_again_and_again(folder: Path, kills: int) -> None:
    """Kill the run at random moments until it has been killed so often, then let it go on to its end."""
    (folder / "forks.py").write_text(FORKS)
    forks = subprocess.Popen(
        [sys.executable, "forks.py"], cwd=folder, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert forks.stdin
    assert forks.stdout
    words: list[str] = []
    while True:
        before = newest(folder)
        forks.stdin.write(json.dumps(["tiny.toml", *words]) + "\n")
        forks.stdin.flush()
        child = int(forks.stdout.readline())
        if kills > 0:
            end = time.monotonic() + 200.0
            wanted = before + random.randrange(1, 8)
            while newest(folder) < wanted and time.monotonic() < end:
                time.sleep(0.001)
            time.sleep(random.uniform(0.0, 0.02))
            os.kill(child, signal.SIGKILL)
        status = int(forks.stdout.readline())
        if kills == 0:
            break
        assert status == signal.SIGKILL
        kills, words = kills - 1, ["--resume"]
    forks.stdin.close()
    forks.stdout.close()
    assert forks.wait(20) == 0
    assert status == 0


def newest(folder: Path) -> int:
    """Number of the newest complete checkpoint."""
    return max((int(path.stem) for path in (folder / "tiny" / "checkpoint").glob("*.npz")), default=0)


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=[pytest.mark.study, pytest.mark.timeout(3600)])])
def test_a_run_that_is_killed_again_and_again(kills: int, tmp_path: Path) -> None:
    """A checkpoint at every step, so that kills land in one as well: the run in the end is that of no kill."""
    settings = {"time": "step = 0.01" if kills == 10 else "step = 0.001"}
    (tmp_path / "straight").mkdir()
    assert main([str(write(tmp_path / "straight", **settings))]) == 0
    write(tmp_path, every="0.0001s", **settings)
    kill_again_and_again(tmp_path, kills)
    assert_same(tmp_path / "straight" / "tiny", tmp_path / "tiny")
    assert len(open_run(tmp_path / "tiny").manifest["resumed"]) == kills
