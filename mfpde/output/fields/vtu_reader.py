"""The snapshot in a .vtu file, through VTK: also from files that its own writer, or an earlier version, has written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkUnstructuredGrid
from vtkmodules.vtkIOXML import vtkXMLUnstructuredGridReader

from mfpde.errors import InputError
from mfpde.output.fields.lattice import KINDS, degree_of, vtk_order
from mfpde.output.fields.snapshot import FIELDS, Piece, Snapshot
from mfpde.output.fields.vtk_reading import names_in, read_whole
from mfpde.output.fields.vtu_writer import CELL, LAYER


def read_vtu(path: Path) -> Snapshot:
    """The snapshot or piece that was written, bit for bit, in basix's order of points.

    Raises:
        InputError: when the file is missing or not one of ours.
    """
    reader = vtkXMLUnstructuredGridReader()
    read_whole(reader, path, "a density file")
    grid = reader.GetOutput()
    if not _is_complete(grid):
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
        family=names_in(grid, "family")[0],
        coordinates=names_in(grid, "coordinates"),
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
    """Of each cell, (L·cells,); files of earlier versions have it at the cells alone."""
    at_points = grid.GetPointData().GetArray(name)
    if at_points is None:
        return vtk_to_numpy(grid.GetCellData().GetArray(name))
    return vtk_to_numpy(at_points)[:: grid.GetCell(0).GetNumberOfPoints()]
