"""The files that a run file names (archives, meshes, users' functions), and what becomes of their names elsewhere.

A run file's paths are relative to its own folder. So its copy in a run directory has other paths to the same files, and
what says whether two runs are the same goes by what is in the files, and not by the way to them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mfpde.config import toml
from mfpde.config.settings import Density

_KEYS = {"task": ("npz", "python"), "model": ("python",), "density": ("mesh",)}
_DENSITY = frozenset(field.name for field in dataclasses.fields(Density))


def families(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The tables [density.FAMILY]."""
    return {k: v for k, v in content.get("density", {}).items() if isinstance(v, dict) and k not in _DENSITY}


def contents(content: Mapping[str, Any], base: Path) -> Iterator[tuple[str, str, bytes]]:
    """(table, name without its folders, content) of the files that are there; a second of one name has a number."""
    seen: dict[str, int] = {}
    for table, name in _names(content):
        path = base / name
        if _is_file(path):
            seen[path.name] = count = seen.get(path.name, 0) + 1
            yield table, path.name if count == 1 else f"{path.name} ({count})", path.read_bytes()


def _names(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(table, name) of the archive, the meshes and the users' functions."""
    tables = [(table, content.get(table, {})) for table in _KEYS]
    tables += [("density", own) for own in families(content).values()]
    for table, entries in tables:
        for key in _KEYS[table]:
            name = entries.get(key)
            if isinstance(name, str):
                yield table, name.rpartition(":")[0] if key == "python" else name


def renamed(content: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The tables of a run file with every name of a file changed."""
    found = {
        k: _renamed(v, _KEYS[k], change) if k in _KEYS and isinstance(v, Mapping) else v for k, v in content.items()
    }
    for family, own in families(content).items():
        found["density"][family] = _renamed(own, _KEYS["density"], change)
    return found


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
    texts = []
    theirs = renamed(other, change)
    for table, keys in _KEYS.items():
        places = {table: (content.get(table, {}), theirs.get(table, {}))}
        if table == "density":
            places |= {f"density.{f}": (own, theirs[table].get(f, {})) for f, own in families(content).items()}
        for place, (mine, given) in places.items():
            kept = [key for key in keys if key in mine and isinstance(given.get(key), str)]
            texts += [f"{place}.{key}={toml.value(given[key])}" for key in kept]
    return texts


def without_folders(content: Mapping[str, Any]) -> dict[str, Any]:
    """The tables with the last part of every name of a file."""
    return renamed(content, lambda name: Path(name).name)


def _renamed(table: Mapping[str, Any], keys: tuple[str, ...], change: Callable[[str], str]) -> dict[str, Any]:
    return {k: _changed(k, v, change) if k in keys and isinstance(v, str) else v for k, v in table.items()}


def _changed(key: str, value: str, change: Callable[[str], str]) -> str:
    if key != "python":
        return change(value)
    file, colon, function = value.rpartition(":")
    return f"{change(file)}{colon}{function}" if file else value


def _is_file(path: Path) -> bool:
    """Is it there? A name that no file can have is not; who opens it will say so."""
    try:
        return path.is_file()
    except OSError:
        return False
