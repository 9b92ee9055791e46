"""`mfpde NAME …` is `python -m mfpde.NAME …`."""

from __future__ import annotations

import difflib
import runpy
import sys

from mfpde import parallel
from mfpde.errors import InputError

COMMANDS = ("solve", "particles", "info")
_USAGE = f"usage: mfpde NAME …, the same as python -m mfpde.NAME …, with NAME one of: {', '.join(COMMANDS)}\n"


def main() -> int:
    """Entry point of the console script; the named command ends the process with its own exit code."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name not in COMMANDS:
        return parallel.run_command(lambda: _explain(name))
    del sys.argv[1]
    runpy.run_module(f"mfpde.{name}", run_name="__main__", alter_sys=True)
    return 0


def _explain(name: str) -> int:
    if name not in ("-h", "--help"):
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{name!r} is no command; allowed: {', '.join(COMMANDS)}{hint}")
    if parallel.start().rank == 0:
        sys.stdout.write(_USAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
