"""`python -m mfpde.solve`: solve the limiting PDE of a run file, in parallel under mpirun."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mfpde.errors import InputError
from mfpde.inputs import duration
from mfpde.parallel import mpi
from mfpde.parallel.agreement import agree
from mfpde.parallel.signals import Signals
from mfpde.runs.command_line import Parser

_EXAMPLES = """\
  mpirun -n 8 python -m mfpde.solve                                # the quick start, on real data
  python -m mfpde.solve runs/in-context.toml                       # one process
  mpirun -n 4 python -m mfpde.solve runs/digits.toml --set density.cells=32 --directory fine
  python -m mfpde.solve runs/in-context.toml --estimate-error      # how far the risk is from exact
  mpirun -n 8 python -m mfpde.solve runs/in-context.toml --resume  # go on after Ctrl-C, or to a longer training.horizon
  python -m mfpde.solve runs/in-context.toml -- -ts_monitor        # PETSc options after --
"""


def parser() -> Parser:
    """The command line."""
    p = Parser("solve", __doc__, _EXAMPLES)
    p.add_argument("run", nargs="?", type=Path, metavar="RUN.toml", help="run file; without one, the quick start")
    p.add_overrides("of the run file")
    p.add_argument("--directory", metavar="DIR", help="where the results go; default NAME/ beside the run file")
    p.add_argument("--overwrite", action="store_true", help="replace a run that is already there")
    p.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the directory")
    p.add_argument("--estimate-error", action="store_true", help="estimate the risk's error by a finer solve alongside")
    p.add_argument("--wall-time", metavar="2h", help="save and end before this much time has passed")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (docs/commands.md)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    cut = words.index("--") if "--" in words else len(words)
    signals = Signals()
    return parser().run(lambda given: _solve(given, words[cut + 1 :], signals), words[:cut], signals=signals)


def _solve(given: argparse.Namespace, petsc: Sequence[str], signals: Signals) -> None:
    if given.resume and given.overwrite:
        raise InputError("--resume and --overwrite exclude each other")
    wall_time = None if given.wall_time is None else duration("--wall-time", given.wall_time)

    mpi.start_petsc(petsc)
    from mfpde.config import run_file  # noqa: PLC0415  (after MPI and PETSc are up)

    run = agree(lambda: run_file.load(given.run, given.set, given.directory))
    from mfpde.runs.limit_run import RunOptions, execute  # noqa: PLC0415  (slow; mistakes are reported first)

    options = RunOptions(
        overwrite=given.overwrite or (given.run is None and not given.resume),
        resume=given.resume,
        estimate_error=given.estimate_error,
        wall_time=wall_time,
        petsc=petsc,
        signals=signals,
    )
    execute(run, options)


if __name__ == "__main__":
    sys.exit(main())
