"""A small run file with a user's Python file beside it, and the line with which one is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfpde.config import run_file
from mfpde.errors import InputError
from mfpde.runs.limit_run import execute

IN_CONTEXT = """
[task]
name = "in-context-regression"
samples = 12
context = 2
[model]
name = "attention"
layers = 1
[training]
weight_decay = 0.05
"""
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
frame = "comoving"
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
frame = "comoving"
degree = 1
{density}
"""


def scalars_run(layers: int = 2, horizon: float = 1.0, density: str = "cells = 4", every: float = 0.5) -> str:
    """The run file "case": linear heads on four samples, on meshes in co-moving frames."""
    return f"""
name = "case"
[task]
name = "scalars"
samples = 4
[model]
name = "linear"
layers = {layers}
[training]
weight_decay = 0.3
horizon = {horizon}
[density]
frame = "comoving"
{density}
[output]
every = {every}
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
    execute(run_file.load(path, sets))


TOKENS, TARGETS = np.ones((4, 3, 2)), np.ones((4, 1))
