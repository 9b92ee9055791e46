"""`python -m mfpde.compare`: the limit of a run directory against its finite Transformers, in one report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mfpde.errors import InputError
from mfpde.parallel import mpi
from mfpde.parallel.signals import Signals
from mfpde.runs.command_line import Parser, number

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
    depths, change = _depths(given.depth), _change(given.change)
    comm = mpi.start()
    mpi.start_petsc()
    from mfpde.runs.comparison_run import compare  # noqa: PLC0415  (after MPI and PETSc are up)

    found = compare(given.directory, given.run, depths, change, signals)
    if comm.rank == 0:
        sys.stdout.write(f"{found.sentence}: {given.directory / 'compare' / 'report.html'}\n{found.why}\n")


def _depths(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")] if text else []
    if not all(word.isdecimal() and 1 <= int(word) <= 100_000 for word in words) or len(set(words)) == 1:
        raise InputError(f"--depth {text}: must be at least two whole numbers, 1 … 100000, as in 4,8,16")
    return sorted({int(word) for word in words})


def _change(text: str | None) -> float | None:
    value = None if text is None else number(text)
    if value is not None and not (isinstance(value, float) and 0.0 < value < 1.0):
        raise InputError(f"--change {text}: must be a number between 0 and 1, as in 0.05 for 5 %")
    return value


if __name__ == "__main__":
    sys.exit(main())
