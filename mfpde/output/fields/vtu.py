"""One snapshot, or one rank's piece of it, as a .vtu file, written and read back through VTK.

Each layer has its own true θ. For d < 3 the layers are stacked along the next axis at (layer + ½)/L; for d = 3 they
overlap, and the array `layer` selects one. Points are not shared between cells, so that jumps are visible. The layer of
a cell is an array at its points as well, where every filter keeps it, glyphs and resampling among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkLogger, vtkOutputWindow, vtkPoints, vtkStringOutputWindow
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkUnstructuredGrid
from vtkmodules.vtkCommonMisc import vtkErrorCode
from vtkmodules.vtkIOXML import vtkXMLUnstructuredGridReader, vtkXMLUnstructuredGridWriter

from mfpde.errors import InputError
from mfpde.output.fields.lattice import KINDS, can_have_cell_arrays, degree_of, vtk_order, vtk_type
from mfpde.output.fields.snapshot import FIELDS, Piece, Snapshot
from mfpde.output.files import replacing

LAYER = "layer"  # of each cell, from 0
CELL = "cell"  # of a piece: the number of each cell in the mesh's own order


def write_vtu(path: Path, snapshot: Snapshot) -> None:
    """One snapshot as cells of its degree in VTK's point order.

    Raises:
        OSError: when the disk refuses.
    """
    grid = _grid(snapshot)
    with replacing(path) as part, _complaints() as complaints:
        part.touch()  # a folder that cannot be written is reported by Python, more clearly than by VTK
        writer = vtkXMLUnstructuredGridWriter()
        writer.SetFileName(str(part))
        writer.SetDataModeToAppended()
        writer.EncodeAppendedDataOff()
        writer.SetCompressorTypeToZLib()  # unlike LZ4 it has a checksum; level 1 is fast, and all other ranks wait
        writer.SetCompressionLevel(1)
        writer.SetInputData(grid)

        done, code = writer.Write(), writer.GetErrorCode()
        if done != 1 or code != 0 or complaints.GetOutput():
            raise OSError(code, vtkErrorCode.GetStringFromErrorCode(code) if code else "VTK failed", str(part))


@contextmanager
def _complaints() -> Iterator[vtkStringOutputWindow]:
    """Collect what VTK would print to stderr by itself, through its window and through its log."""
    before, window = vtkOutputWindow.GetInstance(), vtkStringOutputWindow()
    verbosity = vtkLogger.GetCurrentVerbosityCutoff()
    vtkOutputWindow.SetInstance(window)
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    try:
        yield window
    finally:
        vtkLogger.SetStderrVerbosity(verbosity)
        vtkOutputWindow.SetInstance(before)


def _grid(snapshot: Snapshot) -> vtkUnstructuredGrid:
    layers, cells, size, dim = snapshot.points.shape
    order = vtk_order(snapshot.cell, snapshot.degree)
    points = _three(snapshot.points, order)
    if dim < 3:
        points[..., dim] = ((np.arange(layers) + 0.5) / layers)[:, None, None]

    grid = vtkUnstructuredGrid()
    places = vtkPoints()
    places.SetData(numpy_to_vtk(points.reshape(-1, 3)))  # VTK's arrays keep NumPy's alive, and copy nothing
    grid.SetPoints(places)

    connectivity = vtkCellArray()
    connectivity.SetData(size, numpy_to_vtkIdTypeArray(np.arange(layers * cells * size)))
    grid.SetCells(vtk_type(snapshot.cell, snapshot.degree), connectivity)

    for name in FIELDS[1:]:
        array = getattr(snapshot, name)
        flat = array[:, :, order].reshape(-1) if array.ndim == 3 else _three(array, order).reshape(-1, 3)
        _add(grid.GetPointData(), name, flat)
    grid.GetPointData().SetActiveScalars("density")

    _number(grid, snapshot, LAYER, np.repeat(np.arange(layers, dtype=np.int32), cells))
    if snapshot.piece is not None:
        _number(grid, snapshot, CELL, np.tile(snapshot.piece.cells.astype(np.int64), layers))
    _name(grid, "family", [snapshot.family])
    _name(grid, "coordinates", snapshot.coordinates)
    return grid


def _three(vectors: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64]:
    """(L, c, n, d) -> (L, c, n, 3), filled with zeros, the points in another order."""
    padded = np.zeros((*vectors.shape[:-1], 3))
    for layer, each in zip(padded, vectors, strict=True):
        layer[..., : vectors.shape[-1]] = each[:, order]
    return padded


def _number(grid: vtkUnstructuredGrid, snapshot: Snapshot, name: str, numbers: NDArray[np.integer]) -> None:
    """A number of each cell (L·cells,), at its points and, where VTK's filters keep it, at the cell itself."""
    _add(grid.GetPointData(), name, np.repeat(numbers, snapshot.points.shape[2]))
    if can_have_cell_arrays(snapshot.degree):
        _add(grid.GetCellData(), name, numbers)


def _add(data: object, name: str, values: NDArray) -> None:
    array = numpy_to_vtk(np.ascontiguousarray(values))
    array.SetName(name)
    data.AddArray(array)  # type: ignore[attr-defined]


def _name(grid: vtkUnstructuredGrid, title: str, names: tuple[str, ...] | list[str]) -> None:
    """Text as field data, in bytes with a 0 after each name: some readers (meshio) stop at VTK's strings."""
    _add(grid.GetFieldData(), title, np.frombuffer("".join(f"{name}\0" for name in names).encode(), np.uint8).copy())


def read_vtu(path: Path) -> Snapshot:
    """The snapshot or piece that was written, bit for bit, in basix's order of points.

    Raises:
        InputError: when the file is missing or not one of ours.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist")

    with _complaints() as complaints:
        reader = vtkXMLUnstructuredGridReader()
        reader.SetFileName(str(path))
        reader.Update()
    grid = reader.GetOutput()
    if complaints.GetOutput() or not _is_complete(grid):
        raise InputError(f"{path} is not a density file")

    cell, degree = degree_of(grid.GetCellType(0), grid.GetCell(0).GetNumberOfPoints())
    layers = int(_numbers(grid, LAYER).max()) + 1
    back, dim = np.argsort(vtk_order(cell, degree)), KINDS[cell].dim

    def values(array: object) -> NDArray[np.float64]:
        flat = vtk_to_numpy(array)
        return np.ascontiguousarray(flat.reshape(layers, -1, len(back), *flat.shape[1:])[:, :, back])

    data, piece = grid.GetPointData(), None
    if _has_numbers(grid, CELL):
        piece = Piece((), _numbers(grid, CELL).reshape(layers, -1)[0].copy())
    return Snapshot(
        family=_names(grid, "family")[0],
        coordinates=_names(grid, "coordinates"),
        cell=cell,
        degree=degree,
        points=np.ascontiguousarray(values(grid.GetPoints().GetData())[..., :dim]),
        density=values(data.GetArray("density")),
        potential=values(data.GetArray("potential")),
        velocity=np.ascontiguousarray(values(data.GetArray("velocity"))[..., :dim]),
        piece=piece,
    )


def _is_complete(grid: vtkUnstructuredGrid) -> bool:
    return (
        grid.GetNumberOfCells() > 0
        and all(grid.GetPointData().HasArray(name) for name in FIELDS[1:])
        and _has_numbers(grid, LAYER)
        and all(grid.GetFieldData().HasArray(title) for title in ("family", "coordinates"))
    )


def _has_numbers(grid: vtkUnstructuredGrid, name: str) -> bool:
    return bool(grid.GetPointData().HasArray(name) or grid.GetCellData().HasArray(name))


def _numbers(grid: vtkUnstructuredGrid, name: str) -> NDArray[np.integer]:
    """What `_number` wrote, (L·cells,); files of earlier versions have it at the cells alone."""
    at_points = grid.GetPointData().GetArray(name)
    if at_points is None:
        return vtk_to_numpy(grid.GetCellData().GetArray(name))
    return vtk_to_numpy(at_points)[:: grid.GetCell(0).GetNumberOfPoints()]


def _names(grid: vtkUnstructuredGrid, title: str) -> tuple[str, ...]:
    """Text that `_name` wrote, or an earlier version as VTK's strings."""
    array = grid.GetFieldData().GetAbstractArray(title)
    if array.IsA("vtkStringArray"):
        return tuple(array.GetValue(i) for i in range(array.GetNumberOfValues()))
    return tuple(bytes(vtk_to_numpy(array)).decode().split("\0")[:-1])
