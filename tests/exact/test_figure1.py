"""Figure 1 in small: finite Transformers close in on their limit; the verdicts of the study can be no."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from mfpde import open_run
from mfpde.config import run_file
from mfpde.finite.initial_units import sampled_units
from mfpde.finite.jobs import Method, plan
from mfpde.finite.training import TrainerCache
from mfpde.problem.transformer import residual_stream
from mfpde.runs.limit_run import execute

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
    run = run_file.load(ROOT / "runs" / "figure-1.toml", SMALL, str(tmp_path / "run"))
    execute(run)
    limit = open_run(tmp_path / "run").history["risk"]
    model, task = run.build()
    cache = TrainerCache(model, task, run.training.weight_decay)
    errors = {}
    for job in plan("sampled", [(2,), (64,)], [2], 6, Method(0.01)):
        found = cache.train(job, [0.0, 0.4], [0.4]).columns["risk"]
        errors.setdefault(job.size[0], []).append(found - limit)
    spread = {units: np.sqrt(np.mean(np.square(e), axis=0)) for units, e in errors.items()}
    assert (spread[64] < 0.5 * spread[2]).all()
    mean, standard = np.mean(errors[64], axis=0), np.std(errors[64], axis=0, ddof=1) / np.sqrt(6)
    assert (np.abs(mean) < 4.0 * standard + 0.01 * limit).all()
    assert limit[-1] < 0.95 * limit[0]  # it learns, or there would be little to compare


def test_layers_of_heads_act_side_by_side():
    """Without neurons the output is affine in the units of all layers at once: two halves give the mean of both."""
    few = ["task.samples=4", "task.test_samples=0", "model.heads=3", "model.neurons=0", "model.layers=3"]
    model, task = run_file.load(ROOT / "runs" / "figure-1.toml", few).build()

    def outputs(units):
        return np.asarray([model.readout(residual_stream(model, units, jnp.asarray(t))) for t in task.tokens])

    one, two = (sampled_units(model, 5, seed) for seed in (0, 1))
    both = tuple(
        (jnp.concatenate([a, b], axis=1), 0.5 * jnp.concatenate([u, v], axis=1))
        for (a, u), (b, v) in zip(one, two, strict=True)
    )
    assert np.abs(outputs(one) - outputs(two)).max() > 0.1
    np.testing.assert_allclose(outputs(both), 0.5 * (outputs(one) + outputs(two)), rtol=1e-12, atol=1e-12)


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
    assert figure.ordered(found) == "yes"
    assert figure.beyond(found)
    assert np.isclose(figure.last(found["40"], "risk")[0], 0.47)
    for test in ("risk", "test_risk"):
        apart = figure.paired(found, test)
        assert [name for name, _, _ in apart] == ["4 − 10", "10 − 20", "20 − 40", "40 − ∞"]
        np.testing.assert_allclose([mean for _, mean, _ in apart], [0.006, 0.01, 0.02, 0.01], atol=1e-12)
        np.testing.assert_allclose([error for _, _, error in apart], [0.0, 0.0, 0.0, 0.01], atol=1e-12)
    worse = copy.deepcopy(found)
    worse["20"] = curves(0.3, 0.3)
    assert figure.ordered(worse) == "no"
    apart = copy.deepcopy(found)
    apart["4"] = curves(0.496, 0.510)  # 10 units have 0.49 and 0.51: one seed gains, the other does not
    assert figure.ordered(apart) == "not significant (4 − 10: +0.0030 ± 0.0030)"
    behind = copy.deepcopy(found)
    behind["limit"]["accuracy"][-1] = 0.505  # by 2.5 standard errors of the mean 0.53, and 1.8 deviations of its runs
    assert not figure.beyond(behind)
    assert figure.beyond(behind, single=True)
    for test in ("", "test_"):
        for key, value in (("risk", 0.6), ("accuracy", 0.3)):
            beaten = copy.deepcopy(found)
            beaten["limit"][test + key][-1] = value
            assert not figure.beyond(beaten, test)
            assert figure.beyond(beaten, "" if test else "test_")


def test_the_page_is_what_the_study_writes():
    """M is said to be units in each of 40 head families wherever it stands beside the paper's numbers of heads."""
    figure = study()
    found = json.loads((ROOT / "docs" / "figure-1.json").read_text())
    text = (ROOT / "docs" / "figure-1.md").read_text()
    assert text == figure.page(found)
    assert "| 40 | 1,600 |" in text
    assert run_file.load(ROOT / "runs" / "figure-1.toml").content["model"]["heads"] == figure.FAMILIES
    for path in ("README.md", "runs/figure-1.toml", "docs/figure-1.md"):
        flat = " ".join((ROOT / path).read_text().replace("#", " ").split())
        assert "units in each of 40 head families" in flat
        assert "4 … 40 heads" not in flat
