"""A file of VTK's in XML, and behind it the arrays, raw and compressed: what .vtu and .vtp files have in common.

VTK's own writer is not used: it takes 0.3 s to import, compresses the same numbers of points and cells at every report,
and spends a third of the time on densities, whose digits do not compress.
Source: https://docs.vtk.org/en/latest/vtk_file_formats/vtkxml_file_format.html.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfpde.output.files import naming, replacing

_BLOCK = 2**18  # bytes that are compressed together
_SAMPLE = 2**14  # of a block, by which it is decided
_WORTH = 0.8  # of its size: a block that compresses to more is stored as it is, with a checksum
_TYPES = {"f8": "Float64", "i8": "Int64", "i4": "Int32", "u1": "UInt8"}
_WIDTH = 20  # digits of an offset, which is known when the array is written


@dataclass(frozen=True)
class FileArray:
    """An array of a file: where it stands in the XML, what it is called, and its bytes, compressed when asked for."""

    place: str
    name: str
    kind: str
    components: int
    content: Callable[[], bytes]
    tuples: int | None = None

    def line(self, offset: int) -> str:
        """Its description, of the same length whatever the offset is."""
        counts = f'NumberOfComponents="{self.components}" ' if self.components > 1 else ""  # meshio takes 1 for vectors
        counts += "" if self.tuples is None else f'NumberOfTuples="{self.tuples}" '
        place = f'offset="{offset}"'.ljust(_WIDTH + len('offset=""'))
        return f'<DataArray type="{_TYPES[self.kind]}" Name="{self.name}" {counts}format="appended" {place}/>'


@dataclass(frozen=True)
class FileKind:
    """What stands around the arrays of a file.

    Attributes:
        grid: VTK's name of such data, as "UnstructuredGrid".
        version: of the format.
        counts: how many points and cells there are, the attributes of the only piece.
        scalars: the array at points that is shown first.
    """

    grid: str
    version: str
    counts: str
    scalars: str


def write_arrays(path: Path, kind: FileKind, arrays: Sequence[FileArray]) -> None:
    """Write a file, those arrays that stand in the same place one after the other, and FieldData first.

    Raises:
        OSError: when the disk refuses.
    """
    with naming(path), replacing(path) as part, part.open("wb") as file:
        start = file.write(_head(kind, arrays, [0] * len(arrays)))
        offsets = []
        for array in arrays:
            offsets.append(file.tell() - start)
            file.write(array.content())
        file.write(b"\n  </AppendedData>\n</VTKFile>\n")

        file.seek(0)
        file.write(_head(kind, arrays, offsets))


def _head(kind: FileKind, arrays: Sequence[FileArray], offsets: Sequence[int]) -> bytes:
    """The XML in front of the arrays, of the same length whatever the offsets are."""
    lines = [
        f'<VTKFile type="{kind.grid}" version="{kind.version}" byte_order="{sys.byteorder.capitalize()}Endian" '
        f'header_type="UInt32" compressor="vtkZLibDataCompressor">',
        f"<{kind.grid}>",
    ]
    for place, members in groupby(zip(arrays, offsets, strict=True), key=lambda member: member[0].place):
        if place == "PointData":
            lines.append(f"<Piece {kind.counts}>")
        lines.append(f'<{place} Scalars="{kind.scalars}">' if place == "PointData" else f"<{place}>")
        lines += [array.line(offset) for array, offset in members]
        lines.append(f"</{place}>")
    return "\n".join([*lines, "</Piece>", f"</{kind.grid}>", '<AppendedData encoding="raw">', "_"]).encode()


def names_array(title: str, names: Iterable[str]) -> FileArray:
    """Names in the file's own data, in UTF-8 with a 0 after each."""
    return field_array(title, np.frombuffer("".join(f"{name}\0" for name in names).encode(), np.uint8))


def field_array(title: str, values: NDArray) -> FileArray:
    """Numbers in the file's own data."""
    return FileArray("FieldData", title, values.dtype.str[1:], 1, partial(compressed, values), len(values))


def compressed(array: NDArray) -> bytes:
    """How many blocks, their size, that of a last one that is shorter, their sizes when compressed, and they."""
    data = memoryview(np.ascontiguousarray(array)).cast("B")
    blocks = [_deflated(data[start : start + _BLOCK]) for start in range(0, len(data), _BLOCK)]
    counts = [len(blocks), _BLOCK, len(data) % _BLOCK, *map(len, blocks)]
    return b"".join([np.array(counts, dtype=np.uint32).tobytes(), *blocks])


def _deflated(block: memoryview) -> bytes:
    """In zlib's format, which has a checksum, at its fastest; digits that hardly compress are stored."""
    sample = block[:_SAMPLE]
    tried = zlib.compress(sample, 1)
    if len(tried) >= _WORTH * len(sample):
        return zlib.compress(block, 0)
    return tried if len(sample) == len(block) else zlib.compress(block, 1)
