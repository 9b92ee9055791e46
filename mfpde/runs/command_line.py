"""What the command lines of all commands have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from mfpde.errors import InputError
from mfpde.inputs import one_of
from mfpde.parallel import mpi
from mfpde.parallel.command import run_command
from mfpde.parallel.signals import Signals

_SHELLS = ("bash", "zsh")
_FOLDERS, _FILES = ("DIR",), ("RUN.toml",)  # what help calls them


def number(text: str) -> float | str:
    """The number that a text of the command line stands for; a text that is none as it is, for the check to name."""
    try:
        return float(text)
    except ValueError:
        return text


def whole_number(text: str) -> int | str:
    """The whole number that a text of the command line stands for; else the text as it is, likewise."""
    try:
        return int(text)
    except ValueError:
        return text


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
            prog=f"python -m mfpde.{name}", description=description, epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        )  # fmt: skip

    def add_overrides(self, target: str) -> None:
        """Add `--set`, for keys of the run file."""
        self.add_argument("--set", action="append", default=[], metavar="a.b=value", help=f"override a key {target}")

    def run(
        self,
        work: Callable[[argparse.Namespace], object],
        arguments: Sequence[str] | None,
        kept: str = "nothing was lost",
        signals: Signals | None = None,
    ) -> int:
        """Read the arguments and do the work on every rank.

        Args:
            work: what the command does with its arguments.
            arguments: words; those of the process unless given.
            kept: for the message when a signal ends the work that does not handle it.
            signals: those that the work handles.

        Returns:
            The exit code (docs/commands.md).
        """
        words = sys.argv[1:] if arguments is None else arguments

        def body() -> int:
            work(self.parse_args(words))
            return 0

        return run_command(body, kept, signals)

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


def completion(shell: str | None, commands: Mapping[str, tuple[str, Parser]]) -> str:
    """A script that completes `mfpde NAME …`, for the shell to read, such as by `eval "$(mfpde --completion bash)"`.

    Args:
        shell: "bash" or "zsh".
        commands: name → purpose and command line.

    Raises:
        InputError: for another shell, or none.
    """
    if shell is None:
        raise InputError(f"--completion: of which shell? give one of {', '.join(_SHELLS)}")
    one_of("--completion", shell, _SHELLS)
    import shtab  # noqa: PLC0415  (not even mfpde --help needs it)

    whole = argparse.ArgumentParser("mfpde")
    whole.add_argument("--version", action="store_true", help="print the version")
    named = whole.add_subparsers()
    for name, (purpose, command) in commands.items():
        for action in command._actions:
            if action.metavar in _FOLDERS:
                vars(action)["complete"] = shtab.DIRECTORY
            elif action.metavar in _FILES:
                vars(action)["complete"] = shtab.FILE
        named.add_parser(name, help=purpose, parents=[command], add_help=False)
    return str(shtab.complete(whole, shell))
