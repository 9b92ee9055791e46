"""The files that a run file names (archives, meshes, users' functions), and what becomes of their names elsewhere.

A run file's paths are relative to its own folder. So its copy in a run directory has other paths to the same files, and
whether two runs are the same depends on what is in the files, and not on the way to them.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from math import isclose
from pathlib import Path
from typing import Any

from mfpde.config import toml
from mfpde.config.settings import Density

_KEYS = {"task": ("npz", "python", "path"), "model": ("python",), "density": ("mesh",), "initial": ("directory",)}
_MOMENTS = "moments.csv"  # by whose rows at a τ the densities of an earlier run are known again
_DENSITY = frozenset(field.name for field in dataclasses.fields(Density))


def families(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The tables [density.FAMILY]."""
    return {k: v for k, v in content.get("density", {}).items() if isinstance(v, dict) and k not in _DENSITY}


def contents(content: Mapping[str, Any], base: Path) -> Iterator[tuple[str, str, bytes]]:
    """(table, name without its folders, content) of the files that are there; a second of one name has a number."""
    seen: dict[str, int] = {}
    for (table, *family), key, value in _named(content):
        path = base / (value.rpartition(":")[0] if key == "python" else value)
        if table == "initial" and _is_file(path / _MOMENTS):
            yield table, f"{path.name} at its tau", _rows(path / _MOMENTS, content["initial"][family[0]].get("tau"))
        elif _is_file(path):
            seen[path.name] = count = seen.get(path.name, 0) + 1
            yield table, path.name if count == 1 else f"{path.name} ({count})", path.read_bytes()


def renamed(content: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The tables of a run file with every name of a file changed."""
    found = copy.deepcopy(dict(content))
    for place, key, value in _named(content):
        table = found
        for part in place:
            table = table[part]
        table[key] = _changed(key, value, change)
    return found


def without_folders(content: Mapping[str, Any]) -> dict[str, Any]:
    """The tables with the last part of every name of a file."""
    return renamed(content, lambda name: Path(name).name)


def seen_from(folder: Path, base: Path) -> Callable[[str], str]:
    """From a name relative to `base` to one relative to `folder`; absolute names stay.

    Folders that are links are followed first: `..` means another folder behind a link than before it.
    """
    there = folder.resolve()

    def change(name: str) -> str:
        path = Path(name)
        return name if path.is_absolute() else os.path.relpath((base / path).parent.resolve() / path.name, there)

    return change


def overrides(content: Mapping[str, Any], other: Mapping[str, Any], change: Callable[[str], str]) -> list[str]:
    """As after `--set`: the names in `other`, changed, of the files that `content` names too."""
    theirs = {(place, key): value for place, key, value in _named(other)}
    shared = [(place, key) for place, key, _ in _named(content) if (place, key) in theirs]
    return [
        f"{'.'.join((*place, key))}={toml.value(_changed(key, theirs[place, key], change))}" for place, key in shared
    ]


def _named(content: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """(table, key, value) of all values that name a file or a run; a family's table is ("density", FAMILY)."""
    tables: dict[tuple[str, ...], Mapping[str, Any]] = {(table,): content.get(table, {}) for table in _KEYS}
    tables |= {("density", family): own for family, own in families(content).items()}
    tables |= {("initial", f): own for f, own in tables.pop(("initial",)).items() if isinstance(own, Mapping)}
    for place, table in tables.items():
        for key in _KEYS[place[0]]:
            if isinstance(table.get(key), str) and (key != "path" or table.get("name") == "text"):
                yield place, key, table[key]


def _changed(key: str, value: str, change: Callable[[str], str]) -> str:
    if key != "python":
        return change(value)
    file, colon, function = value.rpartition(":")
    return f"{change(file)}{colon}{function}" if file else value


def _rows(path: Path, tau: Any) -> bytes:
    """The rows of a table whose first column is τ."""

    def there(line: bytes) -> bool:
        try:
            return isclose(float(line.partition(b",")[0]), float(tau), rel_tol=1e-9, abs_tol=1e-12)
        except (TypeError, ValueError):
            return False

    return b"".join(line for line in path.read_bytes().splitlines(keepends=True) if there(line))


def _is_file(path: Path) -> bool:
    """Is it there? A name that no file can have is not; whoever opens it reports that."""
    try:
        return path.is_file()
    except OSError:
        return False
