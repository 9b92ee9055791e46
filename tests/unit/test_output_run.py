"""The writer as a whole, its summary and manifest, and the progress display."""

from __future__ import annotations

import getpass
import io
import json
import platform
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from mfpde import open_run
from mfpde.errors import ComputationError
from mfpde.output.fields.series import DensitySeries
from mfpde.output.files import write_json, write_text
from mfpde.output.records import installation, manifest
from mfpde.output.records.progress import Progress
from mfpde.output.writer import RunWriter
from support.snapshots import make_report, make_snapshot


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Gone(io.StringIO):
    def __init__(self, live):
        super().__init__()
        self.isatty = lambda: live

    def write(self, _):
        raise BrokenPipeError


def test_summary_holds_the_last_row_and_valid_json(tmp_path):
    with RunWriter(tmp_path, run_text="name = 'τ'\n", manifest={"ranks": 2}, unknowns=72) as writer:
        assert (tmp_path / "run.toml").read_text(encoding="utf-8") == "name = 'τ'\n"
        for tau in (0.0, 0.5):
            writer.report(make_report(tau, [make_snapshot("interval", 1)]))
        assert not (tmp_path / "summary.json").exists()
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary == {
        "warnings": [],
        "gap_margin": 0.0,
        "outcome": "done",
        "ranks": 2,
        "unknowns": 72,
        "tau": 0.5,
        "risk": 1 / 3.5,
        "energy": 0.4,
        "gap": None,
        "risk_error": None,
        "steps": 7.0,
        "wall": 2.5,
        "right_hand_sides": 12.0,
    }


def test_a_failure_is_in_the_summary_and_goes_on_up(tmp_path):
    def fail():
        with RunWriter(tmp_path, run_text="", manifest={}, unknowns=1) as writer:
            writer.report(make_report(0.0))
            raise ComputationError("risk is\nnot finite")

    with pytest.raises(ComputationError, match="not finite"):
        fail()
    run = open_run(tmp_path)
    assert run.summary["outcome"] == "ComputationError: risk is not finite"
    assert run.summary["tau"] == 0.0


def test_the_last_sound_state_is_not_written_twice(tmp_path):
    shot = make_snapshot("interval", 1)
    with RunWriter(tmp_path, run_text="", manifest={}, unknowns=1) as writer:
        for tau in (0.0, 0.5, 0.5):
            writer.report(make_report(tau, [shot]))
    assert open_run(tmp_path).taus.tolist() == [0.0, 0.5]
    assert len(list(tmp_path.rglob("*.vtu"))) == 2


def test_a_run_without_a_report_still_ends_in_a_summary(tmp_path):
    with RunWriter(tmp_path, run_text="", manifest={}, unknowns=1):
        pass
    assert open_run(tmp_path).summary == {"outcome": "done", "ranks": None, "unknowns": 1, "warnings": []}


def test_a_vanished_folder_is_one_line(tmp_path):
    writer = RunWriter(tmp_path, run_text="", manifest={}, unknowns=1)
    (tmp_path / "density").write_text("in the way")
    writer.report(make_report(0.0, [make_snapshot("interval", 1)]))
    with pytest.raises(ComputationError, match="density cannot be written: File exists"):
        writer.report(make_report(0.5, [make_snapshot("interval", 1)]))
    writer.close()
    assert open_run(tmp_path).taus.tolist() == []


@pytest.mark.parametrize("ask", ["numbers", "state_dict", "close"])
def test_a_report_that_could_not_be_written_is_not_passed_over(tmp_path, ask):
    """By whoever relies on it next: a checkpoint must not say that it is there."""
    writer = RunWriter(tmp_path, run_text="", manifest={}, unknowns=1)
    (tmp_path / "density").write_text("in the way")
    writer.report(make_report(0.0, [make_snapshot("interval", 1)]))
    with pytest.raises(ComputationError, match="density cannot be written: File exists"):
        getattr(writer, ask)(*[make_report(0.5)][: ask == "numbers"])
    writer.close()


def test_a_report_is_written_while_the_run_goes_on(tmp_path, monkeypatch):
    """A checkpoint waits for it; so do the steps before a failure, and the end."""
    begun, go_on = threading.Event(), threading.Event()

    def write(series, tau, snapshot):
        begun.set()
        assert go_on.wait(60.0)
        return writes(series, tau, snapshot)

    writes = DensitySeries.write
    monkeypatch.setattr(DensitySeries, "write", write)
    with RunWriter(tmp_path, run_text="", manifest={}, unknowns=1) as writer:
        writer.report(make_report(0.0, [make_snapshot("interval", 1)]))
        assert begun.wait(60.0)
        assert open_run(tmp_path).taus.tolist() == []
        threading.Timer(0.2, go_on.set).start()
        saved = writer.state_dict()
    assert saved["densities"] == {"heads": 1}
    assert saved["tables"]["history.csv"]["size"] == (tmp_path / "history.csv").stat().st_size


def test_files_are_replaced_whole(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    write_json(tmp_path / "a.txt", {"a": (1, float("inf"), {"b": float("nan")}), "name": "τ", "none": None})
    assert json.loads((tmp_path / "a.txt").read_text()) == {"a": [1, None, {"b": None}], "name": "τ", "none": None}
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.txt", {"a": object()})
    assert json.loads((tmp_path / "a.txt").read_text())["name"] == "τ"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_manifest_says_what_is_needed_to_repeat_the_run():
    from mpi4py import MPI

    found = manifest.describe(3, {"run_hash": "ab12"}, 7, ["-ts_monitor"])
    assert [found[key] for key in ("ranks", "run_hash", "seed", "options")] == [3, "ab12", 7, ["-ts_monitor"]]
    versions = found["versions"]
    assert versions["python"] == platform.python_version()
    assert all(versions[name] for name in ("mfpde", "numpy", "jax", "numba", "vtk", "mpi4py"))
    assert MPI.Get_library_version().startswith(versions["mpi"].split()[0])
    assert found["host"]["cores"] >= found["host"]["cores_usable"] >= 1
    assert found["host"]["memory_gib"] > 0
    assert found["host"]["cpu"]


def test_manifest_names_no_user_host_or_folder():
    words = ["-log_view", ":/home/someone/log.txt", "-options_file=~/secret/petsc.opts", "-o", "/srv/x/y"]
    found = manifest.describe(1, {}, None, words)
    text = "\n".join(leaves(found))
    for private in ("someone", "secret", "/srv", str(Path.home()) + "/", str(Path.cwd()), platform.node() or "-?-"):
        assert private not in text
    assert found["options"] == ["-log_view", ":log.txt", "-options_file=petsc.opts", "-o", "y"]
    if len(user()) > 4:
        assert user() not in text


def leaves(value):
    """The texts and numbers of a manifest without its keys: a user may have the name of a package."""
    if isinstance(value, dict):
        return leaves(list(value.values()))
    return [leaf for each in value for leaf in leaves(each)] if isinstance(value, list) else [str(value)]


def user():
    """The name of the user who runs the tests; empty for a bare number, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_revision_is_that_of_the_checkout_that_tracks_the_package(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", tmp_path, *identity, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert installation.revision(package) is None
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "empty")
    assert installation.revision(package) is None  # an installed copy inside somebody else's checkout
    git("add", "package")
    git("commit", "-q", "-m", "package")
    assert installation.revision(package) == git("rev-parse", "HEAD")
    (package / "__init__.py").write_text("changed")
    assert installation.revision(package) == git("rev-parse", "HEAD") + "-dirty"


@pytest.mark.parametrize(("here", "given", "found"), [
    (None, "ab12", "ab12"), ("cd34-dirty", "ab12", "cd34-dirty"), (None, "", None), (None, None, None),
])  # fmt: skip
def test_a_copy_outside_of_git_has_the_revision_that_its_environment_names(monkeypatch, here, given, found):
    monkeypatch.setattr(manifest, "revision", lambda _folder: here)
    monkeypatch.delenv("MFPDE_REVISION", raising=False)
    if given is not None:
        monkeypatch.setenv("MFPDE_REVISION", given)
    assert manifest.describe(1, {}, None)["revision"] == found


def test_a_line_per_report_without_a_terminal():
    stream = io.StringIO()
    progress = Progress(1.0, stream)
    progress.report(make_report(0.0))
    progress.advance(0.1)
    progress.report(make_report(0.25, accuracy=0.9125, risk_error=2.34e-5))
    progress.close()
    first, second = stream.getvalue().splitlines()
    assert first.split() == ["tau", "0", "risk", "0.333333", "energy", "0.4", "steps", "7", "wall", "2.5", "s"]
    assert "tau 0.25 " in second
    assert "risk 0.307692  +- 2e-05  energy" in second
    assert "accuracy 91.2 %" in second
    assert stream.getvalue().isascii()


def test_a_bar_on_a_terminal():
    stream = Terminal()
    progress = Progress(2.0, stream)
    progress.report(make_report(0.0))
    progress.advance(0.5)
    progress.report(make_report(1.0, accuracy=0.5))
    progress.report(make_report(2.0 + 1e-15, accuracy=0.75))
    progress.close()
    waiting, *shown = stream.getvalue().split("\r")
    assert waiting.startswith("compiling, about a minute the first time\n")
    assert any("50%" in text and "tau 1/2" in text and "accuracy 50.0 %" in text for text in shown)
    assert "100%" in shown[-1]
    assert "risk 0.2" in shown[-1]
    assert shown[-1].count("\n") == 1


@pytest.mark.parametrize("live", [False, True])
def test_a_reader_of_the_progress_that_goes_away_ends_no_run(tmp_path, live):
    progress = Progress(1.0, Gone(live))
    with RunWriter(tmp_path, run_text="", manifest={}, unknowns=1, progress=progress) as writer:
        writer.report(make_report(0.0))
        progress.advance(0.5)
        writer.report(make_report(1.0))
    assert open_run(tmp_path).taus.tolist() == [0.0, 1.0]
