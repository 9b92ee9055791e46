"""A family of runs: every combination, in folders that say so, summed up; solved once; refused as a whole."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfpde import open_run
from mfpde.errors import ComputationError, Stopped
from mfpde.runs import parameter_sweep
from mfpde.runs.limit_run import RunOptions
from mfpde.sweep import main
from support.launch import run

CASES = Path(__file__).parents[1] / "exact" / "cases"
OVER = ["--over", "training.weight_decay=0.3,0.1", "--over", "density.degree=1,2"]
SMALL = ["training.horizon=0.2", "density.cells=4", "time.step=0.1", "output.every=0.1"]
SET = [word for text in SMALL for word in ("--set", text)]


@pytest.fixture
def slopes(tmp_path: Path) -> Path:
    """A run file of one parameter and one layer."""
    for name in ("slopes.toml", "convex.py"):
        shutil.copy(CASES / name, tmp_path / name)
    return tmp_path / "slopes.toml"


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_combination_is_solved_once_and_summed_up(
    slopes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = slopes.parent / "slopes-sweep"
    assert main([str(slopes), *OVER, *SET]) == 0
    rows = table(folder)
    names = [f"training.weight_decay-{a}_density.degree-{p}" for a in (0.3, 0.1) for p in (1, 2)]
    assert [row["directory"] for row in rows] == names
    for row, name in zip(rows, names, strict=True):
        assert f"training.weight_decay-{row['training.weight_decay']}_density.degree-{row['density.degree']}" == name
        solved = open_run(folder / name)
        for column in ("tau", "risk", "energy", "gap"):
            assert float(row[column]) == solved.history[column][-1], column
        assert row["ended"] == "horizon"
        assert row["outcome"] == "done"
    assert len({row["energy"] for row in rows}) == 4
    for ending in ("png", "pdf"):
        assert (folder / f"sweep.{ending}").stat().st_size > 1000

    solved_now: list[tuple[str, bool]] = []
    real = parameter_sweep.solve

    def counting(run_file: Any, options: RunOptions) -> None:
        solved_now.append((run_file.output.directory.name, options.resume))
        real(run_file, options)

    monkeypatch.setattr(parameter_sweep, "solve", counting)
    (folder / names[1] / "summary.json").unlink()  # as if it had been cut
    assert main([str(slopes), *OVER, *SET]) == 0
    assert solved_now == [(names[1], True)]  # from its last checkpoint
    assert table(folder) == rows

    capsys.readouterr()
    other = [*SET, "--set", "training.horizon=0.1"]
    assert main([str(slopes), *OVER, *other]) == 2  # what is there is another run
    assert "--overwrite" in capsys.readouterr().err
    assert table(folder) == rows
    assert main([str(slopes), *OVER, *other, "--overwrite"]) == 0
    assert {row["tau"] for row in table(folder)} == {"0.1"}


def test_one_that_fails_does_not_stop_the_others(
    slopes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = parameter_sweep.solve

    def failing(run_file: Any, options: RunOptions) -> None:
        if run_file.training.weight_decay == 0.3:
            raise ComputationError("not finite")
        real(run_file, options)

    monkeypatch.setattr(parameter_sweep, "solve", failing)
    assert main([str(slopes), *OVER[:2], *SET]) == 3
    assert "1 of 2 runs failed; training.weight_decay-0.3: not finite" in capsys.readouterr().err
    assert [row["training.weight_decay"] for row in table(slopes.parent / "slopes-sweep")] == ["0.1"]


def test_a_signal_ends_the_family_with_one_line(slopes: Path, monkeypatch: Any, capsys: Any) -> None:
    def stopped(*_arguments: Any, **_named: Any) -> None:
        raise Stopped("SIGINT: stopped at tau = 0.5 and saved; --resume goes on from there", 2)

    monkeypatch.setattr(parameter_sweep, "solve", stopped)
    assert main([str(slopes), *OVER[:2], *SET]) == 130
    said = "run 1 of 2: SIGINT: stopped at tau = 0.5 and saved; the same command goes on"
    assert capsys.readouterr().err == f"mfpde: {said}\n"


REFUSED = {
    "training.weigth_decay=1,2": "did you mean 'weight_decay'?",
    "training.weight_decay=0.1,-1": "training.weight_decay = -1: must be a finite number, at least 0",
    "training.weight_decay=0.1,,": "must look like table.key=value",
    "training.weight_decay": "must look like table.key=value",
    "training.weight_decay=": "must look like table.key=value",
    "training.weight_decay=0.1,0.1": "give each value once",
    "model.std=1.0,x": "must be a finite number",
    "model.sdt=1.0": "did you mean 'std'?",
    "name=a,b": "must look like table.key=value",
    "time.step=0.1,1e-300": "time.step",
    "density.cells=" + ",".join(map(str, range(1, 1100))): "at most 1000",
}


@pytest.mark.parametrize("over", REFUSED)
def test_all_is_refused_before_anything_runs(over: str, slopes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(slopes), "--over", over, "--directory", str(slopes.parent / "all")]) == 2
    line = capsys.readouterr().err
    assert REFUSED[over] in line
    assert line.count("\n") == 1
    assert not (slopes.parent / "all").exists()


def test_swept_twice_and_no_folder(slopes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(slopes), *OVER[:2], *OVER[:2]]) == 2
    assert "swept twice" in capsys.readouterr().err
    assert main([str(slopes), *OVER, "--directory", str(slopes)]) == 2
    assert "is a file" in capsys.readouterr().err


@pytest.mark.slow
def test_ranks_solve_one_run_after_the_other(slopes: Path) -> None:
    """Two ranks: the table of one."""
    for ranks in (1, 2):
        done = run("-m", "mfpde.sweep", slopes.name, *OVER, *SET, "--directory", str(ranks), ranks=ranks,
                   directory=slopes.parent)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("run 4 of 4") == 1
    one, two = (table(slopes.parent / str(ranks)) for ranks in (1, 2))
    for a, b in zip(one, two, strict=True):
        assert a["directory"] == b["directory"]
        assert np.isclose(float(a["energy"]), float(b["energy"]), rtol=1e-12, atol=0.0)
