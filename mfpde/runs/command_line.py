"""The command line that all commands have in common."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from mfpde.errors import InputError
from mfpde.parallel import mpi


class Parser(argparse.ArgumentParser):
    """Usage errors are bad input like any other: one line, exit code 2, from one rank."""

    def __init__(self, name: str, description: str | None, examples: str) -> None:
        """A command line without arguments yet.

        Args:
            name: of the command, as in `python -m mfpde.NAME`.
            description: what it does.
            examples: shown after the options.
        """
        super().__init__(
            prog=f"python -m mfpde.{name}", description=description, epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        )  # fmt: skip

    def error(self, message: str) -> NoReturn:
        """Raise it.

        Raises:
            InputError: always.
        """
        raise InputError(f"{message}; see {self.prog} --help")

    def print_help(self, file: object = None) -> None:  # noqa: ARG002  (argparse gives it; rank 0 prints)
        """Print the help once, whatever the number of ranks."""
        if mpi.start().rank == 0:
            sys.stdout.write(self.format_help())
