"""The run directory: what is refused, that nothing is written then, and that overwriting removes a run and no more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mfpde.errors import InputError
from mfpde.output.directory import check, prepare, run_files
from mfpde.output.writer import RunWriter
from support.launch import run
from support.snapshots import make_report, make_snapshot


def contents(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def make_run(directory, taus=(0.0, 0.5)):
    prepare(directory, overwrite=False)
    shots = [make_snapshot("interval", 1, family="heads"), make_snapshot("triangle", 1, family="neurons")]
    with RunWriter(directory, run_text="name = 'x'\n", manifest={"ranks": 1}, unknowns=1) as writer:
        for tau in taus:
            writer.report(make_report(tau, shots))


def test_a_new_directory_is_made_with_its_parents(tmp_path):
    check(tmp_path / "a" / "b", overwrite=False)
    assert not contents(tmp_path)
    prepare(tmp_path / "a" / "b", overwrite=False)
    assert (tmp_path / "a" / "b").is_dir()


def test_files_of_a_run(tmp_path):
    make_run(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in run_files(tmp_path)] == [
        "density/density_heads_0000.vtu",
        "density/density_heads_0001.vtu",
        "density_heads.pvd",
        "density/density_neurons_0000.vtu",
        "density/density_neurons_0001.vtu",
        "density_neurons.pvd",
        "history.csv",
        "gap.csv",
        "moments.csv",
        "indicators.csv",
        "steps.csv",
        "timings.csv",
        "summary.json",
        "run.toml",
        "manifest.json",
    ]
    assert {str(path.relative_to(tmp_path)) for path in run_files(tmp_path)} == set(contents(tmp_path)) - {"density"}


def test_a_run_is_refused_and_untouched_unless_overwritten(tmp_path):
    make_run(tmp_path)
    before = contents(tmp_path)
    for action in (check, prepare):
        with pytest.raises(InputError, match="holds a run; --overwrite"):
            action(tmp_path, overwrite=False)
    check(tmp_path, overwrite=True)
    assert contents(tmp_path) == before
    prepare(tmp_path, overwrite=True)
    assert not contents(tmp_path)


def test_overwriting_leaves_what_a_solve_did_not_write(tmp_path):
    make_run(tmp_path, taus=(0.0, 0.5, 1.0))
    foreign = ["notes.txt", "particles/history.csv", "figures/risk.png", "density/mine.vtu", "density_mine.pvd"]
    foreign += ["compare/notes.txt", "compare/layers-3/report.html"]
    drawn = ["figures/history.png", "figures/density_head_0.pdf", "figures/animation.gif", "figures/report.html"]
    drawn += ["compare/report.html", "compare/summary.json", "compare/risk.png", "compare/depth.pdf"]
    for name in foreign + drawn:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("mine")
    prepare(tmp_path, overwrite=True)
    assert {name for name, content in contents(tmp_path).items() if content} == set(foreign)
    make_run(tmp_path, taus=(0.0,))
    assert len(list((tmp_path / "density").glob("density_*.vtu"))) == 2


def test_the_figures_and_the_comparison_of_a_run_that_is_replaced_go_with_it(tmp_path):
    make_run(tmp_path, taus=(0.0, 0.5))
    for folder in ("figures", "compare"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "report.html").write_text("of the old run")
    prepare(tmp_path, overwrite=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["run.toml", "history.csv"])
def test_a_users_file_under_our_name_is_never_replaced(tmp_path, name, overwrite):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"holds {name} but no run"):
        prepare(tmp_path, overwrite)
    assert contents(tmp_path) == {name: b"mine"}


@pytest.mark.parametrize("inner", ["file", "file/run"])
def test_a_file_is_no_directory(tmp_path, inner):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file, not a folder"):
        prepare(tmp_path / inner, overwrite=True)
    assert contents(tmp_path) == {"file": b"mine"}


def test_a_forbidden_folder(tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    if os.geteuid() == 0:  # nothing is forbidden to root
        monkeypatch.setattr(os, "access", lambda *_: False)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            prepare(tmp_path / "run", overwrite=False)
        assert not contents(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_the_system_refuses():
    with pytest.raises(InputError) as caught:
        prepare(Path("/proc/mfpde-run"), overwrite=False)
    assert "/proc/mfpde-run" in str(caught.value)
    assert "\n" not in str(caught.value)


_FULL = """
import resource, sys
from pathlib import Path
from support.snapshots import make_report, make_snapshot
from mfpde.errors import ComputationError
from mfpde import open_run
from mfpde.output.writer import RunWriter
directory, limit = Path(sys.argv[1]), int(sys.argv[2])
small, large = make_snapshot("triangle", 1, count=1), make_snapshot("triangle", 3, count=int(sys.argv[3]))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with RunWriter(directory, run_text="", manifest={}, unknowns=1) as writer:
        for tau, shot in ((0.0, small), (0.5, large), (1.0, small)):
            for repeat in range(int(sys.argv[4])):
                writer.report(make_report(tau + 0.001 * repeat, [shot]))
except ComputationError as error:
    print(error)
    run = open_run(directory)
    for tau in run.taus:
        run.snapshot(tau=tau, family="heads")
    print(len(run.taus), sorted(path.name for path in directory.rglob("*.part")), run.moments["tau"].size)
"""


@pytest.mark.parametrize(("limit", "count", "repeat", "name"), [(50_000, 10, 1, "vtu"), (12_000, 1, 60, "moments.csv")])
def test_a_full_disk_is_one_line_and_leaves_a_readable_run(tmp_path, limit, count, repeat, name):
    """A limit on the size of files stands for the disk: once a density file meets it, once a table does."""
    here = str(Path(__file__).parents[1])
    ended = run("-c", _FULL, tmp_path, str(limit), str(count), str(repeat), changes={"PYTHONPATH": here})
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    line, state = ended.stdout.splitlines()
    assert name in line
    assert line.startswith(str(tmp_path))
    assert "cannot be written: File too large" in line
    assert " [] " in state
    assert int(state.split()[0]) >= 1
