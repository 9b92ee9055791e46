"""The rule of a verdict: what an interval says, what a check would have seen, and when that is enough."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mfpde.compare import main as compare
from mfpde.comparison.checks import CHANGE, Check
from mfpde.comparison.evidence import Effect
from mfpde.comparison.exponents import SlopeRow, slope_checks
from mfpde.comparison.slopes import Slope, floor, slope
from mfpde.comparison.verdict import decide
from mfpde.limit.backprop import Backprop
from mfpde.limit.fem.moments import MomentMap
from mfpde.particles import main as particles
from mfpde.solve import main as solve


@pytest.mark.parametrize(
    ("low", "high", "passed"),
    [
        (-0.58, -0.42, True),
        (-0.62, -0.48, None),  # it holds the theory, and half of it is beyond the tolerance
        (-0.42, -0.20, None),  # it merely reaches in
        (-0.70, -0.30, None),  # it is wide
        (-0.39, -0.20, False),
        (-0.90, -0.61, False),
    ],
)
def test_an_exponent_passes_where_its_whole_interval_does(low, high, passed):
    middle, reach = 0.5 * (low + high), 0.5 * (high - low)
    found = Slope(middle, low, high, reach / stats.t.ppf(0.975, 7))
    check = slope_checks([SlopeRow("risk", 4, 1.0, [10, 40, 160], [0.1, 0.05, 0.025], 8, found)], CHANGE)[0]
    assert check.passed is passed
    assert check.seen == pytest.approx(0.1 + high - low)
    assert ("seeds would decide" in check.note) == (passed is None and abs(middle + 0.5) < 0.1)


def test_intervals_of_few_seeds_hold_the_exponent_together():
    """Right errors M^(−½) of eight seeds: both intervals of a pair hold −½ nearly as often as they say."""
    rng = np.random.default_rng(0)
    sizes, hits = [10, 40, 160], 0
    for _ in range(400):
        pair = [slope(sizes, rng.normal(size=(8, 3)) / np.sqrt(sizes)).interval(8, 0.975) for _ in range(2)]
        hits += all(found.low <= -0.5 <= found.high for found in pair)
    assert 0.9 <= hits / 400 <= 0.98


def test_a_floor_that_flattens_a_slope():
    """Errors √(a²/M + b²) of the b that was named have the exponent that it was named for."""
    sizes = np.array([10.0, 40.0, 160.0, 640.0])
    errors = 0.3 / np.sqrt(sizes)
    for flatter in (0.05, 0.2, 0.45):
        left = floor(sizes, errors, flatter)
        again = np.sqrt(errors**2 + left**2)
        assert np.polyfit(np.log(sizes), np.log(again), 1)[0] == pytest.approx(flatter - 0.5, abs=1e-8)
    assert floor(sizes, errors, 0.5) == np.inf


def check(name="mean", layers=2, passed: bool | None = None, decay=0.2, step=0.01, more="") -> Check:
    return Check(name, layers, 1.0, 0.5, 0.4, 0.1, passed, "", 0.2, {"weight_decay": decay, "step": step}, more)


@pytest.mark.parametrize(
    ("checks", "word", "why"),
    [
        ([], "undecided", "no finite Transformers that decide"),
        ([check(passed=True)], "undecided", "at L = 2 only a change of λ by 20 % or of η by 1 % would have been seen"),
        ([check(more="99 seeds")], "undecided", "99 seeds (mean, tau = 1) would decide"),
        ([check(passed=True), check(decay=0.04, step=9.0)], "matches", "of λ by 4 % or of η by 1 % would have been"),
        ([check(decay=0.01), check("grid", layers=3)], "undecided", "at L = 3"),
        ([check(decay=0.01), check("grid", layers=3, passed=False)], "differs", "grid at L = 3, tau = 1: 0.5 against"),
        ([check(decay=0.01), dataclasses.replace(check(passed=False), seen_in={})], "differs", "1 of 2 checks"),
        ([dataclasses.replace(check(passed=True), seen_in={})], "undecided", "no finite Transformers"),
        ([check(decay=float("inf"))], "undecided", "of λ by no amount"),
    ],
)
def test_the_verdict_asks_what_would_have_been_seen(checks, word, why):
    found = decide(checks, CHANGE)
    assert found.word == word
    assert why in found.why


def test_without_weight_decay_only_the_step_must_be_seen():
    one = dataclasses.replace(check(passed=True), seen_in={"step": 0.01})
    assert decide([one], CHANGE).word == "matches"


def test_an_effect_on_a_distance_is_at_least_the_shift_of_means_over_directions():
    """Of a mean moved by s in the plane: 2s/π; on a line: s. Root mean square over layers."""
    tau = np.array([0.0, 1.0])
    plane = np.array([[[0.0, 0.0]] * 2, [[0.3, 0.4], [0.0, 0.0]]])
    effect = Effect(tau, np.zeros(2), {"plane": plane, "line": np.array([[[0.0]], [[-0.2]]])})
    assert effect.of_distance("plane", 1.0) == pytest.approx(0.5 * 2.0 / np.pi / np.sqrt(2.0), rel=1e-12)
    assert effect.of_distance("line", 1.0) == pytest.approx(0.2, rel=1e-12)
    assert effect.of_distance("line", 0.0) == 0.0


TEXT = """
name = "small"
[task]
python = "user.py:task"
[model]
python = "user.py:model"
[training]
weight_decay = 0.3
horizon = 1.0
[density]
frame = "comoving"
degree = 2
cells = 8
[time]
tolerance = 1e-6
[output]
every = 0.5
"""
USER = """
import jax.numpy as jnp, numpy as np
import mfpde

def task():
    rng = np.random.default_rng(0)
    return mfpde.Task(rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 1)))

def model():
    law = lambda layer: mfpde.Normal([0.5 + 0.5 * layer], [0.5])
    family = mfpde.Family("bump", 1, lambda tokens, theta: jnp.tanh(theta[0] * tokens), law)
    return mfpde.Transformer([[family]], 2, lambda tokens: tokens[-1, :1])
"""


def decaying(factor: float, monkeypatch) -> None:
    """λ is another one in the PDE alone."""
    true = MomentMap.potential

    def wrong(self, gradient, space, frame, weight_decay, out):
        true(self, gradient, space, frame, factor * weight_decay, out)

    monkeypatch.setattr(MomentMap, "potential", wrong)


def stepping(factor: float, monkeypatch) -> None:
    """η is another one in the PDE alone."""
    true = Backprop.__call__

    def wrong(self, *given):
        other = copy.copy(self)
        other.model = dataclasses.replace(self.model, step=factor * self.model.step)
        return true(other, *given)

    monkeypatch.setattr(Backprop, "__call__", wrong)


def permuted(monkeypatch) -> None:
    """Each layer has the potential of the other."""
    true = Backprop.__call__

    def wrong(self, *given):
        outcome = true(self, *given)
        return dataclasses.replace(outcome, gradient=tuple(g[::-1] for g in outcome.gradient))

    monkeypatch.setattr(Backprop, "__call__", wrong)


WRONG = {
    "λ + 5 %": lambda patch: decaying(1.05, patch),
    "λ + 10 %": lambda patch: decaying(1.1, patch),
    "λ × 2": lambda patch: decaying(2.0, patch),
    "η + 5 %": lambda patch: stepping(1.05, patch),
    "permuted layers": permuted,
}


@pytest.mark.slow
def test_by_the_commands_six_wrong_pdes_never_match(tmp_path: Path, monkeypatch, capsys):
    """Solve, train, compare: the right PDE matches, five wrong ones differ, and one without particles is undecided."""
    case, directory = tmp_path / "small.toml", tmp_path / "small"
    case.write_text(TEXT)
    (tmp_path / "user.py").write_text(USER)

    def verdict(*words: str) -> dict:
        assert compare([str(directory), *words]) == 0
        summary = json.loads((directory / "compare" / "summary.json").read_text())
        out = capsys.readouterr().out
        said = "undecided whether the PDE matches" if summary["verdict"] == "undecided" else summary["verdict"]
        assert f"{said}: {directory / 'compare' / 'report.html'}\n{summary['why']}\n" in out
        assert f"<p>{summary['why']}.</p>" in (directory / "compare" / "report.html").read_text()
        return summary

    assert solve([str(case)]) == 0
    alone = verdict("--depth", "2,4")
    assert alone["verdict"] == "undecided"
    assert alone["checks"] == []
    assert "no finite Transformers" in alone["why"]
    assert len(alone["depth"]) == 2
    assert particles([str(case), "--units", "4,8,16", "--seeds", "8"]) == 0
    few = verdict()
    assert few["verdict"] == "undecided"
    assert few["seen"]["weight_decay"] > CHANGE
    assert "seeds instead of 8" in few["why"]
    assert particles([str(case), "--units", "40,60", "--initial", "grid"]) == 0
    right = verdict("--change", "0.02")
    assert right["verdict"] == "matches"
    assert right["change"] == 0.02
    assert max(right["seen"].values()) <= 0.02
    for name, fault in WRONG.items():
        shutil.rmtree(directory / "compare")
        with monkeypatch.context() as patch:
            fault(patch)
            assert solve([str(case), "--overwrite"]) == 0
            assert verdict()["verdict"] == "differs", name


@pytest.mark.parametrize("text", ["0", "1", "-0.05", "x", "nan"])
def test_changes_that_are_none(text, tmp_path, capsys):
    assert compare([str(tmp_path), "--change", text]) == 2
    assert capsys.readouterr().err == f"mfpde: --change {text}: must be a number between 0 and 1, as in 0.05 for 5 %\n"
