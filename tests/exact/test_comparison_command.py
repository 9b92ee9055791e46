"""`mfpde compare` from a run file to its report, and what may not be compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfpde.compare import main as compare
from mfpde.particles import main as particles
from mfpde.solve import main as solve
from support.run_files import scalars_run

TEXT = scalars_run(density="cells = 8")

STEPS = """
name = "steps"
[task]
name = "scalars"
samples = 6
[model]
name = "bilinear"
layers = 2
[training]
weight_decay = 0.3
method = "adamw"
learning_rate = 0.03
epsilon = 0.1
steps = 40
schedule = "cosine"
warmup = 5
batch = 2
clip = 0.1
[output]
every = 10
"""


@pytest.mark.slow
def test_training_by_steps_matches_its_limit_and_differs_from_another(tmp_path: Path, capsys):
    """AdamW with batches; then grids of finite Transformers with another β₂, clip or order of batches, passed off."""
    case, directory = tmp_path / "steps.toml", tmp_path / "steps"
    case.write_text(STEPS)
    assert solve([str(case)]) == 0
    assert particles([str(case), "--units", "4,8,16", "--seeds", "8"]) == 0
    assert particles([str(case), "--units", "16,24", "--initial", "grid"]) == 0
    assert compare([str(directory)]) == 0
    assert "\nthe limit matches" in capsys.readouterr().out
    summary = json.loads((directory / "compare" / "summary.json").read_text())
    assert summary["verdict"] == "matches"
    assert summary["methods"] == ["adamw"]
    assert max(summary["seen"].values()) < 0.01
    assert set(summary["seen"]) == {"weight_decay", "step", "learning_rate"}
    assert "slope of risk" in {check["name"] for check in summary["checks"]}
    assert "the limit matches" in (directory / "compare" / "report.html").read_text()

    manifest = directory / "particles" / "manifest.json"
    own = json.loads(manifest.read_text())["problem_hash"]
    for number, change in enumerate(("training.beta2=0.99", "training.clip=0.08", "training.seed=1")):
        (directory / "particles").rename(tmp_path / f"aside-{number}")
        words = [str(case), "--units", "16,24", "--initial", "grid", "--directory", str(directory), "--set", change]
        assert particles(words) == 0
        said = json.loads(manifest.read_text())
        assert said["problem_hash"] != own
        manifest.write_text(json.dumps({**said, "problem_hash": own}))
        assert compare([str(directory)]) == 0
        assert "\nthe limit differs" in capsys.readouterr().out, change


@pytest.mark.slow
def test_the_command_from_run_file_to_report(tmp_path: Path, capsys):
    """Linear heads: solve, train, compare; then what may not be compared."""
    case = tmp_path / "case.toml"
    case.write_text(TEXT)
    directory = tmp_path / "case"

    def refused(why: str) -> None:
        """One line, exit code 2, nothing written."""
        there = sorted(directory.rglob("*"))
        assert compare([str(directory)]) == 2
        line = capsys.readouterr().err
        assert why in line
        assert line.count("\n") == 1
        assert sorted(directory.rglob("*")) == there

    refused("does not exist")
    assert particles([str(case), "--units", "4,8,16", "--seeds", "8", "--layers", "2,3"]) == 0
    refused("holds no run of mfpde")
    assert solve([str(case)]) == 0
    assert particles([str(case), "--units", "12,16", "--initial", "grid"]) == 0
    assert compare([str(directory)]) == 0
    assert "undecided whether the PDE matches" in capsys.readouterr().out
    assert "at L = 3" in json.loads((directory / "compare" / "summary.json").read_text())["why"]
    assert particles([str(case), "--units", "12,16", "--initial", "grid", "--layers", "3"]) == 0
    assert compare([str(directory)]) == 0
    assert "\nthe PDE matches" in capsys.readouterr().out
    summary = json.loads((directory / "compare" / "summary.json").read_text())
    assert summary["verdict"] == "matches"
    names = [(c["name"], c["layers"]) for c in summary["checks"]]
    assert {("mean", 2), ("mean", 3), ("grid", 2), ("slope of risk", 2)} <= set(names)
    assert summary["width_or_depth"]
    assert {d["family"] for d in summary["distances"]} == {"linear"}
    assert (directory / "compare" / "layers-3" / "history.csv").is_file()
    report = (directory / "compare" / "report.html").read_text()
    assert report.count("data:image/png;base64,") == 3
    assert 'src="http' not in report
    (directory / "particles").rename(tmp_path / "aside")
    refused("holds no particles")
    (tmp_path / "aside").rename(directory / "particles")
    manifest = directory / "particles" / "manifest.json"
    said = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**said, "problem_hash": "other"}))
    refused("its particles are those of another run file")
    manifest.write_text(json.dumps(said))
    done = directory / "summary.json"
    done.write_text(json.dumps({**json.loads(done.read_text()), "outcome": "ComputationError: not finite"}))
    refused("holds no finished solve (outcome: ComputationError: not finite)")
    done.unlink()
    refused("holds no finished solve (outcome: still running)")


@pytest.mark.parametrize("words", ["--depth 4", "--depth 4,x", "--depth 0,4"])
def test_depths_that_are_none(words, tmp_path, capsys):
    assert compare([str(tmp_path), *words.split()]) == 2
    assert "at least two whole numbers" in capsys.readouterr().err
