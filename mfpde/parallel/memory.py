"""The memory of this machine, and what of it this job may use."""

from __future__ import annotations

import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_INFO, _MINE, _SELF = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/proc/self/statm")


def available() -> float:
    """Bytes that can still be allocated: by the machine and every control group (v1 or v2) that holds this process.

    The page cache counts as free.
    """
    return min([_machine(), *_limits()])


def resident() -> float:
    """Resident memory of this process, in bytes."""
    try:
        return float(_SELF.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0.0  # not Linux


def in_gibibytes(size: float) -> str:
    """A number of bytes for a message."""
    return f"{size / 2**30:.3g} GiB"


def _machine() -> float:
    try:
        for line in _INFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * float(line.split()[1])
    except OSError:
        pass  # not Linux
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _limits() -> list[float]:
    """Free bytes under the limit of each control group, from this process's up to the root."""
    try:
        lines = _MINE.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []

    free = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        names, root = ("memory.max", "memory.current", "inactive_file"), _GROUPS
        if kinds:
            if "memory" not in kinds.split(","):
                continue
            names, root = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), _GROUPS / "memory"

        folder = root / path.strip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(root):
                free += _free_of(group, *names)
    return free


def _free_of(group: Path, limit: str, used: str, idle: str) -> list[float]:
    try:
        maximum = (group / limit).read_text(encoding="ascii").strip()
        if maximum == "max":
            return []
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        return [float(maximum) - float((group / used).read_text(encoding="ascii")) + float(stat.get(idle, 0.0))]
    except (OSError, ValueError):
        return []
