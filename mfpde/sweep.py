"""`python -m mfpde.sweep`: solve a run file for several values of some of its keys, with a table and a figure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mfpde.parallel import mpi
from mfpde.parallel.agreement import agree
from mfpde.parallel.signals import Signals
from mfpde.runs.command_line import Parser

_EXAMPLES = """\
  python -m mfpde.sweep runs/teacher.toml --over training.weight_decay=0.3,0.1,0.03
  mpirun -n 2 python -m mfpde.sweep runs/teacher.toml --over density.cells=12,24 --over density.degree=1,2

Several --over give every combination. Runs are solved one after the other, by all ranks; those that are finished are
not solved again. The directory gets one folder a run, sweep.csv, sweep.png and sweep.pdf.
"""


def parser() -> Parser:
    """The command line."""
    p = Parser("sweep", __doc__, _EXAMPLES)
    p.add_argument("run", type=Path, metavar="RUN.toml", help="run file")
    p.add_argument("--over", action="append", required=True, metavar="a.b=x,y,…", help="a key and its values")
    p.add_overrides("in all runs")
    p.add_argument(
        "--directory", metavar="DIR", help="where the runs go; default NAME-sweep/ beside the run file's NAME/"
    )
    p.add_argument("--overwrite", action="store_true", help="replace other runs that are already there")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (docs/commands.md)."""
    signals = Signals()
    return parser().run(lambda given: _sweep(given, signals), arguments, signals=signals)


def _sweep(given: argparse.Namespace, signals: Signals) -> None:
    mpi.start_petsc()
    from mfpde.runs.parameter_sweep import execute, parse, plan  # noqa: PLC0415  (after MPI and PETSc are up)

    execute(agree(lambda: plan(given.run, parse(given.over), given.set, given.directory, given.overwrite)), signals)


if __name__ == "__main__":
    sys.exit(main())
