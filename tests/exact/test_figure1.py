"""Figure 1 in small: finite Transformers close in on their limit; the verdicts of the study can be no."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from mfpde import open_run
from mfpde.config import run_file
from mfpde.finite.initial_units import sampled_units
from mfpde.finite.jobs import Method, plan
from mfpde.finite.training import TrainerCache
from mfpde.problem.transformer import Units, residual_stream
from mfpde.runs.limit_run import execute

ROOT = Path(__file__).parents[2]
SUPPORT = Path(__file__).parents[1] / "support"
SMALL = [
    "task.samples=40",
    "task.test_samples=20",
    "model.layers=2",
    "density.nodes=64",
    "training.horizon=0.4",
    "output.every=0.4",
]


def study() -> tuple[ModuleType, ModuleType]:
    """docs/studies/figure1.py and figure1_page.py as modules."""
    folder = str(ROOT / "docs" / "studies")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("figure1"), importlib.import_module("figure1_page")
    finally:
        sys.path.remove(folder)


def test_finite_transformers_close_in_on_the_limit(tmp_path: Path) -> None:
    """M = 4 and 64 heads in all: the spread over seeds falls, and the bias is gone at 64."""
    run = run_file.load(ROOT / "runs" / "figure-1.toml", SMALL, str(tmp_path / "run"))
    execute(run)
    limit = open_run(tmp_path / "run").history["risk"][-1]
    model, task = run.build()
    assert [len(stage) for stage in model.stages] == [1, 1]  # M units are M heads, and M neurons

    cache = TrainerCache(model, task, run.training.weight_decay)
    errors: dict[int, list[float]] = {4: [], 64: []}
    for job in plan("sampled", [(4,), (64,)], [2], 6, Method(tolerance=1e-4)):
        risk = cache.train(job, [0.0, 0.4], [0.4]).columns["risk"]
        errors[job.size[0]].append(float(risk[-1] - limit))
    assert np.std(errors[64]) < 0.5 * np.std(errors[4])
    standard = np.std(errors[64], ddof=1) / np.sqrt(6)
    assert abs(np.mean(errors[64])) < 4.0 * standard + 0.01 * limit
    assert limit < 0.95 * risk[0]  # it learns, or there would be little to compare


def test_layers_of_heads_act_side_by_side() -> None:
    """Without neurons the output is affine in the units of all layers at once: two halves give the mean of both."""
    few = ["task.samples=4", "task.test_samples=0", "model.heads=3", "model.neurons=0", "model.layers=3"]
    model, task = run_file.load(SUPPORT / "class-attention.toml", few).build()

    def outputs(units: Units) -> np.ndarray:
        return np.asarray([model.readout(residual_stream(model, units, jnp.asarray(t))) for t in task.tokens])

    one, two = (sampled_units(model, 5, seed) for seed in (0, 1))
    both = tuple(
        (jnp.concatenate([a, b], axis=1), 0.5 * jnp.concatenate([u, v], axis=1))
        for (a, u), (b, v) in zip(one, two, strict=True)
    )
    assert np.abs(outputs(one) - outputs(two)).max() > 0.1
    np.testing.assert_allclose(outputs(both), 0.5 * (outputs(one) + outputs(two)), rtol=1e-12, atol=1e-12)


def ends(*found: float) -> dict[str, Any]:
    """Curves of two seeds that end there."""
    return {key: [[2.0, value] for value in found] for key in ("risk", "accuracy", "test_risk", "test_accuracy")}


def test_the_verdicts_can_be_no() -> None:
    figure, page = study()
    curves = {str(m): ends(0.5 - 0.001 * m, 0.52 - 0.001 * m) for m in figure.HEADS}
    found = {"flow": curves, "limit": {"risk": [2.0, 0.46]}}
    assert page.ordered(found) == "yes"
    apart = page.paired(found)
    assert [row[0] for row in apart] == ["4 − 10", "10 − 20", "20 − 40", "40 − ∞"]
    np.testing.assert_allclose([row[1] for row in apart], [0.006, 0.01, 0.02, 0.01], atol=1e-12)
    np.testing.assert_allclose([row[2] for row in apart], [0.0, 0.0, 0.0, 0.01], atol=1e-12)

    worse = {**found, "flow": {**curves, "20": ends(0.3, 0.3)}}
    assert page.ordered(worse) == "no (20 − 40)"
    unclear = {**found, "flow": {**curves, "4": ends(0.496, 0.510)}}  # one seed of ten heads gains, the other does not
    assert page.ordered(unclear) == "not significant (4 − 10)"


def test_the_extrapolation_is_exact_for_a_bias_of_one_over_m() -> None:
    """R(M) = R + b/M with units that are common to both sizes: any seed gives R."""
    _, page = study()
    seeds = np.random.default_rng(0).normal(size=(5, 4))
    quarters = 0.3 + 8.0 / 80 + seeds
    whole = 0.3 + 8.0 / 320 + seeds.mean(axis=1, keepdims=True)  # chance is the mean of the quarters'
    value, reach = page.extrapolated(whole[:, 0], quarters.mean(axis=1))
    assert abs(value - (0.3 + seeds.mean())) < 1e-12
    assert reach > 0.0

    for nodes, line in ((0.3 + float(seeds.mean()), "overlap"), (9.0, "**do not** overlap")):
        pair = {"units": 320, "risk": np.hstack([whole, quarters]).tolist()}
        limit = {"risk": [1.0, nodes], "risk_error": [0.0, 0.002]}
        assert f"The two {line}." in page.both({"coupled": pair, "limit": limit})


def test_the_page_is_what_the_study_writes() -> None:
    """M is said to be the number of heads a layer, in all, wherever it stands beside the paper's numbers of heads."""
    figure, page = study()
    found = json.loads((ROOT / "docs" / "figure-1.json").read_text())
    text = (ROOT / "docs" / "figure-1.md").read_text()
    titles = {name: sweep.title for name, sweep in figure.SWEEPS.items()}
    assert text == page.text(found, titles, figure.commands("figure-1"))
    for name, sweep in figure.SWEEPS.items():
        model, _ = run_file.load(ROOT / "runs" / f"{name}.toml").build(trial=False)
        assert [len(stage) for stage in model.stages] == [1, 1]
        assert f"`runs/{name}.toml`" in text
        assert ("limit" in found[name]) is ("flow" in found[name]) is sweep.solved
        trained = {m: len(each["risk"]) for m, each in found[name]["descent"].items()}
        assert trained == {str(m): sweep.seeds for m in figure.HEADS}
