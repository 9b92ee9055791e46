"""`python -m mfpde.particles`: train the finite Transformers of a run file, spread over ranks under mpirun."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mfpde.errors import InputError
from mfpde.parallel.agreement import agree
from mfpde.runs.command_line import Parser, number

if TYPE_CHECKING:
    from mfpde.runs.training_plan import TrainingPlan

_EXAMPLES = """\
  python -m mfpde.particles runs/in-context.toml --units 10,40,160 --seeds 8
  mpirun -n 2 python -m mfpde.particles runs/in-context.toml --units 40 --seeds 8 --layers 4,8,16
  python -m mfpde.particles runs/in-context.toml --units 32x20,48x24 --initial grid --set training.horizon=1
  python -m mfpde.particles runs/in-context.toml --units 40 --seeds 4 --learning-rate 0.05

A run file with training.method is trained by its steps and batches.
A study that was stopped goes on where it was; finished Transformers are not trained again.
"""
_KEPT = "stopped; finished Transformers are kept, and the same command goes on with the others"


def parser() -> Parser:
    """The command line."""
    p = Parser("particles", __doc__, _EXAMPLES)
    p.add_argument("run", type=Path, metavar="RUN.toml", help="run file, the same as that of the solve")
    p.add_argument(
        "--units", required=True, metavar="M,…", help="units per family and layer; with a grid, points per coordinate"
    )
    p.add_argument("--seeds", metavar="S", help="how many sets of drawn units of each size")
    p.add_argument("--layers", metavar="L,…", help="depths; default that of the run file")
    p.add_argument("--directory", metavar="DIR", help="the run directory; results go to its folder particles/")
    p.add_overrides("of the run file")
    p.add_argument(
        "--initial", default="sampled", metavar="HOW", help="sampled (default), grid or gauss: where units start"
    )
    p.add_argument(
        "--learning-rate",
        metavar="h",
        help="the flow by gradient descent with steps of h in τ; default the flow itself",
    )
    p.add_argument("--tolerance", metavar="e", help="of a step of the flow; default 1e-6")
    p.add_argument("--tau", metavar="τ,…", help="reports at which units are kept; default five of them")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (docs/commands.md)."""
    return parser().run(_train, arguments, _KEPT)


def _train(given: argparse.Namespace) -> None:
    from mfpde.runs.finite_runs import execute  # noqa: PLC0415  (after MPI is up)

    execute(agree(lambda: _plan(given)))


def _plan(given: argparse.Namespace) -> TrainingPlan:
    """Everything that the command line can get wrong."""
    from mfpde.config import run_file  # noqa: PLC0415
    from mfpde.runs.training_plan import plan_training  # noqa: PLC0415

    return plan_training(
        run_file.load(given.run, given.set, given.directory),
        [tuple(_whole("--units", part) for part in word.split("x")) for word in _words(given.units)],
        seeds=None if given.seeds is None else _whole("--seeds", given.seeds),
        layers=[_whole("--layers", word) for word in _words(given.layers)],
        initial=given.initial,
        learning_rate=None if given.learning_rate is None else number(given.learning_rate),
        tolerance=None if given.tolerance is None else number(given.tolerance),
        tau=[number(word) for word in _words(given.tau)],
    )


def _words(text: str | None) -> list[str]:
    return [] if text is None else text.split(",")


def _whole(option: str, text: str) -> int:
    """A whole number from 1.

    Raises:
        InputError: naming the option and the text.
    """
    if not text.strip().isdecimal() or not 1 <= len(text.strip()) <= 12 or int(text) < 1:
        raise InputError(f"{option} {text!r}: must be whole numbers, at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
