"""Starts from where an earlier run has come to: the same moments and densities, layer by layer, and its identity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mfpde
from mfpde.config import run_file
from mfpde.problem.datasets import in_context_regression
from mfpde.problem.models.low_dimensional import attention

FINE = mfpde.Density(degree=2, cells=16, frame="comoving")


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of attention heads to τ = 0.5."""
    folder = tmp_path_factory.mktemp("warm") / "before"
    task = in_context_regression(samples=8)
    mfpde.solve_limit(attention(layers=2), task, weight_decay=0.1, horizon=0.5, every=0.25, density=FINE,
                      directory=folder)  # fmt: skip
    return folder


def started(start: mfpde.FromRun, layers: int = 3) -> mfpde.Transformer:
    model = attention(layers=layers)
    return replace(model, stages=[[replace(model.families[0], initial=start)]])


@pytest.mark.parametrize("frame", ["comoving", "fixed", "lagrangian"])
def test_moments_and_densities_are_those_of_the_run(before: Path, frame: str, tmp_path: Path) -> None:
    """Layers 0, 1, 2 of three start from 0, 1, 1 of two: ⌊(ℓ + ½) 2/3⌋."""
    old, task = mfpde.open_run(before), in_context_regression(samples=8)
    new = mfpde.solve_limit(
        started(mfpde.FromRun(before, 0.5)), task, weight_decay=0.1, horizon=1e-3, every=1e-3,
        density=replace(FINE, cells=24, frame=frame), directory=tmp_path / "new",
    )  # fmt: skip
    moments, late = new.moments, old.moments["tau"] == 0.5
    for layer, source in enumerate((0, 1, 1)):
        for name in ("mean_0", "mean_1", "cov_00", "cov_01", "cov_11"):
            was = old.moments[name][late & (old.moments["layer"] == source)][0]
            assert moments[name][(moments["tau"] == 0.0) & (moments["layer"] == layer)][0] == pytest.approx(
                was, abs=1e-12
            )

        law = started(mfpde.FromRun(before, 0.5)).families[0].law(layer)
        points = law.sample(np.random.default_rng(1), 200)
        values = [run.density(tau=tau, family="attention", layer=at, theta=points)
                  for run, tau, at in ((old, 0.5, source), (new, 0.0, layer))]  # fmt: skip
        assert np.abs(values[0] - values[1]).max() < 0.05 * values[0].max()
        assert np.abs(points.mean(axis=0) - law.mean).max() < 5.0 * max(law.std) / np.sqrt(200)


def test_the_risk_goes_on_where_it_was(before: Path, tmp_path: Path) -> None:
    task = in_context_regression(samples=8)
    new = mfpde.solve_limit(started(mfpde.FromRun(before, 0.5), 2), task, weight_decay=0.1, horizon=0.5, every=0.25,
                            density=FINE, directory=tmp_path / "new")  # fmt: skip
    assert new.history["risk"][0] == pytest.approx(mfpde.open_run(before).history["risk"][-1], rel=1e-4)


FILE = """
[task]
name = "in-context-regression"
samples = 8
[model]
name = "attention"
layers = 3
[training]
weight_decay = 0.1
horizon = 0.5
[initial.attention]
law = "run"
directory = "{directory}"
tau = {tau}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "case.toml"
    path.write_text(text)
    return path


def test_run_files(before: Path, tmp_path: Path) -> None:
    """A path from the file, another one in the resolved copy; and the identity knows what is there."""
    run = run_file.load(write(before.parent, FILE.format(directory="before", tau=0.5)))
    law = run.build()[0].families[0].law(2)
    assert "before at its tau" in " ".join(run.identity().initial)
    other = run_file.load(write(before.parent, FILE.format(directory="before", tau=0.25)))
    assert other.identity().problem_hash != run.identity().problem_hash

    copy = run_file.load(write(tmp_path, run.text(tmp_path)))
    assert copy.identity() == run.identity()
    assert copy.build()[0].families[0].law(2).mean == law.mean


def test_mistakes(before: Path, tmp_path: Path) -> None:
    lines = {
        FILE.format(directory=before, tau=0.3): "tau = 0.3: no report there; the nearest is 0.25",
        FILE.format(directory="none", tau=0.5): "initial.attention: ",
        FILE.format(directory=before, tau=-1): "initial.attention: tau = -1: must be a finite number, at least 0",
        FILE.format(directory=before, tau=0.5).replace("tau", "time"): "initial.attention.time: unknown key",
        FILE.format(directory=before, tau=0.5).replace('directory = "', 'mean = "'): "initial.attention.mean: unknown",
        FILE.replace("attention]", "attention]\nmean = [0, 0]\n").format(directory=before, tau=1): "mean: unknown key",
    }
    for text, line in lines.items():
        with pytest.raises(mfpde.InputError) as caught:
            run_file.load(write(tmp_path, text)).build()
        assert line in str(caught.value)
    with pytest.raises(mfpde.InputError, match="only inside a Transformer"):
        mfpde.FromRun(before, 0.5)(0)


def test_nodes_have_no_density_to_start_from(before: Path, tmp_path: Path) -> None:
    """Neither from a picture of nodes, nor to nodes that need quantiles."""
    adamw = mfpde.Optimiser("adamw", learning_rate=0.05, steps=2)
    task, steps = in_context_regression(samples=8), tmp_path / "steps"
    mfpde.solve_limit(attention(layers=2), task, weight_decay=0.1, optimiser=adamw, directory=steps)
    end = float(mfpde.open_run(steps).taus[-1])
    with pytest.raises(mfpde.InputError, match="hold a picture of its nodes, smoothed by a kernel"):
        started(mfpde.FromRun(steps, end)).families[0].law(0)
    with pytest.raises(mfpde.InputError, match=r"has no quantiles, which nodes of density\.nodes and training\.method"):
        mfpde.solve_limit(started(mfpde.FromRun(before, 0.5)), task, weight_decay=0.1, optimiser=adamw)
