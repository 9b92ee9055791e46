"""A plugin of pytest that writes down the first failure: which test, in which phase, and every exception behind it.

`python -m pytest -p support.failures …` writes JSON to the file that FAILURE_FILE names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE, TESTS = "FAILURE_FILE", Path(__file__).resolve().parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Called after set-up, call and tear-down of each test."""
    report = yield
    place = Path(os.environ[FILE])

    if report.failed and call.excinfo is not None and not place.exists():
        error, raised_in = call.excinfo.value, call.excinfo.traceback[-1].path
        lines = (report.longreprtext or "").splitlines()
        reason = [line[1:].strip() for line in lines if line.startswith("E  ")]
        if isinstance(error, BaseExceptionGroup):  # hypothesis, for examples that fail in different ways
            reason = [f"{type(one).__name__}: {str(one).strip()}".partition("\n")[0] for one in error.exceptions]

        found = {
            "test": item.nodeid,
            "slow": item.get_closest_marker("slow") is not None,
            "errors": list(causes(error)),
            "in_test": Path(raised_in).is_relative_to(TESTS),
            "reason": reason,
            "output": [line for _, text in report.sections for line in text.splitlines()],
        }
        place.write_text(json.dumps(found), encoding="utf-8")
    return report


def causes(error: BaseException | None) -> Iterator[str]:
    """The names of an exception's classes, and of those of the exceptions behind it or in it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield from (kind.__name__ for kind in type(error).__mro__ if issubclass(kind, Exception))
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from causes(one)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
