"""Arguments of `solve_limit`, `Transformer` and `Family` that cannot be, and numbers of NumPy, which can."""

from __future__ import annotations

import re

import numpy as np
import pytest

import mfpde
from mfpde.errors import InputError
from mfpde.output.fields.pvd import series_name
from support.run_files import MESHES, TARGETS, TOKENS


def from_python(**changes):
    head = mfpde.Family("head", 2, lambda t, p: p[0] * p[1] * t, mfpde.Normal([0.0, 0.0], [1.0, 1.0]))
    model = mfpde.Transformer([[head]], 1, lambda tokens: tokens[-1, :1])
    given = {"model": model, "task": mfpde.Task(TOKENS, TARGETS), "weight_decay": 0.1, "horizon": 0.1, **changes}
    return mfpde.solve_limit(given.pop("model"), given.pop("task"), **given)


def test_a_family_whose_name_no_file_can_have(tmp_path):
    """Letters outside of ASCII are 9 characters each in an address: 22 of them fit, 60 do not."""
    assert len(series_name("族" * 22)) == len("density_.pvd") + 22 * 9
    named = mfpde.Family("族" * 60, 1, lambda t, p: p[0] * t, mfpde.Normal([0.0], [1.0]))
    model = mfpde.Transformer([[named]], 1, lambda tokens: tokens[-1, :1])
    with pytest.raises(InputError, match="540 characters in the names of its files"):
        from_python(model=model, directory=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


PYTHON = {
    "model = 'attention'": ({"model": "attention"}, "they are str and Task"),
    "weight_decay = -1": ({"weight_decay": -1}, "training.weight_decay = -1: must be a finite number, at least 0"),
    "horizon = None": ({"horizon": None}, "training.horizon is missing"),
    "stationary = nan": ({"stationary": float("nan")}, "training.stationary = nan: must be a finite number above 0"),
    "density = 3": ({"density": 3}, "density = 3: must be a mfpde.Density"),
    "density of none": (
        {"density": {"tail": mfpde.Density(frame="comoving")}},
        "density.tail: unknown key; known are head",
    ),
    "density as a table": ({"density": {"head": {"degree": 1}}}, "density = {'degree': 1}: must be a mfpde.Density"),
    "radius": (
        {"density": mfpde.Density(radius=(1.0,), frame="comoving")},
        "density.radius = [1.0]: family 'head' has dim = 2",
    ),
    "mesh": ({"density": mfpde.Density(mesh="none.msh", frame="comoving")}, "density.mesh = 'none.msh': no such file"),
    "ball": ({"density": mfpde.Density(mesh=MESHES / "ball.msh", frame="comoving")}, "the file has tetra"),
    "time = 0.1": ({"time": 0.1}, "time = 0.1: must be a mfpde.Time"),
    "steps": ({"time": mfpde.Time(step=1e-40)}, "time.step = 1e-40: more than 1e+09 steps"),
    "every = 0": ({"every": 0}, "output.every = 0: must be a finite number above 0"),
    "reports": ({"every": 1e-40}, "output.every = 1e-40: more than 1e+05 reports"),
    "directory = ''": ({"directory": ""}, "directory = '': must be the name of a folder"),
    "a file": ({"directory": __file__}, "is a file, not a folder"),
}


@pytest.mark.parametrize("kind", PYTHON)
def test_arguments_that_cannot_be(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    changes, reason = PYTHON[kind]
    with pytest.raises(InputError, match=re.escape(reason)):
        from_python(**changes)
    assert list(tmp_path.iterdir()) == []


def test_a_transformer_without_a_step():
    head = mfpde.Family("head", 2, lambda t, p: p[0] * p[1] * t, mfpde.Normal([0.0, 0.0], [1.0, 1.0]))
    for step in (0, -1.0, float("nan"), "1"):
        with pytest.raises(InputError, match=r"model\.step = .*: must be a finite number above 0"):
            mfpde.Transformer([[head]], 1, lambda tokens: tokens[-1, :1], step=step)


def test_numbers_of_numpy_are_numbers():
    density = mfpde.Density(degree=np.int64(1), cells=np.int32(3), radius=np.array([1.0, 2.0]), frame="comoving")
    assert (density.degree, density.cells, density.radius) == (1, 3, (1.0, 2.0))
    assert mfpde.Time(step=np.float32(0.5)).step == 0.5
    normal = mfpde.Normal([0.0, 0.0], [1.0, 1.0])
    for linear in ((np.int64(1),), np.array([1]), [np.uint8(1)]):
        head = mfpde.Family("head", np.int64(2), lambda t, p: p[0] * p[1] * t, normal, linear)
        assert (head.dim, head.linear) == (2, (1,))
        assert type(head.dim) is type(head.linear[0]) is int
    model = mfpde.Transformer([[head]], np.int64(3), lambda tokens: tokens[-1, :1])
    assert (model.layers, type(model.layers)) == (3, int)
    for wrong in (np.float64(2.0), np.bool_(True), np.int64(0)):
        with pytest.raises(InputError, match=r"model\.layers = .*: must be a whole number, 1 …"):
            mfpde.Transformer([[head]], wrong, lambda tokens: tokens[-1, :1])
        with pytest.raises(InputError, match=r"dim = .*: must be a whole number, 1 …"):
            mfpde.Family("head", wrong, lambda t, _: t, normal)
    for wrong in ((np.float64(1.0),), (np.bool_(True),), (np.int64(2),), (np.int64(1), 1)):
        with pytest.raises(InputError, match=r"must be distinct indices below 2"):
            mfpde.Family("head", 2, lambda t, _: t, normal, wrong)
