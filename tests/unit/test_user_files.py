"""Users' Python files: functions that do not do what they must, what a file may import, and that it runs once."""

from __future__ import annotations

import os
import re

import pytest

from mfpde.config import run_file
from support.run_files import BY_USER, refused, write

USERS = {
    # the file
    "def model(:": ("task.python = 'user.py:task'", "failed to import: SyntaxError"),
    "import no_such_module": ("failed to import: ModuleNotFoundError: No module named 'no_such_module'",),
    "raise ValueError('two\\nlines')": ("failed to import: ValueError: two lines",),
    "sys.exit(0)": ("failed to import: SystemExit: 0",),
    "del model": ("the file has no function 'model'",),
    "model = 3": ("the file has no function 'model'",),
    "model = dict": ("not a function whose parameters are known",),
    # the function
    "def model(width): return transformer(family())": ("model.width is missing",),
    "def model(): sys.exit(0)": ("model: model failed: SystemExit: 0",),
    "def model(): 1 / 0": ("model: model failed: ZeroDivisionError: division by zero",),
    "def model(): return family()": ("the function returned Family, not mfpde.Transformer",),
    "task, model = (lambda model: 0), (lambda task: 0)": ("each of the two functions needs what the other makes",),
    "def task(): return np.ones((4, 3, 2)), np.ones(4)": ("the function returned tuple, not mfpde.Task",),
    "def task(): return mfpde.Task(np.full((4, 3, 2), np.nan), np.ones(4))": ("tokens holds 24 values", "not finite"),
    "def task(): return mfpde.Task(np.ones((4, 3, 2)), np.ones((3, 1)))": ("targets has shape (3, 1)", "(4, outputs)"),
    "def task(): return mfpde.Task(np.ones((4, 3, 2)), [0, 1, 2, 10**7])": ("the label 10000000; at most 99999",),
    # update, readout, integral
    "model = lambda: transformer(family(lambda t, p: t[:1]))": ("update returns shape (1, 2)", "shape (3, 2)"),
    "model = lambda: transformer(family(lambda t, p: None))": ("update returns a NoneType; must be one array",),
    "model = lambda: transformer(family(lambda t, p: sys.exit(0)))": ("update failed on tokens (3, 2): SystemExit",),
    "model = lambda: transformer(family(lambda t, p: np.tanh(np.asarray(t)) * p[0]))": (
        "update is not differentiable",
    ),
    "model = lambda: transformer(family(lambda t, p: t if p[0] > 0 else -t))": ("update is not differentiable",),
    "model = lambda: transformer(family(lambda t, p: t * jnp.log(-1 - p[0] ** 2)))": ("update is not finite",),
    "model = lambda: transformer(family(lambda t, p: jnp.sqrt(0 * t)))": ("a derivative that is not finite",),
    "model = lambda: transformer(family(), lambda t: t)": ("readout returns shape (3, 2)", "(1,)"),
    "model = lambda: transformer(family(), lambda t: jnp.sort(np.asarray(t))[-1, :1])": ("readout is not diff",),
    "model = lambda: transformer(family(), loss='cross_entropy')": ("targets of sample 0 are no probabilities",),
    "model = lambda: transformer(family(integral=lambda t, p, w: t))": ("integral is not the weighted sum",),
    "model = lambda: transformer(family(), layers=0)": ("model.layers = 0", "1 … 100000"),
    # linear coordinates, by f(αx + βy)
    "model = lambda: transformer(family(linear=(0,)))": ("linear = (0,), but update is not jointly linear",),
    "model = lambda: transformer(family(lambda t, p: p[0] * p[1] * t, linear=(0, 1)))": (
        "linear = (0, 1), but update",
    ),
    "model = lambda: transformer(family(lambda t, p: (1 + p[0]) * t, linear=(0,)))": ("linear = (0,), but update",),
    "model = lambda: transformer(family(linear=1))": ("linear and coordinates must be lists",),
    "model = lambda: transformer(family(linear=(2,)))": ("linear = (2,)", "distinct indices below 2"),
    # initial laws
    "model = lambda: transformer(family(initial=mfpde.Normal([0, 0], [1, 0])))": ("std = 0", "above 0"),
    "model = lambda: transformer(family(initial=mfpde.Normal([0], [1])))": ("initial.mine", "1 numbers", "dim = 2"),
    "model = lambda: transformer(family(initial=lambda layer: 'x'))": ("initial of layer 0 is 'x', not a law",),
    "model = lambda: transformer(family(initial=lambda layer: [normal][layer]))": ("initial failed for layer 1",),
    "model = lambda: transformer(family(initial=5))": ("initial of layer 0 is 5, not a law",),
    "model = lambda: transformer(family(initial=mfpde.Law([0, 0], [1, 1])))": ("initial is a law that failed",),
}


@pytest.mark.parametrize("code", USERS)
def test_a_users_file_that_does_not_do_what_it_must(code, tmp_path):
    line = refused(write(tmp_path, BY_USER, user=code))
    for part in USERS[code]:
        assert part in line


def test_four_parameters_are_too_many_for_a_mesh_and_three_have_a_limit(tmp_path):
    many = "model = lambda: transformer(family(lambda t, p: t * p.sum(), {0}, mfpde.Normal([0] * {0}, [1] * {0})))"
    four = write(tmp_path, BY_USER, user=many.format(4))
    assert "'mine' has dim = 4; a density on a mesh takes at most 3 parameters" in refused(four, whole=True)
    three = write(tmp_path, BY_USER, "cells = 2000", many.format(3))
    assert "density.cells = 2000: family 'mine' has dim = 3; at most 512" in refused(three, whole=True)


@pytest.mark.parametrize("name", ["user.py", "user.py:", ":model", "none.py:model", "case.toml:model", ".:model"])
def test_a_name_that_is_no_function_of_a_file(name, tmp_path):
    line = refused(write(tmp_path, BY_USER), f"model.python='{name}'")
    assert re.search('must look like "file.py:function"|no such file|not a file|not a Python file', line)


def test_a_good_users_file_is_run_once(tmp_path, capsys):
    text = "cells = 2\n[initial]\nmine = [{mean = [0, 1], std = [1, 1]}, {mean = [1, 0], std = [1, 2]}]"
    model, _ = run_file.load(write(tmp_path, BY_USER, text, "print('once')")).build()
    assert model.families[0].law(1).mean == (1.0, 0.0)
    assert capsys.readouterr().out == "once\n"


def test_a_users_file_that_was_just_changed_is_run_as_it_stands(tmp_path):
    """Same size, same time: bytecode of the one passes for that of the other."""
    means = []
    for mean in (1, 2):
        path = write(
            tmp_path,
            BY_USER,
            "cells = 2",
            f"model = lambda: transformer(family(lambda t, p: t * p[0], 1, mfpde.Normal([{mean}], [1])))",
        )
        os.utime(tmp_path / "user.py", (1e9, 1e9))
        means.append(run_file.load(path).build()[0].families[0].law(0).mean)
    assert means == [(1.0,), (2.0,)]
    assert not (tmp_path / "__pycache__").exists()


def test_a_users_file_may_import_what_stands_beside_it(tmp_path):
    """At once, and when its functions are called; and in one process, not what stands beside another user's file."""
    for k, folder in enumerate((tmp_path / "one", tmp_path / "two")):
        folder.mkdir()
        (folder / "helper_beside.py").write_text(f"WEIGHT = {k + 1.0}\n")
        (folder / "helper_late").mkdir()
        for name in ("__init__", "deep"):
            (folder / "helper_late" / f"{name}.py").write_text(f"LAYERS = {k + 2}\n")
        late = (
            "def model():\n    import helper_late.deep as deep\n    return transformer(family(), layers=deep.LAYERS)\n"
        )
        task = "def task(): return mfpde.Task(np.full((4, 3, 2), helper_beside.WEIGHT), np.ones((4, 1)))\n"
        path = write(folder, BY_USER, density="", user="import helper_beside\n" + task + late)
        model, made = run_file.load(path).build()
        assert (model.layers, made.tokens[0, 0, 0]) == (k + 2, k + 1.0)
