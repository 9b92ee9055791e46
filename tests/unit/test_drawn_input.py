"""Whatever is given: it is taken, or refused with one line; nothing else happens, and soon.

A few hundred cases each time; ten thousand with `uv run pytest -m study tests/unit/test_drawn_input.py`.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mpi4py import MPI

from mfpde.config import run_file
from mfpde.config.identity import Identity
from mfpde.errors import InputError
from mfpde.inputs import inside
from mfpde.limit.fem import mesh as mesh_files
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.output.checkpoint import checkpoint
from mfpde.output.checkpoint.generations import CHECKPOINTS, Generations
from mfpde.output.checkpoint.state_dict import checkpoint_errors
from mfpde.problem.datasets import from_npz
from mfpde.problem.tasks import Task
from mfpde.runs.checkpointer import find
from mfpde.runs.problem_setup import report_times
from mfpde.solve import main
from support import mangled
from support.launch import run
from support.restarts import write

SOON = 10.0  # seconds of computing for one case; most take a hundredth. Waiting is bounded by the time-out of a test


def cases(few: int, many: int) -> Any:
    """Parametrize by the number of cases, the second in the study."""
    marks = [pytest.mark.study, pytest.mark.timeout(3600)]
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=marks)])


def every(count: int, strategy: st.SearchStrategy[Any], check: Callable[[Any], bool]) -> None:
    """Check drawn cases; some are taken and some refused, else the strategy tests nothing."""
    verdicts: list[bool] = []

    @settings(
        max_examples=count, deadline=None, derandomize=count < 1000, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def one(case: Any) -> None:
        start = time.process_time()
        verdicts.append(check(case))
        assert time.process_time() - start < SOON

    one()
    print(f"{len(verdicts)} cases, {sum(verdicts)} taken, {len(verdicts) - sum(verdicts)} refused")  # noqa: T201
    assert len(verdicts) >= 0.9 * count
    assert 0 < sum(verdicts) < len(verdicts)


def politely(work: Callable[[], object], *starts: str) -> bool:
    """Is it taken? Else it is refused with one line that says where."""
    try:
        work()
    except InputError as error:
        line = str(error)
        assert line.startswith(starts), line
        assert len(line) < 1000, len(line)
        return False
    return True


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory in which nothing may appear but the given file."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "hit").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"case.toml", "case.npz", "case.msh", "case"}


def accept(path: Path, sets: list[str]) -> None:
    """All that a solve does before it makes a mesh; what is taken can be written down and read again."""
    case = run_file.load(path, sets)
    model, task = case.build(trial=False)
    densities = {family.name: case.densities(family.name) for family in model.families}
    with inside(case.source):
        Problem(model, task, case.training, densities, case.time)
        report_times(case.training, case.output.every, task.samples)
    identity = case.identity()
    again = path.with_name("case.toml")
    again.write_bytes(case.text(path.parent).encode("utf-8"))
    repeated = run_file.load(again)
    assert repeated.identity().hashes() == identity.hashes()
    assert repeated.text(path.parent) == case.text(path.parent)


@cases(60, 3500)
def test_run_files(count: int, folder: Path) -> None:
    path = folder / "case.toml"

    def check(text: bytes) -> bool:
        path.write_bytes(text)
        with mangled.guarded(folder):
            return politely(lambda: accept(path, []), f"{path}: ")

    every(count, mangled.run_texts(), check)


@cases(60, 3500)
def test_overrides(count: int, folder: Path) -> None:
    path = folder / "case.toml"
    texts = [(mangled.ROOT / "runs" / f"{name}.toml").read_bytes() for name in ("teacher", "bilinear", "in-context")]

    def check(case: tuple[bytes, list[str]]) -> bool:
        path.write_bytes(case[0])
        with mangled.guarded(folder):
            return politely(lambda: accept(path, case[1]), f"{path}: ", "--set ")

    every(count, st.tuples(st.sampled_from(texts), mangled.overrides()), check)


@cases(100, 1500)
def test_archives(count: int, folder: Path) -> None:
    path = folder / "case.npz"

    def check(data: bytes) -> bool:
        path.write_bytes(data)
        with mangled.guarded():
            return politely(lambda: isinstance(from_npz(path), Task), f"task.npz = '{path}': ")

    every(count, mangled.archives(), check)


def test_a_line_is_short_however_long_the_override_is() -> None:
    for text in ("a" * 5000, f"training.horizon.{'b' * 5000}=1", f"{'c' * 5000}=\ud800", f"training.{'d' * 5000}.e=1"):
        with pytest.raises(InputError) as told:
            run_file.load(mangled.ROOT / "runs" / "teacher.toml", [text])
        assert len(str(told.value)) < 500


def test_nothing_in_an_archive_is_unpickled(folder: Path) -> None:
    """Whichever array it is that would run something when it is read."""
    path = folder / "case.npz"
    for name in ("tokens", "targets", "test_tokens", "x"):
        arrays: dict[str, Any] = {"tokens": np.ones((4, 3, 2)), "targets": np.ones((4, 1))}
        path.write_bytes(mangled.archive(arrays | {name: np.array([mangled.Trap()], dtype=object)}))
        with mangled.guarded():
            assert not politely(lambda: from_npz(path), f"task.npz = '{path}': ")
        assert not (folder / "hit").exists()
    np.load(path, allow_pickle=True)["x"]  # it is no dud
    (folder / "hit").rmdir()


@cases(60, 1000)
def test_meshes(count: int, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = folder / "case.msh"

    def check(data: bytes) -> bool:
        path.write_bytes(data)
        dim = 3 if b'\n3 1 "ball"' in data else 2
        with mangled.guarded():
            taken = politely(lambda: mesh_files.read(MPI.COMM_SELF, path, dim), f"density.mesh = '{path}': ")
        assert capfd.readouterr().err == ""
        return taken

    every(count, mangled.meshes(), check)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, with its two checkpoints."""
    folder = tmp_path_factory.mktemp("sound")
    assert main([str(write(folder, horizon=0.5))]) == 0
    return folder


@cases(100, 1000)
def test_checkpoints(count: int, sound: Path, folder: Path) -> None:
    """Damaged bytes: read as what was written, or refused."""
    (folder / "case" / CHECKPOINTS).mkdir(parents=True)
    original = max((sound / "tiny" / CHECKPOINTS).iterdir())
    said = checkpoint.read_facts(original)
    path = folder / "case" / CHECKPOINTS / "00000001.npz"

    def check(data: bytes) -> bool:
        path.write_bytes(data)

        def read() -> None:
            _, facts, _ = find(Generations(folder / "case"), Identity(**said["identity"]))
            assert facts == said

        with mangled.guarded():
            return politely(read, "--resume: no checkpoint is sound: checkpoint 00000001.npz: ")

    every(count, st.one_of(mangled.damaged(original.read_bytes()), st.just(original.read_bytes())), check)


@cases(40, 500)
def test_checkpoints_whose_checksums_fit(count: int, sound: Path, folder: Path) -> None:
    """What a checkpoint says is changed, and its checksums with it: the solver goes on from it, or it is refused."""
    (folder / "case" / CHECKPOINTS).mkdir(parents=True)
    original = max((sound / "tiny" / CHECKPOINTS).iterdir())
    with zipfile.ZipFile(original) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    said = checkpoint.read_facts(original)
    case = run_file.load(sound / "tiny.toml")
    model, task = case.build()
    problem = Problem(model, task, case.training, {"bump": case.density}, case.time)
    path = folder / "case" / CHECKPOINTS / "00000001.npz"

    def check(facts: Any) -> bool:
        one = io.BytesIO()
        np.lib.format.write_array(one, np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8))
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, one.getvalue() if name == "facts.npy" else data)

        def resume() -> None:
            found, read, _ = find(Generations(folder / "case"), Identity(**said["identity"]))
            solver = Solver(MPI.COMM_SELF, problem)
            with closing(solver), checkpoint_errors():
                solver.load_state_dict(checkpoint.read_state(found, read))

        with mangled.guarded():
            return politely(resume, "--resume: ")

    every(count, mangled.facts(said), check)


def command(ranks: int, folder: Path, lists: list[list[str]]) -> tuple[list[list[int]], list[str]]:
    """The codes of every rank and the lines of one job that runs `mfpde solve` once a list."""
    (folder / "cases.json").write_text(json.dumps(lists))
    (folder / "many.py").write_text(MANY)
    done = run("many.py", ranks=ranks, directory=folder, timeout=600 + 20 * len(lists))
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "codes.json").read_text()), done.stderr.splitlines()


MANY = """
import json, os
from mfpde import solve
from mfpde.parallel import mpi
comm = mpi.start()
codes = [comm.gather(solve.main(words)) for words in json.load(open("cases.json"))]
if comm.rank == 0:
    json.dump(codes, open("codes.json", "w"))
"""


@pytest.mark.parametrize(
    ("ranks", "count"),
    [(1, 10), (2, 10), *(pytest.param(n, 150, marks=[pytest.mark.study, pytest.mark.timeout(3600)]) for n in (1, 2))],
)
def test_commands(ranks: int, count: int, tmp_path: Path) -> None:
    """Drawn run files that are refused in this process are so by the command, on every rank, with the same line."""
    lists: list[list[str]] = []
    lines: list[str] = []

    @settings(max_examples=20 * count, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
    @given(text=mangled.run_texts(), sets=mangled.overrides())
    def draw(text: bytes, sets: list[str]) -> None:
        if len(lists) == count:
            return
        path = tmp_path / f"{len(lists)}.toml"
        path.write_bytes(text)
        try:
            accept(path, sets)
        except InputError as error:
            told = " ".join(str(error).replace(f"{tmp_path}/", "").split())
            if "\ud800" not in str(sets):
                lists.append([path.name, *(word for text in sets for word in ("--set", text))])
                lines.append(f"mfpde: {told}")

    draw()
    (tmp_path / "case.toml").unlink(missing_ok=True)
    assert len(lists) == count
    codes, told = command(ranks, tmp_path, lists)
    assert codes == [[2] * ranks] * count
    assert told == lines
    known = {"cases.json", "many.py", "codes.json", *(f"{k}.toml" for k in range(count + 1))}
    assert {path.name for path in tmp_path.iterdir()} <= known
