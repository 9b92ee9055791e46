"""Lagrangian nodes belong to ranks: each holds its own alone, and a checkpoint of some ranks goes on on others."""

from __future__ import annotations

from pathlib import Path

import pytest

from parallel.test_same_numbers import CASES, TABLES, nodes_files, solved
from support.launch import run

OWN = """
import sys
from pathlib import Path
import numpy as np
from mfpde.config import run_file
from mfpde.parallel import mpi
comm = mpi.start()
mpi.start_petsc()
from mfpde.limit.solver import Solver
from mfpde.limit.timestepping.state_vector import packed
from mfpde.runs.problem_setup import problem_of

solver = Solver(comm, problem_of(run_file.load(Path(sys.argv[1]), [], Path("unused"))))
masses = [part.mass for part in solver.stepper.state.parts]
assert solver.stepper.advance(float(sys.argv[2]))
state = solver.stepper.state
potential = solver.flow.potential(state)
for each, part, values in solver.flow.each(state, potential):
    grid = each.grid
    own, (layers, n, dim) = grid.own, part.position.shape
    assert n == own.stop - own.start == len(each.cell_order) == len(grid.reference) == len(grid.quadrature)
    assert n <= -(-grid.nodes // comm.size) + grid.block
    assert own.start % grid.block == 0
    assert comm.allreduce(n) == grid.nodes
    assert part.log_density.shape == part.mass.shape == values.value.shape == values.laplacian.shape == (layers, n)
    assert values.slope.shape == (layers, n, dim)
    assert np.abs(comm.allreduce(part.mass.sum(axis=1)) - 1.0).max() < 1e-14
assert len(packed(state.parts)) == sum(part.position.size + part.log_density.size for part in state.parts)
assert solver.stepper._vec.getLocalSize() == len(packed(state.parts))
remapped = [comm.allreduce(bool((part.mass != mass).any())) for part, mass in zip(state.parts, masses)]
if comm.rank == 0:
    print(remapped)
solver.close()
"""
CUT = """
import signal
import sys
from pathlib import Path
from mfpde.parallel import mpi
mpi.start()
mpi.start_petsc()
from mfpde.runs.checkpointer import Schedule
from mfpde.solve import main

file, folder, rows = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
history, words = folder / "history.csv", ["--resume"] * (folder / "checkpoint").exists()

def poll(_schedule):
    # Stop as a SIGTERM would, a step after so many rows.
    there = rows and history.exists() and len(history.read_text().splitlines()) > rows
    return 100.0 + signal.SIGTERM if there else 0.0

Schedule.poll = poll
code = main([str(file), "--directory", str(folder), *words])
sys.exit(0 if code == (143 if rows else 0) else 1)
"""


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_rank_holds_its_nodes_alone(tmp_path: Path, ranks: int) -> None:
    """Shapes of the state, of its potential and of PETSc's vector: two families at once; and one after remaps."""
    (tmp_path / "own.py").write_text(OWN)
    for name, tau, remapped in (("few-passes", 0.1, [0, 0]), ("torn", 20.0, [ranks])):
        (tmp_path / f"{name}.toml").write_text(CASES[name])
        done = run("own.py", f"{name}.toml", str(tau), ranks=ranks, directory=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == str(remapped).split()


def test_files_of_nodes_are_the_same_bits_on_any_number_of_ranks(tmp_path: Path) -> None:
    """Every array of every file, the principal directions among them, with a table and without one."""
    found = [nodes_files(solved(tmp_path, ranks, ["random-nodes"]) / "random-nodes") for ranks in (1, 2, 3)]
    assert len(found[0]) == 2 * (1 + 7)
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["few-passes", "torn", "random-nodes"])
def test_a_checkpoint_goes_on_with_the_same_bits_on_other_ranks(tmp_path: Path, name: str) -> None:
    """Two ranks to the second report, three to the third, one to the end: the tables are those of one rank alone."""
    (tmp_path / "cut.py").write_text(CUT)
    (tmp_path / f"{name}.toml").write_text(CASES[name])
    for ranks, folder, rows in ((1, "whole", 0), (2, "parts", 2), (3, "parts", 3), (1, "parts", 0)):
        done = run("cut.py", f"{name}.toml", folder, str(rows), ranks=ranks, directory=tmp_path)
        assert done.returncode == 0, done.stderr
    for table in TABLES:
        expected, found = ((tmp_path / folder / f"{table}.csv").read_text() for folder in ("whole", "parts"))
        assert found == expected, table
    files = [{path.name: path.read_bytes() for path in (tmp_path / f).glob("nodes/*")} for f in ("whole", "parts")]
    assert files[0] == files[1]
    assert bool(files[0]) == (name == "random-nodes")
