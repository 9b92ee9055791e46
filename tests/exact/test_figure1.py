"""Figure 1 in small: finite Transformers close in on their limit; the verdicts of the study can be no."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import numpy as np

from mfpde import config
from mfpde.finite.jobs import Method, plan
from mfpde.finite.training import School
from mfpde.output.reader import open_run
from mfpde.run import execute

ROOT = Path(__file__).parents[2]
SMALL = [
    "task.samples=40",
    "task.test_samples=20",
    "model.heads=3",
    "model.neurons=1",
    "model.layers=2",
    "density.cells=10",
    "training.horizon=0.4",
    "output.every=0.4",
]


def study():
    """docs/studies/figure1.py as a module."""
    spec = importlib.util.spec_from_file_location("figure1", ROOT / "docs" / "studies" / "figure1.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_finite_transformers_close_in_on_the_limit(tmp_path):
    run = config.load(ROOT / "runs" / "figure-1.toml", SMALL, str(tmp_path / "run"))
    execute(run, overwrite=False)
    limit = open_run(tmp_path / "run").history["risk"]
    model, task = run.build()
    school = School(model, task, run.training.weight_decay)
    errors = {}
    for job in plan("sampled", [(2,), (64,)], [2], 6, Method(0.01)):
        found = school.train(job, [0.0, 0.4], [0.4]).columns["risk"]
        errors.setdefault(job.size[0], []).append(found - limit)
    spread = {units: np.sqrt(np.mean(np.square(e), axis=0)) for units, e in errors.items()}
    assert (spread[64] < 0.5 * spread[2]).all()
    mean, standard = np.mean(errors[64], axis=0), np.std(errors[64], axis=0, ddof=1) / np.sqrt(6)
    assert (np.abs(mean) < 4.0 * standard + 0.01 * limit).all()
    assert limit[-1] < 0.95 * limit[0]  # it learns, or there would be little to compare


def test_the_verdicts_can_be_no():
    figure = study()

    def curves(*ends):
        return {
            test + key: [[2.0, value(e)] for e in ends]
            for test in ("", "test_")
            for key, value in (("risk", lambda e: e), ("accuracy", lambda e: 1.0 - e))
        }

    found = {str(m): curves(0.5 - 0.001 * m, 0.52 - 0.001 * m) for m in figure.HEADS}
    found["limit"] = {key: values[0] for key, values in curves(0.46).items()}
    assert figure.ordered(found)
    assert figure.beyond(found)
    assert np.isclose(figure.last(found["40"], "risk")[0], 0.47)
    worse = copy.deepcopy(found)
    worse["20"] = curves(0.3, 0.3)
    assert not figure.ordered(worse)
    for test in ("", "test_"):
        for key, value in (("risk", 0.6), ("accuracy", 0.3)):
            beaten = copy.deepcopy(found)
            beaten["limit"][test + key][-1] = value
            assert not figure.beyond(beaten, test)
            assert figure.beyond(beaten, "" if test else "test_")
