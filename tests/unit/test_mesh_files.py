"""Mesh files that cannot be solved on: one line with the file and the reason."""

from __future__ import annotations

import meshio
import numpy as np
import pytest
from mpi4py import MPI

from mfpde.errors import InputError
from mfpde.limit.fem import mesh as meshes
from support.run_files import MESHES, refused, write

SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]

MESH_ERRORS = {
    "another dimension": ([*SQUARE, [0, 0, 1]], [("tetra", [[0, 1, 2, 4]])], "dimension 2", "the file has tetra"),
    "two kinds": ([*SQUARE, [2, 0, 0]], [("quad", [[0, 1, 2, 3]]), ("triangle", [[1, 4, 2]])], "cells of one kind"),
    "curved": ([*SQUARE, [2, 0, 0], [3, 0, 0]], [("triangle6", [[0, 1, 2, 4, 5, 3]])], "the file has triangle6"),
    "a cell without area": ([*SQUARE, [0.5, 0, 0]], [("triangle", [[0, 1, 2], [0, 4, 1]])], "1 degenerate cells"),
    "a cell with a vertex twice": (SQUARE, [("triangle", [[0, 1, 1]])], "1 degenerate cells, the first is 0"),
    "a bow tie": (SQUARE, [("quad", [[0, 1, 3, 2]])], "1 degenerate cells"),
    "not convex": ([*SQUARE[:2], [0.1, 0.1, 0], SQUARE[3]], [("quad", [[0, 1, 2, 3]])], "1 degenerate cells"),
    "overlap": ([*SQUARE, [0.5, -1, 0]], [("triangle", [[0, 1, 2], [0, 1, 3], [0, 1, 4]])], "cells overlap"),
    "a cell twice": (SQUARE, [("triangle", [[0, 1, 2], [2, 0, 1]])], "cells overlap"),
    "not finite": ([[np.nan, 0, 0], *SQUARE[1:]], [("quad", [[0, 1, 2, 3]])], "points must be finite"),
    "not flat": ([*SQUARE[:2], [1, 1, 1], SQUARE[3]], [("triangle", [[0, 1, 2]])], "lie in 2 dimensions"),
}


@pytest.mark.parametrize("kind", MESH_ERRORS)
def test_a_mesh_that_cannot_be_solved_on(kind, tmp_path, capsys):
    points, cells, *reasons = MESH_ERRORS[kind]
    mesh = meshio.Mesh(np.array(points, dtype=float), [(name, np.array(block)) for name, block in cells])
    meshio.gmsh.write(tmp_path / "mesh.msh", mesh, fmt_version="2.2", binary=False)
    capsys.readouterr()  # its warnings
    with pytest.raises(InputError) as caught:
        meshes.read(MPI.COMM_SELF, tmp_path / "mesh.msh", 2)
    for part in (f"density.mesh = '{tmp_path / 'mesh.msh'}'", *reasons):
        assert part in str(caught.value)
    assert capsys.readouterr().err == ""


def test_a_run_on_such_a_mesh_writes_nothing(tmp_path, capsys):
    (tmp_path / "cut.msh").write_bytes((MESHES / "disk_quads.msh").read_bytes()[:200])
    line = refused(write(tmp_path, density="mesh = 'cut.msh'"), whole=True)
    assert f"density.mesh = '{tmp_path / 'cut.msh'}': " in line
    assert capsys.readouterr().err == ""


def test_a_mesh_file_that_is_cut_anywhere(tmp_path, capsys):
    whole = (MESHES / "disk_quads.msh").read_bytes()
    end, file = whole.rindex(b"$End"), tmp_path / "cut.msh"
    for cut in (0, 5, 30, 200, len(whole) // 2, *range(end - 9, end)):
        file.write_bytes(whole[:cut])
        with pytest.raises(InputError) as caught:
            meshes.read(MPI.COMM_SELF, file, 2)
        assert str(caught.value).startswith(f"density.mesh = '{file}': ")
    assert capsys.readouterr().err == ""
