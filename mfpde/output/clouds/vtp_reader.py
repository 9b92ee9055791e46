"""The nodes in a .vtp file, through VTK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkPolyData
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader

from mfpde.errors import InputError
from mfpde.output.clouds.nodes import Nodes
from mfpde.output.fields.vtk_reading import names_in, read_whole

_NAMED, _NUMBERED = ("family", "coordinates"), ("weight_decay", "rule")
_AT_NODES = ("mass", "layer", "replica", "potential", "velocity")


def read_vtp(path: Path) -> Nodes:
    """The nodes that were written, bit for bit.

    Raises:
        InputError: when the file is missing or not one of ours.
    """
    reader = vtkXMLPolyDataReader()
    read_whole(reader, path, "a file of nodes")
    data = reader.GetOutput()
    if not _is_complete(data):
        raise InputError(f"{path} is not a file of nodes")

    coordinates, linear = names_in(data, "coordinates"), tuple(_field(data, "linear").tolist())
    shape = tuple(_field(data, "linear_shape").tolist()) if linear else (0,)
    layers = int(_at_nodes(data, "layer").max()) + 1
    nonlinear = [axis for axis in range(len(coordinates)) if axis not in set(linear)]

    def layered(name: str, *size: int) -> NDArray:
        return _at_nodes(data, name).reshape(layers, -1, *size)

    velocity = layered("velocity", len(coordinates))
    count = velocity.shape[1]
    return Nodes(
        family=names_in(data, "family")[0],
        coordinates=coordinates,
        linear=linear,
        mass=layered("mass"),
        u=layered("u", len(nonlinear)) if nonlinear else np.empty((layers, count, 0)),
        v=layered("v", *shape) if linear else np.empty((layers, count, *shape)),
        potential=layered("potential"),
        velocity_u=np.ascontiguousarray(velocity[..., nonlinear]),
        velocity_v=np.ascontiguousarray(velocity[..., list(linear)]).reshape(layers, count, *shape),
        replica=_at_nodes(data, "replica")[:count].astype(np.int64),
        weight_decay=float(_field(data, "weight_decay")[0]),
        rule=(int(_field(data, "rule")[0]), int(_field(data, "rule")[1])),
    )


def _is_complete(data: vtkPolyData) -> bool:
    return (
        data.GetNumberOfPoints() > 0
        and all(data.GetPointData().HasArray(name) for name in _AT_NODES)
        and all(data.GetFieldData().HasArray(title) for title in (*_NAMED, *_NUMBERED))
    )


def _field(data: vtkPolyData, title: str) -> NDArray:
    """Numbers of the file's own; none where it has none of that title."""
    array = data.GetFieldData().GetArray(title)
    return np.empty(0, dtype=np.int64) if array is None else vtk_to_numpy(array)


def _at_nodes(data: vtkPolyData, name: str) -> NDArray:
    """Of every node, (L·n,) or (L·n, k); a copy, as VTK's own array goes with the file."""
    return vtk_to_numpy(data.GetPointData().GetArray(name)).copy()
