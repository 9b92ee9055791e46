"""Files that appear complete or not at all, and one clear line when the disk refuses."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

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


def write_xml(path: Path, root: ElementTree.Element) -> None:
    """Write an indented XML file."""
    ElementTree.indent(root)
    write_text(path, '<?xml version="1.0"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n")


def append_text(path: Path, text: str) -> None:
    """Append to the file, and flush at once."""
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
    """Give an error the name of its file: the system names it on opening, but not on writing."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def refusing(where: str, consequence: str = "") -> Iterator[None]:
    """Turn an error of the file system into one line about bad input.

    Args:
        where: begins the line.
        consequence: ends it.

    Raises:
        InputError: when the body raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{where}: {error.strerror or error}{consequence}") from error


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Valid JSON: numbers that are not finite become null."""
    write_text(path, json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """The content of a file of `write_json`.

    Args:
        path: the file.
        kinds: types of the entries that callers rely on; they may be missing, or null.

    Raises:
        InputError: when it cannot be read, is cut off, or holds something else.
    """
    damaged = f"{path}: damaged, not the JSON that mfpde wrote"
    with refusing(str(path)):
        data = path.read_bytes()
    try:
        content = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{damaged} ({' '.join(str(error).split())})") from error

    if not isinstance(content, dict):
        raise InputError(f"{damaged} (no object)")
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind | None):
            raise InputError(f"{damaged} ({name} is no {kind.__name__})")
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
