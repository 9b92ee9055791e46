"""What a notebook shows of the public objects."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import mfpde
import mfpde.__main__
from support.drawn import make_run


def test_short_representations(tmp_path):
    family = mfpde.Family("head", 2, lambda tokens, theta: theta[1] * tokens, mfpde.Normal([0.0] * 2, [1.0] * 2), (1,))
    model = mfpde.Transformer([[family]], 3, lambda tokens: tokens[-1])
    task = mfpde.Task(np.zeros((5, 4, 3)), np.array([0, 1, 2, 0, 1]))
    assert repr(family) == "Family('head': d = 2, 1 of them linear)"
    assert repr(model) == "Transformer(3 layers of head (d = 2); loss 'squared')"
    assert repr(task) == "Task(5 samples: 4 × 3 tokens, 3 classes)"
    run = make_run(tmp_path / "run")
    assert repr(run).startswith(f"Run({str(tmp_path / 'run')!r}: risk ")
    assert repr(run).endswith("at τ = 1, done)")
    page = run._repr_html_()
    assert "data:image/png;base64," in page
    assert f"{run.history['risk'][-1]:.6g}" in page
    assert jnp.isfinite(model.step)


def test_names_that_a_notebook_offers():
    assert "solve_limit" in dir(mfpde)
    assert not any(name.startswith("_") and name != "__version__" for name in dir(mfpde))
    assert all(hasattr(mfpde, name) for name in dir(mfpde))


def test_version(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["mfpde", "--version"])
    assert mfpde.__main__.main() == 0
    assert capsys.readouterr().out == f"mfpde {mfpde.__version__}\n"
