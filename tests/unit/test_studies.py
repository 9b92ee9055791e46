"""`train_particles`, `compare_run` and `sweep_runs`: the commands' work, files and lines, as numbers in Python."""

from __future__ import annotations

import csv
import importlib
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mfpde
from mfpde.__main__ import COMMANDS
from mfpde.compare import main as compare
from mfpde.particles import main as particles
from mfpde.problem.model_checks import digest
from mfpde.sweep import main as sweep
from support.drawn import make_run
from support.run_files import contents, scalars_run

TEXT = scalars_run(horizon=0.5, every=0.25)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    path = tmp_path / "case.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """For calls that must be refused."""
    path = tmp_path / "small.toml"
    path.write_text(TEXT.replace('"case"', '"small"'))
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_names_of_functions_are_not_those_of_commands():
    """`import mfpde.compare` would put the module in the place of a function of that name."""
    assert not set(mfpde.__all__) & COMMANDS.keys()
    for name in COMMANDS:
        assert importlib.import_module(f"mfpde.{name}") is getattr(mfpde, name)


def test_particles_are_those_of_the_command(case, capsys):
    trained = mfpde.train_particles(case, (3, np.int64(5)), seeds=2, learning_rate=0.1, tau=0.5)
    assert capsys.readouterr().out == ""
    folder = case.parent / "case" / "particles"
    assert trained.directory == folder
    assert [(r.job.size, r.job.seed) for r in trained.records] == [((3,), 0), ((3,), 1), ((5,), 0), ((5,), 1)]
    assert trained.records[0].theta["linear"].shape == (1, 2, 3, 1)  # one τ, layers, units, d

    assert particles([str(case), "--units", "3,5", "--seeds", "2", "--learning-rate", "0.1", "--tau", "0.5"]) == 0
    assert "0 finite Transformers to train" in capsys.readouterr().out  # the same ones: nothing is left to train

    columns, table = trained.history, rows(folder / "history.csv")
    assert list(columns) == list(table[0])
    assert [[str(value) for value in column.tolist()] for column in columns.values()] == [
        [row[name] for row in table] for name in columns
    ]
    assert {name: columns[name].dtype.kind for name in ("units", "seed", "steps", "risk", "method")} == {
        "units": "i", "seed": "i", "steps": "i", "risk": "f", "method": "U",
    }  # fmt: skip
    assert repr(trained) == f"Particles(4 finite Transformers of M = 3, 5 in {str(folder)!r})"

    last = trained.records[-1]
    one = mfpde.train_particles(case, 5, seeds=2, learning_rate=0.1, progress=True).records[1]
    assert "0 finite Transformers to train" not in capsys.readouterr().out  # more τ at which units are kept
    assert np.array_equal(one.columns["risk"], last.columns["risk"])


def test_a_grid_and_other_settings(case):
    grid = mfpde.train_particles(case, [(3, 2), 4], initial="grid", layers=[1, 2], settings={"training.horizon": 0.25})
    assert grid.history["units"].tolist() == ["3x2"] * 4 + ["4"] * 4
    assert grid.history["layers"].tolist() == [1, 1, 2, 2] * 2
    assert grid.history["tau"].tolist() == [0.0, 0.25] * 4


def test_a_run_is_compared_with_the_particles_trained_for_it(case, capsys):
    """From one run directory and nothing else; the numbers are those of compare/summary.json."""
    from mfpde.solve import main as solve

    assert solve([str(case)]) == 0
    run = mfpde.open_run(case.parent / "case")
    for size in (6, 8):
        mfpde.train_particles(run, size, initial="grid")
    mfpde.train_particles(str(run.directory), (4, 8), seeds=3)
    capsys.readouterr()
    found = mfpde.compare_run(run)
    assert capsys.readouterr().out == ""

    kept = json.loads((run.directory / "compare" / "summary.json").read_text())
    assert (found.verdict, found.why, found.seen) == (kept["verdict"], kept["why"], kept["seen"])
    assert found.verdict == "matches"
    assert str(found) == f"the PDE matches: {kept['why']}"
    assert found.report == run.directory / "compare" / "report.html"
    assert found.report.is_file()
    assert set(found.checks["name"]) >= {"mean", "grid"}
    for column in ("name", "layers", "tau", "value", "expected", "allowed", "note"):
        assert found.checks[column].tolist() == [check[column] for check in kept["checks"]], column
    assert np.array_equal(found.checks["difference"], np.abs(found.checks["value"] - found.checks["expected"]))
    outcomes = {True: "passed", False: "failed", None: "undecided"}
    assert found.checks["outcome"].tolist() == [outcomes[check["passed"]] for check in kept["checks"]]
    assert found.summary.keys() == kept.keys()

    assert compare([str(run.directory)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [f"{found.sentence}: {found.report}", found.why]


def test_particles_of_a_run_that_is_replaced_stay_where_they_belong_to_the_next(case, capsys):
    """And where they do not, a line says so; what a comparison found goes with the run that it was about."""
    from mfpde.solve import main as solve

    folder = case.parent / "case"
    mfpde.train_particles(case, 3, seeds=1, learning_rate=0.1)
    assert solve([str(case)]) == 0
    (folder / "compare").mkdir()
    (folder / "compare" / "summary.json").write_text("{}")
    kept = contents(folder / "particles")
    read = mfpde.open_run(folder).particles
    assert [record.job.size for record in read.records] == [(3,)]
    assert read.history["tau"].tolist() == [0.0, 0.25, 0.5]

    assert solve([str(case), "--overwrite", "--set", "density.cells=5"]) == 0  # another solution of the same problem
    assert capsys.readouterr().err == ""
    assert not (folder / "compare").exists()
    assert contents(folder / "particles") == kept

    for damage in (False, True):
        if damage:
            (folder / "particles" / "manifest.json").write_text("{")
        assert solve([str(case), "--overwrite", "--set", "training.weight_decay=0.5"]) == 0
        line = capsys.readouterr().err
        assert line.startswith(f"mfpde: warning: {folder / 'particles'} holds finite Transformers of another run")
        assert line.count("\n") == 1
        assert contents(folder / "particles") == kept


def test_a_run_without_particles_has_none(tmp_path):
    none = make_run(tmp_path / "run").particles
    assert none.records == ()
    assert {name: len(column) for name, column in none.history.items()} == dict.fromkeys(
        ("initial", "units", "layers", "seed", "method"), 0
    )


def test_a_sweep_is_that_of_the_command(case, capsys):
    over = {"training.weight_decay": np.array([0.3, 0.1]), "density.degree": (1, 2)}
    swept = mfpde.sweep_runs(case, over, settings={"density.cells": np.int64(3)})
    assert capsys.readouterr().out == ""
    words = ["--over", "training.weight_decay=0.3,0.1", "--over", "density.degree=1,2", "--set", "density.cells=3"]
    assert sweep([str(case), *words]) == 0
    assert capsys.readouterr().out.count("finished before") == 4

    table = rows(case.parent / "case-sweep" / "sweep.csv")
    assert swept.directory == case.parent / "case-sweep"
    assert list(swept.table) == list(table[0])
    for name, column in swept.table.items():
        assert [str(value) for value in column.tolist()] == [row[name] for row in table], name
    assert swept.table["training.weight_decay"].tolist() == [0.3, 0.3, 0.1, 0.1]
    assert swept.table["density.degree"].dtype.kind == "i"
    assert [run.history["risk"][-1] for run in swept.runs] == swept.table["risk"].tolist()
    assert repr(swept).startswith("Sweep(4 runs over training.weight_decay, density.degree in ")


def test_values_of_a_sweep_that_are_not_numbers(case):
    swept = mfpde.sweep_runs(case, {"density.radius": [[4.0], 5.0], "density.frame": ["comoving"]})
    assert swept.table["density.radius"].tolist() == [[4.0], 5.0]
    assert swept.table["density.frame"].tolist() == ["comoving"] * 2
    assert all(math.isfinite(risk) for risk in swept.table["risk"])


REFUSED = {
    "no seeds": (lambda p: mfpde.train_particles(p, 3), "--seeds is missing"),
    "units of none": (lambda p: mfpde.train_particles(p, (), seeds=1), "--units"),
    "half a unit": (lambda p: mfpde.train_particles(p, (4, 3.5), seeds=1), "--units = 3.5: must be a whole number"),
    "a text of units": (lambda p: mfpde.train_particles(p, "4", seeds=1), "--units = '4': must be a whole number"),
    "no seed": (lambda p: mfpde.train_particles(p, 3, seeds=0), "--seeds = 0: must be a whole number"),
    "layers": (lambda p: mfpde.train_particles(p, 3, seeds=1, layers=True), "--layers = True"),
    "where": (lambda p: mfpde.train_particles(p, 3, seeds=1, initial="random"), "--initial = 'random'"),
    "rate": (lambda p: mfpde.train_particles(p, 3, seeds=1, learning_rate="x"), "--learning-rate = 'x'"),
    "both": (lambda p: mfpde.train_particles(p, 3, seeds=1, learning_rate=1, tolerance=1), "exclude each other"),
    "tau": (lambda p: mfpde.train_particles(p, 3, seeds=1, tau=0.3), "--tau 0.3: no report there"),
    "settings": (lambda p: mfpde.train_particles(p, 3, seeds=1, settings={"training.horizn": 1}), "'horizon'"),
    "a function": (lambda p: mfpde.train_particles(p, 3, seeds=1, settings={"name": len}), "name = <built-in"),
    "no file": (lambda p: mfpde.train_particles(p.with_name("x.toml"), 3, seeds=1), "no such file"),
    "no run": (lambda p: mfpde.train_particles(p.parent, 3, seeds=1), "holds no run of mfpde"),
    "compare nothing": (lambda p: mfpde.compare_run(p.parent), "holds no run of mfpde"),
    "one depth": (lambda p: mfpde.compare_run(p.parent, depths=[4]), "--depth 4: must be at least two whole numbers"),
    "a depth": (lambda p: mfpde.compare_run(p.parent, depths=[4, 2.5]), "--depth 4,2.5: must be at least two"),
    "change": (lambda p: mfpde.compare_run(p.parent, change=5), "--change 5: must be a number between 0 and 1"),
    "no key": (lambda p: mfpde.sweep_runs(p, {}), "--over: no key and no values"),
    "no values": (lambda p: mfpde.sweep_runs(p, {"density.cells": []}), "--over density.cells = []"),
    "a name": (lambda p: mfpde.sweep_runs(p, {"name": ["a"]}), "--over name = ['a']"),
    "too many": (lambda p: mfpde.sweep_runs(p, {"task.seed": range(1001)}), "--over: 1001 runs; at most 1000"),
    "unknown": (lambda p: mfpde.sweep_runs(p, {"density.cell": [4]}), "did you mean 'cells'?"),
    "a list": (lambda p: mfpde.sweep_runs(p, ["density.cells"]), "over = ['density.cells']: must be keys"),
    "nothing": (lambda p: mfpde.sweep_runs(p, {"task.seed": [None]}), "task.seed = None: must be a text, a number"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_is_one_line_and_writes_nothing(kind, small):
    call, reason = REFUSED[kind]
    with pytest.raises(mfpde.InputError, match=re.escape(reason)) as caught:
        call(small)
    assert "\n" not in str(caught.value)
    assert contents(small.parent) == [small]


def line(tokens, theta):
    return theta[0] * theta[1] * tokens


def objects(factor=1.0, layers=2):
    """A model and a task made here, in no file."""
    head = mfpde.Family("head", 2, line, mfpde.Normal([0.5, 0.5], [0.3, 0.3]), (1,), coordinates=("q", "v"))
    model = mfpde.Transformer([[head]], layers, lambda tokens: tokens[-1])
    tokens = np.random.default_rng(0).normal(size=(4, 3, 1))
    return model, mfpde.Task(factor * tokens, tokens[:, 0])


def test_a_run_of_python_objects_is_compared_with_particles_of_the_same(tmp_path, capsys):
    """A notebook's model in no file: solved, trained and compared, also at a depth that has to be solved."""
    model, task = objects()
    place = tmp_path / "mine"
    density = mfpde.Density(cells=8)
    run = mfpde.solve_limit(model, task, weight_decay=0.3, horizon=0.5, every=0.25, directory=place, density=density)
    for size in (12, 16):
        grid = mfpde.train_particles(run, size, initial="grid", layers=(2, 3), model=model, task=task)
    assert grid.directory == place / "particles"
    assert [record.theta["head"].shape[1] for record in grid.records] == [2, 3]
    assert grid.history["tau"][:3].tolist() == run.taus.tolist() == [0.0, 0.25, 0.5]
    again = objects()  # made once more, as in another session
    found = mfpde.compare_run(run, model=again[0], task=again[1])
    assert found.verdict == "matches", found.why
    assert sorted(set(found.checks["layers"])) == [2, 3]
    assert mfpde.open_run(place / "compare" / "layers-3").snapshot(tau=0.5, family="head").layers == 3
    stamp = (place / "compare" / "layers-3" / "summary.json").stat().st_mtime_ns
    mfpde.compare_run(run, model=model, task=task)
    assert (place / "compare" / "layers-3" / "summary.json").stat().st_mtime_ns == stamp  # known again

    before = contents(tmp_path)
    for call, reason in (
        (lambda m, t: mfpde.train_particles(run, 3, seeds=1, model=m, task=t), "was solved with another model, task"),
        (lambda m, t: mfpde.compare_run(run, model=m, task=t), "was solved with another model, task"),
        (lambda m, _: mfpde.compare_run(run, model=m), "give both of them"),
        (lambda *_: mfpde.compare_run(run), "mfpde.compare_run takes both once more"),
        (lambda *_: mfpde.train_particles(run, 3, seeds=1), "give both of them here"),
        (lambda _, t: mfpde.train_particles(run, 3, seeds=1, model=t, task=t), "they are Task and Task"),
    ):
        with pytest.raises(mfpde.InputError, match=re.escape(reason)):
            call(*objects(factor=1.001))
    assert contents(tmp_path) == before
    capsys.readouterr()
    assert compare([str(place)]) == 2
    assert "its model and task were Python objects" in capsys.readouterr().err


def test_objects_are_trained_by_the_method_of_their_run(tmp_path):
    model, task = objects()
    adamw = mfpde.Optimiser("adamw", learning_rate=0.03, steps=8, batch=2, schedule="cosine")
    run = mfpde.solve_limit(model, task, weight_decay=0.3, optimiser=adamw, every=4, directory=tmp_path / "run")
    grid = mfpde.train_particles(run, 16, initial="grid", model=model, task=task)
    assert grid.history["steps"].tolist() == run.history["step"].tolist() == [0, 4, 8]
    assert grid.history["tau"].tolist() == run.taus.tolist()
    assert np.allclose(grid.history["risk"], run.history["risk"], rtol=1e-3)
    assert run.history["risk"][0] - run.history["risk"][-1] > 1e-2


def test_objects_beside_a_run_file_are_refused(small):
    model, task = objects()
    with pytest.raises(mfpde.InputError, match="a run file names its model and task"):
        mfpde.train_particles(small, 3, seeds=1, model=model, task=task)
    with pytest.raises(mfpde.InputError, match="give both of them"):
        mfpde.train_particles(small, 3, seeds=1, model=model)


def test_a_digest_knows_objects_again_and_tells_others_apart():
    """Whatever rounds in the last digits; of sums that are zero, of which rounding leaves anything, too."""
    model, task = objects()
    own = digest(model, task)
    assert digest(*objects()) == own
    near = mfpde.Task(task.tokens * (1.0 + 4e-16), task.targets)
    assert digest(model, near) == own
    sums = []
    for noise in (1e-14, -1e-14):
        zeros = task.tokens - task.tokens.mean()
        zeros[0, 0, 0] += noise
        sums.append((zeros.sum() > 0, digest(model, mfpde.Task(zeros, task.targets))))
    assert sums[0][0] != sums[1][0]
    assert sums[0][1] == sums[1][1]

    others = {
        "step": replace(model, step=0.5),
        "norm": replace(model, norm="rms"),
        "readout": replace(model, readout=lambda tokens: 2.0 * tokens[-1]),
        "law": replace(model, stages=[[replace(model.families[0], initial=mfpde.Normal([0.5, 0.5], [0.3, 0.31]))]]),
        "update": replace(model, stages=[[replace(model.families[0], update=lambda t, p: 1.01 * line(t, p))]]),
        "linear": replace(model, stages=[[replace(model.families[0], linear=())]]),
    }
    digests = {name: digest(other, task) for name, other in others.items()}
    digests["targets"] = digest(model, mfpde.Task(task.tokens, -task.targets))
    assert len({own, *digests.values()}) == 1 + len(digests), digests
