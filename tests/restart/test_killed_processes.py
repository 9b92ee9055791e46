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

from mfpde import open_run
from mfpde.solve import main
from support.launch import environment
from support.restarts import assert_same, told_tau, write

# The command; every rank leaves its process id, so that a test can send a signal to one of them.
COMMAND = """
import os, sys
from mfpde.parallel import mpi
from mfpde.solve import main
rank = mpi.start().rank
open(f"{rank}.pid", "w").write(str(os.getpid()))
sys.exit(main(sys.argv[1:]))
"""


# The same; at one call of one function every rank leaves a file, and then hangs.
HANGING = """
import importlib, os, sys, time
from pathlib import Path
from mfpde.parallel import mpi
rank = mpi.start().rank
Path(f"{rank}.pid").write_text(str(os.getpid()))
mpi.start_petsc()
kind, name, count = sys.argv[1:4]
place, _, owner = kind.partition(":")
where = importlib.import_module(place)
where = getattr(where, owner) if owner else where
right, calls = getattr(where, name), []
def hangs(*words, **named):
    calls.append(1)
    if len(calls) == int(count):
        Path(f"{rank}.hangs").touch()
        time.sleep(250.0)
    return right(*words, **named)
setattr(where, name, hangs)
from mfpde.solve import main
sys.exit(main(sys.argv[4:]))
"""


class Job:
    """The command on some ranks, under way."""

    def __init__(self, folder: Path, ranks: int, *words: str, hanging: tuple[str, str, str] | None = None) -> None:
        self.folder, self.ranks = folder, ranks
        for rank in range(ranks):
            for kind in ("pid", "hangs"):
                (folder / f"{rank}.{kind}").unlink(missing_ok=True)
        (folder / "command.py").write_text(COMMAND if hanging is None else HANGING)
        words = (*(hanging or ()), "tiny.toml", *words)
        command = [sys.executable, "command.py", *words]
        if ranks > 1:
            command = [str(Path(sys.executable).parent / "mpirun"), "-n", str(ranks), *command]
        self.checkpoints = newest(self.folder)
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_for_checkpoints(self, count: int) -> None:
        """Until so many new ones have been written, or the job has ended."""
        end = time.monotonic() + 600.0
        while newest(self.folder) < self.checkpoints + count and self.process.poll() is None:
            assert time.monotonic() < end, self.end()
            time.sleep(0.005)

    def wait_until_it_hangs(self) -> None:
        """All ranks, in the function named."""
        end = time.monotonic() + 600.0
        while not all((self.folder / f"{rank}.hangs").exists() for rank in range(self.ranks)):
            assert self.process.poll() is None, self.end()
            assert time.monotonic() < end, "it does not hang"
            time.sleep(0.005)

    def kill_all(self) -> None:
        """What the loss of a machine looks like: SIGKILL of every rank and of what started them, at once."""
        for rank in range(self.ranks):
            self.signal(signal.SIGKILL, rank=rank)
        self.signal(signal.SIGKILL)

    def signal(self, number: int, rank: int | None = None) -> None:
        """To one rank, or to the process that was started: mpirun passes it on."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid if rank is None else int((self.folder / f"{rank}.pid").read_text()), number)

    def end(self, timeout: float = 600.0) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            raise
        return self.process.returncode, out, err


def test_ranks_stopped_in_every_way_are_the_run_that_was_not(tmp_path: Path) -> None:
    """Two ranks: SIGUSR1 and SIGTERM on one, SIGKILL of one, then of all; one rank to the end.

    Bit for bit what one rank makes.
    """
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

    job = Job(tmp_path, 2, "--resume")
    job.wait_for_checkpoints(random.randrange(2, 6))
    job.kill_all()
    assert job.end()[0] == -signal.SIGKILL

    assert main([str(path), "--resume"]) == 0
    assert_same(straight / "tiny", tmp_path / "tiny")
    assert [entry["ranks"] for entry in open_run(tmp_path / "tiny").manifest["resumed"]] == [2, 2, 1]


@pytest.mark.study
@pytest.mark.timeout(3600)
def test_two_ranks_killed_again_and_again(tmp_path: Path) -> None:
    """Twenty times, one of them and all by turns; then two ranks to the end are one rank undisturbed."""
    settings = {"time": "step = 0.002"}
    straight = tmp_path / "straight"
    straight.mkdir()
    assert main([str(write(straight, **settings))]) == 0
    write(tmp_path, every="0.0001s", **settings)
    for kill in range(20):
        job = Job(tmp_path, 2, *(["--resume"] if kill else []))
        job.wait_for_checkpoints(random.randrange(1, 8))
        time.sleep(random.uniform(0.0, 0.02))
        if kill % 2:
            job.kill_all()
        else:
            job.signal(signal.SIGKILL, rank=random.randrange(2))
        assert job.end()[0] not in (0, 2, 3)
    code, _, err = Job(tmp_path, 2, "--resume").end()
    assert code == 0, err
    assert_same(straight / "tiny", tmp_path / "tiny")
    assert len(open_run(tmp_path / "tiny").manifest["resumed"]) == 20


def test_a_signal_before_the_first_step_ends_all_ranks_at_once(tmp_path: Path) -> None:
    """SIGTERM to one of two ranks while both are busy with something that may take long."""
    write(tmp_path)
    job = Job(tmp_path, 2, hanging=("mfpde.limit.fem.finite_elements", "build_finite_elements", "1"))
    job.wait_until_it_hangs()
    start = time.monotonic()
    job.signal(signal.SIGTERM, rank=1)
    code, _, err = job.end()
    assert time.monotonic() - start < 30.0
    assert code == 143, err
    assert "mfpde: SIGTERM: ended before the first step; nothing was lost\n" in err
    assert "Traceback" not in err
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.study)])
def test_a_second_ctrl_c_does_not_wait_for_the_step(ranks: int, tmp_path: Path) -> None:
    """The first is kept until the step ends, which here it does not; what was saved before is not lost."""
    path = write(tmp_path, every="0.0001s", horizon=0.5)
    job = Job(tmp_path, ranks, hanging=("mfpde.limit.gradient_flow:GradientFlow", "transport", "30"))
    job.wait_until_it_hangs()
    assert newest(tmp_path) > 1
    job.signal(signal.SIGINT)
    time.sleep(1.5)
    assert job.process.poll() is None
    start = time.monotonic()
    job.signal(signal.SIGINT)
    code, _, err = job.end()
    assert time.monotonic() - start < 30.0
    if ranks == 1:  # of more, mpirun sometimes fails an assertion of its own, and ends with 0
        assert code == 130, err
        assert "mfpde: SIGINT: a second time: ended at once; --resume goes on from the last checkpoint\n" in err
    assert "Traceback" not in err
    assert main([str(path), "--resume"]) == 0
    straight = tmp_path / "straight"
    straight.mkdir()
    assert main([str(write(straight, horizon=0.5))]) == 0
    assert_same(straight / "tiny", tmp_path / "tiny")


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
from mfpde.parallel import mpi
mpi.start()
mpi.start_petsc()
import mfpde.runs.limit_run
from mfpde.solve import main
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        mpi._starter.cache_clear()  # MPI of one process outlives a fork, which mfpde refuses to rely on
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
    assert forks.wait(200) == 0
    assert status == 0


def newest(folder: Path) -> int:
    """Number of the newest complete checkpoint."""
    return max((int(path.stem) for path in (folder / "tiny" / "checkpoint").glob("*.npz")), default=0)


@pytest.mark.parametrize(
    "kills",
    [pytest.param(10, marks=pytest.mark.slow), pytest.param(100, marks=[pytest.mark.study, pytest.mark.timeout(3600)])],
)
def test_a_run_that_is_killed_again_and_again(kills: int, tmp_path: Path) -> None:
    """A checkpoint at every step, so that kills land in one as well: the run in the end is that of no kill."""
    settings = {"time": "step = 0.01" if kills == 10 else "step = 0.001"}
    (tmp_path / "straight").mkdir()
    assert main([str(write(tmp_path / "straight", **settings))]) == 0
    write(tmp_path, every="0.0001s", **settings)
    kill_again_and_again(tmp_path, kills)
    assert_same(tmp_path / "straight" / "tiny", tmp_path / "tiny")
    assert len(open_run(tmp_path / "tiny").manifest["resumed"]) == kills
