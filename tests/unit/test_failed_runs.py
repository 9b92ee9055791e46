"""Runs whose numbers fail, or whose steps PETSc limits: exit code 3, one line, and the last good state saved."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import mfpde
from mfpde.errors import ComputationError
from mfpde.solve import main
from support.launch import run
from support.run_files import BY_USER, solve, write


def test_steps_that_petsc_limits_end_a_run_with_an_error(tmp_path, capsys):
    """As from a .petscrc; the run is saved, and goes on without the limit."""
    from petsc4py import PETSc

    path, options = write(tmp_path, density="cells = 8\n[time]\nstep = 0.1"), PETSc.Options()
    options["ts_max_steps"] = "2"
    try:
        assert main([str(path)]) == 3
        line = capsys.readouterr().err
        assert line.startswith("mfpde: ended at tau = 0.05, before training.horizon = 0.5, and saved: PETSc's option ")
        assert main([str(path), "--resume"]) == 3
    finally:
        options.delValue("ts_max_steps")
    assert json.loads((tmp_path / "case" / "summary.json").read_text())["outcome"].startswith("ComputationError")
    assert main([str(path), "--resume"]) == 0
    assert json.loads((tmp_path / "case" / "summary.json").read_text())["outcome"] == "done"


def test_lost_mass_ends_a_run(tmp_path, capsys):
    """A step far beyond what is stable: the numbers stay finite, and wrong."""
    settings = [
        "density.frame='fixed'",
        "time.step=10",
        "training.horizon=10",
        "output.every=10",
        "training.weight_decay=5",
    ]
    with pytest.raises(ComputationError) as caught:
        solve(write(tmp_path, density="cells = 4"), settings)
    line = str(caught.value)
    assert re.fullmatch(r"mass lost at tau = \S+, family '\w+', layer \d: it is \S+, not 1", line)
    found = mfpde.open_run(tmp_path / "case")
    assert found.history["tau"].tolist() == found.taus.tolist() == [0.0]
    assert found.summary["outcome"] == f"ComputationError: {line}"
    assert capsys.readouterr().err == ""


POLE = """
def task(): return mfpde.Task(np.ones((4, 3, 2)), 8 * np.ones((4, 1)))
def model(): return transformer(family(lambda t, p: t * p[0] / jnp.maximum(3 - p[0], 0), 1, mfpde.Normal([0], [0.2])))
"""


def alone(words, capsys):
    """The command in this process: exit code and standard error."""
    return main(list(map(str, words))), capsys.readouterr().err


def on_two_ranks(words, _):
    ended = run("-m", "mfpde.solve", *words, ranks=2)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(("ranks", "command"), [(1, alone), (2, on_two_ranks)])
def test_a_run_that_becomes_not_finite(ranks, command, tmp_path, capsys):
    """Training drives θ to a pole of the update. Code 3 and one line; the last good state is the last row and file."""
    path = write(tmp_path, BY_USER, "cells = 6", POLE)
    settings = ["training.horizon=50", "output.every=10", "time.step=0.01"]
    code, errors = command([path, *(word for setting in settings for word in ("--set", setting))], capsys)
    assert code == 3, errors
    named = r"the update of family 'mine' in layer \d at theta = \[[\d.]+\]; the mesh holds this point, [^\n]*"
    line = re.fullmatch(rf"mfpde: (not finite at tau = (\S+): {named})\n", errors)
    assert line, errors
    found = mfpde.open_run(tmp_path / "case")
    assert found.summary["outcome"] == f"ComputationError: {line[1]}"
    start, last = found.history["tau"].tolist()
    assert start == 0.0
    assert 0.0 < float(line[2]) - last <= 0.0101
    assert found.taus.tolist() == [start, last]
    assert found.summary["tau"] == last
    assert found.history["steps"][1] == pytest.approx(last / 0.01)
    assert found.history["risk"][1] < found.history["risk"][0]
    assert np.isfinite(found.density(tau=last, family="mine", layer=1, theta=[[0.5]])).all()
    assert json.loads((tmp_path / "case" / "manifest.json").read_text())["ranks"] == ranks
