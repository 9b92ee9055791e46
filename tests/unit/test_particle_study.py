"""The study of finite Transformers: jobs, their records, noise, and a study that goes on where it was."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfpde.config import run_file
from mfpde.errors import InputError
from mfpde.finite.flow import make_flow, split
from mfpde.finite.initial_units import sampled_units
from mfpde.finite.jobs import Job, Method, check_memory, deal, plan
from mfpde.finite.methods import gradient_descent
from mfpde.finite.record_files import Record, load, load_all, save
from mfpde.finite.training import TrainerCache
from mfpde.particles import main
from mfpde.problem.datasets import scalars, teacher
from mfpde.problem.laws import Normal
from mfpde.problem.models import low_dimensional as models
from mfpde.runs.problem_setup import report_times
from support.launch import run
from support.run_files import scalars_run

TEXT = scalars_run(density="degree = 1\ncells = 4")
DESCENT = ("--learning-rate", "0.1")


@pytest.fixture
def case(tmp_path: Path) -> Path:
    path = tmp_path / "case.toml"
    path.write_text(TEXT)
    return path


STEPS = TEXT.replace(
    "horizon = 1.0", 'method = "adamw"\nlearning_rate = 0.1\nepochs = 6\nschedule = "cosine"\nbatch = 2\nclip = 2.0'
).replace("every = 0.5", "every = 4")


def linear(layers: int = 3):
    model = models.linear(layers=layers)
    head = replace(model.families[0], initial=Normal([0.2], [0.5]))
    return replace(model, stages=[[head]])


def test_noise_of_a_unit_does_not_depend_on_the_number_of_units_or_layers():
    """Linear heads: the data term moves all units of a layer alike, so that their spread is an Ornstein–Uhlenbeck
    process, stepped by Euler–Maruyama: s' = (1 − hλ)² s + 2h/β."""
    decay, temperature, rate, steps, count = 0.4, 0.7, 0.1, 10, 20_000
    task, expected = scalars(samples=3), 0.25
    for _ in range(steps):
        expected = (1 - rate * decay) ** 2 * expected + 2 * rate * temperature
    for layers, units in ((1, count), (4, count // 2)):
        model = linear(layers)
        start = sampled_units(model, units, 0)
        trainer = gradient_descent(make_flow(model, task, decay, start), rate, temperature)
        end = list(trainer.snapshots(start, [0.5, 1.0], seed=1))[-1]
        theta = np.asarray(end.units[0][0])[..., 0]
        np.testing.assert_allclose(theta.var(axis=1), expected, rtol=5 * np.sqrt(2 / units))
        noise = (theta - theta.mean(axis=1, keepdims=True)) - 0.96**10 * (
            np.asarray(start[0][0])[..., 0] - np.asarray(start[0][0])[..., 0].mean(axis=1, keepdims=True)
        )
        if layers > 1:  # layers have noise of their own
            assert abs(np.corrcoef(noise)[0, 1]) < 5 / np.sqrt(units)


def test_noise_is_that_of_the_seed():
    model, task = linear(), scalars(samples=3)
    start = sampled_units(model, 4, 0)
    trainer = gradient_descent(make_flow(model, task, 0.3, start), 0.1, 0.5)
    risks = [list(trainer.snapshots(start, [0.3, 0.6], seed=s))[-1].risk for s in (1, 1, 2)]
    assert risks[0] == risks[1] != risks[2]


def test_a_record_is_what_the_flow_says(tmp_path):
    model = models.attention_mlp(channels=3, layers=2)
    task = teacher(model, samples=5, tokens=3, channels=3, test_samples=4)
    job = Job("sampled", (6,), 2, 3, Method(0.05))
    record = TrainerCache(model, task, 0.2).train(job, [0.0, 0.25, 0.5], [0.25, 0.5])
    units = sampled_units(model, 6, 3)
    shots = list(gradient_descent(make_flow(model, task, 0.2, units), 0.05).snapshots(units, [0.0, 0.25, 0.5]))
    np.testing.assert_allclose(record.columns["risk"], [s.risk for s in shots], rtol=1e-13)
    np.testing.assert_allclose(record.columns["energy"], [s.energy for s in shots], rtol=1e-13)
    test = make_flow(model, task, 0.2, units, test=True)
    assert record.columns["test_risk"][-1] == pytest.approx(float(test.risk(*split(shots[-1].units))[0]), rel=1e-13)
    for c, family in enumerate(model.families):
        theta = np.asarray(shots[-1].units[c][0])
        np.testing.assert_allclose(record.theta[family.name][-1], theta, atol=1e-14)
        np.testing.assert_allclose(record.means[family.name][-1], theta.mean(axis=1), atol=1e-14)
        np.testing.assert_allclose(record.covariances[family.name][-1][1], np.cov(theta[1].T, bias=True), atol=1e-13)
    save(tmp_path, record)
    again = load_all(tmp_path)[0]
    assert again.job == job
    for group in ("columns", "means", "covariances", "theta", "weights"):
        for name, values in getattr(record, group).items():
            np.testing.assert_array_equal(getattr(again, group)[name], values)
    assert again.covers(np.array([0.25]), np.array([0.5]))
    assert not again.covers(np.array([0.75]), np.array([]))


def test_jobs_are_dealt_by_cost_and_all_of_them():
    jobs = plan("sampled", [(10,), (1000,)], [2, 4], 3, Method())
    costs = [float(job.size[0] * job.layers) for job in jobs]
    for ranks in (1, 2, 5, 20):
        dealt = deal(list(zip(jobs, costs, strict=True)), costs, ranks)
        assert sorted((j.name for rank in dealt for j, _ in rank)) == sorted(j.name for j in jobs)
        loads = [sum(c for _, c in rank) for rank in dealt]
        assert max(loads) <= sum(costs) / ranks + max(costs)
    assert len({job.name for job in jobs}) == 12


def test_a_grid_is_points_per_coordinate_and_has_no_seeds():
    model = models.attention_mlp(bias=True, layers=2)
    job = plan("grid", [(6, 4)], [2], 1, Method())[0]
    (head, _), (unit, weights) = job.units(model)
    assert head.shape == (2, 24, 2)
    assert unit.shape == (2, 96, 3)
    assert float(weights.sum()) == pytest.approx(2.0)
    assert job.count(model) == 96


def test_memory_is_estimated_first():
    model, task = models.attention(layers=4), scalars(samples=3)
    job = Job("sampled", (10**6,), 4, 0, Method())
    check_memory([(job, model, task)], 1, free=1e12)
    with pytest.raises(InputError, match=r"--units 1000000: needs .* GiB with 4 layers; .* free for each"):
        check_memory([(job, model, task)], 2, free=1e9)


def test_a_study_goes_on_where_it_was(case, capsys):
    assert main([str(case), "--units", "3", "--seeds", "2", *DESCENT]) == 0
    folder = case.parent / "case" / "particles"
    first = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    assert len(first) == 2
    assert main([str(case), "--units", "3,5", "--seeds", "3", "--layers", "2,3", *DESCENT]) == 0
    assert "10 finite Transformers to train" in capsys.readouterr().out
    for name, time in first.items():
        assert (folder / name).stat().st_mtime_ns == time
    records = load_all(folder)
    assert len(records) == 12
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert len(rows) == 36
    found = {(r["units"], r["layers"], r["seed"], float(r["tau"])): float(r["risk"]) for r in rows}
    record: Record = next(r for r in records if r.job.size == (5,) and r.job.layers == 3 and r.job.seed == 2)
    assert found["5", "3", "2", 1.0] == record.columns["risk"][-1]
    longer = [str(case), "--units", "3", "--seeds", "1", "--set", "training.horizon=1.5", *DESCENT]
    assert main(longer) == 0  # a record that ends too early is made again
    assert load(folder / "sampled-3-layers-2-descent-0.1-seed-0.npz").tau[-1] == 1.5
    assert run_file.load(case).identity().shares_problem_of(json.loads((folder / "manifest.json").read_text()))


def test_ranks_change_nothing(case):
    for ranks, where in ((1, "one"), (2, "two")):
        words = ("--units", "3,5", "--seeds", "2", "--layers", "1,2", "--directory", where, *DESCENT)
        ended = run("-m", "mfpde.particles", case, *words, ranks=ranks, directory=case.parent)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("\n") == 9
    one, two = (load_all(case.parent / where / "particles") for where in ("one", "two"))
    assert len(one) == len(two) == 8
    for a, b in zip(one, two, strict=True):
        assert a.job == b.job
        np.testing.assert_allclose(a.columns["risk"], b.columns["risk"], rtol=1e-12)


def test_a_method_of_the_run_file_is_trained_by(case):
    """Reports after every four of twelve steps, at the limit's τ; the method in names, files and columns."""
    case.write_text(STEPS)
    assert main([str(case), "--units", "3", "--seeds", "2", "--layers", "2,3"]) == 0
    records = load_all(case.parent / "case" / "particles")
    assert records[0].job.name == "sampled-3-layers-2-adamw-seed-0"
    run = run_file.load(case)
    taus = [0.0, *report_times(run.training, run.output.every, 4)]
    for record in records:
        np.testing.assert_array_equal(record.columns["steps"], [0, 4, 8, 12])
        np.testing.assert_array_equal(record.tau, taus)
        np.testing.assert_array_equal(record.kept, taus[1:])
        assert record.job.method == Method(None, 0.0, "adamw")
    rows = list(csv.DictReader((case.parent / "case" / "particles" / "history.csv").read_text().splitlines()))
    assert {row["method"] for row in rows} == {"adamw"}
    assert len(rows) == 16
    assert main([str(case), "--units", "3", "--seeds", "1", "--set", "training.beta1=0.5"]) == 2  # another method


def test_a_job_that_fails_does_not_keep_the_others(case, capsys):
    """A learning rate far too large for one depth of weight decay: exit code 3, the sound records stay."""
    assert main([str(case), "--units", "2", "--seeds", "1", *DESCENT]) == 0
    hot = ["--set", "training.weight_decay=1e3", "--set", "training.horizon=500", "--set", "output.every=500"]
    where = ["--directory", str(case.parent / "other")]
    assert main([str(case), "--units", "2,3", "--seeds", "1", "--learning-rate", "1", *hot, *where]) == 3
    line = capsys.readouterr().err
    assert "descent-1-seed-0: the finite Transformer is not finite at τ = 500" in line
    assert line.count("\n") == 1


def test_the_hash_of_a_problem_leaves_depth_and_discretisation_out(case):
    base = run_file.load(case)
    same = ["model.layers=7", "training.horizon=3", "density.cells=9", "time.step=0.1", "output.every=0.1", "name='x'"]
    for override in same:
        assert run_file.load(case, [override]).identity().problem_hash == base.identity().problem_hash, override
    assert base.with_layers(9).identity().problem_hash == base.identity().problem_hash
    assert base.with_layers(9).build()[0].layers == 9
    other = ["training.weight_decay=0.31", "model.step=2.0", "task.samples=5", "initial.linear={mean=[1], std=[1]}"]
    for override in other:
        assert run_file.load(case, [override]).identity().problem_hash != base.identity().problem_hash, override


MISTAKES = {
    "--units 0 --seeds 1": ("--units '0'", "at least 1"),
    "--units 3.5 --seeds 1": ("--units '3.5'", "whole numbers"),
    "--seeds 1": ("--units",),
    "--units 3": ("--seeds is missing",),
    "--units 3 --seeds 0": ("--seeds '0'", "at least 1"),
    "--units 3 --seeds x": ("--seeds 'x'",),
    "--units 3 --seeds 1 --layers 0": ("--layers '0'",),
    "--units 3x4 --seeds 1": ("--units 3x4", "--initial grid"),
    "--units 1 --initial grid": ("--units 1", "at least 2 points"),
    "--units 3 --seeds 2 --initial gauss": ("--seeds 2", "leave it out"),
    "--units 3 --seeds 1 --initial random": ("--initial = 'random'", "'sampled'"),
    "--units 3 --seeds 1 --learning-rate 0": ("--learning-rate = 0.0", "above 0"),
    "--units 3 --seeds 1 --learning-rate 0.1 --tolerance 1e-3": ("exclude each other",),
    "--units 3 --seeds 1 --tolerance x": ("--tolerance = 'x'",),
    "--units 3 --seeds 1 --tau 0.3": ("--tau 0.3", "nearest is 0.5"),
    "--units 900000000000 --seeds 1": ("--units 900000000000", "GiB are free"),
    "--units 3 --seeds 1 --unit 4": ("unrecognized arguments: --unit 4",),
    "--units 3 --seeds 1 --set output.every=1e-9": ("output.every = 1e-09", "at least 1e-05"),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_bad_input_is_one_line_and_writes_nothing(words, case, capsys):
    assert main([str(case), *words.split()]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for part in MISTAKES[words]:
        assert part in line
    assert [path.name for path in case.parent.iterdir()] == ["case.toml"]


OF_STEPS = {
    "--learning-rate 0.1": ("--learning-rate 0.1: is of the flow", "training.method = 'adamw'"),
    "--tolerance 1e-3": ("--tolerance 0.001: is of the flow", "training.method = 'adamw'"),
    "--set training.batch=5": ("training.batch = 5: the task has 4 samples", "case.toml"),
    "--set output.every=0.5": ("output.every = 0.5: counts steps", "case.toml"),
    "--set training.horizon=1": ("training.horizon is of the flow",),
    "--set training.learning_rate=-1": ("training.learning_rate = -1", "above 0"),
    "--set training.steps=3": ("exclude each other",),
    "--tau 0.3": ("--tau 0.3: no report there",),
}


@pytest.mark.parametrize("words", OF_STEPS)
def test_bad_input_of_training_by_steps_is_one_line_and_writes_nothing(words, case, capsys):
    case.write_text(STEPS)
    assert main([str(case), "--units", "3", "--seeds", "1", *words.split()]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for part in OF_STEPS[words]:
        assert part in line
    assert [path.name for path in case.parent.iterdir()] == ["case.toml"]


def test_particles_of_another_run_file_are_refused(case, capsys):
    assert main([str(case), "--units", "2", "--seeds", "1", *DESCENT]) == 0
    assert main([str(case), "--units", "2", "--seeds", "1", "--set", "training.weight_decay=0.2", *DESCENT]) == 2
    assert "holds particles of another run file" in capsys.readouterr().err
    other = case.parent / "other" / "particles"
    other.mkdir(parents=True)
    (other / "mine.txt").write_text("")
    assert main([str(case), "--units", "2", "--seeds", "1", "--directory", str(other.parent)]) == 2
    assert "holds files but no particles of mfpde" in capsys.readouterr().err


def test_noise_needs_drawn_units_and_steps(case, capsys, monkeypatch):
    from mfpde.config.settings import Training

    monkeypatch.setattr(Training, "__post_init__", lambda _: None)
    hot = ["--set", "training.temperature=0.1"]
    assert main([str(case), "--units", "2", "--seeds", "1", *hot]) == 2
    assert main([str(case), "--units", "2", "--initial", "grid", *hot, *DESCENT]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "give --learning-rate" in said[0]
    assert "units with noise" in said[1]
