"""Files that appear complete or not at all, and one clear line when the disk refuses."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mfpde.errors import DiskError, InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it becomes `path` at the end, and vanishes after an exception."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace the file in one step: a reader sees the old text or the new one."""
    with naming(path), replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def append_text(path: Path, text: str) -> None:
    """Add to the file, and hand it to the system at once."""
    with naming(path), path.open("ab") as file:
        file.write(text.encode("utf-8"))


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, have reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say which file an error was about: the system names it when opening, but not when writing."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Valid JSON: numbers that are not finite become null."""
    write_text(path, json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """What `write_json` wrote.

    Args:
        path: the file.
        kinds: of entries that others rely on; they may be missing, or null.

    Raises:
        InputError: when it cannot be read, is cut off, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged, not the JSON that mfpde wrote ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: damaged, not the JSON that mfpde wrote (no object)")
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind | None):
            raise InputError(f"{path}: damaged, not the JSON that mfpde wrote ({name} is no {kind.__name__})")
    return content


def _finite(value: object) -> object:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(inner) for inner in value]
    return value


@contextmanager
def failing_clearly(directory: Path) -> Iterator[None]:
    """Turn an error of the file system into one line.

    Raises:
        DiskError: when the body raised an OSError (disk full, quota, a vanished folder, …).
    """
    try:
        yield
    except OSError as error:
        name = Path(error.filename).name if isinstance(error.filename, str | Path) else ""
        where = f"{directory}: {name.removeprefix('.').removesuffix('.part')}" if name else str(directory)
        raise DiskError(f"{where} cannot be written: {error.strerror or error}") from error
