"""What a run was made with: versions, ranks, options, revision and host, without names of users, hosts or folders."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfpde.output.files import read_json
from mfpde.output.records.installation import host, mpi_library, petsc_version, revision, version

_PACKAGES = ("mfpde", "numpy", "jax", "jaxlib", "numba", "vtk", "mpi4py", "basix", "dolfinx", "petsc4py")
_KINDS = {
    "run_hash": str, "problem_hash": str, "identity": dict, "ranks": int, "options": list, "revision": str,
    "versions": dict, "host": dict, "resumed": list,
}  # fmt: skip
_ABSOLUTE = re.compile(r"(^|[=:,\s])[~/]\S*/")


def describe(ranks: int, hashes: Mapping[str, Any], seed: int | None, options: Sequence[str] = ()) -> dict[str, object]:
    """The content of manifest.json; enters no collective, and imports nothing that starts MPI.

    A copy of the source outside of git, as in a container image, takes its revision from `MFPDE_REVISION`.

    Args:
        ranks: number of MPI processes.
        hashes: by which the run is known again.
        seed: of the task; None where nothing is drawn, or the task is a Python object.
        options: words of the command line that are kept, such as PETSc's; absolute paths lose their folders.
    """
    versions = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    return {
        **hashes,
        "seed": seed,
        "ranks": ranks,
        "options": [_ABSOLUTE.sub(r"\1", word) for word in options],
        "revision": revision(Path(__file__).parent) or os.environ.get("MFPDE_REVISION") or None,
        "versions": versions | {"petsc": petsc_version(), "mpi": mpi_library()},
        "host": host(),
    }


def read_manifest(path: Path) -> dict[str, Any]:
    """The content of a manifest.

    Raises:
        InputError: when the file is none.
    """
    return read_json(path, _KINDS)
