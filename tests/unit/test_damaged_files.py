"""Small files of a run directory that were damaged: one line and exit code 2 from whoever reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mfpde import compare, open_run, particles, plot, solve, sweep
from mfpde.errors import InputError
from mfpde.output.records.tables import read_table
from support.restarts import write


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run file; its run is done, and so are two particles."""
    folder = tmp_path_factory.mktemp("finished")
    path = write(folder, horizon=0.25)
    assert solve.main([str(path)]) == 0
    assert particles.main([str(path), "--units", "2", "--seeds", "2"]) == 0
    return folder


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda whole: whole[: len(whole) // 2],
    "list": lambda _: b"[]",
    "no text": lambda whole: b"\xff\xfe" + whole,
    "deep": lambda _: b"[" * 100_000,
}


def damaged(finished: Path, tmp_path: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """A copy of the folder with one file of the run changed."""
    here = tmp_path / "here"
    shutil.copytree(finished, here)
    file = here / "tiny" / name
    file.write_bytes(change(file.read_bytes()))
    return here


def told(capsys: pytest.CaptureFixture[str], main: Callable[[list[str]], int], *words: str | Path) -> str:
    """The one line of a command that is bad input."""
    capsys.readouterr()
    assert main(list(map(str, words))) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.isprintable() or err.endswith("\n")
    return err


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


RESUME = ("--resume", "--set", "training.horizon=0.5")


@pytest.mark.parametrize("how", DAMAGE)
def test_the_manifest(how: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = damaged(finished, tmp_path, "manifest.json", DAMAGE[how])
    before = contents(here)
    where = str(here / "tiny" / "manifest.json")
    assert where in told(capsys, solve.main, here / "tiny.toml", *RESUME)
    for command in (plot.main, compare.main):
        assert where in told(capsys, command, here / "tiny")
    with pytest.raises(InputError, match="damaged"):
        open_run(here / "tiny")
    assert contents(here) == before


@pytest.mark.parametrize("content", [{"resumed": 3}, {"versions": []}, {"problem_hash": 7}, {"ranks": "two"}])
def test_a_manifest_of_wrong_kinds(
    content: dict[str, object], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = damaged(finished, tmp_path, "manifest.json", lambda _: json.dumps(content).encode())
    (key,) = content
    for command, *words in (
        (solve.main, here / "tiny.toml", *RESUME), (plot.main, here / "tiny"), (compare.main, here / "tiny"),
    ):  # fmt: skip
        assert f"({key} is no " in told(capsys, command, *words)


@pytest.mark.parametrize("how", DAMAGE)
def test_the_summary(how: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody needs it to go on: then it is written anew."""
    here = damaged(finished, tmp_path, "summary.json", DAMAGE[how])
    for command in (plot.main, compare.main):
        assert str(here / "tiny" / "summary.json") in told(capsys, command, here / "tiny")
    with pytest.raises(InputError, match="damaged"):
        open_run(here / "tiny")
    if how == "half":
        assert solve.main([str(here / "tiny.toml"), *RESUME]) == 0
        assert open_run(here / "tiny").summary["outcome"] == "done"


@pytest.mark.parametrize("how", ["half", "no text", "deep"])
def test_the_run_file(how: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = damaged(finished, tmp_path, "run.toml", DAMAGE[how])
    for command in (plot.main, compare.main):
        assert str(here / "tiny" / "run.toml") in told(capsys, command, here / "tiny")
    with pytest.raises(InputError, match=r"run\.toml: (not valid TOML|cannot be read as a text)"):
        open_run(here / "tiny")


@pytest.mark.parametrize(
    "change",
    [*DAMAGE.values(), lambda _: b"<VTKFile/>", lambda whole: b'<?xml version="1.0" encoding="klingon"?>' + whole[21:]],
    ids=[*DAMAGE, "no entries", "unknown encoding"],
)
def test_a_collection_of_density_files(
    change: Callable[[bytes], bytes], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = damaged(finished, tmp_path, "density_bump.pvd", change)
    before = contents(here)
    for command, *words in ((solve.main, here / "tiny.toml", *RESUME), (plot.main, here / "tiny", "--no-animation")):
        assert "density_bump.pvd" in told(capsys, command, *words)
    with pytest.raises(InputError, match=r"density_bump\.pvd"):
        open_run(here / "tiny").snapshot(tau=0.0, family="bump")
    assert {name: text for name, text in contents(here).items() if "figures" not in name} == before


def test_a_collection_that_is_gone(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = damaged(finished, tmp_path, "density_bump.pvd", lambda whole: whole)
    (here / "tiny" / "density_bump.pvd").unlink()
    assert "density_bump.pvd: No such file or directory" in told(capsys, solve.main, here / "tiny.toml", *RESUME)


@pytest.mark.parametrize("how", DAMAGE)
def test_the_particles_manifest(how: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = damaged(finished, tmp_path, "particles/manifest.json", DAMAGE[how])
    where = str(here / "tiny" / "particles" / "manifest.json")
    assert where in told(capsys, compare.main, here / "tiny")
    assert where in told(capsys, particles.main, here / "tiny.toml", "--units", "2", "--seeds", "3")


def test_a_member_of_a_sweep_with_a_damaged_summary_is_solved_again(finished: Path, tmp_path: Path) -> None:
    here = damaged(finished, tmp_path, "summary.json", lambda whole: whole)
    words = [str(here / "tiny.toml"), "--over", "training.weight_decay=0.1"]
    assert sweep.main(words) == 0
    (member,) = (path.parent for path in (here / "tiny-sweep").glob("*/summary.json"))
    (member / "summary.json").write_text("[]")
    assert sweep.main(words) == 0
    assert open_run(member).summary["outcome"] == "done"


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    """Neither bytes that are no UTF-8, nor zeros after a crash of the machine, nor a folder."""
    for number, content in enumerate((b"tau\n\xff\n", b"tau\n\0\n\0\n")):
        (tmp_path / f"{number}.csv").write_bytes(content)
        with pytest.raises(InputError, match="is not a table that mfpde wrote"):
            read_table(tmp_path / f"{number}.csv")
    with pytest.raises(InputError, match="Is a directory"):
        read_table(tmp_path)
