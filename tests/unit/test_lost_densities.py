"""Runs whose numbers no longer stand for a density end with code 3: negative masses and mean squares, points."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI

import mfpde
from mfpde.config.settings import Density, Time, Training
from mfpde.errors import ComputationError
from mfpde.limit.diagnostics.reporter import check_mass, check_sign
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.output.records.report import BlockMoments
from mfpde.solve import main

GARBAGE = """
name = "case"
[task]
name = "in-context-regression"
samples = 4
context = 3
[model]
name = "attention"
layers = 1
w = [[1.0, 0.0], [0.0, 0.0]]
u = [[0.0, 0.0], [0.0, 1.0]]
[training]
weight_decay = 0.2
horizon = 40.0
[density]
degree = 1
frame = "fixed"
cells = 12
[output]
every = 5.0
"""


def block(variance: float, mean: float = 0.0, mass: float = 1.0) -> BlockMoments:
    return BlockMoments("heads", 3, mass, np.array([mean, 0.0]), np.diag([variance, 0.01]))


def test_what_no_density_can_be():
    where = "tau = 2, family 'heads', layer 3"
    with pytest.raises(ComputationError, match=f"mass lost at {where}: it is 0.9, not 1"):
        check_mass(2.0, block(1.0, mass=0.9))
    with pytest.raises(ComputationError) as caught:
        check_sign(2.0, block(-0.05, mean=0.1), 0.0, moves=False)
    assert f"no longer a density at {where}: the mean of |theta|^2 is -0.03, and the penalty" in str(caught.value)
    assert 'density.frame = "lagrangian"' in str(caught.value)
    for moves, sound, worse in ((False, 1.9, 2.1), (True, 9.0, 11.0)):
        check_sign(2.0, block(1.0), sound, moves=moves)
        with pytest.raises(ComputationError) as caught:
            check_sign(2.0, block(1.0), worse, moves=moves)
        assert f"no longer a density at {where}: its negative mass is {worse:.3g}, above" in str(caught.value)
    check_sign(2.0, block(-0.005, mean=0.1), 0.05, moves=False)  # undershoots alone do no harm


def test_garbage_is_not_called_done(tmp_path, capsys):
    """Weight decay piles all mass into a cell of degree 1, which cannot hold it: the penalty goes negative."""
    path = tmp_path / "case.toml"
    path.write_text(GARBAGE)
    assert main([str(path)]) == 3
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "no longer a density at tau = " in line
    assert 'take density.frame = "lagrangian", raise density.cells or density.degree' in line
    run = mfpde.open_run(tmp_path / "case")
    assert run.history["penalty"].min() > 0.0
    assert run.history["negative_mass"].max() < 2.0
    assert json.loads((tmp_path / "case" / "summary.json").read_text())["outcome"].startswith("ComputationError")
    assert main([str(path), "--overwrite", "--set", "density.degree=2"]) == 0


def test_a_frame_cannot_follow_a_point():
    """A frame narrower than the rounding of the potential; one that is as narrow at the start is taken."""
    family = mfpde.Family(
        "unit", 2, lambda t, theta: theta[1] * theta[0] * t, mfpde.Normal([0.5, 0.5], [0.5, 0.5]), (1,)
    )
    task = mfpde.Task(np.ones((1, 1, 1)), np.full((1, 1), 3.0))
    problem = Problem(
        mfpde.Transformer([[family]], 2, lambda t: t[-1]), task, Training(1.0, 50.0),
        {"unit": Density(degree=2, cells=6, frame="comoving")}, Time(),
    )  # fmt: skip
    solver = Solver(MPI.COMM_SELF, problem)
    start = solver.stepper.state

    def shrunk(factor: float, tau: float) -> None:
        (part,) = start.parts
        frame = replace(part.frame, matrix=factor * part.frame.matrix)
        solver.flow.rate(replace(start, tau=tau, parts=(replace(part, frame=frame),)))

    shrunk(1e-5, 20.0)
    shrunk(1e-9, 0.0)
    with pytest.raises(ComputationError) as caught:
        shrunk(4e-8, 20.0)  # rounding at one node alone, not its slope between two, would still be small
    line = str(caught.value)
    assert line.startswith("the density is a point at tau = 20, family 'unit', layer 0: its standard deviation ")
    assert line.endswith('density.frame = "lagrangian" can')
    solver.close()
