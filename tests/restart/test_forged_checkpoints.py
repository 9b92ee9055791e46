"""Checkpoints whose checksums fit and whose arrays cannot be: refused with one line, on every rank."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mfpde.solve import main
from support.launch import run
from support.restarts import write

type Members = dict[str, bytes]


def npy(array: NDArray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


ROWS = "parts/0/density"  # of the array that is distributed over the ranks


def changed(name: str, change: Callable[[NDArray], NDArray]) -> Callable[[Members], None]:
    """A change of one array."""

    def forge(members: Members) -> None:
        members[f"{name}.npy"] = npy(change(np.lib.format.read_array(io.BytesIO(members[f"{name}.npy"]))))

    return forge


def renamed(name: str) -> Callable[[Members], None]:
    """The array is there under another name: their number is right."""

    def forge(members: Members) -> None:
        members["other.npy"] = members.pop(f"{name}.npy")

    return forge


def too_large(members: Members) -> None:
    """A header that promises more than any memory holds."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**50, 2, 2)})
    members[f"{ROWS}.npy"] = file.getvalue()


FORGED: Mapping[str, tuple[Callable[[Members], None], str]] = {
    "no density": (renamed(ROWS), f"its array {ROWS} cannot be read (KeyError)"),
    "no cells": (renamed(f"cells/{ROWS}"), f"its array {ROWS} cannot be read (KeyError)"),
    "no frame": (renamed("parts/0/matrix"), "its array parts/0/matrix cannot be read (KeyError)"),
    "rows without cells": (changed(ROWS, lambda a: a[:-1]), f"its array {ROWS} cannot be read (ValueError)"),
    "numbers of cells that are real": (
        changed(f"cells/{ROWS}", lambda a: a.astype(float)), f"its array {ROWS} cannot be read (ValueError)"
    ),
    "one cell twice": (changed(f"cells/{ROWS}", lambda a: a.clip(1)), f"its array {ROWS} is not of this mesh"),
    "another degree": (changed(ROWS, lambda a: a[:, :1]), f"its array {ROWS} has shape"),
    "other numbers": (changed(ROWS, lambda a: a.astype("<f4")), f"its array {ROWS} is of type float32"),
    "more than there is": (too_large, f"its array {ROWS} cannot be read (ValueError)"),
    "another frame": (changed("parts/0/centre", lambda a: a[:1]), "its array parts/0/centre has shape"),
    "a frame without inverse": (changed("parts/0/matrix", lambda a: 0.0 * a), "its frame 0 has no inverse"),
    "a frame that is not finite": (changed("parts/0/matrix", lambda a: np.nan * a), "its frame 0 has no inverse"),
    "no array": (lambda m: m.update({"parts/0/matrix.npy": b"none"}), "its array parts/0/matrix cannot be read"),
}  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Members]:
    """A run file, one sound checkpoint of it, and what is in that."""
    folder = tmp_path_factory.mktemp("forged")
    path = write(folder, horizon=0.25)
    assert main([str(path)]) == 0
    older, newest = sorted((folder / "tiny" / "checkpoint").iterdir())
    older.unlink()
    with zipfile.ZipFile(newest) as archive:
        return path, newest, {name: archive.read(name) for name in archive.namelist()}


def forge(file: Path, members: Members, change: Callable[[Members], None]) -> None:
    changed_ones = dict(members)
    change(changed_ones)
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in changed_ones.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_checkpoint_is_refused(what, sound, capsys):
    path, file, members = sound
    change, line = FORGED[what]
    forge(file, members, change)
    capsys.readouterr()
    assert main([str(path), "--resume"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"--resume: the checkpoint cannot be used: {line}" in err


MANY = """
import json, sys
from mfpde import solve
from mfpde.parallel import mpi
comm = mpi.start()
codes = [comm.gather(solve.main(["tiny.toml", "--directory", name, "--resume"])) for name in sys.argv[1:]]
if comm.rank == 0:
    json.dump(codes, open("codes.json", "w"))
"""


def test_two_ranks_refuse_a_forged_checkpoint_alike(sound):
    """Rank 0 alone reads the file; no other may be left waiting, and none ends with a traceback."""
    path, file, members = sound
    some = ["no density", "no frame", "one cell twice", "another degree", "a frame without inverse"]
    for what, (change, _) in ((what, FORGED[what]) for what in some):
        folder = path.parent / what.replace(" ", "-")
        shutil.copytree(path.parent / "tiny", folder)
        forge(folder / "checkpoint" / file.name, members, change)
    (path.parent / "many.py").write_text(MANY)
    names = [what.replace(" ", "-") for what in some]
    done = run("many.py", *names, ranks=2, directory=path.parent)
    assert done.returncode == 0, done.stderr
    assert json.loads((path.parent / "codes.json").read_text()) == [[2, 2]] * len(some)
    lines = done.stderr.splitlines()
    assert len(lines) == len(some), done.stderr
    for what, line in zip(some, lines, strict=True):
        assert FORGED[what][1] in line
