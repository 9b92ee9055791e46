"""A server of reports on this machine alone: all runs below a folder, finished or running, and the page of each.

It makes pages of what the run directories hold at that moment; it hands out no file, takes no path, and writes nothing.
A run is asked for by the name that the list has for it, and a name that is not in the list is not found.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from mfpde.errors import ComputationError, InputError
from mfpde.figures.pages.renderer import render, script
from mfpde.figures.pages.run_report import report_page
from mfpde.output.directory import MANIFEST
from mfpde.output.reader import RunReader

HOST = "127.0.0.1"
_MOST_RUNS = 2000  # of a list
_SHOWN = ("risk", "test_risk", "energy", "accuracy", "test_accuracy", "gap", "risk_error", "steps")


@dataclass(frozen=True)
class RunFolder:
    """A folder with runs in it, at any depth; links are not followed.

    Attributes:
        root: the folder.
    """

    root: Path

    def names(self) -> list[str]:
        """Where the runs are, relative to the folder; "." is the folder itself."""
        return sorted(self._names())[:_MOST_RUNS]

    def _names(self) -> Iterator[str]:
        for place, folders, files in os.walk(self.root, followlinks=False):
            if MANIFEST in files and not (Path(place) / MANIFEST).is_symlink():
                yield Path(place).relative_to(self.root).as_posix()
                folders.clear()

    def run(self, name: str) -> RunReader:
        """The run of a name in the list.

        Raises:
            InputError: when there is none, or it cannot be read.
        """
        if name not in self.names():
            raise InputError(f"{name!r}: no run of that name")
        return RunReader(self.root / name)

    def summary(self) -> list[dict[str, Any]]:
        """Of each run what its row and its curves show; a run that cannot be read has no columns."""
        return [self._row(name) for name in self.names()]

    def _row(self, name: str) -> dict[str, Any]:
        try:
            run = RunReader(self.root / name)
            history, summary = run.history, run.summary
        except (InputError, OSError) as error:
            return {"name": name, "outcome": str(error), "columns": {}, "tau": []}

        columns = {
            key: [float(v) if math.isfinite(v) else None for v in np.asarray(history[key], dtype=np.float64)]
            for key in _SHOWN
            if key in history
        }
        outcome = "running" if summary is None else str(summary["outcome"])
        return {"name": name, "outcome": outcome, "columns": columns, "tau": run.taus.tolist()}


class RunServer(ThreadingHTTPServer):
    """Serves the pages of a folder on the loopback interface.

    Attributes:
        folder: the folder.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        """Listen.

        Args:
            folder: with run directories in it, or a run directory.
            port: 0 takes one that is free.

        Raises:
            InputError: when the folder does not exist, or the port cannot be had.
        """
        if not folder.is_dir():
            raise InputError(f"folder {folder}: {'is a file' if folder.exists() else 'does not exist'}")
        self.folder = RunFolder(folder)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(f"--port {port}: {error}; another may be free, and 0 takes one that is") from error

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    """Answers GET; pages of other sites may not ask, as browsers send the name that these were loaded from."""

    server: RunServer

    def do_GET(self) -> None:
        """The list, a report, or what either needs to notice that something is new."""
        asked = urlsplit(self.path)
        name = parse_qs(asked.query).get("name", [""])[0]
        if self.headers.get("Host", "") not in {f"{host}:{self.server.server_port}" for host in (HOST, "localhost")}:
            return self._answer(HTTPStatus.FORBIDDEN, "text/plain", "not from here")

        try:
            found = self._page(asked.path, name)
        except (InputError, ComputationError, OSError, KeyError, ValueError) as error:
            return self._answer(HTTPStatus.NOT_FOUND, "text/plain", f"This run cannot be shown: {error}")
        if found is None:
            return self._answer(HTTPStatus.NOT_FOUND, "text/plain", "There is no such page.")
        return self._answer(HTTPStatus.OK, *found)

    def _page(self, path: str, name: str) -> tuple[str, str] | None:
        """The kind and the text of a page; None where there is none."""
        folder = self.server.folder
        match path:
            case "/":
                return "text/html", render("runs", {"folder": str(folder.root), "script": script("runs")})
            case "/run":
                return "text/html", report_page(folder.run(name), [], live=True)
            case "/runs.json":
                return "application/json", json.dumps(folder.summary())
            case "/state.json":
                return "application/json", json.dumps(self._state(name))
            case _:
                return None

    def _state(self, name: str) -> dict[str, object]:
        run = self.server.folder.run(name)
        return {"reports": len(run.taus), "ended": run.summary is not None}

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        content = text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it so)
        """Say nothing: a page that updates itself asks every few seconds."""
