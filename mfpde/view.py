"""`python -m mfpde.view DIR`: the report of a run, finished or running, or all runs below DIR, in a browser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mfpde.inputs import whole
from mfpde.parallel import mpi
from mfpde.parallel.agreement import agree
from mfpde.runs.command_line import Parser, whole_number

_EXAMPLES = """\
  python -m mfpde.view runs                 # a table of all runs there, with their curves; pages update themselves
  python -m mfpde.view runs/in-context      # one run, also while it is solved
  python -m mfpde.view runs --port 8765
"""


def parser() -> Parser:
    """The command line."""
    p = Parser("view", __doc__, _EXAMPLES)
    p.add_argument(
        "directory", type=Path, metavar="DIR", help="a run directory, or a folder with run directories in it"
    )
    p.add_argument("--port", metavar="N", default="0", help="of 127.0.0.1; default one that is free")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (docs/commands.md)."""
    return parser().run(_view, arguments, "the server has ended; it had written nothing")


def _view(given: argparse.Namespace) -> None:
    comm = mpi.start()
    port = whole("--port", whole_number(given.port), 0, 65535)
    agree(lambda: _serve(given.directory, port) if comm.rank == 0 else None)


def _serve(directory: Path, port: int) -> None:
    """Until Ctrl-C, on rank 0."""
    from mfpde.figures.pages.run_server import RunServer  # noqa: PLC0415  (slow, and mistakes are reported first)

    with RunServer(directory, port) as server:
        mpi.say(f"open {server.address} in a browser on this machine; Ctrl-C ends")
        server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
