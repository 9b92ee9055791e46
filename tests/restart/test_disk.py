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

from launch import run
from mfpde.output.checkpoint import read_facts
from mfpde.solve import main
from restarts import assert_same, write

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


SETTINGS = {"time": "step = 0.01", "horizon": 1.0}


def rows(folder: Path) -> int:
    history = folder / "tiny" / "history.csv"
    return len(history.read_text().splitlines()) if history.exists() else 0


def checkpoints(folder: Path) -> int:
    return max((int(path.stem) for path in (folder / "tiny" / "checkpoint").glob("*.npz")), default=0)


@pytest.mark.parametrize(
    ("during", "every", "reports", "ready", "ranks"),
    [
        ("checkpoint", "0.0001s", 1.0, lambda folder: checkpoints(folder) > 30, None),
        ("output", "1h", 0.05, lambda folder: rows(folder) > 5, None),
        pytest.param("output", "1h", 0.05, lambda folder: rows(folder) > 5, 2, marks=pytest.mark.study),
    ],
)
def test_a_full_disk(during, every, reports, ready, ranks, tmp_path, mount):
    """Exit code 3 and one line; with room again the run goes on, and ends as one that always had it."""
    disk, straight = tmp_path / "disk", tmp_path / "straight"
    disk.mkdir()
    straight.mkdir()
    words = ["--set", f"output.every={reports}"]
    assert main([str(write(straight, **SETTINGS)), *words]) == 0
    mount("-t", "tmpfs", "-o", "size=4m", "none", disk)
    write(disk, every=every, **SETTINGS)

    def fill() -> None:
        end = time.monotonic() + 200.0
        while not ready(disk) and time.monotonic() < end:
            time.sleep(0.002)
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:  # no space left
            while file.write(bytes(4096)):
                pass

    thread = threading.Thread(target=fill)
    thread.start()
    done = run("-m", "mfpde.solve", "tiny.toml", *words, ranks=ranks, directory=disk)
    thread.join()
    assert done.returncode == 3, done.stderr
    told = r"\d+\.npz" if during == "checkpoint" else r"\S+"
    line = rf"mfpde: tiny(/checkpoint)?: {told} cannot be written: No space left on device\n"
    assert re.fullmatch(line, done.stderr), done.stderr
    for file in (disk / "tiny" / "checkpoint").glob("*.npz"):
        assert read_facts(file)["format"] == 1
    assert not list((disk / "tiny").rglob("*.part"))
    assert main([str(disk / "tiny.toml"), *words, "--resume"]) == 3  # still full: nothing is lost by trying
    (disk / "filler").unlink()
    assert main([str(disk / "tiny.toml"), *words, "--resume"]) == 0
    assert_same(straight / "tiny", disk / "tiny")


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
