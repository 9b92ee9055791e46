"""A run whose densities are written in pieces is the run that writes them whole, and goes on on any number of ranks."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from mfpde import open_run
from support.launch import run

RUN = """
name = "small"
[task]
name = "teacher"
samples = 4
tokens = 3
channels = 2
[model]
name = "attention-mlp"
channels = 2
layers = 2
[training]
weight_decay = 0.1
horizon = 0.1
[density]
degree = 1
cells = {cells}
cell_type = "{cell}"
frame = "{frame}"
[time]
step = 0.05
[output]
every = 0.05
"""
CASES = {  # on 3 ranks; of 2 × 1 cells one rank holds none
    "triangles": RUN.format(cells=3, cell="simplex", frame="comoving"),
    "few": RUN.format(cells=1, cell="simplex", frame="fixed"),
    "carried": RUN.format(cells=3, cell="tensor", frame="lagrangian"),
}
SOLVE = """
import sys
from pathlib import Path
from mfpde.config import run_file
from mfpde.parallel import mpi
mpi.start()
mpi.start_petsc()
from mfpde.output.fields import snapshot
from mfpde.runs.limit_run import execute
for name, largest in (("whole", 2.0**30), ("pieces", 0.0)):
    snapshot.LARGEST_FILE = largest
    for file in map(Path, sys.argv[1:]):
        execute(run_file.load(file, [], Path(name) / file.stem))
"""


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    for name, text in CASES.items():
        (folder / f"{name}.toml").write_text(text)
    (folder / "both.py").write_text(SOLVE)
    ended = run("both.py", *(f"{name}.toml" for name in CASES), ranks=3, directory=folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def same_densities(one, other):
    assert one.families == other.families
    for family in one.families:
        for tau in other.taus:
            mine, theirs = (each.snapshot(tau=tau, family=family) for each in (one, other))
            for name in ("points", "density", "potential", "velocity"):
                assert np.array_equal(getattr(mine, name), getattr(theirs, name)), (family, tau, name)


@pytest.mark.parametrize("case", CASES)
def test_pieces_are_the_whole(solved, case):
    whole, pieces = (solved / kind / case for kind in ("whole", "pieces"))
    for name in ("history.csv", "moments.csv", "indicators.csv", "gap.csv"):
        assert (whole / name).read_text() == (pieces / name).read_text()
    assert all(path.suffix == ".vtu" and "-p" not in path.name for path in (whole / "density").iterdir())
    files = [path.name for path in (pieces / "density").iterdir()]
    families = open_run(whole).families
    assert sum(name.endswith(".pvtu") for name in files) == 3 * len(families)
    assert len(files) == (4 if case != "few" else 3) * 3 * len(families)
    same_densities(open_run(whole), open_run(pieces))
    theta = np.random.default_rng(0).normal(size=(50, open_run(whole).snapshot(tau=0.1, family=families[0]).dim))
    read = [open_run(each).density(tau=0.1, family=families[0], layer=1, theta=theta) for each in (whole, pieces)]
    assert np.array_equal(*read)
    assert read[0].any()


def test_it_goes_on_on_another_number_of_ranks(solved, tmp_path):
    copy = shutil.copytree(solved / "pieces" / "triangles", tmp_path / "triangles")  # other tests read the first
    ended = run("-m", "mfpde.solve", "triangles.toml", "--directory", copy, "--resume", "--set",
                "training.horizon=0.2", ranks=2, directory=solved)  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    gone = open_run(copy)
    assert gone.taus.tolist() == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
    suffixes = {path.suffix for path in (copy / "density").iterdir()}
    assert suffixes == {".vtu", ".pvtu"}
    for tau in gone.taus:
        assert np.isfinite(gone.snapshot(tau=tau, family=gone.families[0]).density).all()
    same_densities(gone, open_run(solved / "whole" / "triangles"))
