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
    from mfpde.config.settings import Training
    from mfpde.finite.jobs import Method
    from mfpde.runs.finite_runs import TrainingPlan

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
    from mfpde.finite.jobs import INITIALS, plan  # noqa: PLC0415
    from mfpde.inputs import one_of, real  # noqa: PLC0415
    from mfpde.runs.finite_runs import TrainingPlan  # noqa: PLC0415

    run = run_file.load(given.run, given.set, given.directory)
    if run.training.optimiser is None and "horizon" not in run.content["training"]:
        raise InputError(f"{given.run}: training.horizon is missing; finite Transformers are trained to it")
    one_of("--initial", given.initial, INITIALS)
    _check_noise(given, run.training.temperature)

    method = _method(given, run.training)
    seeds = _seeds(given)
    layers = [_whole("--layers", word) for word in _words(given.layers)] or [run.build(trial=False)[0].layers]
    sizes = [tuple(_whole("--units", part) for part in word.split("x")) for word in _words(given.units)]
    kept = [real("--tau", number(word)) for word in _words(given.tau)] or None
    return TrainingPlan(run, plan(given.initial, sizes, layers, seeds, method), kept)


def _method(given: argparse.Namespace, training: Training) -> Method:
    """The run file's method, or for its flow steps of one length or of one tolerance.

    Raises:
        InputError: for options that exclude each other, or the run file's method.
    """
    from mfpde.finite.jobs import Method  # noqa: PLC0415
    from mfpde.inputs import real  # noqa: PLC0415

    options = {"--learning-rate": given.learning_rate, "--tolerance": given.tolerance}
    named = [option for option, value in options.items() if value is not None]
    if training.optimiser is not None:
        if named:
            raise InputError(
                f"{named[0]} {options[named[0]]}: is of the flow; the run file has training.method = "
                f"{training.optimiser.method!r}, whose steps are taken as they are"
            )
        return Method(None, 0.0, training.optimiser.method)

    if len(named) > 1:
        raise InputError("--learning-rate and --tolerance exclude each other; give one")
    if given.learning_rate is not None:
        return Method(real("--learning-rate", number(given.learning_rate), above=0.0), 0.0)
    return Method(None, real("--tolerance", number(given.tolerance or "1e-6"), least=1e-14))


def _check_noise(given: argparse.Namespace, temperature: float) -> None:
    """Noise needs units that are drawn, and steps.

    Raises:
        InputError: naming the option.
    """
    if temperature > 0.0 and given.initial != "sampled":
        raise InputError(f"--initial {given.initial}: units with noise (training.temperature) are drawn, not on a grid")
    if temperature > 0.0 and given.learning_rate is None:
        raise InputError("training.temperature is not 0: noise needs steps; give --learning-rate, such as 0.01")


def _seeds(given: argparse.Namespace) -> int:
    if given.seeds is not None:
        return _whole("--seeds", given.seeds)
    if given.initial == "sampled":
        raise InputError("--seeds is missing: how many sets of units are drawn of each size? give a whole number")
    return 1


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
