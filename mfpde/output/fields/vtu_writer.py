"""One snapshot, or one rank's piece of it, as a .vtu file: XML, and behind it the arrays, raw and compressed.

Each layer has its own true θ. For d < 3 the layers are stacked along the next axis at (layer + ½)/L; for d = 3 they
overlap, and the array `layer` selects one. Points are not shared between cells, so that jumps are visible. The layer of
a cell is an array at its points as well, where every filter keeps it, glyphs and resampling among them.

VTK's own writer is not used: it takes 0.3 s to import, compresses the same numbers of points and cells at every report,
and spends a third of the time on densities, whose digits do not compress.
Source: https://docs.vtk.org/en/latest/vtk_file_formats/vtkxml_file_format.html.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfpde.output.fields.lattice import can_have_cell_arrays, vtk_order, vtk_type
from mfpde.output.fields.snapshot import FIELDS, Snapshot
from mfpde.output.files import naming, replacing

LAYER = "layer"  # of each cell, from 0
CELL = "cell"  # of a piece: the number of each cell in the mesh's own order
_BLOCK = 2**18  # bytes that are compressed together
_SAMPLE = 2**14  # of a block, by which it is decided
_WORTH = 0.8  # of its size: a block that compresses to more is stored as it is, with a checksum
_TYPES = {"f8": "Float64", "i8": "Int64", "i4": "Int32", "u1": "UInt8"}
_LAGRANGE_HEXAHEDRON = 72
_WIDTH = 20  # digits of an offset, which is known when the array is written


@dataclass(frozen=True)
class _Array:
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
class _Layout:
    """What decides the numbers of points and cells: L, cells of a layer, points of a cell, its type in VTK."""

    layers: int
    cells: int
    size: int
    kind: int


def write_vtu(path: Path, snapshot: Snapshot) -> None:
    """One snapshot as cells of its degree in VTK's point order.

    Raises:
        OSError: when the disk refuses.
    """
    layers, cells, size = snapshot.density.shape
    layout = _Layout(layers, cells, size, vtk_type(snapshot.cell, snapshot.degree))
    arrays = list(_arrays(snapshot, layout))
    with naming(path), replacing(path) as part, part.open("wb") as file:
        start = file.write(_head(layout, arrays, [0] * len(arrays)))
        offsets = []
        for array in arrays:
            offsets.append(file.tell() - start)
            file.write(array.content())
        file.write(b"\n  </AppendedData>\n</VTKFile>\n")

        file.seek(0)
        file.write(_head(layout, arrays, offsets))


def _arrays(snapshot: Snapshot, layout: _Layout) -> Iterator[_Array]:
    """All arrays, those of a place one after the other."""
    texts = {"family": (snapshot.family,), "coordinates": snapshot.coordinates}
    for title, names in texts.items():
        text = np.frombuffer("".join(f"{name}\0" for name in names).encode(), np.uint8)
        yield _Array("FieldData", title, "u1", 1, partial(_compressed, text), len(text))

    order, at_cells = vtk_order(snapshot.cell, snapshot.degree), can_have_cell_arrays(snapshot.degree)
    for name in FIELDS[1:]:
        values = getattr(snapshot, name)
        components = 1 if values.ndim == 3 else 3
        yield _Array("PointData", name, "f8", components, partial(_ordered, values, order))

    # Numbers of cells, at their points and, where VTK's filters keep it, at the cells themselves.
    for place, count in (("PointData", layout.size), ("CellData", 1)):
        if place == "PointData" or at_cells:
            yield _Array(place, LAYER, "i4", 1, partial(_of_layout, layout, place))
            if snapshot.piece is not None:
                numbers = np.tile(snapshot.piece.cells.astype(np.int64), layout.layers)
                yield _Array(place, CELL, "i8", 1, partial(_repeated, numbers, count))

    yield _Array("Points", "Points", "f8", 3, partial(_stacked, snapshot.points, order))
    for name, kind in (("connectivity", "i8"), ("offsets", "i8"), ("types", "u1")):
        yield _Array("Cells", name, kind, 1, partial(_of_layout, layout, name))


def _head(layout: _Layout, arrays: Sequence[_Array], offsets: Sequence[int]) -> bytes:
    """The XML in front of the arrays, of the same length whatever the offsets are."""
    points, cells = layout.layers * layout.cells * layout.size, layout.layers * layout.cells
    version = "2.3" if layout.kind == _LAGRANGE_HEXAHEDRON else "0.1"  # below, VTK takes them to have its old order
    lines = [
        f'<VTKFile type="UnstructuredGrid" version="{version}" byte_order="{sys.byteorder.capitalize()}Endian" '
        f'header_type="UInt32" compressor="vtkZLibDataCompressor">',
        "<UnstructuredGrid>",
    ]
    for place, members in groupby(zip(arrays, offsets, strict=True), key=lambda member: member[0].place):
        if place == "PointData":
            lines.append(f'<Piece NumberOfPoints="{points}" NumberOfCells="{cells}">')
        lines.append(f'<{place} Scalars="density">' if place == "PointData" else f"<{place}>")
        lines += [array.line(offset) for array, offset in members]
        lines.append(f"</{place}>")
    return "\n".join([*lines, "</Piece>", "</UnstructuredGrid>", '<AppendedData encoding="raw">', "_"]).encode()


def _ordered(values: NDArray[np.float64], order: NDArray[np.intp]) -> bytes:
    """(L, c, n), or vectors (L, c, n, d) filled up with zeros, in VTK's order of points."""
    return _compressed(values[:, :, order] if values.ndim == 3 else _three(values, order))


def _stacked(points: NDArray[np.float64], order: NDArray[np.intp]) -> bytes:
    """θ, with the layers along the next axis where there is one."""
    layers, dim = points.shape[0], points.shape[3]
    places = _three(points, order)
    if dim < 3:
        places[..., dim] = ((np.arange(layers) + 0.5) / layers)[:, None, None]
    return _compressed(places)


def _three(vectors: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64]:
    """(L, c, n, d) -> (L, c, n, 3), filled with zeros, the points in another order."""
    padded = np.zeros((*vectors.shape[:-1], 3))
    for layer, each in zip(padded, vectors, strict=True):
        layer[..., : vectors.shape[-1]] = each[:, order]
    return padded


def _repeated(numbers: NDArray[np.integer], count: int) -> bytes:
    return _compressed(np.repeat(numbers, count))


def _of_layout(layout: _Layout, name: str) -> bytes:
    return _layout_arrays(layout)[name]


@lru_cache(maxsize=4)  # the same at every report, and for families with meshes of the same size
def _layout_arrays(layout: _Layout) -> dict[str, bytes]:
    """Numbers of points and cells, and the layer at points and at cells."""
    cells, size = layout.layers * layout.cells, layout.size
    layers = np.repeat(np.arange(layout.layers, dtype=np.int32), layout.cells)
    arrays: dict[str, NDArray[np.integer]] = {
        "connectivity": np.arange(cells * size),
        "offsets": np.arange(1, cells + 1) * size,
        "types": np.full(cells, layout.kind, dtype=np.uint8),
        "PointData": np.repeat(layers, size),
        "CellData": layers,
    }
    return {name: _compressed(array) for name, array in arrays.items()}


def _compressed(array: NDArray) -> bytes:
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
