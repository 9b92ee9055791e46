"""The faults of tests/faults.py fit the source; their runner knows a catch, a harmless change and a broken mutant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import faults
from faults import FAULTS
from support import fault_runner
from support.fault_runner import Fault, FaultError

FRAMES = "mfpde/limit/fem/frame.py"


def fault(old: str, new: str, tests: str = faults.INDICES) -> Fault:
    return Fault("made-up", FRAMES, old, new, tests)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with fault_runner.copies() as made:
        yield made


def test_every_text_occurs_once_and_every_test_exists() -> None:
    fault_runner.check_texts(FAULTS)
    assert len({f.name for f in FAULTS}) == len(FAULTS)
    for f in FAULTS:
        assert f.old != f.new
        file, _, function = f.tests.partition("::")
        text = (faults.ROOT / file).read_text(encoding="utf-8")
        assert f"def {function.partition('[')[0]}(" in text or not function


def test_there_are_faults_enough_in_the_numerics() -> None:
    numerics = [f for f in FAULTS if f.file.startswith(("mfpde/limit", "mfpde/problem", "mfpde/finite"))]
    assert len(numerics) >= 40


def test_the_page_is_that_of_the_last_whole_run() -> None:
    assert faults.PAGE.read_text(encoding="utf-8") == faults.page(faults.results())


def test_every_fault_was_caught_for_the_right_reason_in_the_last_whole_run() -> None:
    assert {v.name: v.outcome for v in faults.results()} == {f.name: "caught" for f in FAULTS}


def test_a_text_that_is_not_there_is_named() -> None:
    with pytest.raises(FaultError, match=r"made-up: 'no such text' occurs 0 times in mfpde/limit/fem/frame\.py"):
        fault_runner.check_texts([fault("no such text", "")])


def test_a_name_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert faults.main(["no-such-fault"]) == 2
    assert "no such fault: no-such-fault" in capsys.readouterr().err


def test_the_list_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert faults.main(["--list"]) == 0
    assert capsys.readouterr().out.count("\n") == len(FAULTS)


@pytest.mark.parametrize(
    ("errors", "in_test", "reason", "output", "broken"),
    [
        (["AssertionError", "Exception"], True, ["assert 2.1 > 2.8"], [], False),
        (["NameError", "Exception"], False, ["NameError: name 'begin' is not defined"], [], True),
        (["AttributeError", "Exception"], False, ["AttributeError: 'State' has no attribute 'x'"], [], True),
        (["AttributeError", "Exception"], True, ["AttributeError: 'NoneType' has no attribute 'x'"], [], False),
        (["ComputationError", "Exception", "AttributeError"], False, ["ComputationError: failed"], [], True),
        (["AssertionError"], True, ["AssertionError: Traceback:", "NameError: name 'x'"], [], True),
        (["AssertionError"], True, ["assert 1 == 0"], ["[1] ModuleNotFoundError: No module named 'x'"], True),
        (["AssertionError"], True, ["assert 'failed to import: SyntaxError' in line"], [], False),
    ],
)
def test_what_counts_as_broken(
    errors: list[str], in_test: bool, reason: list[str], output: list[str], broken: bool
) -> None:
    failure = {"errors": errors, "in_test": in_test, "reason": reason, "output": output}
    assert fault_runner.is_broken(failure) == broken


@pytest.mark.slow
def test_a_fault_is_caught(folder: Path) -> None:
    known = next(f for f in FAULTS if f.name == "metric-transposed")
    verdict = fault_runner.judge(folder, known)
    assert (verdict.outcome, verdict.test, verdict.slow) == ("caught", known.tests, False)
    assert verdict.reason.startswith("assert ")
    assert [place.name for place in folder.iterdir()] == ["clean"]


@pytest.mark.slow
def test_a_harmless_change_survives(folder: Path) -> None:
    verdict = fault_runner.judge(folder, fault('"""Number of blocks b."""', '"""How many blocks."""'))
    assert verdict.outcome == "survived"


@pytest.mark.slow
def test_what_dies_under_any_test_is_broken(folder: Path) -> None:
    """Source that is no Python, a module that cannot be imported, a name that is not there, and a test that is none."""
    for made in (
        fault("return np.linalg.inv(", "return np.linalg.inv(("),
        fault("import numpy as np\n", "import numpy as np, no_such_module\n"),
        fault("return np.linalg.inv(", "return no_such_name("),
        fault("return np.linalg.inv(", "return np.linalg.inv(1 * ", "tests/unit/test_frame.py::test_none"),
    ):
        assert fault_runner.judge(folder, made).outcome == "broken", made.new


@pytest.mark.study
@pytest.mark.timeout(7200)
def test_every_fault_is_caught() -> None:
    """All of them; some ten seconds each."""
    assert {fault.name: v.outcome for fault, v in faults.judge_all(FAULTS, 2)} == {f.name: "caught" for f in FAULTS}
