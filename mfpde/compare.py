"""`python -m mfpde.compare`: the PDE of a run directory against its finite Transformers, in one report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mfpde import parallel
from mfpde.command import Parser
from mfpde.errors import InputError

_EXAMPLES = """\
examples:
  python -m mfpde.compare runs/in-context                       # after solve and particles
  mpirun -n 2 python -m mfpde.compare runs/in-context           # missing depths are solved on both ranks
  python -m mfpde.compare runs/in-context --depth 4,8,16,32,64  # the error of a finite number of layers
"""


def parser() -> Parser:
    """The command line."""
    p = Parser("compare", __doc__, _EXAMPLES)
    p.add_argument("directory", type=Path, metavar="DIR", help="a run directory that solve and particles have filled")
    p.add_argument("--run", type=Path, metavar="RUN.toml", help="the run file, if DIR or the files it names were moved")
    p.add_argument("--depth", default="", metavar="L,…", help="depths to compare with L = ∞, at least two")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (docs/commands.md). A verdict of either kind is a command that was done."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return parallel.run_command(
        lambda: _compare(words), "stopped; depths that were solved are kept, and the same command goes on"
    )


def _compare(words: list[str]) -> int:
    given = parser().parse_args(words)
    depths = _depths(given.depth)
    comm = parallel.start()
    parallel.start_petsc()
    from mfpde.comparison import compare  # noqa: PLC0415  (after MPI and PETSc are up)

    said = compare(given.directory, given.run, depths)
    if comm.rank == 0:
        verdict = "undecided whether the PDE matches" if said == "undecided" else f"the PDE {said}"
        sys.stdout.write(f"{verdict}: {given.directory / 'compare' / 'report.html'}\n")
    return 0


def _depths(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")] if text else []
    if not all(word.isdecimal() and 1 <= int(word) <= 100_000 for word in words) or len(set(words)) == 1:
        raise InputError(f"--depth {text}: must be at least two whole numbers, 1 … 100000, as in 4,8,16")
    return sorted({int(word) for word in words})


if __name__ == "__main__":
    sys.exit(main())
