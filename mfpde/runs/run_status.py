"""What a directory holds of a run: nothing of it, a part that can be resumed, or all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mfpde.config.identity import Identity
from mfpde.errors import InputError, Stopped
from mfpde.output.checkpoint.generations import Generations
from mfpde.output.directory import MANIFEST
from mfpde.output.reader import RunReader
from mfpde.output.records.manifest import read_manifest


def is_begun(directory: Path, identity: Identity) -> bool:
    """Does the directory hold this very run, finished or not?"""
    try:
        return identity.is_run_of(read_manifest(directory / MANIFEST))
    except InputError:  # it holds no run, or one that is damaged
        return False


def is_done(directory: Path, identity: Identity) -> bool:
    """Is this very run finished there?"""
    try:
        return is_begun(directory, identity) and (RunReader(directory).summary or {}).get("outcome") == "done"
    except InputError:  # damaged: to be solved again
        return False


def is_resumable(directory: Path, identity: Identity) -> bool:
    """Was this very run stopped there after a checkpoint that is sound?"""
    if not is_begun(directory, identity):
        return False
    try:
        Generations(directory).newest()
    except LookupError:
        return False
    return True


@contextmanager
def stopped_within(place: str) -> Iterator[None]:
    """Name the run that a signal stopped, where a command solves several.

    Raises:
        Stopped: the body's, with the place named first.
    """
    try:
        yield
    except Stopped as stopped:
        where = str(stopped).partition(";")[0]
        raise Stopped(f"{place}: {where}; the same command goes on", stopped.signal) from stopped
