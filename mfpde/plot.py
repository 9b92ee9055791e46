"""`python -m mfpde.plot DIR`: figures, an animation and a report of a finished or running run, into DIR/figures/."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mfpde.inputs import real
from mfpde.parallel import mpi
from mfpde.parallel.agreement import agree
from mfpde.runs.command_line import Parser, number

_EXAMPLES = """\
  python -m mfpde.plot runs/quickstart            # everything; open figures/report.html in a browser
  python -m mfpde.plot runs/in-context --tau 2.5  # as it was at a report before the last
  python -m mfpde.plot runs/quickstart --family head_0 --no-animation
  python -m mfpde.plot runs/quickstart --watch    # follow a run in the terminal while it goes on; Ctrl-C ends
"""


def parser() -> Parser:
    """The command line."""
    p = Parser("plot", __doc__, _EXAMPLES)
    p.add_argument("directory", type=Path, metavar="DIR", help="a run directory, finished or running")
    p.add_argument("--tau", metavar="τ", help="the report to draw; default the last")
    p.add_argument("--family", action="append", default=[], metavar="NAME", help="figures of this family alone; repeat")
    p.add_argument("--no-animation", action="store_true", help="leave the film through τ out: it takes the longest")
    p.add_argument("--watch", action="store_true", help="follow a run in the terminal until it ends; draws nothing")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (docs/commands.md)."""
    return parser().run(_plot, arguments, "stopped; figures that were finished are there")


def _plot(given: argparse.Namespace) -> None:
    comm = mpi.start()
    tau = None if given.tau is None else real("--tau", number(given.tau))
    agree(lambda: _draw(given, tau) if comm.rank == 0 else None)


def _draw(given: argparse.Namespace, tau: float | None) -> None:
    """On rank 0: drawing is serial."""
    from mfpde.figures.run import open_run  # noqa: PLC0415  (slow, and a mistake in the command is reported first)

    run = open_run(given.directory)
    if given.watch:
        from mfpde.figures.pages.live_view import watch  # noqa: PLC0415

        watch(run, sys.stdout)
        return

    from mfpde.figures.pages.album import FigureOptions, write_figures  # noqa: PLC0415

    written = write_figures(run, FigureOptions(tau, tuple(given.family), animation=not given.no_animation))
    mpi.say(f"{len(written)} files in {run.directory / 'figures'}: open {written[-1].name} first")


if __name__ == "__main__":
    sys.exit(main())
