"""More ranks than cores: as many work as there are cores, the others sleep; nothing else changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mfpde
from mfpde.parallel import working_ranks
from mfpde.parallel.working_ranks import VARIABLE, cores_of
from support.launch import environment, run
from support.run_files import IN_CONTEXT

RANKS = 3
MOST_MEMORY = 60e6  # bytes of a rank that sleeps
RUN = f"""
{IN_CONTEXT}
horizon = 0.2
[density]
cells = 8
"""
SCRIPT = "from mfpde.parallel import mpi; world = mpi.start(); found = world.gather(world.size); print(found or '')"

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processes bound to cores")


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    """This process and its children may run on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(RUN)
    return tmp_path


def solve(folder: Path, directory: str, ranks: str) -> subprocess.CompletedProcess[str]:
    words = ("-m", "mfpde.solve", "run.toml", "--directory", directory)
    return run(*words, ranks=RANKS, directory=folder, changes={VARIABLE: ranks})


def test_asleep_or_awake_the_bits_are_the_same(folder: Path) -> None:
    asleep, awake = solve(folder, "asleep", ""), solve(folder, "awake", "all")
    assert asleep.returncode == awake.returncode == 0, asleep.stderr + awake.stderr
    assert asleep.stdout.startswith("3 ranks on 1 core: 1 works\n")
    assert "core" not in awake.stdout
    for name in ("history.csv", "moments.csv"):
        assert (folder / "asleep" / name).read_bytes() == (folder / "awake" / name).read_bytes()


def test_ranks_sleep_in_little_memory_and_pass_signals_on(folder: Path) -> None:
    """A run that would last for hours, until one of its sleeping ranks is asked to end; what it has is saved."""
    mpirun = Path(sys.executable).parent / "mpirun"
    words = ("-m", "mfpde.solve", "run.toml", "--set", "training.horizon=1e6")
    with subprocess.Popen(
        [mpirun, "-n", str(RANKS), sys.executable, *words],
        cwd=folder,
        env=environment(**{VARIABLE: ""}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        history = folder / "run" / "history.csv"
        end = time.monotonic() + 120.0
        while not history.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        memory = {pid: resident(pid) for pid in descendants(process.pid) if is_rank(pid)}
        sleeping = [pid for pid, size in memory.items() if size < MOST_MEMORY]
        os.kill(sleeping[0], signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert len(memory) == RANKS
    assert len(sleeping) == RANKS - 1, memory
    assert "SIGTERM" in errors
    assert process.returncode == 143
    assert "stopped at tau" in mfpde.open_run(folder / "run").summary["outcome"]


def test_exit_codes_are_those_of_the_ranks_that_work(folder: Path) -> None:
    refused = run("-m", "mfpde.solve", "none.toml", ranks=RANKS, directory=folder, changes={VARIABLE: ""})
    assert refused.returncode == 2
    assert refused.stderr.startswith("mfpde: ")
    assert refused.stderr.count("\n") == 1
    helped = run("-m", "mfpde.solve", "--help", ranks=RANKS, directory=folder, changes={VARIABLE: ""})
    assert helped.returncode == 0
    assert helped.stdout.count("usage") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("particles", "run.toml", "--units", "4", "--seeds", "1"),
        ("sweep", "run.toml", "--over", "density.cells=6,8"),
        ("info",),
    ],
)
def test_other_commands_work_on_as_many(words: tuple[str, ...], folder: Path) -> None:
    done = run(
        "-m", f"mfpde.{words[0]}", *words[1:], ranks=RANKS, directory=folder, changes={VARIABLE: ""}, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 ranks on 1 core: 1 works\n")


def test_all_ranks_of_a_script_work(folder: Path) -> None:
    done = run("-c", SCRIPT, ranks=RANKS, directory=folder, changes={VARIABLE: ""})
    assert done.stdout.strip() == str([RANKS] * RANKS)


def test_cores_of_ranks_that_are_bound_and_of_those_that_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_ranks, "_quota", lambda: None)
    assert cores_of([frozenset({0}), frozenset({1}), frozenset({1})]) == 2
    assert cores_of([frozenset(range(4))] * 8) == 4
    monkeypatch.setattr(working_ranks, "_quota", lambda: 2)
    assert cores_of([frozenset(range(4))] * 8) == 2


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", None), ("150000 100000", 2), ("50000 100000", 1), ("", None)]
)
def test_quotas_of_control_groups(text: str, cores: int | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert working_ranks._allowed(tmp_path / "cpu.max") == cores
    assert working_ranks._allowed(tmp_path / "none") is None


def descendants(root: int) -> list[int]:
    """Processes below one, by /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def is_rank(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return "python" in Path(words[0]).name and "mfpde.solve" in words


def resident(pid: int) -> int:
    """Bytes of memory that a process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
