"""One snapshot, or one rank's piece of it, as a .vtu file: XML, and behind it the arrays, raw and compressed.

Each layer has its own true θ. For d < 3 the layers are stacked along the next axis at (layer + ½)/L; for d = 3 they
overlap, and the array `layer` selects one. Points are not shared between cells, so that jumps are visible. The layer of
a cell is an array at its points as well, where every filter keeps it, glyphs and resampling among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfpde.output.fields.lattice import can_have_cell_arrays, vtk_order, vtk_type
from mfpde.output.fields.snapshot import FIELDS, Snapshot
from mfpde.output.fields.vtk_xml import FileArray, FileKind, compressed, names_array, write_arrays

LAYER = "layer"  # of each cell, from 0
CELL = "cell"  # of a piece: the number of each cell in the mesh's own order
_LAGRANGE_HEXAHEDRON = 72


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
    version = "2.3" if layout.kind == _LAGRANGE_HEXAHEDRON else "0.1"  # below, VTK takes them to have its old order
    counts = f'NumberOfPoints="{layers * cells * size}" NumberOfCells="{layers * cells}"'
    kind = FileKind("UnstructuredGrid", version, counts, scalars="density")
    write_arrays(path, kind, list(_arrays(snapshot, layout)))


def _arrays(snapshot: Snapshot, layout: _Layout) -> Iterator[FileArray]:
    """All arrays, those of a place one after the other."""
    yield names_array("family", [snapshot.family])
    yield names_array("coordinates", snapshot.coordinates)

    order, at_cells = vtk_order(snapshot.cell, snapshot.degree), can_have_cell_arrays(snapshot.degree)
    for name in FIELDS[1:]:
        values = getattr(snapshot, name)
        components = 1 if values.ndim == 3 else 3
        yield FileArray("PointData", name, "f8", components, partial(_ordered, values, order))

    # Numbers of cells, at their points and, where VTK's filters keep it, at the cells themselves.
    for place, count in (("PointData", layout.size), ("CellData", 1)):
        if place == "PointData" or at_cells:
            yield FileArray(place, LAYER, "i4", 1, partial(_of_layout, layout, place))
            if snapshot.piece is not None:
                numbers = np.tile(snapshot.piece.cells.astype(np.int64), layout.layers)
                yield FileArray(place, CELL, "i8", 1, partial(_repeated, numbers, count))

    yield FileArray("Points", "Points", "f8", 3, partial(_stacked, snapshot.points, order))
    for name, kind in (("connectivity", "i8"), ("offsets", "i8"), ("types", "u1")):
        yield FileArray("Cells", name, kind, 1, partial(_of_layout, layout, name))


def _ordered(values: NDArray[np.float64], order: NDArray[np.intp]) -> bytes:
    """(L, c, n), or vectors (L, c, n, d) filled up with zeros, in VTK's order of points."""
    return compressed(values[:, :, order] if values.ndim == 3 else _three(values, order))


def _stacked(points: NDArray[np.float64], order: NDArray[np.intp]) -> bytes:
    """θ, with the layers along the next axis where there is one."""
    layers, dim = points.shape[0], points.shape[3]
    places = _three(points, order)
    if dim < 3:
        places[..., dim] = ((np.arange(layers) + 0.5) / layers)[:, None, None]
    return compressed(places)


def _three(vectors: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64]:
    """(L, c, n, d) -> (L, c, n, 3), filled with zeros, the points in another order."""
    padded = np.zeros((*vectors.shape[:-1], 3))
    for layer, each in zip(padded, vectors, strict=True):
        layer[..., : vectors.shape[-1]] = each[:, order]
    return padded


def _repeated(numbers: NDArray[np.integer], count: int) -> bytes:
    return compressed(np.repeat(numbers, count))


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
    return {name: compressed(array) for name, array in arrays.items()}
