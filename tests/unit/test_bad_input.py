"""Bad input: one line with file, key, value and what is allowed; exit code 2; nothing written. Failed numbers: code 3.

Most cases go through the same functions as the command, in this process; a few are the real command on two ranks.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
from pathlib import Path

import meshio
import numpy as np
import pytest

import mfpde
from mfpde import particles
from mfpde.config import run_file
from mfpde.errors import ComputationError, InputError
from mfpde.output.fields.pvd import series_name
from mfpde.problem.tasks import digits, from_npz
from mfpde.runs.limit_run import execute
from mfpde.solve import main
from support.launch import run

MESHES = Path(__file__).parents[2] / "meshes"
TEXT = """
name = "case"
[task]
name = "teacher"
samples = 4
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
degree = 1
{density}
"""
USER = """
from __future__ import annotations
import sys
from dataclasses import dataclass
import jax, jax.numpy as jnp, numpy as np
import mfpde

@dataclass
class Seed:
    value: int = 0

def task(seed: int = 0):
    rng = np.random.default_rng(Seed(seed).value)
    return mfpde.Task(rng.normal(size=(4, 3, 2)), rng.normal(size=(4, 1)))

normal = mfpde.Normal([0.0, 0.0], [0.5, 0.5])

def family(update=lambda tokens, theta: theta[1] * jnp.tanh(theta[0] * tokens), dim=2, initial=normal, **others):
    return mfpde.Family("mine", dim, update, initial, **others)

def transformer(family, readout=lambda tokens: tokens[-1, :1], layers=2, **others):
    return mfpde.Transformer([[family]], layers, readout, **others)

def model():
    return transformer(family())
"""
BY_USER = """
[task]
python = "user.py:task"
[model]
python = "user.py:model"
[training]
weight_decay = 0.1
horizon = 0.5
[density]
degree = 1
{density}
"""


def write(folder, text=TEXT, density="cells = 2", user=""):
    """A run file, and the user's Python file beside it."""
    (folder / "user.py").write_text(USER + user)
    path = folder / "case.toml"
    path.write_text(text.format(density=density))
    return path


def contents(folder):
    """All that lies in a folder, without the bytecode that Python may leave there or may be told not to."""
    return [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts]


def refused(path, *sets, whole=False):
    """The line of a run file that must be refused while it is loaded, or (`whole`) before anything is written."""
    before = contents(path.parent)
    with pytest.raises(InputError) as caught:
        solve(path, sets) if whole else run_file.load(path, sets).build()
    assert contents(path.parent) == before
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith((f"{path}: ", "--set ")), line
    return line


def solve(path, sets=()):
    execute(run_file.load(path, sets), overwrite=False)


NUMBER, WHOLE = "must be a finite number", "must be a whole number"
SETTINGS = {
    # unknown and mistyped keys
    "tme.step=1": ("tme", "did you mean 'time'?"),
    "training.weigth_decay=1": ("training.weigth_decay", "did you mean 'weight_decay'?"),
    "task.sample=1": ("task.sample", "did you mean 'samples'?"),
    "task.model=1": ("task.model", "unknown key", "samples"),
    "model.layer=1": ("model.layer", "did you mean 'layers'?"),
    "density.cell=1": ("density.cell", "did you mean 'cells'?"),
    "density.attention.cell=1": ("[density.attention]", "did you mean 'cells'?"),
    "density.atention.cells=1": ("density.atention", "did you mean 'attention'?"),
    "initial.atention.mean=[0, 0]": ("initial.atention", "did you mean 'attention'?"),
    "initial.mlp={mean = [0, 0], sdt = [1, 1]}": ("initial.mlp.sdt", "did you mean 'std'?"),
    "task.name='digit'": ("task.name = 'digit'", "must be one of 'digits'"),
    "model.name=3": ("model.name = 3", "must be one of 'attention'"),
    # wrong types
    "task=1": ("task = 1", "must be a table"),
    "time=[{step = 1}]": ("time = [{'step': 1}]", "must be a table"),
    "name='a/b'": ("name = 'a/b'", "without path separators"),
    "name=3": ("name = 3", "must be a text"),
    'name="a\\u0000b"': ("name = 'a\\x00b'", "must be a text"),
    "training.weight_decay=true": ("training.weight_decay = True", NUMBER),
    "training.weight_decay='0.1'": ("training.weight_decay = '0.1'", NUMBER),
    "training.horizon=[1.0]": ("training.horizon = [1.0]", NUMBER),
    "training.horizon={a = 1}": ("training.horizon = {'a': 1}", NUMBER),
    "training.horizon=2020-01-01": ("training.horizon = datetime", NUMBER),
    "training.horizon=": ("training.horizon = ''", NUMBER),
    "density.degree=1.0": ("density.degree = 1.0", WHOLE, "0 … 3"),
    "density.degree=true": ("density.degree = True", WHOLE),
    "density.degree={a = 1}": ("density.degree = {'a': 1}", WHOLE),
    "density.frame=['fixed']": ("density.frame = ['fixed']", "must be one of 'fixed'"),
    "density.radius='5'": ("density.radius = '5'", NUMBER),
    "density.radius=[1, 'a']": ("density.radius = 'a'", NUMBER),
    "model.activation=['tanh']": ("model.activation = ['tanh']", "must be one of 'tanh'"),
    "model.bias=1": ("model.bias = 1", "must be true or false"),
    "output.directory=3": ("output.directory = 3", "must be the name of a folder"),
    "output.checkpoint_every=60": ("output.checkpoint_every = 60", '"90s"'),
    # impossible values
    "training.weight_decay=-0.1": ("training.weight_decay = -0.1", "at least 0"),
    "training.weight_decay=nan": ("training.weight_decay = nan", NUMBER),
    "training.weight_decay=inf": ("training.weight_decay = inf", NUMBER),
    "training.weight_decay=1e300": ("training.weight_decay = 1e+300", "1e+50"),
    f"training.weight_decay=0x{'f' * 5000}": ("training.weight_decay", "at most 64 bits"),
    "training.horizon=0": ("training.horizon = 0", "above 0"),
    "training.horizon=1e-300": ("training.horizon = 1e-300", "1e-50"),
    "training.stationary=0": ("training.stationary = 0", "above 0"),
    "training.stationary=-1e-6": ("training.stationary = -1e-06", "above 0"),
    "training.stationary=nan": ("training.stationary = nan", NUMBER),
    "training.stationary=true": ("training.stationary = True", NUMBER),
    "training.stationary='small'": ("training.stationary = 'small'", NUMBER),
    "training.temperature=-1": ("training.temperature = -1", "at least 0"),
    "density.degree=7": ("density.degree = 7", "0 … 3"),
    "density.potential_degree=0": ("density.potential_degree = 0", "1 … 4"),
    "density.cells=0": ("density.cells = 0", "1 … 4096"),
    "density.attention.cells=10000000": ("[density.attention]", "density.cells = 10000000", "1 … 4096"),
    "density.remap=2": ("density.remap = 2", "must be true or false"),
    "density.positivity='always'": ("density.positivity = 'always'", "must be one of 'off', 'output'"),
    "density.radius=0": ("density.radius = 0", "above 0"),
    "density.radius=-1.0": ("density.radius = -1.0", "above 0"),
    "model.layers=0": ("model.layers = 0", "1 … 100000"),
    "model.step=0": ("model.step = 0", "above 0"),
    "model.step=inf": ("model.step = inf", NUMBER),
    "model.depth='deep'": ("model.depth = 'deep'", "'residual'"),
    "model.seed=-1": ("model.seed = -1", WHOLE, "0 …"),
    "model.channels=1": ("model.channels = 1", WHOLE, "2 …"),
    "task.seed=-1": ("task.seed = -1", WHOLE, "0 …"),
    "task.seed=1180591620717411303424": ("task.seed", "at most 64 bits"),
    "task.samples=0": ("task.samples = 0", "1 …"),
    "task.samples=0.5": ("task.samples = 0.5", WHOLE),
    "task.samples=1000000000": ("task.samples = 1000000000", WHOLE),
    "task.samples=90000000": ("task.samples = 90000000", "numbers in all tokens; at most"),
    "task.test_samples=-1": ("task.test_samples = -1", "0 …"),
    "task.units=0": ("task.units = 0", "1 …"),
    "task.channels=4": ("task: teacher failed", "got (4,) and (3,)"),
    "task={name = 'digits', classes = [0, 0]}": ("task.classes = [0, 0]", "different digits"),
    "task={name = 'digits', classes = 1000000000}": ("task.classes = 1000000000", "2 … 10"),
    "task={name = 'digits', classes = '01'}": ("task.classes = '01'", "2 … 10"),
    "task={name = 'digits', patch = 3}": ("task.patch = 3", "1, 2, 4 or 8"),
    "task={name = 'scalars', std = -1}": ("task.std = -1", "at least 0"),
    "initial.mlp={mean = [0, 0], std = [1, 0]}": ("initial.mlp", "std = 0.0", "above 0"),
    "initial.mlp={mean = [0, nan], std = [1, 1]}": ("initial.mlp", "mean = nan", NUMBER),
    "initial.mlp={mean = ['0', 0], std = [1, 1]}": ("initial.mlp", "mean = '0'", NUMBER),
    "initial.mlp={mean = [0, 0, 0], std = [1, 1, 1]}": ("initial.mlp", "3 numbers", "dim = 2"),
    "initial.mlp={mean = [0, 0], std = [1]}": ("initial.mlp", "one per coordinate"),
    "initial.mlp={mean = [0, 0], std = [1, 1], law = 'x'}": ("initial.mlp.law = 'x'", "'normal'"),
    "initial.mlp=[{mean = [0, 0], std = [1, 1]}]": ("initial.mlp", "an array of 2 tables, one per layer"),
    "time={step = 0.1, tolerance = 0.1}": ("time.step = 0.1 and time.tolerance = 0.1", "give one"),
    "time.tolerance=0": ("time.tolerance = 0", "at least 1e-14"),
    # tables without end, and bytes that are no text
    f"task.{'a.' * 3000}a=1": ("task.a.a.a", "more than 16 tables or arrays inside each other"),
    f"output.{'a.' * 3000}a=1": ("output.a.a.a", "more than 16 tables or arrays inside each other"),
    f"model.w={'[' * 40}1{']' * 40}": ("model.w.0.0", "more than 16 tables or arrays inside each other"),
    "name=\udcff": ("--set 'name=\\udcff'", "must be a text in UTF-8"),
    # what is not key=value
    "training.horizon": ("--set training.horizon", "table.key=value"),
    "training.horizon.x=1": ("--set", "horizon is not a table"),
}


@pytest.mark.parametrize(
    ("setting", "named"), [("density.degree=0", "density.degree = 0"), ("density.frame=lagrangian", "lagrangian")]
)
def test_a_discretisation_that_cannot_diffuse(setting, named, tmp_path):
    line = refused(write(tmp_path), "training.temperature=0.1", setting, whole=True)
    assert named in line


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_key_or_value_that_cannot_be(setting, tmp_path):
    line = refused(write(tmp_path), setting)
    for part in SETTINGS[setting]:
        assert part in line


FILES = {
    "": "the table [task] is missing",
    "[task": "not valid TOML",
    TEXT.format(density="") + "[task]\n": "not valid TOML",
    "a = " + "[" * 5000: "not valid TOML",
    "a = " + "9" * 5000: "not valid TOML",
    "name = '\xe9'": "UTF-8",
}


@pytest.mark.parametrize("text", FILES, ids=range(len(FILES)))
def test_a_file_that_is_no_run_file(text, tmp_path):
    path = tmp_path / "case.toml"
    path.write_text(text, encoding="latin-1")
    assert FILES[text] in refused(path)


@pytest.mark.parametrize(("name", "reason"), [("none.toml", "no such file"), (".", "not a file"), ("a" * 300, "long")])
def test_a_run_file_that_is_no_file(name, reason, tmp_path):
    with pytest.raises(InputError, match=reason):
        run_file.load(tmp_path / name)


TOGETHER = {
    "density.radius=[1.0]": ("density.radius = [1.0]", "family 'attention' has dim = 2", "one number, or 2"),
    "density.mlp.radius=[1, 1, 1]": ("density.radius = [1.0, 1.0, 1.0]", "family 'mlp' has dim = 2"),
    "density.mlp={frame = 'lagrangian', cell_type = 'simplex'}": ("density.cell_type = 'simplex'", "must be cell_type"),
    "density.mlp={frame = 'lagrangian', cells = 1}": ("density.cells = 1", "must be at least 2"),
    "density.mlp={mesh = 'none.msh'}": ("density.mesh", "none.msh", "no such file"),
    f"density.mesh='{'a' * 300}'": ("density.mesh = ", "File name too long"),
    "output.every=1e-9": ("output.every = 1e-09", "more than 1e+05 reports", "at least 5e-06"),
    "time.step=1e-12": ("time.step = 1e-12", "more than 1e+09 steps", "at least 5e-10"),
    "output.directory='case.toml'": ("case.toml is a file, not a folder",),
    f"output.directory='{'a' * 300}'": ("File name too long",),
}


@pytest.mark.parametrize("setting", TOGETHER)
def test_settings_that_do_not_fit_together(setting, tmp_path):
    line = refused(write(tmp_path), setting, whole=True)
    for part in TOGETHER[setting]:
        assert part in line


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
    "task, model = (lambda model: 0), (lambda task: 0)": ("each of the two functions asks for what the other makes",),
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
    "model = lambda: transformer(family(), layers=0)": ("model.layers = 0", "at least 1"),
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


def test_four_parameters_are_too_many_and_three_have_a_limit(tmp_path):
    many = "model = lambda: transformer(family(lambda t, p: t * p.sum(), {0}, mfpde.Normal([0] * {0}, [1] * {0})))"
    four = write(tmp_path, BY_USER, user=many.format(4))
    assert "'mine' has dim = 4; the limit takes at most 3" in refused(four, whole=True)
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


TOKENS, TARGETS = np.ones((4, 3, 2)), np.ones((4, 1))
ARCHIVES = {
    "no targets": ({"tokens": TOKENS}, "needs tokens and targets"),
    "another name": ({"tokens": TOKENS, "targets": TARGETS, "labels": TARGETS}, "holds ['labels', 'targets'"),
    "two dimensions": ({"tokens": TOKENS[0], "targets": TARGETS}, "tokens has shape (3, 2)"),
    "no samples": ({"tokens": TOKENS[:0], "targets": TARGETS[:0]}, "none of them 0"),
    "other samples": ({"tokens": TOKENS, "targets": TARGETS[:3]}, "targets has shape (3, 1); must be (4, outputs)"),
    "nan": ({"tokens": TOKENS * np.nan, "targets": TARGETS}, "24 values that are not finite"),
    "text": ({"tokens": TOKENS.astype(str), "targets": TARGETS}, "must be an array of numbers"),
    "objects": ({"tokens": TOKENS.astype(object), "targets": TARGETS}, "allow_pickle=False"),
    "other objects": (
        {"tokens": TOKENS, "targets": TARGETS, "names": np.array([{}, None])},
        "('names': Object arrays cannot",
    ),
    "half labels": ({"tokens": TOKENS, "targets": np.full(4, 0.5)}, "numbers that are to be fitted the shape (4, 1)"),
    "whole numbers": ({"tokens": TOKENS, "targets": np.arange(4.0)}, "numbers that are to be fitted the shape (4, 1)"),
    "negative labels": ({"tokens": TOKENS, "targets": [0, 1, -1, 1]}, "labels 0, 1, 2"),
    "labels from 1": ({"tokens": TOKENS, "targets": [1, 2, 3, 1]}, "no sample has the label 0: labels are 1, 2, 3 and"),
    "labels by tens": (
        {"tokens": TOKENS, "targets": [0, 10, 20, 0]},
        "no sample has the label 1: labels are 0, 10, 20",
    ),
    "one class": ({"tokens": TOKENS, "targets": [0, 0, 0, 0]}, "all labels are 0; needs two classes"),
    "one other class": ({"tokens": TOKENS, "targets": [3, 3, 3, 3]}, "all labels are 3; needs two classes"),
    "too few classes": (
        {"tokens": TOKENS, "targets": [0, 1, 2, 1], "classes": 2},
        "classes = 2, but there is a label 2",
    ),
    "half a class": ({"tokens": TOKENS, "targets": [0, 1, 2, 1], "classes": 3.5}, "classes = 3.5: must be a whole"),
    "other classes": (
        {"tokens": TOKENS, "targets": TARGETS, "classes": 3},
        "classes = 3, but targets have shape (4, 1)",
    ),
    "numbers to test": (
        {"tokens": TOKENS, "targets": [0, 1, 0, 1], "test_tokens": TOKENS, "test_targets": TARGETS},
        "test_targets have shape (4, 1), targets (4,)",
    ),
    "test alone": ({"tokens": TOKENS, "targets": TARGETS, "test_tokens": TOKENS}, "come together"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_that_holds_no_task(kind, tmp_path):
    arrays, reason = ARCHIVES[kind]
    np.savez(tmp_path / "task.npz", **arrays)
    line = refused(write(tmp_path), "task={npz = 'task.npz'}")
    assert f"task.npz = '{tmp_path / 'task.npz'}'" in line
    assert reason in line


LABELS = {
    "they count": ([0, 1, 2, 1], {}, 3),
    "the test set has the last": ([0, 1, 0, 1], {"test_tokens": TOKENS, "test_targets": [2, 2, 2, 2]}, 3),
    "true and false": ([True, False, True, True], {}, 2),
    "some are empty, as said": ([1, 2, 3, 1], {"classes": 5}, 5),
    "one, as said": ([1, 1, 1, 1], {"classes": np.int64(2)}, 2),
    "unit vectors": (np.eye(4), {"classes": 4}, 4),
}


@pytest.mark.parametrize("kind", LABELS)
def test_classes_of_labels(kind, tmp_path):
    """From Python, from an archive, and after a replacement, which is a classification still."""
    targets, others, classes = LABELS[kind]
    np.savez(tmp_path / "task.npz", tokens=TOKENS, targets=targets, **others)
    task = mfpde.Task(TOKENS, targets, **others)
    for found in (task, from_npz(tmp_path / "task.npz"), dataclasses.replace(task, tokens=2 * TOKENS)):
        assert found.targets.shape == (4, classes)
        assert found.classification
        given = np.asarray(targets)
        assert (found.targets.argmax(axis=1) == (given if given.ndim == 1 else given.argmax(axis=1))).all()
        assert (found.targets.sum(axis=1) == 1.0).all()


def test_digits_have_as_many_classes_as_asked_for_however_few_are_drawn():
    assert digits(10, samples=3, test_samples=2).targets.shape == (3, 10)


def test_a_file_that_is_no_archive(tmp_path):
    path, file = write(tmp_path), tmp_path / "task.npz"
    assert "no such file" in refused(path, "task={npz = 'task.npz'}")
    np.savez_compressed(file, tokens=np.random.default_rng(0).normal(size=TOKENS.shape), targets=TARGETS)
    whole = file.read_bytes()
    np.save(tmp_path / "array.npy", TOKENS)
    flipped = bytearray(whole)
    flipped[60:70] = bytes(10)
    others = [b"", b"no archive", pickle.dumps([1]), (tmp_path / "array.npy").read_bytes(), bytes(flipped)]
    for content in (*others, *(whole[:cut] for cut in range(1, len(whole), 40))):
        file.write_bytes(content)
        assert f"task.npz = '{file}': " in refused(path, "task={npz = 'task.npz'}")


SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
MESH_ERRORS = {
    "another dimension": ([*SQUARE, [0, 0, 1]], [("tetra", [[0, 1, 2, 4]])], "dimension 2", "the file has tetra"),
    "two kinds": ([*SQUARE, [2, 0, 0]], [("quad", [[0, 1, 2, 3]]), ("triangle", [[1, 4, 2]])], "cells of one kind"),
    "curved": ([*SQUARE, [2, 0, 0], [3, 0, 0]], [("triangle6", [[0, 1, 2, 4, 5, 3]])], "the file has triangle6"),
    "a cell without area": ([*SQUARE, [0.5, 0, 0]], [("triangle", [[0, 1, 2], [0, 4, 1]])], "1 degenerate cells"),
    "a cell with a vertex twice": (SQUARE, [("triangle", [[0, 1, 1]])], "1 degenerate cells, the first is 0"),
    "a bow tie": (SQUARE, [("quad", [[0, 1, 3, 2]])], "1 degenerate cells"),
    "not convex": ([*SQUARE[:2], [0.1, 0.1, 0], SQUARE[3]], [("quad", [[0, 1, 2, 3]])], "1 degenerate cells"),
    "overlap": ([*SQUARE, [0.5, -1, 0]], [("triangle", [[0, 1, 2], [0, 1, 3], [0, 1, 4]])], "cells overlap"),
    "a cell twice": (SQUARE, [("triangle", [[0, 1, 2], [2, 0, 1]])], "cells overlap"),
    "not finite": ([[np.nan, 0, 0], *SQUARE[1:]], [("quad", [[0, 1, 2, 3]])], "points must be finite"),
    "not flat": ([*SQUARE[:2], [1, 1, 1], SQUARE[3]], [("triangle", [[0, 1, 2]])], "lie in 2 dimensions"),
}


@pytest.mark.parametrize("kind", MESH_ERRORS)
def test_a_mesh_that_cannot_be_solved_on(kind, tmp_path, capsys):
    points, cells, *reasons = MESH_ERRORS[kind]
    mesh = meshio.Mesh(np.array(points, dtype=float), [(name, np.array(block)) for name, block in cells])
    meshio.gmsh.write(tmp_path / "mesh.msh", mesh, fmt_version="2.2", binary=False)
    capsys.readouterr()  # its warnings
    line = refused(write(tmp_path, density="mesh = 'mesh.msh'"), whole=True)
    for part in (f"density.mesh = '{tmp_path / 'mesh.msh'}'", *reasons):
        assert part in line
    assert capsys.readouterr().err == ""


def test_a_mesh_file_that_is_cut_anywhere(tmp_path, capsys):
    whole = (MESHES / "disk_quads.msh").read_bytes()
    end = whole.rindex(b"$End")
    path, file = write(tmp_path, density="mesh = 'cut.msh'"), tmp_path / "cut.msh"
    for cut in (0, 5, 30, 200, len(whole) // 2, *range(end - 9, end)):
        file.write_bytes(whole[:cut])
        assert f"density.mesh = '{file}': " in refused(path, whole=True)
    assert capsys.readouterr().err == ""


def test_reports_to_a_horizon_that_nobody_gave(tmp_path):
    settings = ["training={weight_decay = 0.1, stationary = 1e-3}", "output.every=0.05"]
    line = refused(write(tmp_path), *settings, whole=True)
    assert (
        "more than 1e+05 reports to training.horizon = 10000.0, which it is unless given; must be at least 0.1" in line
    )


def test_petsc_options_that_cannot_be(tmp_path, capsys):
    """As after --; in a process in which PETSc is up they are set by hand."""
    from petsc4py import PETSc

    path, options = write(tmp_path), PETSc.Options()
    for name, value in (("ts_max_steps", "many"), ("ts_exact_final_time", "never"), ("ts_type", "euler")):
        options[name] = value
        try:
            assert main([str(path)]) == 2
        finally:
            options.delValue(name)
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert line.startswith(f"mfpde: {path}: "), line
    assert not (tmp_path / "case").exists()


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


def test_a_link_to_a_run_file(tmp_path):
    """Its files are where the file is, its results beside the link."""
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
    write(tmp_path / "there", BY_USER, density="")
    (tmp_path / "here" / "case.toml").symlink_to(Path("..") / "there" / "case.toml")
    run = run_file.load(tmp_path / "here" / "case.toml")
    assert run.build()[0].layers == 2
    assert run.output.directory == tmp_path / "here" / "case"
    copy = tmp_path / "here" / "copy.toml"
    copy.write_text(run.text(tmp_path / "here"))
    assert run_file.load(copy).build()[0].layers == 2


def test_finite_transformers_need_a_horizon(tmp_path, capsys):
    settings = ["--set", "training={weight_decay = 0.1, stationary = 1e-3}"]
    assert particles.main([str(write(tmp_path)), "--units", "2", "--seeds", "1", *settings]) == 2
    assert "training.horizon is missing; finite Transformers are trained to it" in capsys.readouterr().err


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
    "density of none": ({"density": {"tail": mfpde.Density()}}, "density.tail: unknown key; known are head"),
    "density as a table": ({"density": {"head": {"degree": 1}}}, "density = {'degree': 1}: must be a mfpde.Density"),
    "radius": ({"density": mfpde.Density(radius=(1.0,))}, "density.radius = [1.0]: family 'head' has dim = 2"),
    "mesh": ({"density": mfpde.Density(mesh="none.msh")}, "density.mesh = 'none.msh': no such file"),
    "ball": ({"density": mfpde.Density(mesh=MESHES / "ball.msh")}, "the file has tetra"),
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
    density = mfpde.Density(degree=np.int64(1), cells=np.int32(3), radius=np.array([1.0, 2.0]))
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
        with pytest.raises(InputError, match=r"model\.layers = .*: must be a whole number, at least 1"):
            mfpde.Transformer([[head]], wrong, lambda tokens: tokens[-1, :1])
        with pytest.raises(InputError, match=r"dim = .*: must be a whole number, at least 1"):
            mfpde.Family("head", wrong, lambda t, _: t, normal)
    for wrong in ((np.float64(1.0),), (np.bool_(True),), (np.int64(2),), (np.int64(1), 1)):
        with pytest.raises(InputError, match=r"must be distinct indices below 2"):
            mfpde.Family("head", 2, lambda t, _: t, normal, wrong)


def test_a_mistyped_key_on_two_ranks(tmp_path):
    path = write(tmp_path)
    ended = run("-m", "mfpde.solve", path.name, "--set", "training.horizn=1", ranks=2, directory=tmp_path, timeout=60)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == "mfpde: case.toml: training.horizn: unknown key; did you mean 'horizon'?\n"
    assert not (tmp_path / "case").exists()


MANY = """
import json, sys
from mfpde import solve
from mfpde.parallel import mpi
comm = mpi.start()
codes = [comm.gather(solve.main(words)) for words in json.load(open("cases.json"))]
if comm.rank == 0:
    print(codes)
"""
DRAWN = "def task(): return mfpde.Task(np.random.normal(size=(4, 3, 2)), np.ones((4, 1)))"
ALONE = "from mpi4py import MPI\ndef model(): return MPI.COMM_WORLD.rank or transformer(family())"


def test_other_mistakes_on_two_ranks(tmp_path):
    """One job, one command after the other: each ends on both ranks with one line."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "manifest.json").write_text("{}")
    (tmp_path / "cut.msh").write_bytes((MESHES / "disk.msh").read_bytes()[:-20])
    (tmp_path / "drawn.py").write_text(USER + DRAWN)
    (tmp_path / "alone.py").write_text(USER + ALONE)
    write(tmp_path, BY_USER, density="")
    cases = {
        "density.mesh='cut.msh'": "density.mesh = 'cut.msh': not a readable gmsh file",
        "task.python='drawn.py:task'": "not the same on every rank; draw random numbers from a fixed seed",
        "model.python='alone.py:model'": "the function returned int, not mfpde.Transformer",
        "model.python='sys.py:exit'": "no such file",
        "output.directory='taken'": "directory taken: holds a run; --overwrite replaces it",
    }
    (tmp_path / "cases.json").write_text(json.dumps([["case.toml", "--set", setting] for setting in cases]))
    (tmp_path / "many.py").write_text(MANY)
    before = contents(tmp_path)
    ended = run("many.py", ranks=2, directory=tmp_path, timeout=100)
    assert ended.stdout == f"{[[2, 2]] * len(cases)}\n", ended.stderr
    for line, reason in zip(ended.stderr.splitlines(), cases.values(), strict=True):
        assert line.startswith("mfpde: case.toml: ")
        assert reason in line
    assert contents(tmp_path) == before


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
        solve(write(tmp_path, density="cells = 3"), settings)
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
    ended = run("-m", "mfpde.solve", *words, ranks=2, timeout=100)
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


def test_an_override_takes_the_place_of_what_it_excludes(tmp_path):
    """density.mesh or cells, time.step or tolerance: --set replaces the file's choice; two overrides still clash."""
    path = write(tmp_path, density="cells = 2\n[time]\ntolerance = 1e-3")
    run = run_file.load(path, ["time.step=0.1", "density.mesh='disk.msh'"])
    assert (run.time.step, run.time.tolerance) == (0.1, None)
    assert run.density.mesh == tmp_path / "disk.msh"
    assert "exclude each other" in refused(path, "time.step=0.1", "time.tolerance=1e-3")
    both = write(tmp_path, density="cells = 2\nmesh = 'disk.msh'")
    assert "density.mesh = 'disk.msh' and density.cells exclude each other" in refused(both)
