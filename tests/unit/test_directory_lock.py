"""One writer a directory: the second is refused with one line, nothing is touched, and a killed one holds nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mfpde import compare, particles, solve, sweep
from mfpde.errors import InputError
from mfpde.output.lock import LOCK, only_writer
from mfpde.parallel import mpi
from support.launch import environment
from support.restarts import write

# Holds the directories named, says so, and waits to be killed.
HOLDER = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from mfpde.output.lock import only_writer
with ExitStack() as stack:
    for name in sys.argv[1:]:
        stack.enter_context(only_writer(Path(name)))
    print("held", flush=True)
    time.sleep(200.0)
"""


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run file whose run is done."""
    folder = tmp_path_factory.mktemp("finished")
    assert solve.main([str(write(folder, horizon=0.25))]) == 0
    return folder


WRITERS: dict[str, tuple[Callable[[list[str]], int], str, list[str]]] = {
    "solve": (solve.main, "fresh", ["RUN", "--directory", "FRESH"]),
    "resume": (solve.main, "tiny", ["RUN", "--resume", "--set", "training.horizon=0.5"]),
    "overwrite": (solve.main, "tiny", ["RUN", "--overwrite"]),
    "sweep": (sweep.main, "tiny-sweep", ["RUN", "--over", "training.weight_decay=0.1,0.2"]),
    "particles": (particles.main, "tiny/particles", ["RUN", "--units", "4", "--seeds", "2"]),
    "compare": (compare.main, "tiny/compare", ["DIR", "--depth", "2,4"]),
}


def test_the_second_writer_is_refused_and_a_killed_one_holds_nothing(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    shutil.copytree(finished, here)
    names = {"RUN": here / "tiny.toml", "DIR": here / "tiny", "FRESH": here / "fresh"}
    held = sorted({folder for _, folder, _ in WRITERS.values()})
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, *held], cwd=here, env=environment(), stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        before = contents(here)
        for what, (main, folder, words) in WRITERS.items():
            capsys.readouterr()
            assert main([str(names.get(word, word)) for word in words]) == 2, what
            out, err = capsys.readouterr()
            assert (out, err.count("\n")) == ("", 1), what
            who = f"process {holder.pid} on {platform.node()} is writing there; wait for it to end"
            assert f"directory {here / folder}: {who}" in err, what
        assert contents(here) == before
        holder.send_signal(signal.SIGKILL)
    for what in ("solve", "overwrite"):  # the lock of a dead process is none
        main, folder, words = WRITERS[what]
        assert main([str(names.get(word, word)) for word in words]) == 0
        assert not (here / folder / LOCK).exists()
    with only_writer(here / "tiny" / "particles"):
        pass


def test_within_one_process_and_over_again(tmp_path: Path) -> None:
    """What was made for the lock alone goes with it; what was put there stays."""
    folder = tmp_path / "a" / "b"
    with only_writer(folder):
        with pytest.raises(InputError, match=f"process {os.getpid()} on"), only_writer(folder):
            pass
        with pytest.raises(InputError, match="is writing there"), only_writer(folder):
            pass
    assert list(tmp_path.iterdir()) == []
    with only_writer(folder):
        (folder / "mine.txt").write_text("stays")
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_the_file_that_another_writer_has_just_taken_away_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking the name may vanish, with its writer: then the lock would be on nothing."""
    right, calls = fcntl.flock, []

    def late(handle: int, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()
        right(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with only_writer(tmp_path):
        assert len(calls) == 2
        with pytest.raises(InputError), only_writer(tmp_path):
            pass


def test_a_file_system_without_locks_is_one_line_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_handle: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with only_writer(tmp_path / "run"):
        pass
    err = capsys.readouterr().err
    assert err.startswith(
        f"mfpde: warning: directory {tmp_path / 'run'}: its file system has no locks (No locks available)"
    )
    assert err.count("\n") == 1


def test_a_disk_that_may_only_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match=r"^directory \S+: Read-only file system$"), only_writer(tmp_path):
        pass


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No launcher has started this process."""
    for name in mpi._LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("name", ["SLURM_STEP_NUM_TASKS", "FLUX_JOB_SIZE", "PALS_LOCAL_SIZE", "PMI_SIZE"])
def test_a_launcher_of_another_mpi_is_named(name: str, alone: pytest.MonkeyPatch) -> None:
    """Its processes would each solve the whole."""
    for harmless in ("1", "", "many"):
        alone.setenv(name, harmless)
        mpi.start()
    alone.setenv(name, "4")
    with pytest.raises(InputError, match=f"{name} = 4 but MPI sees one process: the launcher"):
        mpi.start()


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    """A lock of another program's, and whatever a link under the name of ours points to."""
    other, target = tmp_path / ".lock", tmp_path / "precious"
    for file in (other, target):
        file.write_text("mine")
    with only_writer(tmp_path):
        pass
    (tmp_path / LOCK).symlink_to(target)
    with pytest.raises(InputError), only_writer(tmp_path):
        pass
    assert other.read_text() == target.read_text() == "mine"
