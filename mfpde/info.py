"""`python -m mfpde.info`: versions, MPI, PETSc, cores, threads and cache folders: what a bug report needs."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mfpde.errors import InputError
from mfpde.output.records.installation import host, mpi_library, petsc_version, version
from mfpde.parallel import caches, mpi
from mfpde.parallel.working_ranks import ALL, VARIABLE
from mfpde.runs.command_line import Parser

if TYPE_CHECKING:
    from mpi4py import MPI

_PACKAGES = (
    "jax", "jaxlib", "numba", "numpy", "scipy", "scikit-learn", "meshio", "vtk", "pyvista", "matplotlib", "tqdm",
)  # fmt: skip
_PETSC_PACKAGES = (
    "hdf5", "hypre", "metis", "mumps", "parmetis", "ptscotch", "scalapack", "suitesparse", "superlu_dist",
)  # fmt: skip
DEVICE = "MFPDE_DEVICE"
_EXAMPLES = """\
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
    return parser().run(lambda _: _report(), arguments)


def _report() -> None:
    comm = mpi.start()
    found = sections(comm)
    if comm.rank == 0:
        sys.stdout.write(render(found))


def sections(comm: MPI.Intracomm) -> dict[str, Section]:
    """What is installed and how a run would use it; collective.

    Args:
        comm: the communicator of the ranks that work.

    Returns:
        Title of a section → name → value.
    """
    machine, petsc = host(), _petsc()  # before DOLFINx, which would start PETSc on ranks that sleep, too

    return {
        "mfpde": {
            "version": version("mfpde") or "not installed",
            "folder": str(Path(__file__).parent),
            "Python": f"{platform.python_version()} ({sys.executable})",
            "system": str(machine["platform"]),
            "C compiler": shutil.which("cc") or "none (tests need one; solving does not)",
        },
        "libraries": {name: version(name) or "not installed" for name in _PACKAGES} | _finite_elements(),
        "MPI": _mpi(comm),
        "PETSc": petsc,
        "cores": {
            "in the machine": str(machine["cores"]),
            "for this process": str(machine["cores_usable"]),
            "passes over the samples": _device(comm.rank),
        },
        "environment": _environment(),
        "caches": _caches(),
    }


def render(found: Mapping[str, Section]) -> str:
    """The sections as aligned text."""
    width = max(len(name) for section in found.values() for name in section)
    lines: list[str] = []
    for title, section in found.items():
        lines += [title, *(f"  {name:<{width}}  {value}" for name, value in section.items()), ""]
    return "\n".join(lines)


def _finite_elements() -> Section:
    """DOLFINx and its parts, found by importing them: a conda or source build need not be a distribution."""
    found: Section = {}
    for name in ("dolfinx", "basix", "ffcx", "ufl"):
        try:
            found[name] = str(__import__(name).__version__)
        except ImportError as error:
            found[name] = f"cannot be imported ({error})"
    return found


def _mpi(comm: MPI.Intracomm) -> Section:
    from mpi4py import MPI  # noqa: PLC0415

    beside = Path(sys.executable).parent / "mpirun"
    hosts, everyone = comm.allgather(platform.node()), MPI.COMM_WORLD
    working = f", of which {comm.size} work ({VARIABLE} = {ALL}: all)" if comm.size < everyone.size else ""
    return {
        "library": str(mpi_library()),
        "standard": ".".join(map(str, MPI.Get_version())),
        "mpi4py": str(version("mpi4py")),
        "ranks": f"{everyone.size} on {len(set(hosts))} host(s){working}",
        "mpirun on the PATH": shutil.which("mpirun") or "none",
        "mpirun beside this Python": str(beside) if beside.exists() else "none",
    }


def _petsc() -> Section:
    try:
        mpi.start_petsc()
        from petsc4py import PETSc  # noqa: PLC0415
    except ImportError as error:
        return {"petsc4py": f"cannot be imported ({error})"}
    return {
        "version": str(petsc_version()),
        "petsc4py": str(version("petsc4py")),
        "numbers": f"{PETSc.ScalarType.__name__}, indices {PETSc.IntType.__name__}",
        "packages": ", ".join(name for name in _PETSC_PACKAGES if PETSc.Sys.hasExternalPackage(name)) or "none",
    }


def _environment() -> Section:
    """Variables that steer threads and JAX, as a run sees them: yours where you set them, else mfpde's."""
    others = ("NPROC", "XLA_FLAGS")
    found = {n: os.environ[n] for n in sorted(os.environ) if n.endswith("_NUM_THREADS") or n in others}
    elsewhere = {n: os.environ[n] for n in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME") if os.environ.get(n, "cpu") != "cpu"}
    return found | {n: f"{value} (not followed: {DEVICE} chooses)" for n, value in elsewhere.items()}


def _device(rank: int) -> str:
    from mfpde.device import configure, device_of  # noqa: PLC0415  (JAX)

    try:
        configure()
        found = device_of(rank)
    except InputError as error:
        return f"nowhere ({error})"
    return f"on {found.platform}, {found.device_kind} ({DEVICE})"


def _caches() -> Section:
    """Where compiled code is kept; all of it can be deleted at any time."""
    from mfpde.parallel.exact_sum import add_exactly  # noqa: PLC0415  (numba)

    stats = getattr(add_exactly, "stats", None)  # a plain function with NUMBA_DISABLE_JIT
    found = {
        "mfpde (MFPDE_CACHE)": str(caches.directory()),
        "JAX": os.environ.get("JAX_COMPILATION_CACHE_DIR", "none"),
        "numba": "none" if stats is None else str(Path(stats.cache_path)),
    }
    try:
        from dolfinx import jit  # noqa: PLC0415
    except ImportError:
        return found
    return found | {"DOLFINx forms": str(jit.get_options()["cache_dir"])}


if __name__ == "__main__":
    sys.exit(main())
