"""Everything a solve writes into its run directory, on rank 0: the observer of the time loop."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mfpde.errors import ComputationError, DiskError
from mfpde.output.checkpoint.state_dict import StateDict
from mfpde.output.clouds.nodes_series import NodesSeries
from mfpde.output.directory import MANIFEST, RUN_FILE, SUMMARY
from mfpde.output.fields.series import DensitySeries
from mfpde.output.files import failing_clearly, naming, sync, write_json, write_text
from mfpde.output.records.progress import Progress
from mfpde.output.records.report import Report, Step
from mfpde.output.records.tables import Tables
from mfpde.output.records.threshold_warnings import ThresholdWarnings


class RunWriter:
    """Writes a prepared run directory report by report; a context manager, on rank 0 only.

    A thread writes while the run goes on, one report at a time. A reader may look at any time: density files first,
    history.csv's row last, each complete.
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
        saved: StateDict | None = None,
    ) -> None:
        """Write manifest.json and run.toml; in a directory that is continued, remove what is later than `saved`.

        Args:
            directory: made ready by `directory.prepare`.
            run_text: the resolved run file.
            manifest: from `manifest.describe`; its number of ranks is repeated in the summary.
            unknowns: density unknowns of all layers and families.
            facts: further entries of summary.json.
            progress: shows every report, and is closed at the end; nothing is shown unless given.
            saved: what `state_dict` gave, of a run to continue.

        Raises:
            InputError: when a file that is to be continued is not what it was; nothing is changed then.
            DiskError: when the disk refuses.
        """
        self.directory = directory
        self._facts: dict[str, object] = {"ranks": manifest.get("ranks"), "unknowns": unknowns, **(facts or {})}
        self._progress = progress or Progress(0.0, io.StringIO())
        self._unsynced = {directory / MANIFEST, directory / RUN_FILE}

        before = saved or {}
        self._tables = Tables(directory, before.get("tables"))
        self._warnings = ThresholdWarnings(self._progress.show, before.get("warnings"))
        self._densities = {f: DensitySeries(directory, f, count) for f, count in before.get("densities", {}).items()}
        self._nodes = {f: NodesSeries(directory, f, count) for f, count in before.get("nodes", {}).items()}
        self._reported: float | None = before.get("reported")
        self._summary: dict[str, object] = dict(before.get("summary", {}))
        self._thread = ThreadPoolExecutor(1, "reports")
        self._writing: Future[None] | None = None

        with failing_clearly(directory):
            if saved is not None:
                (directory / SUMMARY).unlink(missing_ok=True)
                self._tables.cut()
                for series in (*self._densities.values(), *self._nodes.values()):
                    series.cut()
            write_json(directory / MANIFEST, manifest)
            write_text(directory / RUN_FILE, run_text)

    def numbers(self, report: Report) -> dict[str, int]:
        """By family the number of its next density file; empty for a report that `report` leaves out.

        Raises:
            DiskError: when the disk refused the report before.
        """
        if self._is_written(report):
            return {}
        self.wait()
        counts = {family: series.count for family, series in self._densities.items()}
        return {snapshot.family: counts.get(snapshot.family, 0) for snapshot in report.snapshots}

    def _is_written(self, report: Report) -> bool:
        return self._reported is not None and report.tau <= self._reported

    def report(self, report: Report) -> None:
        """Show a report, and begin to write all of it, unless one at its τ or later has been written.

        Pieces of densities must have been written before, by `series.write_pieces`.

        Raises:
            DiskError: when the disk refused the report before; of this one, the next call says so.
        """
        if self._is_written(report):
            return

        self.wait()
        self._reported = report.tau
        self._summary = {**report.history, **report.timings, "gap_margin": report.gap_margin}
        self._writing = self._thread.submit(self._write, report)
        self._progress.report(report)
        self._warnings.report(report)

    def wait(self) -> None:
        """Until the last report is written.

        Raises:
            DiskError: when the disk refused it.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, report: Report) -> None:
        with failing_clearly(self.directory):
            for snapshot in report.snapshots:
                if snapshot.family not in self._densities:
                    self._densities[snapshot.family] = DensitySeries(self.directory, snapshot.family)
                series = self._densities[snapshot.family]
                self._unsynced |= {series.write(report.tau, snapshot), series.path}
            for nodes in report.clouds:
                if nodes.family not in self._nodes:
                    self._nodes[nodes.family] = NodesSeries(self.directory, nodes.family)
                files = self._nodes[nodes.family]
                self._unsynced |= {files.write(report.tau, nodes), files.path}
            self._tables.append(report)
        self._unsynced |= set(self._tables.paths)

    def last_steps(self, steps: Sequence[Step]) -> None:
        """Write trial steps that led to no report, those before a failure; a disk that refuses is ignored."""
        with suppress(OSError, DiskError):
            self.wait()
            self._tables.append_steps(steps)

    def show(self, line: str) -> None:
        """Show a line to the user."""
        self._progress.show(line)

    def warn(self, line: str) -> None:
        """Show a warning, and keep it for summary.json."""
        self._warnings.issue(line)

    def note(self, facts: Mapping[str, object]) -> None:
        """Keep further entries for summary.json."""
        self._facts |= facts

    def state_dict(self) -> StateDict:
        """What a checkpoint must know to continue the directory; all files have reached the disk then.

        Raises:
            DiskError: when the disk refuses.
        """
        self.wait()
        with failing_clearly(self.directory):
            for path in sorted(self._unsynced):
                with naming(path):
                    sync(path)
        self._unsynced.clear()

        return {
            "tables": self._tables.state_dict(),
            "densities": {family: series.count for family, series in self._densities.items()},
            "nodes": {family: series.count for family, series in self._nodes.items()},
            "warnings": self._warnings.state_dict(),
            "reported": self._reported,
            "summary": self._summary,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        with suppress(ComputationError):  # the exception under way is the one to report
            self.close(" ".join(f"{kind.__name__}: {value}".split()))

    def close(self, outcome: str = "done") -> None:
        """Write summary.json, and end the progress display.

        Args:
            outcome: "done", or in one line why the run ended early.

        Raises:
            DiskError: when the disk refuses.
        """
        self._progress.close()
        try:
            self.wait()
        finally:
            self._thread.shutdown()
        with failing_clearly(self.directory):
            content = {**self._summary, **self._facts, "warnings": self._warnings.issued, "outcome": outcome}
            write_json(self.directory / SUMMARY, content)
