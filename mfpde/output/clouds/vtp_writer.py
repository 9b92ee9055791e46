"""The nodes of one family as a .vtp file: a vertex for every node of all layers and replicas, with what it has.

A node stands at its first nonlinear coordinates, and where there is room at its place in the principal direction of v
and at its depth: (u, principal, depth), (u_0, u_1, depth) or (u_0, u_1, u_2), with depth (layer + ½)/L as in a .vtu.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfpde.output.clouds.nodes import PRINCIPAL, Nodes
from mfpde.output.fields.vtk_xml import FileArray, FileKind, compressed, field_array, names_array, write_arrays

Array = NDArray[np.float64]
_DIMENSIONS = 3


def write_vtp(path: Path, nodes: Nodes) -> None:
    """One family's nodes, layer after layer.

    Raises:
        OSError: when the disk refuses.
    """
    count = nodes.mass.size
    counts = f'NumberOfPoints="{count}" NumberOfVerts="{count}" NumberOfLines="0" NumberOfStrips="0" NumberOfPolys="0"'
    write_arrays(path, FileKind("PolyData", "0.1", counts, scalars="mass"), list(_arrays(nodes)))


def _arrays(nodes: Nodes) -> Iterator[FileArray]:
    """All arrays, those of a place one after the other."""
    yield names_array("family", [nodes.family])
    yield names_array("coordinates", nodes.coordinates)
    yield field_array("weight_decay", np.array([nodes.weight_decay]))
    yield field_array("rule", np.array(nodes.rule, dtype=np.int64))
    if nodes.linear:
        yield field_array("linear", np.array(nodes.linear, dtype=np.int64))
        yield field_array("linear_shape", np.array(nodes.shape, dtype=np.int64))

    principal = _principal(nodes)
    for name, values in _at_nodes(nodes, principal):
        components = 1 if values.ndim == 2 else values.shape[2]
        yield FileArray("PointData", name, values.dtype.str[1:], components, partial(compressed, values))

    yield FileArray("Points", "Points", "f8", _DIMENSIONS, partial(compressed, _points(nodes, principal)))
    for name in ("connectivity", "offsets"):
        yield FileArray("Verts", name, "i8", 1, partial(_vertices, nodes.mass.size, name))


def _at_nodes(nodes: Nodes, principal: Array) -> Iterator[tuple[str, NDArray]]:
    """Names, and values (L, n) or (L, n, k)."""
    layers, count = nodes.mass.shape
    yield "mass", nodes.mass
    yield "layer", np.repeat(np.arange(layers, dtype=np.int32), count).reshape(layers, count)
    yield "replica", np.tile(nodes.replica.astype(np.int32), layers).reshape(layers, count)
    if nodes.u.size:
        yield "u", nodes.u
    if nodes.linear:
        yield "v", nodes.v.reshape(layers, count, -1)
    yield "potential", nodes.potential

    velocity = np.empty((layers, count, len(nodes.coordinates)))
    velocity[..., nodes.nonlinear] = nodes.velocity_u
    velocity[..., nodes.linear] = nodes.velocity_v.reshape(layers, count, -1)
    yield "velocity", velocity
    if nodes.linear:
        yield "gradient", nodes.gradient_norm
        yield PRINCIPAL, principal


def _principal(nodes: Nodes) -> Array:
    """The coordinates of v along the principal directions, (L, n); nothing where nothing is linear."""
    found = [nodes.column(layer, PRINCIPAL) for layer in range(nodes.layers)] if nodes.linear else []
    return np.stack(found) if found else np.empty((*nodes.mass.shape, 0))


def _points(nodes: Nodes, principal: Array) -> Array:
    """(L, n, 3), filled with zeros."""
    layers, count, s = nodes.u.shape
    columns = list(np.moveaxis(nodes.u, 2, 0))[:_DIMENSIONS]
    if nodes.linear and s < _DIMENSIONS - 1:
        columns.append(principal)
    if len(columns) < _DIMENSIONS:
        columns.append(np.repeat((np.arange(layers) + 0.5) / layers, count).reshape(layers, count))

    places = np.zeros((layers, count, _DIMENSIONS))
    places[..., : len(columns)] = np.stack(columns, axis=2)
    return places


@lru_cache(maxsize=8)  # the same at every report
def _vertices(count: int, name: str) -> bytes:
    """Every point is a cell of its own."""
    return compressed(np.arange(count, dtype=np.int64) + (name == "offsets"))
