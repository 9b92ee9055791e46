"""The run file that a run directory keeps names the same files as the one that was solved, from wherever it is read."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from mfpde import open_run
from mfpde.config import run_file
from mfpde.errors import InputError
from mfpde.runs.comparison_inputs import own_run_file
from mfpde.solve import main
from support.restarts import TEXT, USER

ROOT = Path(__file__).parents[2]


def write(folder: Path) -> Path:
    """A run file with the user's file, an archive and two meshes of one name in other folders than its own."""
    for name in ("runs", "users", "data", "meshes/a", "meshes/b", "elsewhere"):
        (folder / name).mkdir(parents=True)
    user = USER.replace('"bump", 1,', '"bump", 2,').replace("[0.3], [0.5]", "[0.3] * 2, [0.5] * 2")
    (folder / "users" / "user.py").write_text(user)
    np.savez(folder / "data" / "task.npz", tokens=np.ones((4, 3, 2)), targets=np.ones((4, 1)))
    shutil.copy(ROOT / "meshes" / "disk.msh", folder / "meshes" / "a" / "mesh.msh")
    shutil.copy(ROOT / "meshes" / "square_graded.msh", folder / "meshes" / "b" / "mesh.msh")
    text = TEXT.format(horizon=0.25, time="step = 0.25", every="1h")
    text = text.replace('python = "user.py:task"', 'npz = "../data/task.npz"')
    text = text.replace('"user.py:model"', '"../users/user.py:model"')
    text = text.replace("cells = 12", 'mesh = "../meshes/a/mesh.msh"\n[density.bump]\nmesh = "../meshes/b/mesh.msh"')
    path = folder / "runs" / "tiny.toml"
    path.write_text(text)
    return path


def test_it_names_the_same_files(tmp_path, monkeypatch):
    """Relative to its own folder, behind links too; what identifies the run does not change."""
    given = write(tmp_path)
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "elsewhere" / "link").symlink_to(tmp_path / "far" / "away")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for directory in ("../results/tiny", str(tmp_path / "elsewhere" / "tiny"), "link/tiny"):
        run = run_file.load(given, directory=directory)
        folder = Path(directory)
        folder.mkdir(parents=True)
        (folder / "run.toml").write_text(run.text())
        monkeypatch.chdir(tmp_path)
        saved = run_file.load(tmp_path / "elsewhere" / folder / "run.toml")
        again = run_file.load(given, directory=tmp_path / "elsewhere" / folder)
        assert saved.identity() == again.identity()
        assert saved.build()[1].samples == 4
        for family in ("bump", "none"):
            mine, theirs = saved.densities(family).mesh, again.densities(family).mesh
            assert mine is not None
            assert theirs is not None
            assert mine.samefile(theirs)
        monkeypatch.chdir(tmp_path / "elsewhere")
    absolute = run_file.load(given, [f"task.npz={tmp_path}/data/task.npz"])
    assert tomllib.loads(absolute.text())["task"]["npz"] == f"{tmp_path}/data/task.npz"


def test_what_is_in_the_files_tells_runs_apart(tmp_path):
    """Also where two of them have one name."""
    given = write(tmp_path)
    before = run_file.load(given)
    for name, key in (("meshes/a/mesh.msh", "mesh.msh"), ("meshes/b/mesh.msh", "mesh.msh (2)"),
                      ("data/task.npz", "task.npz"), ("users/user.py", "user.py")):  # fmt: skip
        known, data = before.identity(), (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data + b"\n")
        now = before.identity()
        assert now.differences(known) == [f"the content of {key} = other there, other here"]
        assert now.run_hash != known.run_hash
        assert (now.problem_hash != known.problem_hash) == ("mesh" not in name)
        (tmp_path / name).write_bytes(data)


def test_a_run_goes_on_from_its_saved_run_file(tmp_path, monkeypatch):
    """In another working directory, and where the whole tree was moved."""
    given = write(tmp_path / "one")
    given.write_text(given.read_text().partition("mesh = ")[0] + "cells = 12\n[time]\nstep = 0.05\n")
    user = tmp_path / "one" / "users" / "user.py"
    user.write_text(USER)  # one dimension, which costs little
    directory = tmp_path / "one" / "results" / "tiny"
    assert main([str(given), "--directory", str(directory)]) == 0
    (tmp_path / "one").rename(tmp_path / "two")
    monkeypatch.chdir(tmp_path / "two" / "elsewhere")
    longer = ["--set", "training.horizon=0.5", "--directory", "../results/tiny", "--resume"]
    assert main(["../results/tiny/run.toml", *longer]) == 0
    history = open_run("../results/tiny").history
    assert history["tau"][-1] == 0.5
    assert (np.diff(history["tau"]) > 0.0).all()
    assert (np.diff(history["risk"]) < 0.0).all()


def test_the_files_of_a_directory_that_was_moved_are_those_of_another_run_file(tmp_path):
    """As `compare --run` has it; keys that --set gave stay."""
    given = write(tmp_path)
    run = run_file.load(given, ["training.weight_decay=0.7"], tmp_path / "results")
    (tmp_path / "far" / "away").mkdir(parents=True)
    moved = tmp_path / "far" / "away" / "tiny"
    moved.mkdir()
    (moved / "run.toml").write_text(run.text())
    with pytest.raises(InputError, match="no such file"):
        own_run_file(moved, None).build()
    found = own_run_file(moved, given)
    assert found.identity().problem_hash == run.identity().problem_hash
    assert found.training.weight_decay == 0.7
    mesh = found.densities("bump").mesh
    assert mesh is not None
    assert mesh.samefile(tmp_path / "meshes" / "b" / "mesh.msh")
