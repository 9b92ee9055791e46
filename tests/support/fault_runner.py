"""Make a fault in a copy of the source, run the test that should catch it, and judge what that test died of.

A fault counts as caught when its test fails because a number, a message or a step is wrong. A mutant that cannot be
read, cannot import, or uses a name that is not there dies of that under any test: such a death is no catch.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.failures import FILE

ROOT = Path(__file__).resolve().parents[2]
FOLDERS, FILES = ("mfpde", "tests", "meshes"), ("pyproject.toml", "README.md", "runs/*.toml")
_PATIENCE = 1200.0  # seconds for one test, most of it compiling, beside others
_PASSED, _FAILED = 0, (1, 2)  # of pytest, the last of several processes that stop at a failure
_CHOICE = ("-m", "not study and not benchmark")  # the slow tests too

# Errors by which a mutant gives itself away: it says nothing of what the test guards.
_BROKEN = ("NameError", "ImportError", "SyntaxError", "AttributeError")
_BROKEN_IN_A_CHILD = re.compile(
    r"^(?:\[\d+\] )?(?:E\s+)?(?:AssertionError: )?"
    r"(NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError|IndentationError|AttributeError): "
)
_ERROR = re.compile(r"(\[\d+\] )?[\w.]+(Error|Exception)\b")


@dataclass(frozen=True)
class Fault:
    """One change of the source.

    Attributes:
        name: what it is called on the command line.
        file: where it is made.
        old: text that occurs exactly once in that file.
        new: what stands there instead.
        tests: what is to fail, as pytest takes it; the cheapest that does.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


@dataclass(frozen=True)
class Verdict:
    """What became of a fault.

    Attributes:
        name: of the fault.
        outcome: "caught", "survived", or "broken" for a mutant that died of an error that any test would have met.
        test: the test that failed; empty when none did.
        reason: the first line of the error.
        slow: only `.ci/run` makes this test; the default run leaves it out.
        seconds: of wall time, with whatever else ran beside.
    """

    name: str
    outcome: str
    test: str
    reason: str
    slow: bool
    seconds: float


class FaultError(Exception):
    """There is no verdict: a text that does not fit, or tests that did not run."""


def check_texts(faults: Iterable[Fault], root: Path = ROOT) -> None:
    """Does every fault's text occur exactly once?

    Raises:
        FaultError: for those that do not, one line each.
    """
    counts = {fault: (root / fault.file).read_text(encoding="utf-8").count(fault.old) for fault in faults}
    wrong = [f"{f.name}: {f.old!r} occurs {count} times in {f.file}" for f, count in counts.items() if count != 1]
    if wrong:
        raise FaultError("\n".join(wrong))


def copy_source(root: Path, target: Path) -> None:
    """Copy what the tests need, with times, so that compiled kernels which did not change are not compiled again."""
    for name in FOLDERS:
        shutil.copytree(root / name, target / name, copy_function=shutil.copy2)
    for pattern in FILES:
        for file in root.glob(pattern):
            place = target / file.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, place)


def run_python(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Python in a copy; it and all processes that it starts import the copy's mfpde."""
    path = os.pathsep.join([str(folder), str(folder / "tests")])
    try:
        return subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path, "COLUMNS": "160"} | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FaultError(f"{' '.join(words)}: no end after {_PATIENCE:g} s") from error


def run_tests(folder: Path, tests: Sequence[str], jobs: int = 0) -> dict[str, Any] | None:
    """The first failure in a copy, as `support.failures` writes it, or None when all tests pass.

    Raises:
        FaultError: when pytest did not run them.
    """
    failure = folder / "failure.json"
    words = ["-m", "pytest", "-q", "-x", "-n", str(jobs), "-p", "no:cacheprovider", "-p", "support.failures"]
    done = run_python(folder, *words, *_CHOICE, *tests, **{FILE: str(failure)})
    if done.returncode == _PASSED:
        return None
    if done.returncode in _FAILED and failure.exists():
        return json.loads(failure.read_text(encoding="utf-8"))
    raise FaultError(f"pytest ended with code {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


@contextmanager
def copies(root: Path = ROOT) -> Iterator[Path]:
    """A folder with a copy `clean`, whose mfpde is the one that Python imports there."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name).resolve()
        clean = folder / "clean"
        copy_source(root, clean)
        done = run_python(clean, "-c", "import mfpde; print(mfpde.__file__)")
        if not Path(done.stdout.strip()).is_relative_to(clean):
            raise FaultError(f"not the copy's mfpde is imported, but {done.stdout.strip() or done.stderr}")
        yield folder


def check_clean(folder: Path, faults: Iterable[Fault], jobs: int = 0) -> None:
    """Do all the tests pass without a fault? What they compile is copied with the source for every fault.

    Raises:
        FaultError: when one does not.
    """
    failure = run_tests(folder / "clean", list(dict.fromkeys(fault.tests for fault in faults)), jobs)
    if failure is not None:
        raise FaultError(f"{failure['test']} fails without any fault: {_first_line(failure)}")


def judge(folder: Path, fault: Fault) -> Verdict:
    """Make one fault in a copy of the clean copy, and run its test there."""
    start = time.perf_counter()
    place = folder / fault.name
    shutil.copytree(folder / "clean", place, copy_function=shutil.copy2)
    try:
        file = place / fault.file
        file.write_text(file.read_text(encoding="utf-8").replace(fault.old, fault.new), encoding="utf-8")
        compile(file.read_text(encoding="utf-8"), fault.file, "exec")
        outcome, test, reason, slow = _outcome(run_tests(place, [fault.tests]))
    except (FaultError, SyntaxError) as error:  # its tests ran in the clean copy
        outcome, test, reason, slow = "broken", fault.tests, str(error).splitlines()[0], False
    finally:
        shutil.rmtree(place)
    return Verdict(fault.name, outcome, test, reason, slow, round(time.perf_counter() - start, 1))


def _outcome(failure: dict[str, Any] | None) -> tuple[str, str, str, bool]:
    if failure is None:
        return "survived", "", "", False
    return "broken" if is_broken(failure) else "caught", failure["test"], _first_line(failure), failure["slow"]


def is_broken(failure: dict[str, Any]) -> bool:
    """Did the mutant die of a name, an import or an attribute that is not there, in this process or in a child?

    A test that takes an attribute of a wrong result fails by `AttributeError` too, but in its own line.
    """
    fatal = set(failure["errors"]) & set(_BROKEN)
    if fatal and not (fatal == {"AttributeError"} and failure["in_test"]):
        return True
    lines = failure["output"] if fatal else [*failure["reason"], *failure["output"]]
    return any(_BROKEN_IN_A_CHILD.match(line) for line in lines)


def _first_line(failure: dict[str, Any]) -> str:
    """The first line of the error, or of the error of a child whose traceback the error shows.

    Without addresses in memory and folders, which are others in the next run.
    """
    lines = failure["reason"] or failure["errors"]
    line = re.sub(r"^AssertionError: (?=assert )", "", lines[0])  # pytest writes it or not, as the assertion was made
    if line.endswith(":"):
        line = next(filter(_ERROR.match, lines[1:]), line)
    return re.sub(r"(?<![\w.])/(?:[\w.+-]+/)+|0x[0-9a-f]+", "…", line)
