"""The .pvd of a family: ParaView's collection that gives each of its density files, or files of nodes, its τ.

It grows by one line a report, in front of its closing tags, so that a report costs the same however many there are.
The line and the tags are one write: a reader sees the collection with or without the entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET

from mfpde.errors import InputError
from mfpde.inputs import show
from mfpde.output.files import naming, refusing, write_text

DENSITY, NODES = KINDS = ("density", "nodes")  # begin the .pvd's name, and name the folder beside it of its files
_LONGEST = 200  # characters; with number, rank and endings they are at most the 255 of all common file systems
_HEAD = '<?xml version="1.0"?>\n<VTKFile type="Collection" version="1.0">\n  <Collection>\n'
_TAIL = "  </Collection>\n</VTKFile>\n"


def series_name(family: str, kind: str = DENSITY) -> str:
    """`density_FAMILY.pvd` and the like; characters that a file name or an address cannot hold are percent-encoded.

    Raises:
        InputError: for a name of a family that no file can be called by.
    """
    encoded = quote(family, safe="")
    if len(encoded) > _LONGEST:
        raise InputError(
            f"family name {show(family)}: {len(encoded)} characters in the names of its files, where a letter outside "
            f"of ASCII takes 6 or more; must be at most {_LONGEST}"
        )
    return f"{kind}_{encoded}.pvd"


def series_kind(path: Path) -> str:
    """Of which kind the files of a .pvd are, one of `KINDS`."""
    return path.name.partition("_")[0]


def series_family(path: Path) -> str:
    """The family of a .pvd file."""
    return unquote(path.stem.removeprefix(f"{series_kind(path)}_"))


def series_folder(path: Path) -> Path:
    """The folder that holds the files of a .pvd."""
    return path.parent / series_kind(path)


def series_files(path: Path) -> list[tuple[int, Path]]:
    """The files that belong to a collection, listed in it or not, with their numbers, in the order of names."""
    name = re.compile(rf"{re.escape(path.stem)}_([0-9]{{4,}})(-p[0-9]+)?\.(p?vtu|vtp)")
    found = ((name.fullmatch(file.name), file) for file in sorted(series_folder(path).glob("*")))
    return [(int(match[1]), file) for match, file in found if match]


class Collection:
    """A growing collection of files."""

    def __init__(self, path: Path, entries: Iterable[tuple[float, str]] = ()) -> None:
        """Nothing is written yet.

        Args:
            path: of the .pvd.
            entries: (τ, file relative to the collection) to go on from.
        """
        self.path = path
        self._entries = tuple(entries)
        self._end = 0  # where the closing tags begin

    def write(self) -> None:
        """Write the entries to go on from, in one step.

        Raises:
            OSError: when the disk refuses.
        """
        text = _HEAD + "".join(_line(*entry) for entry in self._entries)
        write_text(self.path, text + _TAIL)
        self._end = len(text)

    def append(self, tau: float, name: str) -> None:
        """Add an entry; one that does not fit on the disk leaves the collection as it was.

        Raises:
            OSError: when the disk refuses.
        """
        if not self._end:
            self.write()

        line = _line(tau, name)
        try:
            self._close_with(line)
        except OSError:
            with suppress(OSError):
                self._close_with("")
            raise
        self._end += len(line)

    def _close_with(self, line: str) -> None:
        """Write a line, or none, and the closing tags behind the entries so far."""
        with naming(self.path), self.path.open("r+b") as file:
            file.seek(self._end)
            file.write((line + _TAIL).encode())
            file.truncate()


def _line(tau: float, name: str) -> str:
    """An entry; the names of the files are of letters that XML takes as they are (`series_name`)."""
    return f'    <DataSet timestep="{float(tau)!r}" part="0" file="{name}" />\n'


def read_pvd(path: Path) -> list[tuple[float, Path]]:
    """(τ, .vtu, .pvtu or .vtp) in the order of the file.

    Raises:
        InputError: when it is not such a collection.
    """
    return _entries(path, _text(path))


def read_first(path: Path, count: int) -> list[tuple[float, Path]]:
    """The first entries, also where a crash of the machine has cut off what came later.

    Raises:
        InputError: when it is not a collection of so many.
    """
    text = _text(path)
    with suppress(InputError):
        return _entries(path, text)[:count]
    whole = text[: text.rfind(b"/>\n") + 3]
    return _entries(path, whole + _TAIL.encode())[:count]


def _text(path: Path) -> bytes:
    with refusing(str(path)):
        return path.read_bytes()


def _entries(path: Path, text: bytes) -> list[tuple[float, Path]]:
    try:
        found = ET.fromstring(text).iter("DataSet")
        return [(float(entry.attrib["timestep"]), path.parent / entry.attrib["file"]) for entry in found]
    except (ET.ParseError, LookupError, ValueError) as error:
        what = "files of nodes" if series_kind(path) == NODES else "density files"
        raise InputError(f"{path} is not a collection of {what}: {error}") from error
