"""The .pvd of a family: ParaView's collection that gives each density file its τ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET

from mfpde.errors import InputError
from mfpde.inputs import show
from mfpde.output.files import refusing, write_xml

FOLDER = "density"  # holds the .vtu and .pvtu files, beside the .pvd
_LONGEST = 200  # characters; with number, rank and endings they are at most the 255 of all common file systems


def series_name(family: str) -> str:
    """`density_FAMILY.pvd`; characters that a file name or an address cannot hold are percent-encoded.

    Raises:
        InputError: for a name of a family that no file can be called by.
    """
    encoded = quote(family, safe="")
    if len(encoded) > _LONGEST:
        raise InputError(
            f"family name {show(family)}: {len(encoded)} characters in the names of its files, where a letter outside "
            f"of ASCII takes 6 or more; must be at most {_LONGEST}"
        )
    return f"density_{encoded}.pvd"


def series_family(path: Path) -> str:
    """The family of a .pvd file."""
    return unquote(path.name.removeprefix("density_").removesuffix(".pvd"))


def density_files(path: Path) -> list[tuple[int, Path]]:
    """The density files that belong to a collection, listed in it or not, with their numbers, in the order of names."""
    name = re.compile(rf"{re.escape(path.stem)}_([0-9]{{4,}})(-p[0-9]+)?\.p?vtu")
    found = ((name.fullmatch(file.name), file) for file in sorted((path.parent / FOLDER).glob("*")))
    return [(int(match[1]), file) for match, file in found if match]


def write_pvd(path: Path, entries: Sequence[tuple[float, str]]) -> None:
    """A ParaView collection of (τ, file relative to the collection)."""
    root = ET.Element("VTKFile", type="Collection", version="1.0")
    collection = ET.SubElement(root, "Collection")
    for tau, name in entries:
        ET.SubElement(collection, "DataSet", timestep=repr(float(tau)), part="0", file=name)
    write_xml(path, root)


def read_pvd(path: Path) -> list[tuple[float, Path]]:
    """(τ, .vtu or .pvtu) in the order of the file.

    Raises:
        InputError: when it is not such a collection.
    """
    with refusing(str(path)):
        text = path.read_bytes()
    try:
        found = ET.fromstring(text).iter("DataSet")
        return [(float(entry.attrib["timestep"]), path.parent / entry.attrib["file"]) for entry in found]
    except (ET.ParseError, LookupError, ValueError) as error:
        raise InputError(f"{path} is not a collection of density files: {error}") from error
