"""Which ranks work: on every machine as many as it has cores for them; the others sleep until these are done.

Two ranks on one core take longer than one: each imports and compiles everything, and waits for the other. Results have
the same bits on any number of ranks, so commands let the surplus sleep, before it imports anything numerical. Scripts
that call the package keep all ranks at work.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from mpi4py import MPI

VARIABLE = "MFPDE_RANKS"
ALL = "all"  # its value with which every rank works

_CONTROL_GROUPS = Path("/sys/fs/cgroup")

_working: list[MPI.Intracomm] = []  # the communicator of the ranks that work, where others sleep


class Division(NamedTuple):
    """Who works.

    Attributes:
        works: this rank does.
        chief: process on this machine that does.
        line: how many do, for the user; empty where all of them do.
    """

    works: bool
    chief: int = 0
    line: str = ""


def communicator() -> MPI.Intracomm:
    """The communicator of the ranks that work; `MPI.COMM_WORLD` unless `divide` has let some sleep."""
    from mpi4py import MPI  # noqa: PLC0415

    return _working[0] if _working else MPI.COMM_WORLD


def divide() -> Division:
    """Choose the ranks that work, once in a process; rank 0 is among them and keeps its number. Collective."""
    from mpi4py import MPI  # noqa: PLC0415

    everyone = MPI.COMM_WORLD
    if everyone.size == 1 or _working:
        return Division(works=True)

    machine = everyone.Split_type(MPI.COMM_TYPE_SHARED)
    cores = cores_of(machine.allgather(_affinity()))
    chief = machine.bcast(os.getpid(), root=0)
    works = machine.rank < cores or os.environ.get(VARIABLE) == ALL
    found = everyone.allgather((works, cores if machine.rank == 0 else 0))
    machine.Free()

    count = sum(each for each, _ in found)
    if count == everyone.size:
        return Division(works=True)
    mine = everyone.Split(0 if works else MPI.UNDEFINED, everyone.rank)
    if works:
        _working.append(cast("MPI.Intracomm", mine))
    verb = "works" if count == 1 else "work"
    line = f"{everyone.size} ranks on {_counted(sum(each for _, each in found), 'core')}: {count} {verb}"
    return Division(works, chief, line)


def cores_of(affinities: Sequence[frozenset[int]]) -> int:
    """Cores that the ranks of one machine may use together, at least 1.

    Args:
        affinities: of each rank, the cores that it may run on; launchers may bind every rank to its own.
    """
    cores = len(frozenset[int]().union(*affinities))
    return max(1, min(cores, _quota() or cores))


@cache
def available_cores() -> int:
    """Cores that this process may use, at least 1."""
    return cores_of([_affinity()])


def oversubscribed(ranks: int) -> bool:
    """Are there more ranks than cores, if all of them run on machines like this one?"""
    return ranks > available_cores()


def _affinity() -> frozenset[int]:
    """The cores on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _quota() -> int | None:
    """Cores' worth of time that the control groups of a container or a job allow; None without a limit."""
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8").rpartition("::")[2].strip()
    except (OSError, ValueError):
        return None
    folder = _CONTROL_GROUPS / own.lstrip("/")
    inside = [each for each in (folder, *folder.parents) if each.is_relative_to(_CONTROL_GROUPS)]
    return min(filter(None, (_allowed(each / "cpu.max") for each in inside)), default=None)


def _allowed(file: Path) -> int | None:
    """What a file of "QUOTA PERIOD" in microseconds allows, in whole cores; None for "max PERIOD" or no file."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else -(-int(quota) // int(period))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
