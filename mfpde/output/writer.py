"""Everything a solve leaves behind, on rank 0: the observer of the time loop."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mfpde.errors import ComputationError
from mfpde.output.alarms import Alarms
from mfpde.output.directory import MANIFEST, RUN_FILE, SUMMARY
from mfpde.output.files import failing_clearly, write_json, write_text
from mfpde.output.progress import Progress
from mfpde.output.report import Report
from mfpde.output.tables import Tables
from mfpde.output.vtu import DensitySeries


class RunWriter:
    """Writes a prepared run directory report by report; a context manager, on rank 0 only.

    A reader may look at any time: density files first, history.csv's row last, each complete.
    """

    def __init__(
        self,
        directory: Path,
        *,
        run_text: str,
        manifest: Mapping[str, object],
        unknowns: int,
        facts: Mapping[str, object] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Write manifest.json and run.toml.

        Args:
            directory: made ready by `directory.prepare`.
            run_text: the resolved run file.
            manifest: from `manifest.describe`; its number of ranks is repeated in the summary.
            unknowns: density unknowns of all layers and families.
            facts: further entries of summary.json.
            progress: told of every report, and closed at the end.

        Raises:
            ComputationError: when the disk refuses.
        """
        self.directory = directory
        self._facts: dict[str, object] = {"ranks": manifest.get("ranks"), "unknowns": unknowns, **(facts or {})}
        self._progress = progress
        self._tables = Tables(directory)
        self._alarms = Alarms(progress.warn if progress is not None else _ignore)
        self._densities: dict[str, DensitySeries] = {}
        self._last: Report | None = None
        self._closed = False
        with failing_clearly(directory):
            write_json(directory / MANIFEST, manifest)
            write_text(directory / RUN_FILE, run_text)

    def report(self, report: Report) -> None:
        """Write all that a report says; one at the τ of the last is already there and is left out.

        Raises:
            ComputationError: when the disk refuses.
        """
        if self._last is not None and report.tau <= self._last.tau:
            return
        with failing_clearly(self.directory):
            for snapshot in report.snapshots:
                if snapshot.family not in self._densities:
                    self._densities[snapshot.family] = DensitySeries(self.directory, snapshot.family)
                self._densities[snapshot.family].write(report.tau, snapshot)
            self._tables.append(report)
        self._last = report
        if self._progress is not None:
            self._progress.report(report)
        self._alarms.report(report)

    def note(self, facts: Mapping[str, object]) -> None:
        """Keep further entries for summary.json."""
        self._facts |= facts

    def close(self, outcome: str = "done") -> None:
        """Write summary.json and end the progress display; a second call does nothing.

        Args:
            outcome: "done", or in one line why the run ended early.

        Raises:
            ComputationError: when the disk refuses.
        """
        if self._closed:
            return
        self._closed = True
        last = self._last
        summary = {
            **(last.history if last else {}),
            **(last.timings if last else {}),
            **self._facts,
            "warnings": self._alarms.told,
            "outcome": outcome,
        }
        if self._progress is not None:
            self._progress.close()
        with failing_clearly(self.directory):
            write_json(self.directory / SUMMARY, summary)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        with suppress(ComputationError):  # the error that is under way is the one to hear of
            self.close(" ".join(f"{kind.__name__}: {value}".split()))


def _ignore(_line: str) -> None:
    """Where no progress is shown, warnings stand in summary.json alone."""
