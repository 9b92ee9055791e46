"""`mfpde NAME …` is `python -m mfpde.NAME …`."""

from __future__ import annotations

import runpy
import sys
from importlib import import_module

from mfpde import __version__
from mfpde.errors import InputError
from mfpde.inputs import nearest
from mfpde.parallel import mpi
from mfpde.parallel.command import run_command
from mfpde.runs.command_line import completion

COMMANDS = {
    "solve": "solve the limiting PDE of a run file, in parallel under mpirun; without one, the quick start",
    "particles": "train the finite Transformers of a run file, of several sizes and seeds",
    "compare": "the PDE of a run directory against its finite Transformers, in one report",
    "sweep": "a run file for several values of some of its keys, with a table and a figure",
    "plot": "figures, an animation and a report of a run, or a view of it while it goes on",
    "view": "reports in a browser, of one run or of all in a folder, which update themselves",
    "generate": "text written by the limit of a run of the task 'text'",
    "info": "versions, MPI, PETSc, cores, threads and caches: what a bug report needs",
}


def usage() -> str:
    """One line a command, and where the rest is explained."""
    lines = [f"  {name:<10} {purpose}" for name, purpose in COMMANDS.items()]
    return (
        "usage: mfpde NAME …, the same as python -m mfpde.NAME …\n\n"
        + "\n".join(lines)
        + "\n\nmfpde NAME --help has the options of a command, and examples; mfpde --version prints the version; "
        "mfpde --completion bash or zsh, a script that completes commands in that shell. A first run: mfpde solve\n"
    )


def main() -> int:
    """Entry point of the console script; the named command ends the process with its own exit code."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name not in COMMANDS:
        return run_command(lambda: _explain(name))
    del sys.argv[1]
    runpy.run_module(f"mfpde.{name}", run_name="__main__", alter_sys=True)
    return 0


def _explain(name: str) -> int:
    if name == "--version":
        if mpi.start().rank == 0:
            sys.stdout.write(f"mfpde {__version__}\n")
        return 0
    if name == "--completion":
        parsers = {name: (purpose, import_module(f"mfpde.{name}").parser()) for name, purpose in COMMANDS.items()}
        script = completion(sys.argv[2] if len(sys.argv) > 2 else None, parsers)
        if mpi.start().rank == 0:
            sys.stdout.write(script)
        return 0
    if name not in ("-h", "--help"):
        near = nearest(name, COMMANDS)
        hint = f"; did you mean {near}?" if near else ""
        raise InputError(f"{name!r} is no command; allowed: {', '.join(COMMANDS)}{hint}")
    if mpi.start().rank == 0:
        sys.stdout.write(usage())
    return 0


if __name__ == "__main__":
    sys.exit(main())
