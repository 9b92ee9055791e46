"""A run of half a second for the tests of restarts, and what two of them must have in common."""

from __future__ import annotations

import re
from pathlib import Path

from mfpde import open_run

USER = """
import jax.numpy as jnp, numpy as np
import mfpde

def task():
    rng = np.random.default_rng(0)
    return mfpde.Task(rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 1)))

def model():
    family = mfpde.Family("bump", 1, lambda tokens, theta: jnp.tanh(theta[0] * tokens), mfpde.Normal([0.3], [0.5]))
    return mfpde.Transformer([[family]], 2, lambda tokens: tokens[-1, :1])

def matrices():
    laws = (mfpde.Normal(0.3, 0.5), mfpde.Normal(0.0, 0.5))
    update = lambda tokens, u, v: jnp.tanh(u[0] * tokens) @ v
    family = mfpde.Family("bump", nonlinear=1, linear_shape=(2, 2), update=update, initial=laws)
    return mfpde.Transformer([[family]], 2, lambda tokens: tokens[-1, :1])
"""
TEXT = """
name = "tiny"
[task]
python = "user.py:task"
[model]
python = "user.py:model"
[training]
weight_decay = 0.1
horizon = {horizon}
[density]
frame = "comoving"
degree = 1
cells = 12
[time]
{time}
[output]
every = 0.25
checkpoint_every = "{every}"
"""
EXACT = ("history.csv", "moments.csv", "gap.csv", "indicators.csv", "steps.csv", "density_bump.pvd")


def write(folder: Path, *, horizon: float = 2.0, time: str = "tolerance = 1e-8", every: str = "1h") -> Path:
    """The run file, and the user's file beside it."""
    (folder / "user.py").write_text(USER)
    path = folder / "tiny.toml"
    path.write_text(TEXT.format(horizon=horizon, time=time, every=every))
    return path


def assert_same(one: Path, other: Path) -> None:
    """Two run directories agree bit for bit, apart from clocks."""
    for name in EXACT:
        assert (one / name).read_text() == (other / name).read_text(), name
    for pattern in ("density*/*.vtu", "nodes/*.vtp", "nodes*.pvd"):
        files = [sorted(path.relative_to(folder) for path in folder.glob(pattern)) for folder in (one, other)]
        assert files[0] == files[1]
        for name in files[0]:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    taus = [open_run(folder).timings["tau"].tolist() for folder in (one, other)]
    assert taus[0] == taus[1]


def told_tau(line: str) -> float:
    """τ of the line that says where a run stopped."""
    found = re.search(r"stopped at tau = (\S+) and saved", line)
    assert found, line
    return float(found[1])
