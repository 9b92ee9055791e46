"""A setting that is another one on one of the ranks: one line on all of them that names it, and never a hang."""

from __future__ import annotations

import sys
from pathlib import Path

from support.launch import run

SCRIPT = """
import jax.numpy as jnp, numpy as np
import mfpde
from mfpde.parallel import mpi
rank = mpi.start().rank
tokens = np.random.default_rng(0).normal(size=(4, 2, 2))
task = mfpde.Task(tokens, tokens[:, 0, :1])

def solve(step=1.0, layers=1, depth="residual", law=mfpde.Normal, **settings):
    head = mfpde.Family("head", 2, lambda t, p: p[1] * jnp.tanh(p[0] * t), law([0.5, 0.0], [0.5, 0.5]), (1,))
    model = mfpde.Transformer([[head]], layers, lambda t: t[0, :1], step=step, depth=depth)
    density = mfpde.Density(degree=1, cells=6, frame="comoving")
    given = {"weight_decay": 0.1, "horizon": 0.1, "density": density, **settings}
    return mfpde.solve_limit(model, task, **given)

D = mfpde.Density
for name, pair in {
    "training.weight_decay": ({"weight_decay": w} for w in (0.05, 0.5)),
    "training.horizon": ({"horizon": h} for h in (0.1, 0.2)),
    "training.temperature": ({"temperature": t} for t in (0.0, 0.1)),
    "training.stationary": ({"stationary": s} for s in (None, 0.1)),
    "density.head.degree": ({"density": D(degree=p, cells=6)} for p in (1, 2)),
    "density.head.cells": ({"density": D(degree=1, cells=c)} for c in (6, 7)),
    "density.head.radius": ({"density": D(radius=r)} for r in (None, 4)),
    "density.head.positivity": ({"density": D(positivity=p)} for p in ("off", "scheme")),
    "time.tolerance": ({"time": mfpde.Time(tolerance=e)} for e in (1e-5, 1e-2)),
    "time.step": ({"time": mfpde.Time(step=h)} for h in (0.1, 0.05)),
    "output.every": ({"every": e} for e in (0.1, 0.05)),
    "output.directory": ({"directory": d} for d in ("a", "b")),
    "overwrite": ({"directory": "a", "overwrite": o} for o in (False, True)),
    "resume": ({"directory": "a", "resume": r} for r in (False, True)),
    "estimate_error": ({"estimate_error": e} for e in (False, True)),
    "model.step": ({"step": s} for s in (1.0, 0.5)),
    "model.layers": ({"layers": n} for n in (1, 2)),
    "model.depth": ({"depth": d} for d in ("residual", "continuum")),
    "model.stages": ({"law": law} for law in (mfpde.Normal, mfpde.Uniform)),
    "must be a finite number, at least 0": ({"weight_decay": w} for w in (0.1, -1)),
    "more than 1e+05 reports": ({"every": e} for e in (1e-9, 1e-9)),
}.items():
    try:
        solve(**list(pair)[rank])
        line = "nothing"
    except mfpde.InputError as error:
        line = str(error)
    said = mpi.start().gather(line)
    if rank == 0:
        print(name, "|", said[0] if said[0] == said[1] else said, flush=True)
"""


def test_every_setting_of_solve_limit(tmp_path: Path) -> None:
    (tmp_path / "differ.py").write_text(SCRIPT)
    done = run("differ.py", ranks=2, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 21
    assert "PosixPath" not in done.stdout
    for line in lines:
        name, said = line.split(" | ")
        if "." in name.partition(" ")[0] or " " not in name:
            assert said.startswith(f"{name} is "), line
            assert said.endswith(" on rank 1; it must be the same on every rank"), line
        else:
            assert name in said
    assert [path.name for path in tmp_path.iterdir()] == ["differ.py"]


def test_two_command_lines_in_one_job(tmp_path: Path) -> None:
    """`mpirun -n 1 A : -n 1 B`."""
    one, other = ("-m", "mfpde.solve"), ("-m", "mfpde.solve", "--set", "training.horizon=0.4")
    for first, second in ((one, other), (one, ("-m", "mfpde.info"))):
        done = run(*first, ":", "-n", "1", sys.executable, *second, ranks=1, directory=tmp_path)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("mfpde: argument "), done.stderr
        assert done.stderr.endswith(" on rank 1; it must be the same on every rank\n")
        assert done.stderr.count("\n") == 1


def test_what_differs_is_shown_of_long_values(tmp_path: Path) -> None:
    one, other = (("-m", "mfpde.solve", "--directory", f"{'long/' * 30}{end}") for end in "ab")
    done = run(*one, ":", "-n", "1", sys.executable, *other, ranks=1, directory=tmp_path)
    assert "long/a' on rank 0 and ..." in done.stderr
    assert "long/b' on rank 1; it must" in done.stderr
