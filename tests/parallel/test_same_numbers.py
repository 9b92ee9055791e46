"""The same numbers on any number of ranks, and a clear end on all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfpde import open_run
from support.launch import run

RUN = """
name = "small"
[task]
name = "teacher"
samples = 20
tokens = 3
channels = 3
[model]
name = "attention-mlp"
channels = 3
layers = 2
[training]
weight_decay = 0.1
horizon = 0.5
[density]
degree = 2
cells = {cells}
cell_type = "{cell}"
frame = "{frame}"
{radius}
[time]
step = 0.05
[output]
every = 0.25
"""
LAWS = """
[initial.attention]
law = "mixture"
weights = [1, 2]
parts = [
    {law = "uniform", mean = [0.4, 0.1], std = [0.3, 0.4]},
    {law = "laplace", mean = [-0.2, 0.0], std = [0.3, 0.3]},
]
"""
# Nodes torn apart, which are remapped.
TORN = """
name = "torn"
[task]
name = "in-context-regression"
samples = 16
context = 4
noise = 0.1
[model]
name = "attention"
layers = 2
w = [[1.0, 0.0], [0.0, 0.0]]
u = [[0.0, 0.0], [0.0, 1.0]]
[training]
weight_decay = 0.02
horizon = 20.0
[initial.attention]
law = "normal"
mean = [0.5, 0.0]
cov = [[0.25, 0.1], [0.1, 0.25]]
[density]
cells = 16
[time]
tolerance = 1e-4
[output]
every = 5.0
"""

ALL = """
import sys
from pathlib import Path
from mfpde.config import run_file
from mfpde.parallel import mpi
mpi.start()
mpi.start_petsc()
from mfpde.runs.limit_run import execute
for file in map(Path, sys.argv[2:]):
    execute(run_file.load(file, [], Path(sys.argv[1]) / file.stem))
"""
CASES = {  # with 2 × 2 cells and 20 samples some of 8 ranks own neither cells, nodes nor samples
    "squares": RUN.format(cells=6, cell="tensor", frame="fixed", radius="radius = 2.5"),
    "triangles": RUN.format(cells=5, cell="simplex", frame="comoving", radius=""),
    "carried": RUN.format(cells=4, cell="tensor", frame="lagrangian", radius=""),
    # Explicit and implicit steps, and tables that shrink with the density.
    "few-passes": RUN.format(cells=4, cell="tensor", frame="lagrangian", radius="")
    .replace("step = 0.05", "tolerance = 1e-6")
    .replace("horizon = 0.5", "horizon = 1.5")
    .replace("weight_decay = 0.1", "weight_decay = 1.0"),
    "kinks-of-nodes": RUN.format(cells=4, cell="tensor", frame="lagrangian", radius="").replace(
        "step = 0.05", "tolerance = 1e-4"
    )
    + LAWS,
    "mesh-and-nodes": RUN.format(cells=4, cell="tensor", frame="lagrangian", radius="").replace(
        "[time]\nstep = 0.05", '[density.mlp]\nframe = "comoving"\n[time]\ntolerance = 1e-4'
    ),
    "random-nodes": RUN.format(cells=4, cell="tensor", frame="lagrangian", radius="nodes = 1024")
    .replace("[time]\nstep = 0.05", "[density.mlp]\nnodes = 64\n[time]\ntolerance = 1e-6")
    .replace("horizon = 0.5", "horizon = 1.5"),  # with a table and without one
    # Batches of fewer tiles than 8 ranks, with a table and without.
    "by-steps": RUN.format(cells=4, cell="tensor", frame="lagrangian", radius="")
    .replace("horizon = 0.5", 'method = "adamw"\nlearning_rate = 0.02\nsteps = 12\nbatch = 6\nclip = 0.1')
    .replace("[time]\nstep = 0.05", "[density.mlp]\nnodes = 100\n[time]\ntolerance = 1e-4")
    .replace("every = 0.25", 'every = 4\ngap = "always"'),
    "torn": TORN,
    "few": RUN.format(cells=2, cell="tensor", frame="comoving", radius=""),
    "positive": RUN.format(cells=5, cell="tensor", frame="comoving", radius='positivity = "scheme"'),
    "adaptive": RUN.format(cells=7, cell="tensor", frame="comoving", radius="").replace(
        "step = 0.05", "tolerance = 1e-5"
    ),
    "kinks": RUN.format(cells=5, cell="simplex", frame="fixed", radius="") + LAWS,
    "stationary": RUN.format(cells=4, cell="tensor", frame="comoving", radius="").replace(
        "horizon = 0.5", "stationary = 0.0145"
    ),
}
RANKS = {2: list(CASES), 3: list(CASES), 4: ["few", "adaptive"], 8: ["few", "adaptive", "few-passes", "by-steps"]}
TABLES = ("history", "moments", "gap", "indicators", "steps")


def solved(folder: Path, ranks: int | None, names: list[str], threads: int = 1) -> Path:
    """The cases solved on so many ranks, in one job; or without a launcher, by threads."""
    (folder / "all.py").write_text(ALL)
    for name in names:
        (folder / f"{name}.toml").write_text(CASES[name])
    words = (str(ranks), *(f"{name}.toml" for name in names))
    done = run("all.py", *words, ranks=ranks, directory=folder, changes={"NPROC": str(threads)})
    assert done.returncode == 0, done.stderr
    return folder / str(ranks)


def nodes_files(folder: Path) -> dict[str, bytes]:
    """The files of nodes of a run, which has some where a family moves by a cloud of them."""
    files = sorted([*folder.glob("nodes_*.pvd"), *folder.glob("nodes/*.vtp")])
    assert bool(files) == ("nodes = " in CASES[folder.name])
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases on one rank."""
    return solved(tmp_path_factory.mktemp("alone"), 1, list(CASES))


@pytest.mark.parametrize("ranks", [2, *(pytest.param(count, marks=pytest.mark.slow) for count in RANKS if count > 2)])
def test_same_numbers_on_any_number_of_ranks(alone: Path, tmp_path: Path, ranks: int) -> None:
    """Every digit of every table, and the density itself, bit by bit."""
    others = solved(tmp_path, ranks, RANKS[ranks])
    for name in RANKS[ranks]:
        for table in TABLES:
            expected, found = ((folder / name / f"{table}.csv").read_text() for folder in (alone, others))
            assert len(expected.splitlines()) > 1
            assert found == expected, (name, table)
        assert nodes_files(others / name) == nodes_files(alone / name), name
        one, other = open_run(alone / name), open_run(others / name)
        end = one.history["tau"][-1]
        if name == "stationary":
            assert end % 0.25 > 0.01  # it has ended by itself
        dim = one.snapshot(tau=end, family="attention").dim  # of random nodes the density of q
        points = np.random.default_rng(0).uniform(-1, 1, size=(50, 2))[:, :dim]
        densities = [r.density(tau=end, family="attention", layer=1, theta=points) for r in (one, other)]
        assert np.abs(densities[0]).max() > 0.0
        assert (densities[0] == densities[1]).all()


def test_same_numbers_on_any_number_of_threads(alone: Path, tmp_path: Path) -> None:
    """A process without a launcher shares its samples among threads."""
    names = ["few", "few-passes", "torn"]
    others = solved(tmp_path, None, names, threads=3)
    for name in names:
        for table in TABLES:
            expected, found = ((folder / name / f"{table}.csv").read_text() for folder in (alone, others))
            assert found == expected, (name, table)


def test_bad_input_on_one_rank_ends_all(tmp_path: Path) -> None:
    """A task that fails on rank 1 only: one line, exit code 2, nothing written."""
    (tmp_path / "user.py").write_text(
        "from mpi4py import MPI\n\ndef task():\n"
        "    if MPI.COMM_WORLD.rank == 1:\n        raise OSError('no such disk')\n"
        "    import mfpde, numpy as np\n    return mfpde.Task(np.ones((2, 3, 2)), np.ones((2, 1)))\n"
    )
    text = (
        '[task]\npython = "user.py:task"\n[model]\nname = "attention"\n[training]\nweight_decay = 0.1\nhorizon = 1.0\n'
    )
    (tmp_path / "x.toml").write_text(text)
    done = run("-m", "mfpde.solve", "x.toml", ranks=2, directory=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no such disk" in done.stderr
    assert not (tmp_path / "x").exists()


def test_an_unexpected_exception_ends_all_ranks_with_its_traceback(tmp_path: Path) -> None:
    """A bug on one rank while the other waits in a reduction."""
    (tmp_path / "bug.py").write_text(
        "from mfpde.parallel import mpi\ncomm = mpi.start()\nif comm.rank == 1:\n    raise KeyError('the culprit')\n"
        "comm.allreduce(1)\n"
    )
    done = run("bug.py", ranks=2, directory=tmp_path)
    assert done.returncode != 0
    assert "the culprit" in done.stderr
    assert "rank 1 of 2" in done.stderr
