"""`python -m mfpde.generate DIR`: text written by the limit of a finished run of the task "text"."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mfpde.errors import InputError
from mfpde.inputs import is_text, real, whole
from mfpde.parallel import mpi
from mfpde.runs.command_line import Parser, number, whole_number

_EXAMPLES = """\
  python -m mfpde.generate runs/text                                     # 400 characters, drawn from the limit
  python -m mfpde.generate runs/text --temperature 0 --start "and god "  # the likeliest after these
  python -m mfpde.generate runs/text --length 2000 --seed 1 > text.txt
"""


def parser() -> Parser:
    """The command line."""
    p = Parser("generate", __doc__, _EXAMPLES)
    p.add_argument("directory", type=Path, metavar="DIR", help="the directory of a run whose task is 'text'")
    p.add_argument("--length", default="400", metavar="N", help="characters to write; default 400")
    p.add_argument("--temperature", default="1", metavar="T", help="of softmax(o/T); 0 writes the likeliest; default 1")
    p.add_argument("--seed", default="0", metavar="S", help="of the draws; default 0")
    p.add_argument("--start", metavar="TEXT", help="what to go on from; default the beginning of what was held out")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (docs/commands.md)."""
    return parser().run(_generate, arguments)


def _generate(given: argparse.Namespace) -> None:
    comm = mpi.start()
    temperature = real("--temperature", number(given.temperature), least=0.0)
    length, seed = whole("--length", whole_number(given.length), 1), whole("--seed", whole_number(given.seed), 0)
    if given.start is not None and not is_text(given.start):
        raise InputError(f"--start {given.start!a}: must be a text in UTF-8")

    from mfpde.api import generate_text  # noqa: PLC0415  (slow; mistakes are reported first)

    text = generate_text(given.directory, length, temperature=temperature, seed=seed, start=given.start)
    if comm.rank == 0:
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
