"""How far a run is: a live bar on a terminal, else one line per report."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TextIO

from tqdm import tqdm

from mfpde.output.records.report import Report

_COUNT = "{desc} {n} of {total} |{bar}| [{elapsed}<{remaining}] {postfix}"
_BAR = "{percentage:3.0f}%|{bar}| tau {n:.4g}/{total:.4g} [{elapsed}<{remaining}]{postfix}"


class Progress:
    """Rank 0's view of the run; a terminal or a pipe that goes away ends the view, not the run."""

    def __init__(self, horizon: float, stream: TextIO | None = None) -> None:
        """On a terminal, show what comes before the first report; elsewhere nothing is shown before it.

        Args:
            horizon: final τ.
            stream: standard output unless given; a bar if it is a terminal.
        """
        self._horizon = horizon
        self._stream = stream or sys.stdout or io.StringIO()  # a process may have no standard output
        self._live = self._stream.isatty()
        self._bar: tqdm | None = None
        if self._live:
            self.show("compiling, about a minute the first time")

    def report(self, report: Report) -> None:
        """Show a report's τ, risk, energy, and accuracy if there is one."""
        with suppress(OSError):
            if self._live:
                self._move(report.tau).set_postfix_str("  ".join(_summary(report)))
            else:
                self._stream.write(_line(report) + "\n")
                self._stream.flush()

    def advance(self, tau: float) -> None:
        """Move the live bar between reports; without one, nothing happens."""
        with suppress(OSError):
            if self._live:
                self._move(tau)

    def show(self, line: str) -> None:
        """Show a line, above the bar if there is one."""
        with suppress(OSError):
            tqdm.write(line, file=self._stream)
            self._stream.flush()

    def close(self) -> None:
        """Leave the last state of the bar on the screen."""
        with suppress(OSError):
            if self._bar is not None:
                self._bar.close()
        self._bar = None

    def _move(self, tau: float) -> tqdm:
        if self._bar is None:
            self._bar = tqdm(total=self._horizon, initial=tau, file=self._stream, bar_format=_BAR, dynamic_ncols=True)
        self._bar.update(max(min(tau, self._horizon) - self._bar.n, 0.0))
        return self._bar


class Steps:
    """A job of known steps: a bar with the time left on a terminal, nothing elsewhere."""

    def __init__(self, doing: str, stream: TextIO | None = None) -> None:
        """Nothing is shown before the first step.

        Args:
            doing: what, in a word.
            stream: standard output unless given.
        """
        self._doing = doing
        self._stream = stream or sys.stdout or io.StringIO()  # a process may have no standard output

    def each[Step](self, steps: Sequence[Step], name: Callable[[Step], str]) -> Iterator[Step]:
        """The steps, each shown by its name while it is done."""
        bar = tqdm(
            steps, desc=self._doing, file=self._stream, disable=not self._stream.isatty(), dynamic_ncols=True,
            bar_format=_COUNT,
        )  # fmt: skip
        with bar:
            for step in bar:
                bar.set_postfix_str(name(step))
                yield step


def _line(report: Report) -> str:
    words = [f"tau {report.tau:<8.6g}", *_summary(report)]
    if "steps" in report.history:
        words.append(f"steps {report.history['steps']:.0f}")
    if "wall" in report.timings:
        words.append(f"wall {report.timings['wall']:.1f} s")
    return "  ".join(words)


def _summary(report: Report) -> list[str]:
    """Risk and energy to six digits, the estimated error of the risk if there is one, accuracies in per cent."""
    words = [f"{name} {report.history[name]:.6g}" for name in ("risk", "energy") if name in report.history]
    if math.isfinite(error := report.history.get("risk_error", math.nan)):
        words.insert(1, f"+- {error:.1g}")
    if "accuracy" in report.history:
        words.append(f"accuracy {100 * report.history['accuracy']:.1f} %")
    return words
