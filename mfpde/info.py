"""`python -m mfpde.info`: versions, MPI, PETSc, cores, threads and cache folders: what a bug report needs."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from mfpde.parallel import caches, mpi
from mfpde.parallel.command import run_command
from mfpde.runs.command_line import Parser

if TYPE_CHECKING:
    from mpi4py import MPI

_PACKAGES = (
    "jax",
    "jaxlib",
    "numba",
    "numpy",
    "scipy",
    "scikit-learn",
    "meshio",
    "vtk",
    "pyvista",
    "matplotlib",
    "tqdm",
)
_PETSC_PACKAGES = (
    "hdf5",
    "hypre",
    "metis",
    "mumps",
    "parmetis",
    "ptscotch",
    "scalapack",
    "suitesparse",
    "superlu_dist",
)

_EXAMPLES = """\
examples:
  python -m mfpde.info              # what is installed here
  mpirun -n 8 python -m mfpde.info  # and on which hosts so many ranks would run; each line is printed once
  python -m mfpde.info > info.txt   # to go with a bug report
"""

type Section = dict[str, str]


def parser() -> Parser:
    """The command line: nothing to choose."""
    return Parser("info", __doc__, _EXAMPLES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; prints from one rank and returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: _report(words))


def _report(words: list[str]) -> int:
    parser().parse_args(words)
    comm = mpi.start()
    found = sections(comm)
    if comm.rank == 0:
        sys.stdout.write(render(found))
    return 0


def sections(comm: MPI.Intracomm) -> dict[str, Section]:
    """What is installed and how a run would use it; collective.

    Args:
        comm: the communicator of all ranks.

    Returns:
        Title of a section → name → value.
    """
    return {
        "mfpde": {
            "version": _version("mfpde"),
            "folder": str(Path(__file__).parent),
            "Python": f"{platform.python_version()} ({sys.executable})",
            "system": platform.platform(),
            "C compiler": shutil.which("cc") or "none (tests need one; solving does not)",
        },
        "libraries": {name: _version(name) for name in _PACKAGES} | _finite_elements(),
        "MPI": _mpi(comm),
        "PETSc": _petsc(),
        "cores": {"in the machine": str(os.cpu_count()), "for this process": str(_cores())},
        "environment": _environment(),
        "caches": _caches(),
    }


def render(found: dict[str, Section]) -> str:
    """The sections as aligned text."""
    width = max(len(name) for section in found.values() for name in section)
    lines: list[str] = []
    for title, section in found.items():
        lines += [title, *(f"  {name:<{width}}  {value}" for name, value in section.items()), ""]
    return "\n".join(lines)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _finite_elements() -> Section:
    """DOLFINx and its parts, asked by import: a conda or source build need not be a distribution."""
    found: Section = {}
    for name in ("dolfinx", "basix", "ffcx", "ufl"):
        try:
            found[name] = str(__import__(name).__version__)
        except ImportError as error:
            found[name] = f"cannot be imported ({error})"
    return found


def _mpi(comm: MPI.Intracomm) -> Section:
    from mpi4py import MPI, __version__  # noqa: PLC0415

    here = Path(sys.executable).parent / "mpirun"
    hosts = comm.allgather(platform.node())
    return {
        "library": " ".join(MPI.Get_library_version().split("\n")[0].split()),
        "standard": ".".join(map(str, MPI.Get_version())),
        "mpi4py": __version__,
        "ranks": f"{comm.size} on {len(set(hosts))} host(s)",
        "mpirun on the PATH": shutil.which("mpirun") or "none",
        "mpirun beside this Python": str(here) if here.exists() else "none",
    }


def _petsc() -> Section:
    try:
        import petsc4py  # noqa: PLC0415

        mpi.start_petsc()
        from petsc4py import PETSc  # noqa: PLC0415
    except ImportError as error:
        return {"petsc4py": f"cannot be imported ({error})"}
    return {
        "version": ".".join(map(str, PETSc.Sys.getVersion())),
        "petsc4py": petsc4py.__version__,
        "numbers": f"{PETSc.ScalarType.__name__}, indices {PETSc.IntType.__name__}",
        "packages": ", ".join(name for name in _PETSC_PACKAGES if PETSc.Sys.hasExternalPackage(name)) or "none",
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _environment() -> Section:
    """Variables that steer threads and JAX, as a run sees them: yours where you set them, else mfpde's."""
    others = ("NPROC", "XLA_FLAGS")
    found = {n: os.environ[n] for n in sorted(os.environ) if n.endswith("_NUM_THREADS") or n in others}
    elsewhere = {n: os.environ[n] for n in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME") if os.environ.get(n, "cpu") != "cpu"}
    return found | {n: f"{value} (not followed: mfpde computes on the CPU)" for n, value in elsewhere.items()}


def _caches() -> Section:
    """Where compiled code is kept; all of it can be deleted at any time."""
    found = {
        "mfpde (MFPDE_CACHE)": str(caches.directory()),
        "JAX": os.environ.get("JAX_COMPILATION_CACHE_DIR", "none"),
        "numba": _numba_cache(),
    }
    try:
        from dolfinx import jit  # noqa: PLC0415
    except ImportError:
        return found
    return found | {"DOLFINx forms": str(jit.get_options()["cache_dir"])}


def _numba_cache() -> str:
    """Where numba itself says that one of the solver's functions is kept."""
    from mfpde.parallel.exact_sum import add_exactly  # noqa: PLC0415

    stats = getattr(add_exactly, "stats", None)  # a plain function with NUMBA_DISABLE_JIT
    return "none" if stats is None else str(Path(stats.cache_path))


if __name__ == "__main__":
    sys.exit(main())
