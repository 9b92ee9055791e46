"""What a run was made with: versions, ranks, options, revision and host, without names of users, hosts or folders."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from mfpde.output.files import read_json

_PACKAGES = ("mfpde", "numpy", "jax", "jaxlib", "numba", "vtk", "mpi4py", "basix", "dolfinx", "petsc4py")
_KINDS = {
    "run_hash": str, "problem_hash": str, "identity": dict, "ranks": int, "options": list, "revision": str,
    "versions": dict, "host": dict, "resumed": list,
}  # fmt: skip
_ABSOLUTE = re.compile(r"(^|[=:,\s])[~/]\S*/")


def describe(ranks: int, hashes: Mapping[str, Any], options: Sequence[str] = ()) -> dict[str, object]:
    """The content of manifest.json; enters no collective, and imports nothing that starts MPI.

    A copy of the source outside of git, as in a container image, takes its revision from `MFPDE_REVISION`.

    Args:
        ranks: number of MPI processes.
        hashes: by which the run is known again.
        options: words of the command line that are kept, such as PETSc's; absolute paths lose their folders.
    """
    return {
        **hashes,
        "ranks": ranks,
        "options": [_ABSOLUTE.sub(r"\1", word) for word in options],
        "revision": revision(Path(__file__).parent) or os.environ.get("MFPDE_REVISION") or None,
        "versions": versions(),
        "host": host(),
    }


def read_manifest(path: Path) -> dict[str, Any]:
    """The content of a manifest.

    Raises:
        InputError: when the file is none.
    """
    return read_json(path, _KINDS)


def versions() -> dict[str, str | None]:
    """Versions of Python, of the packages that are installed or imported, of PETSc and of the MPI library."""
    found = {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}
    petsc, mpi = sys.modules.get("petsc4py.PETSc"), sys.modules.get("mpi4py.MPI")
    found["petsc"] = ".".join(map(str, petsc.Sys.getVersion())) if petsc else None
    # what follows the first comma or line names the machine on which the library was built
    found["mpi"] = " ".join(re.split(r"[,\n]", mpi.Get_library_version())[0].split()) if mpi else None
    return found


def _version(name: str) -> str | None:
    """By the module where it is imported already: a conda or source build need not be a distribution."""
    said = getattr(sys.modules.get(name), "__version__", None)
    if said is not None:
        return str(said)
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def revision(folder: Path) -> str | None:
    """The git revision of the checkout that tracks this folder, with "-dirty" after it when files differ; else None."""
    if _output("git", "-C", str(folder), "ls-files", "--error-unmatch", "__init__.py") is None:
        return None  # not in a checkout, or in somebody else's
    return _output("git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def host() -> dict[str, object]:
    """Processor, cores, memory and platform of rank 0's machine."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory(),
        "platform": platform.platform(),
    }


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
    """What a program prints, None when it is missing, fails or is slow."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        ended = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip()
