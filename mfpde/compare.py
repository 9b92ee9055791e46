"""`python -m mfpde.compare`: the limit of a run directory against its finite Transformers, in one report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mfpde.parallel import mpi
from mfpde.parallel.signals import Signals
from mfpde.runs.command_line import Parser, number, whole_number

_EXAMPLES = """\
  python -m mfpde.compare runs/in-context                       # after solve and particles
  mpirun -n 2 python -m mfpde.compare runs/in-context           # missing depths are solved on both ranks
  python -m mfpde.compare runs/in-context --depth 4,8,16,32,64  # the error of a finite number of layers
"""
_KEPT = "stopped; depths that were solved are kept, and the same command goes on"


def parser() -> Parser:
    """The command line."""
    p = Parser("compare", __doc__, _EXAMPLES)
    p.add_argument("directory", type=Path, metavar="DIR", help="a run directory that solve and particles have filled")
    p.add_argument("--run", type=Path, metavar="RUN.toml", help="the run file, if DIR or the files it names were moved")
    p.add_argument("--depth", default="", metavar="L,…", help="depths to compare with L = ∞, at least two")
    p.add_argument(
        "--change", metavar="c", help="relative change of λ, η and learning rate that must have been seen; default 0.05"
    )
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (docs/commands.md), 0 for a verdict of any kind."""
    signals = Signals(_KEPT)
    return parser().run(lambda given: _compare(given, signals), arguments, _KEPT, signals)


def _compare(given: argparse.Namespace, signals: Signals) -> None:
    comm = mpi.start()
    mpi.start_petsc()
    from mfpde.runs.comparison_inputs import checked_change, checked_depths  # noqa: PLC0415
    from mfpde.runs.comparison_run import compare  # noqa: PLC0415  (after MPI and PETSc are up)

    depths = checked_depths([whole_number(word.strip()) for word in given.depth.split(",")] if given.depth else [])
    change = checked_change(None if given.change is None else number(given.change))
    found = compare(given.directory, given.run, depths, change, signals).verdict
    if comm.rank == 0:
        sys.stdout.write(f"{found.sentence}: {given.directory / 'compare' / 'report.html'}\n{found.why}\n")


if __name__ == "__main__":
    sys.exit(main())
