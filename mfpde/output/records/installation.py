"""The versions of what is installed and the machine, for the manifest of a run and for `mfpde info`."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path


def version(name: str) -> str | None:
    """Of a package; that of its module where one is imported: a conda or source build need not be a distribution."""
    imported = getattr(sys.modules.get(name), "__version__", None)
    if imported is not None:
        return str(imported)
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def petsc_version() -> str | None:
    """None where PETSc is not imported."""
    petsc = sys.modules.get("petsc4py.PETSc")
    return ".".join(map(str, petsc.Sys.getVersion())) if petsc else None


def mpi_library() -> str | None:
    """Name and version; None where MPI is not imported."""
    mpi = sys.modules.get("mpi4py.MPI")
    # what follows the first comma or line names the machine on which the library was built
    return " ".join(re.split(r"[,\n]", mpi.Get_library_version())[0].split()) if mpi else None


def host() -> dict[str, object]:
    """Processor, cores, memory and platform of this machine."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory(),
        "platform": platform.platform(),
    }


def revision(folder: Path) -> str | None:
    """The git revision of the checkout that tracks this folder, with "-dirty" after it when files differ; else None."""
    if _output("git", "-C", str(folder), "ls-files", "--error-unmatch", "__init__.py") is None:
        return None  # not in a checkout, or in somebody else's
    return _output("git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError):
        return None


def _output(*command: str) -> str | None:
    """What a program prints; None when it is missing, fails or is slow."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        ended = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip()
