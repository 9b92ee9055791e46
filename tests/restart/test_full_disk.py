"""A disk that is full, and one that may only be read; on file systems of the test's own, where it may mount them."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mfpde.output.checkpoint.checkpoint import read_facts
from mfpde.solve import main
from support.launch import run
from support.restarts import assert_same, write

type Mount = Callable[..., None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """`mount(*words)`; what was mounted is taken away at the end."""
    with ExitStack() as stack:

        def one(*words: str | Path) -> None:
            try:
                done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True, check=False)
            except FileNotFoundError:
                pytest.skip("there is no command mount")
            if done.returncode:
                pytest.skip(f"mounting is not permitted here: {' '.join(done.stderr.split())}")
            if not any("remount" in str(word) for word in words):
                stack.callback(subprocess.run, ["umount", "--lazy", str(words[-1])], check=True)

        yield one


def read_only(mount: Mount, folder: Path) -> None:
    """Nobody may write in the folder, root neither."""
    mount("--bind", folder, folder)
    mount("-o", "remount,bind,ro", folder)


PAGE = 4096
SETTINGS = {"time": "step = 0.01", "horizon": 0.6}
WORDS = ("--set", "output.every=0.05")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that always has room."""
    folder = tmp_path_factory.mktemp("straight")
    assert main([str(write(folder, **SETTINGS)), *WORDS]) == 0
    return folder / "tiny"


def rows(folder: Path) -> int:
    history = folder / "tiny" / "history.csv"
    return len(history.read_text().splitlines()) if history.exists() else 0


def size(path: Path) -> int:
    """What a file takes up."""
    return -(-path.stat().st_size // PAGE) * PAGE


def checkpoints(folder: Path) -> int:
    return max((int(path.stem) for path in (folder / "tiny" / "checkpoint").glob("*.npz")), default=0)


def test_a_disk_that_fills_while_a_checkpoint_is_written(straight, tmp_path, mount):
    """Exit code 3 and one line; with room again the run goes on, and ends as one that always had it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "none", disk)
    write(disk, every="0.0001s", **SETTINGS)

    def fill() -> None:
        end = time.monotonic() + 200.0
        while checkpoints(disk) < 20 and time.monotonic() < end:
            time.sleep(0.002)
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:  # no space left
            while file.write(bytes(4096)):
                pass

    thread = threading.Thread(target=fill)
    thread.start()
    done = run("-m", "mfpde.solve", "tiny.toml", *WORDS, directory=disk)
    thread.join()
    assert_full(done, disk, "tiny/checkpoint: |tiny: ")  # once in five steps it may be a report
    (disk / "filler").unlink()
    assert main([str(disk / "tiny.toml"), *WORDS, "--resume"]) == 0
    assert_same(straight, disk / "tiny")


@pytest.mark.parametrize("ranks", [None, pytest.param(2, marks=pytest.mark.study)])
def test_a_disk_that_has_room_for_some_reports_only(ranks, straight, tmp_path, mount):
    disk = tmp_path / "disk"
    disk.mkdir()
    density, checkpoint = (max(map(size, (straight / name).iterdir())) for name in ("density", "checkpoint"))
    whole = sum(size(path) for path in straight.rglob("*") if path.is_file())
    mount("-t", "tmpfs", "-o", f"size={whole - checkpoint - 4 * density + 2 * PAGE}", "none", disk)
    write(disk, **SETTINGS)
    done = run("-m", "mfpde.solve", "tiny.toml", *WORDS, ranks=ranks, directory=disk)
    assert_full(done, disk, "tiny: ")
    assert rows(disk) > 3
    assert main([str(disk / "tiny.toml"), *WORDS, "--resume"]) == 3  # nothing is lost by trying
    mount("-o", "remount,size=4m", disk)
    assert main([str(disk / "tiny.toml"), *WORDS, "--resume"]) == 0
    assert_same(straight, disk / "tiny")


def assert_full(done: subprocess.CompletedProcess[str], disk: Path, where: str) -> None:
    """It was refused politely, and what is left is sound."""
    assert done.returncode == 3, done.stderr
    assert re.fullmatch(rf"mfpde: ({where})\S+ cannot be written: No space left on device\n", done.stderr), done.stderr
    assert sum(read_facts(file)["format"] for file in (disk / "tiny" / "checkpoint").glob("*.npz")) >= 1
    assert not list((disk / "tiny").rglob("*.part"))


@pytest.mark.parametrize("which", ["tiny", "tiny/checkpoint", "tiny/density"])
def test_a_folder_that_may_only_be_read_is_not_resumed_in(which, finished, mount, capsys):
    read_only(mount, finished / which)
    before = {path: path.read_bytes() for path in (finished / "tiny").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main([str(finished / "tiny.toml"), "--resume", "--set", "training.horizon=1.0"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"mfpde: \S+: directory {finished / which}: cannot be written\n", err), err
    assert before == {path: path.read_bytes() for path in (finished / "tiny").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert main([str(write(folder, horizon=0.25))]) == 0
    return folder
