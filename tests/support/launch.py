"""Start this Python as a command, on one process or on several: `from launch import run`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from mfpde.parallel.working_ranks import ALL, VARIABLE

_OF_A_LAUNCHER = ("PMI", "MPI_", "MPIEXEC", "HYDI_", "OMPI_", "PRTE_", "SLURM_", "FLUX_", "PALS_", "JSM_", "MV2_")


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what a launcher told it: a child that inherits a rank waits for ever.

    All ranks work unless a change says otherwise: what is tested on three ranks is tested on three, on any machine.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_LAUNCHER)}
    return kept | {VARIABLE: ALL} | changes


def run(
    *words: str | Path,
    ranks: int | None = None,
    directory: Path | None = None,
    changes: Mapping[str, str] | None = None,
    timeout: float = 600.0,
) -> subprocess.CompletedProcess[str]:
    """`python *words`, under the `mpirun` of this environment when `ranks` is given; output is captured, not checked.

    Args:
        words: arguments of Python, for example `"-m", "mfpde.solve", path`.
        ranks: number of MPI processes; None starts Python without a launcher.
        directory: working directory.
        changes: environment variables to set.
        timeout: seconds after which the ranks are ended and `subprocess.TimeoutExpired` is raised; its standard error
            has the stacks of all Python processes.
    """
    beside = Path(sys.executable).parent / "mpirun"
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun") or "mpirun"
    command = [sys.executable, *map(str, words)]
    if ranks is not None:
        command = [mpirun, "-n", str(ranks), *command]
    with subprocess.Popen(
        command,
        cwd=directory,
        env=environment(PYTHONFAULTHANDLER="1", **(changes or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as late:
            _tell_stacks(process.pid)
            process.terminate()
            out, err = process.communicate(timeout=10)
            raise subprocess.TimeoutExpired(command, timeout, out, f"{err}\nno end after {timeout:g} s") from late
        except BaseException:
            process.terminate()  # mpirun ends its ranks on this signal, and would leave them behind on a kill
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _tell_stacks(root: int) -> None:
    """Make all Python processes below this one write where they are, and end; Linux only."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, rest = stat.read_text().split("(", 1)[1].rsplit(")", 1)
            parents[int(stat.parent.name)] = (int(rest.split()[1]), name)
    family = {root}
    for _ in range(5):
        family |= {pid for pid, (parent, _) in parents.items() if parent in family}
    ranks = {pid for pid in family if "python" in parents.get(pid, (0, ""))[1]}
    _send(signal.SIGSTOP, family - ranks)  # a launcher would end all ranks when the first of them does
    _send(signal.SIGABRT, ranks)  # with PYTHONFAULTHANDLER
    time.sleep(1.0)
    _send(signal.SIGCONT, family - ranks)
    time.sleep(1.0)


def _send(what: signal.Signals, processes: Iterable[int]) -> None:
    for pid in processes:
        with suppress(OSError):
            os.kill(pid, what)
