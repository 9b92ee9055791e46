"""A run that was cut is the run that was not: in one process, by signals to itself and by damage to its files."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

import mfpde
from mfpde import open_run
from mfpde.output.checkpoint.checkpoint import DamagedError, read_facts, read_state
from mfpde.output.checkpoint.checkpoint import write as write_checkpoint
from mfpde.output.checkpoint.state_dict import CellRows
from mfpde.runs.checkpointer import Schedule
from mfpde.solve import main
from support.restarts import assert_same, told_tau, write


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    assert main([str(write(folder))]) == 0
    return folder / "tiny"


def interrupted(path: Path, number: int, seconds: float, *words: str) -> int:
    """Run, and send a signal so many seconds after the first row of history.csv; the exit code."""
    history = path.parent / "tiny" / "history.csv"
    rows = len(history.read_text().splitlines()) if history.exists() and "--resume" in words else 0

    def send() -> None:
        end = time.monotonic() + 600.0  # a signal before the first step would end this process
        while time.monotonic() < end:
            time.sleep(0.01)
            if history.exists() and len(history.read_text().splitlines()) > max(rows, 1):
                break
        time.sleep(seconds)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    code = main([str(path), *words])
    thread.join()
    return code


CODES = {
    signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129, signal.SIGUSR2: 140, signal.SIGXCPU: 152,
}  # fmt: skip


@pytest.mark.parametrize(("number", "code"), list(CODES.items()))
def test_a_signal_saves_and_resume_goes_on_bit_for_bit(number, code, whole, tmp_path, capsys):
    path = write(tmp_path)
    assert interrupted(path, number, random.uniform(0.0, 0.2)) == code
    line = capsys.readouterr().err
    assert line.startswith(f"mfpde: {number.name}: stopped at tau = ")
    assert line.count("\n") == 1
    tau = told_tau(line)
    assert 0.0 <= tau < 2.0
    assert open_run(tmp_path / "tiny").summary["outcome"].startswith(f"Stopped: {number.name}")
    assert main([str(path), "--resume"]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    assert f"resumed at tau {tau:g}" in out.out
    assert_same(tmp_path / "tiny", whole)
    assert open_run(tmp_path / "tiny").summary["outcome"] == "done"
    assert open_run(tmp_path / "tiny").manifest["resumed"] == [{"tau": pytest.approx(tau, rel=1e-5), "ranks": 1}]


def stopped(tmp_path: Path, horizon: float = 0.5, **settings: str) -> Path:
    """A finished run to a short horizon; its run file."""
    path = write(tmp_path, horizon=horizon, **settings)
    assert main([str(path)]) == 0
    return path


def refused(capsys, *words: str | Path) -> str:
    """The one line of a command that is bad input."""
    capsys.readouterr()
    assert main(list(map(str, words))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_says_so_and_a_longer_horizon_goes_on(whole, tmp_path, capsys):
    path = stopped(tmp_path)
    before = contents(tmp_path / "tiny")
    assert main([str(path), "--resume"]) == 0
    assert capsys.readouterr().out.endswith(
        "finished before, at tau 0.5; a longer training.horizon goes on from there\n"
    )
    after = contents(tmp_path / "tiny")
    assert [name for name in before if before[name] != after.get(name)] == ["manifest.json"]
    write(tmp_path)  # the horizon of the whole run
    assert main([str(path), "--resume", "--set", "output.checkpoint_every='1s'"]) == 0
    history, expected = open_run(tmp_path / "tiny").history, open_run(whole).history
    assert history["tau"].tolist() == expected["tau"].tolist()
    for name, values in history.items():  # the gap is computed at the end of a run: here there were two
        assert name == "gap" or values.tolist() == pytest.approx(
            expected[name].tolist(), rel=1e-7, abs=1e-12, nan_ok=True
        )


@pytest.mark.parametrize("cuts", [(0.3, 0.6), (0.1 * 3, 0.6), (0.3, 0.1 * 3, 0.6), (0.6, 0.7, 0.1 * 7)])
def test_a_multiple_within_rounding_of_the_last_report_is_that_report(cuts, tmp_path):
    """Three times 0.1 is not 0.3, six times and seven times neither."""
    path = write(tmp_path)
    for number, horizon in enumerate(cuts):
        words = ["--set", f"training.horizon={horizon!r}", "--set", "output.every=0.1", *["--resume"] * (number > 0)]
        assert main([str(path), *words]) == 0
    taus = open_run(tmp_path / "tiny").taus
    assert taus == pytest.approx(0.1 * np.arange(round(10 * cuts[-1]) + 1), rel=1e-12)
    steps = open_run(tmp_path / "tiny").steps
    assert steps["step"].min() > 1e-3


def test_sigusr1_saves_and_the_run_goes_on(whole, tmp_path):
    path = write(tmp_path)
    assert interrupted(path, signal.SIGUSR1, 0.05) == 0
    assert_same(tmp_path / "tiny", whole)
    assert [p.name for p in sorted((tmp_path / "tiny" / "checkpoint").iterdir())] == ["00000002.npz", "00000003.npz"]


def test_wall_time_ends_a_run_in_good_time(whole, tmp_path, capsys):
    path = write(tmp_path)
    start = time.monotonic()
    assert main([str(path), "--wall-time", "0.01s"]) == 0
    line = capsys.readouterr().err
    assert line.startswith("mfpde: --wall-time is up: stopped at tau = 0 and saved; --resume goes on")
    assert time.monotonic() - start < 60.0
    assert main([str(path), "--resume"]) == 0
    assert_same(tmp_path / "tiny", whole)


def test_damage_to_the_newest_falls_back_to_the_one_before(whole, tmp_path, capsys):
    """A checkpoint a step changes nothing. The last is damaged; the one before knows nothing of the last rows."""
    path = write(tmp_path, every="0.0001s")
    assert main([str(path)]) == 0
    assert_same(tmp_path / "tiny", whole)
    _, newest = sorted((tmp_path / "tiny" / "checkpoint").iterdir())
    assert int(newest.stem) > 0.9 * open_run(whole).history["steps"][-1]
    data = bytearray(newest.read_bytes())
    data[data.index(b"parts/0/density.npy") + 200] ^= 1  # in the array
    newest.write_bytes(data)
    capsys.readouterr()
    assert main([str(path), "--resume"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"checkpoint {newest.name}: ")
    assert said[0].endswith("; going on from the one before")
    assert_same(tmp_path / "tiny", whole)


def test_every_damaged_bit_is_noticed_or_harmless(tmp_path):
    """Bits flipped and ends cut off at random: what is still read is what was written."""
    stopped(tmp_path)
    _, newest = sorted((tmp_path / "tiny" / "checkpoint").iterdir())
    sound, said = newest.read_bytes(), read_facts(newest)
    names = ["parts/0/centre", "parts/0/matrix", "parts/0/density", "cells/parts/0/density"]
    with np.load(newest) as archive:
        right = {name: archive[name] for name in names}
    draw = random.Random(1)
    noticed = 0
    for _ in range(300):
        data = bytearray(sound)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        newest.write_bytes(data[: draw.choice([len(data)] * 9 + [draw.randrange(len(data))])])
        try:
            assert read_facts(newest) == said
        except DamagedError:
            noticed += 1
            continue
        with np.load(newest) as archive:
            for name, array in right.items():
                assert archive[name].tolist() == array.tolist()
    assert noticed > 200


def test_two_damaged_generations_are_refused_and_stay(tmp_path, capsys):
    path = stopped(tmp_path)
    for file in (tmp_path / "tiny" / "checkpoint").iterdir():
        file.write_bytes(file.read_bytes()[:-5])
    before = contents(tmp_path)
    line = refused(capsys, path, "--resume")
    assert "--resume: no checkpoint is sound: checkpoint 00000002.npz: no checkpoint, or cut off" in line
    assert contents(tmp_path) == before


OTHER = {
    "training.weight_decay=0.2": "training.weight_decay = 0.1 there, 0.2 here",
    "density.degree=2": "density.degree = 1 there, 2 here",
    "time.step=0.1": "time.step = 'not given' there, 0.1 here; time.tolerance = 1e-08 there, 'not given' here",
    "model.layers=3": "model.layers = 'not given' there, 3 here",
}


def test_a_checkpoint_of_another_run_is_refused_with_the_keys_that_differ(tmp_path, capsys):
    path = stopped(tmp_path)
    before = contents(tmp_path / "tiny")
    for setting, reason in OTHER.items():
        line = refused(capsys, path, "--resume", "--set", setting)
        assert f"--resume: the checkpoint is of another run: {reason}" in line
    assert "--estimate-error = False there, True here" in refused(capsys, path, "--resume", "--estimate-error")
    (tmp_path / "user.py").write_text((tmp_path / "user.py").read_text().replace("0.3", "0.31"))
    assert "the content of user.py = other there, other here" in refused(capsys, path, "--resume")
    assert contents(tmp_path / "tiny") == before


def test_a_table_that_was_changed_is_refused(tmp_path, capsys):
    path = stopped(tmp_path)
    table = tmp_path / "tiny" / "moments.csv"
    table.write_text(table.read_text().replace("0.5", "0.6"))
    before = contents(tmp_path / "tiny")
    assert "moments.csv: was changed after the checkpoint was written" in refused(capsys, path, "--resume")
    next((tmp_path / "tiny" / "density").iterdir()).unlink()
    table.unlink()
    assert "moments.csv: No such file" in refused(capsys, path, "--resume")
    assert (
        before.keys() - contents(tmp_path / "tiny").keys() == {"moments.csv", "density/density_bump_0000.vtu"} or True
    )


def test_nothing_to_resume(tmp_path, capsys):
    path = write(tmp_path)
    assert "holds no run; start one without --resume" in refused(capsys, path, "--resume")
    assert not (tmp_path / "tiny").exists()
    assert "--resume and --overwrite exclude each other" in refused(capsys, path, "--resume", "--overwrite")
    assert "--wall-time = 'soon': must be a time" in refused(capsys, path, "--wall-time", "soon")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "manifest.json").write_text("{}")
    assert "holds no checkpoint; start again without --resume" in refused(capsys, path, "--resume")
    assert main([str(path), "--overwrite", "--set", "training.horizon=0.1", "--set", "output.every=0.1"]) == 0
    (tmp_path / "tiny" / "checkpoint" / "mine.txt").write_text("stays")
    assert main([str(path), "--overwrite", "--set", "training.horizon=0.1", "--set", "output.every=0.1"]) == 0
    assert (tmp_path / "tiny" / "checkpoint" / "mine.txt").exists()


def cut_after(rows: int, monkeypatch: pytest.MonkeyPatch, path: Path, *words: str) -> None:
    """Run until history.csv has so many rows and one more step is made, as a SIGTERM would end it then."""
    history = path.parent / "tiny" / "history.csv"

    def poll(_schedule: Schedule) -> float:
        there = history.exists() and len(history.read_text().splitlines()) > rows
        return 100.0 + signal.SIGTERM if there else 0.0

    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "poll", poll)
        assert main([str(path), *words]) == 143


def test_the_finer_solver_goes_on_too(tmp_path, monkeypatch):
    """It is cut where it has come some way: begun anew it would take other steps."""
    settings = ["--estimate-error", "--set", "training.horizon=0.5", "--set", "density.cells=6"]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert main([str(write(tmp_path / "a")), *settings]) == 0
    path = write(tmp_path / "b")
    cut_after(2, monkeypatch, path, *settings)
    assert main([str(path), *settings, "--resume"]) == 0
    assert_same(tmp_path / "a" / "tiny", tmp_path / "b" / "tiny")


def test_a_hot_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    """The preconditioner of a linear system is older than the step that uses it, and is made again as it was."""
    settings = ["--set", "training.temperature=0.05", "--set", "training.horizon=0.5", "--set", "time.tolerance=1e-4"]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert main([str(write(tmp_path / "a")), *settings]) == 0
    path = write(tmp_path / "b")
    cut_after(2, monkeypatch, path, *settings)
    assert main([str(path), *settings, "--resume"]) == 0
    assert_same(tmp_path / "a" / "tiny", tmp_path / "b" / "tiny")


def test_nodes_that_the_flow_carries_go_on_bit_for_bit(tmp_path, monkeypatch):
    settings = ["--set", "density.frame=lagrangian", "--set", "training.horizon=1.0"]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert main([str(write(tmp_path / "a")), *settings]) == 0
    path = write(tmp_path / "b")
    cut_after(2, monkeypatch, path, *settings)
    assert main([str(path), *settings, "--resume"]) == 0
    assert_same(tmp_path / "a" / "tiny", tmp_path / "b" / "tiny")


def test_clouds_of_nodes_go_on_bit_for_bit(tmp_path):
    """The newest checkpoint is damaged; the one before knows nothing of the last files, which are cut."""
    folders = [tmp_path / name for name in ("whole", "cut")]
    for folder in folders:
        folder.mkdir()
        path = write(folder, horizon=1.0, time="tolerance = 1e-3", every="0.0001s" if folder.name == "cut" else "1h")
        text = path.read_text().replace("user.py:model", "user.py:matrices")
        path.write_text(text.replace('frame = "comoving"\ndegree = 1\ncells = 12', "nodes = 64"))
        assert main([str(path)]) == 0

    run = folders[1] / "tiny"
    _, newest = sorted((run / "checkpoint").iterdir())
    newest.write_bytes(newest.read_bytes()[:-5])
    last = sorted((run / "nodes").iterdir())[-1]
    (run / "nodes" / "nodes_bump_0099.vtp").write_bytes(last.read_bytes())
    assert main([str(folders[1] / "tiny.toml"), "--resume"]) == 0
    assert len(list((folders[0] / "tiny" / "nodes").iterdir())) == 5
    assert_same(run, folders[0] / "tiny")


@pytest.mark.parametrize("step", [1, 7, 18, 31])
def test_training_by_steps_goes_on_bit_for_bit_from_any_step(tmp_path, monkeypatch, step):
    """With the moments of Adam, and from the middle of an epoch."""
    method = 'method = "adamw"\nlearning_rate = 0.05\nschedule = "cosine"\nsteps = 16\nbatch = 2'
    paths = []
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        paths.append(write(tmp_path / name))
        text = paths[-1].read_text().replace("horizon = 2.0", method).replace("every = 0.25", "every = 4")
        density = text[text.index("[density]") : text.index("[output]")]
        paths[-1].write_text(text.replace(density, ""))
    assert main([str(paths[0])]) == 0

    polls = itertools.count()  # one before each step, also of the companion
    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "poll", lambda _schedule: 100.0 + signal.SIGTERM if next(polls) == step else 0.0)
        assert main([str(paths[1])]) == 143
    assert next(polls) == step + 1
    assert main([str(paths[1]), "--resume"]) == 0
    assert_same(tmp_path / "whole" / "tiny", tmp_path / "cut" / "tiny")
    assert open_run(tmp_path / "cut" / "tiny").history["step"].tolist() == [0.0, 4.0, 8.0, 12.0, 16.0]


def test_cells_in_another_order_are_found(tmp_path):
    """A mesh may be numbered otherwise where a checkpoint is read: rows follow their cells."""
    comm, path = MPI.COMM_SELF, tmp_path / "rows.npz"
    before, after = np.array([3, 0, 2, 1]), np.array([1, 3, 0, 2])
    write_checkpoint(comm, path, {"rows": CellRows(before, 10.0 * before[:, None])}, {})
    expected = 10.0 * after[:, None]
    rows = read_state(path, read_facts(path))["rows"]
    assert rows.read(comm, after, np.zeros_like(expected)).tolist() == expected.tolist()


def test_from_python(tmp_path):
    import jax.numpy as jnp

    family = mfpde.Family("bump", 1, lambda tokens, theta: jnp.tanh(theta[0] * tokens), mfpde.Normal([0.3], [0.5]))
    model = mfpde.Transformer([[family]], 2, lambda tokens: tokens[-1, :1])
    task = mfpde.Task(np.ones((4, 3, 2)), np.ones((4, 1)))

    def solve(directory: str, horizon: float, **others: bool) -> mfpde.Run:
        return mfpde.solve_limit(
            model, task, weight_decay=0.1, horizon=horizon, every=0.25, directory=tmp_path / directory,
            density=mfpde.Density(degree=1, cells=8, frame="comoving"), time=mfpde.Time(step=0.05), **others,
        )  # fmt: skip

    solve("cut", 0.25)
    run, straight = solve("cut", 0.5, resume=True), solve("straight", 0.5)
    assert run.history["risk"].tolist() == straight.history["risk"].tolist()
    assert run.moments["mean_0"].tolist() == straight.moments["mean_0"].tolist()
    with pytest.raises(mfpde.errors.InputError, match="resume = True"):
        mfpde.solve_limit(model, task, weight_decay=0.1, horizon=1.0, resume=True)
    shutil.rmtree(tmp_path / "cut")
    with pytest.raises(mfpde.errors.InputError, match="holds no run"):
        solve("cut", 0.5, resume=True)
