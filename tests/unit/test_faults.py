"""The faults of tests/faults.py fit the source, and what makes them can tell a fault from a harmless change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import faults
from faults import FAULTS, Fault, FaultError

FRAMES = "mfpde/limit/fem/frame.py"


def fault(old: str, new: str, tests: str = faults.INDICES) -> Fault:
    return Fault("made-up", FRAMES, old, new, tests)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with faults.copies() as made:
        yield made


def test_every_text_occurs_once_and_every_test_exists() -> None:
    faults.check_texts(FAULTS)
    assert len({f.name for f in FAULTS}) == len(FAULTS)
    for f in FAULTS:
        assert f.old != f.new
        file, _, function = f.tests.partition("::")
        text = (faults.ROOT / file).read_text(encoding="utf-8")
        assert f"def {function.partition('[')[0]}(" in text or not function


def test_there_are_faults_enough_in_the_numerics_and_a_page_of_them() -> None:
    numerics = [f for f in FAULTS if f.file.startswith(("mfpde/limit", "mfpde/problem", "mfpde/finite"))]
    assert len(numerics) >= 40
    assert all(f"| {f.name} | `{f.file}` | `{f.tests}` |\n" in faults.page() for f in FAULTS)
    assert faults.PAGE.read_text(encoding="utf-8").startswith(faults.page()[:100])


def test_a_text_that_is_not_there_is_named() -> None:
    with pytest.raises(FaultError, match=r"made-up: 'no such text' occurs 0 times in mfpde/limit/frame\.py"):
        faults.check_texts([fault("no such text", "")])


def test_a_name_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert faults.main(["no-such-fault"]) == 2
    assert "no such fault: no-such-fault" in capsys.readouterr().err


def test_the_list_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert faults.main(["--list"]) == 0
    assert capsys.readouterr().out.count("\n") == len(FAULTS)


@pytest.mark.slow
def test_a_fault_is_caught(folder: Path) -> None:
    known = next(f for f in FAULTS if f.name == "metric-transposed")
    verdict = faults.judge(folder, known)
    assert verdict.caught_by is not None
    assert verdict.caught_by.startswith(f"{known.tests} - AssertionError")
    assert [place.name for place in folder.iterdir()] == ["clean"]


@pytest.mark.slow
def test_a_harmless_change_survives(folder: Path) -> None:
    assert faults.judge(folder, fault('"""Number of blocks b."""', '"""How many blocks."""')).caught_by is None


@pytest.mark.slow
def test_what_cannot_be_judged_is_an_error(folder: Path) -> None:
    """Source that is no Python, a module that cannot be imported, and a test that is not there, are no catches."""
    with pytest.raises(FaultError, match="made-up: "):
        faults.judge(folder, fault("return int(", "return int(("))
    with pytest.raises(FaultError, match="ended with code"):
        faults.judge(folder, fault("import numpy as np\n", "import numpy as np, no_such_module\n"))
    with pytest.raises(FaultError, match="ended with code"):
        faults.judge(folder, fault("return int(", "return int(1 * ", "tests/unit/test_frame.py::test_none"))


@pytest.mark.study
@pytest.mark.timeout(3600)
def test_every_fault_is_caught(folder: Path) -> None:
    """All of them; some ten seconds each."""
    faults.check_clean(folder, FAULTS)
    assert [f.name for f in FAULTS if faults.judge(folder, f).caught_by is None] == []
