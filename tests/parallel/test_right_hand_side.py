"""One right-hand side on two ranks against the same on each rank alone: seconds, where a whole run takes a minute."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.launch import run

SCRIPT = """
import sys
from pathlib import Path
from mfpde.parallel import mpi
world = mpi.start()
mpi.start_petsc()
import numpy as np
from mpi4py import MPI
from mfpde.limit.specification import Problem
from mfpde.limit.solver import Solver
from mfpde.problem.laws import Normal
from mfpde.problem.models.low_dimensional import neuron, softmax_head
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer
from mfpde.config.settings import Density, Time, Training

rng = np.random.default_rng(0)
matrix = lambda *shape: rng.normal(size=shape)
head = softmax_head("head", matrix(2, 2), matrix(2, 2), Normal([0.4, 0.2], [0.4, 0.5]))
unit = neuron("unit", matrix(2), matrix(2), Normal([0.3, 0.5], [0.5, 0.4]))
flat = neuron("flat", matrix(2), matrix(2), Normal([0.1, -0.2], [0.5, 0.4]))
model = Transformer([[head], [unit, flat]], 2, lambda tokens: tokens[-1])
task = Task(matrix(19, 3, 2), matrix(19, 2))
densities = {
    "head": Density(degree=1, cells=4, cell_type="simplex", frame="comoving"),
    "unit": Density(degree=1, mesh=Path(sys.argv[1]), radius=5.0, frame="comoving"),
    "flat": Density(degree=1, cells=4, frame="fixed"),
}

def same(a, b, what):
    a, b = np.asarray(a), np.asarray(b)
    assert (a == b).all(), what

def answers(comm):
    solver = Solver(comm, Problem(model, task, Training(0.1, 1.0), densities, Time(step=0.1)))
    state = solver.stepper.state
    potential = solver.flow.potential(state)
    return solver, state, potential, solver.flow.transport(state, potential)

(many, state, potential, rate), (one, alone, expected, right) = answers(world), answers(MPI.COMM_SELF)
assert world.size == 2
same(potential.outcome.risk, expected.outcome.risk, "risk")
same(potential.penalty, expected.penalty, "penalty")
number = float(one.flow.dissipation(alone, right).value)
for least, solver in ((0.9 * number, many), (1.1 * number, many), (1.1 * number, one)):
    solver.stepper._stationary, solver.stepper._first = least, None
    assert solver.stepper.is_stationary() == (least > number)
same(many.stepper.stationary_value, number, "the number that ends a run")
same(world.allreduce(rate.speed, op=MPI.MAX), right.speed, "speed")
for g, (group, whole) in enumerate(zip(many.flow.discretisations, one.flow.discretisations)):
    place = np.argsort(whole.space.cell_order)[group.space.cell_order]
    assert world.allreduce(group.space.owned) == whole.space.owned
    same(group.space.vertices[: group.space.owned], whole.space.vertices[place], "cells")
    same(state.parts[g].density, alone.parts[g].density[place], "initial density")
    same(rate.parts[g].density, right.parts[g].density[place], "rate")
    for name in ("centre", "matrix"):
        if np.any(getattr(right.parts[g].frame, name)):
            same(getattr(rate.parts[g].frame, name), getattr(right.parts[g].frame, name), name)
    found = group.diagnose(state.parts[g], potential.values[g])
    right_one = whole.diagnose(alone.parts[g], expected.values[g])
    names = ("mean", "covariance", "entropy", "dissipation", "descent", "boundary_mass", "resolution", "min_density")
    for name in names:
        same(getattr(found, name), getattr(right_one, name), name)
many.close()
one.close()
"""
MESH = Path(__file__).parents[2] / "meshes" / "disk.msh"


def test_a_right_hand_side_on_two_ranks(tmp_path: Path) -> None:
    """Risk, rates, frames and diagnostics bit by bit: boxes of triangles and squares, and a mesh file."""
    (tmp_path / "two.py").write_text(SCRIPT)
    done = run("two.py", MESH, ranks=2, directory=tmp_path)
    assert done.returncode == 0, done.stderr


WAITING = """
from mpi4py import MPI
import time
def never():
    time.sleep(60)
if MPI.COMM_WORLD.rank:
    never()
else:
    MPI.COMM_WORLD.Recv(bytearray(1), source=1)
"""


def test_ranks_that_hang_say_where(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    with pytest.raises(subprocess.TimeoutExpired) as late:
        run("waiting.py", ranks=2, directory=tmp_path, timeout=8)
    told = str(late.value.stderr)
    assert "in never" in told
    assert told.count("Fatal Python error: Aborted") >= 1
