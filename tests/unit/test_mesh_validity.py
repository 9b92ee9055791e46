"""Meshes whose cells do not cover each point once, or are not joined where they touch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from mfpde.errors import InputError
from mfpde.limit.fem import mesh as meshes
from mfpde.limit.fem.mesh_validity import fault
from support.snapshots import CELLS, box

MESHES = Path(__file__).parents[2] / "meshes"


def welded(vertices):
    """Points and cells of cells (m, v, d) given by their vertices, those in one place being one."""
    points, cells = np.unique(vertices.reshape(-1, vertices.shape[2]).round(9), axis=0, return_inverse=True)
    return points, cells.reshape(vertices.shape[:2])


def together(*parts):
    """Several meshes as one, nothing joined."""
    points, cells, count = [], [], 0
    for x, c in parts:
        points.append(x)
        cells.append(c + count)
        count += len(x)
    return np.concatenate(points), np.concatenate(cells)


def pushed(part, *shift, scale=1.0):
    points, cells = part
    return scale * points + np.resize(np.array(shift), points.shape[1]), cells


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_kinds_of_faults(cell, size):
    """Beside each other: fine. A seam with nodes of its own on either side, or with other nodes; parts that overlap."""
    dim = box(cell, 1).shape[2]
    two, three = (pushed(welded(size * box(cell, n)), 0.0) for n in (2, 3))
    along = np.eye(dim)[0] * size
    assert fault(*two, cell) is None
    assert fault(*together(two, pushed(two, *(2.5 * along))), cell) is None
    assert str(fault(*together(two, pushed(two, *(2.0 * along))), cell)).endswith("are not joined")
    assert fault(*together(two, pushed(two, *(0.7 * along))), cell)
    assert str(fault(*together(two, pushed(two, *(0.3 * size * np.ones(dim)))), cell)).endswith("parts overlap")
    inner = pushed(three, *(0.05 * size * np.ones(dim)), scale=0.3)
    assert str(fault(*together(two, inner), cell)).endswith("parts overlap")
    if dim > 1:  # the seam's ends apart, so that no vertex lies on another
        shift = 2.0 * along + 0.25 * size * np.eye(dim)[1]
        assert str(fault(*together(two, pushed(three, *shift, scale=1.0)), cell)).endswith("parts overlap")


def test_shipped_meshes():
    for name, dim in (("disk", 2), ("disk_quads", 2), ("square_graded", 2), ("ball", 3)):
        assert meshes.read(MPI.COMM_SELF, MESHES / f"{name}.msh", dim).topology.dim == dim


def test_a_mesh_file_with_a_seam(tmp_path):
    """Two rectangles that touch, meshed apart."""
    path = tmp_path / "crack.msh"
    corners = [(-1, -1), (0, -1), (0, 1), (-1, 1), (0, -1), (1, -1), (1, 1), (0, 1)]
    nodes = "\n".join(f"{k} {x} {y} 0" for k, (x, y) in enumerate(corners, 1))
    path.write_text(
        f"$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$Nodes\n8\n{nodes}\n$EndNodes\n"
        "$Elements\n2\n1 3 2 1 1 1 2 3 4\n2 3 2 1 2 5 6 7 8\n$EndElements\n"
    )
    with pytest.raises(InputError, match=r"2 vertices lie on others: parts that touch there are not joined; fragment"):
        meshes.read(MPI.COMM_SELF, path, 2)


@pytest.mark.parametrize("version", ["4 0 8", "3 0 8", "9.9 0 8"])
def test_a_file_that_cannot_be_read_says_how_to_export(version, tmp_path):
    path = tmp_path / "other.msh"
    path.write_text(f"$MeshFormat\n{version}\n$EndMeshFormat\n$Entities\n1\n$EndEntities\n")
    with pytest.raises(InputError) as caught:
        meshes.read(MPI.COMM_SELF, path, 2)
    assert str(caught.value) == (
        f"density.mesh = {str(path)!r}: not a readable gmsh file; export it from gmsh with -format msh22, without "
        "Mesh.SaveAll, Mesh.SaveParametric and partitions"
    )
