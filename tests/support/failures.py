"""A plugin of pytest that writes down the first failure: which test, in which phase, and every exception behind it.

`python -m pytest -p support.failures …` writes JSON to the file that FAILURE_FILE names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE = "FAILURE_FILE"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Called after set-up, call and tear-down of each test."""
    report = yield
    place = Path(os.environ[FILE])

    if report.failed and call.excinfo is not None and not place.exists():
        lines = (report.longreprtext or "").splitlines()
        found = {
            "test": item.nodeid,
            "slow": item.get_closest_marker("slow") is not None,
            "errors": list(causes(call.excinfo.value)),
            "reason": [line[1:].strip() for line in lines if line.startswith("E  ")],
            "output": [line for _, text in report.sections for line in text.splitlines()],
        }
        place.write_text(json.dumps(found), encoding="utf-8")
    return report


def causes(error: BaseException | None) -> Iterator[str]:
    """The names of an exception's classes, and of those of the exceptions behind it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield from (kind.__name__ for kind in type(error).__mro__ if issubclass(kind, Exception))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
