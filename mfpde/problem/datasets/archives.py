"""Tasks from files of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import existing, inside
from mfpde.problem.tasks import Task


def from_npz(path: Path) -> Task:
    """A task from a NumPy archive with `tokens`, `targets` and optionally `test_tokens`, `test_targets`, `classes`.

    Raises:
        InputError: for a missing or damaged file, Python objects in it, missing or unknown names, wrong shapes.
    """
    where = f"task.npz = {str(existing('task.npz', path))!r}"
    known = ("tokens", "targets", "test_tokens", "test_targets", "classes")
    arrays: dict[str, Any]
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            arrays = {} if isinstance(archive, np.ndarray) else {name: _array(archive, name) for name in archive.files}
    except Exception as error:  # a parser meets anything in a damaged file
        reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        raise InputError(f"{where}: not a readable archive of arrays ({reason[:160]})") from error

    missing, unknown = {"tokens", "targets"} - set(arrays), set(arrays) - set(known)
    if missing or unknown:
        raise InputError(f"{where}: holds {sorted(arrays)}; needs tokens and targets, and may hold {known[2:]}")
    with inside(where):
        return Task(**arrays)


def _array(archive: Mapping[str, NDArray], name: str) -> NDArray:
    """One array of an archive, which an error names."""
    try:
        return archive[name]
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from error
