"""The .pvtu of a density in pieces: what every piece holds, and which files they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from mfpde.errors import InputError
from mfpde.output.fields.lattice import can_have_cell_arrays
from mfpde.output.files import write_xml

_NUMBERS = (("layer", "Int32", 1), ("cell", "Int64", 1))
_VALUES = (("density", "Float64", 1), ("potential", "Float64", 1), ("velocity", "Float64", 3))


def piece_name(path: Path, rank: int) -> str:
    """The piece of a rank, beside the .pvtu."""
    return f"{path.stem}-p{rank:04d}.vtu"


def write_pvtu(path: Path, ranks: Sequence[int], degree: int) -> None:
    """Name the pieces of these ranks, which `vtu.write_vtu` has written beside it; no cell is in two of them.

    Args:
        path: of the .pvtu.
        ranks: those that hold cells.
        degree: of the Lagrange polynomials.
    """
    arrays = {
        "PPointData": _VALUES + _NUMBERS,
        "PCellData": _NUMBERS if can_have_cell_arrays(degree) else (),
        "PPoints": (("Points", "Float64", 3),),
    }

    root = ET.Element("VTKFile", type="PUnstructuredGrid", version="1.0")
    grid = ET.SubElement(root, "PUnstructuredGrid", GhostLevel="0")
    for place, members in arrays.items():
        found = ET.SubElement(grid, place)
        for name, kind, size in members:
            ET.SubElement(found, "PDataArray", type=kind, Name=name, NumberOfComponents=str(size))
    grid[0].set("Scalars", "density")

    for rank in ranks:
        ET.SubElement(grid, "Piece", Source=piece_name(path, rank))
    write_xml(path, root)


def read_pvtu(path: Path) -> list[Path]:
    """The pieces, at least one.

    Raises:
        InputError: when the file is missing or names none.
    """
    try:
        pieces = [path.parent / entry.attrib["Source"] for entry in ET.parse(path).getroot().iter("Piece")]
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (ET.ParseError, KeyError) as error:
        raise InputError(f"{path} is not a density file: {error}") from error

    if not pieces:
        raise InputError(f"{path} is not a density file: it names no pieces")
    return pieces
