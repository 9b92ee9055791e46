"""Reference meshes: the box [-1, 1]^d, or a .msh file, distributed with one layer of ghost cells.

Every layer and family is solved on the same reference mesh; its frame (`limit.frame`) carries it to θ.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dolfinx import mesh as dmesh
from mpi4py import MPI

from mfpde.checks import existing
from mfpde.errors import InputError
from mfpde.parallel import agree

_TENSOR = {1: dmesh.CellType.interval, 2: dmesh.CellType.quadrilateral, 3: dmesh.CellType.hexahedron}
_SIMPLEX = {1: dmesh.CellType.interval, 2: dmesh.CellType.triangle, 3: dmesh.CellType.tetrahedron}
# meshio's name, topological dimension, and meshio's vertex order in DOLFINx's tensor-product order
_FILE_CELLS = {
    "line": ("interval", 1, [0, 1]),
    "triangle": ("triangle", 2, [0, 1, 2]),
    "quad": ("quadrilateral", 2, [0, 1, 3, 2]),
    "tetra": ("tetrahedron", 3, [0, 1, 2, 3]),
    "hexahedron": ("hexahedron", 3, [0, 1, 3, 2, 4, 5, 7, 6]),
}


def box(comm: MPI.Intracomm, dim: int, cells: int, simplex: bool = False) -> dmesh.Mesh:
    """The box [-1, 1]^dim with `cells` cells per direction (each cut into simplices if asked).

    Args:
        comm: communicator; collective.
        dim: 1, 2 or 3.
        cells: cells per direction.
        simplex: triangles or tetrahedra instead of quadrilaterals or hexahedra.
    """
    kind = (_SIMPLEX if simplex else _TENSOR)[dim]
    low, high, counts = -np.ones(dim), np.ones(dim), [cells] * dim
    ghosts = dmesh.GhostMode.shared_facet
    if dim == 1:
        return dmesh.create_interval(comm, cells, [-1.0, 1.0], ghost_mode=ghosts)
    if dim == 2:
        return dmesh.create_rectangle(comm, [low, high], counts, kind, ghost_mode=ghosts)
    return dmesh.create_box(comm, [low, high], counts, kind, ghost_mode=ghosts)


def read(comm: MPI.Intracomm, path: Path, dim: int) -> dmesh.Mesh:
    """A mesh file in gmsh's format, read on rank 0 through meshio and distributed.

    Args:
        comm: communicator; collective.
        path: the .msh file; cells of one kind and of dimension `dim`, with straight edges.
        dim: the family's parameter dimension.

    Raises:
        InputError: on every rank, for a missing, truncated or unsuitable file.
    """
    import basix.ufl  # noqa: PLC0415

    name, points, cells = comm.bcast(agree(lambda: _load(path, dim) if comm.rank == 0 else ("", None, None)), root=0)
    if comm.rank != 0:
        points, cells = np.empty((0, dim)), np.empty((0, cells.shape[1]), dtype=np.int64)
    element = basix.ufl.element("Lagrange", name, 1, shape=(dim,))
    partitioner = dmesh.create_cell_partitioner(dmesh.GhostMode.shared_facet, 2)
    return dmesh.create_mesh(comm, cells, element, points, partitioner)


def _load(path: Path, dim: int) -> tuple[str, np.ndarray, np.ndarray]:
    """Points (n, dim) and cells (m, vertices) of the file's cells of dimension `dim`."""
    import meshio  # noqa: PLC0415

    existing("density.mesh", path)
    try:
        content = meshio.gmsh.read(path)
    except Exception as error:  # a parser meets anything in a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"density.mesh = {str(path)!r}: not a readable gmsh file ({reason})") from error
    kinds = {block.type for block in content.cells if block.type in _FILE_CELLS and _FILE_CELLS[block.type][1] == dim}
    if len(kinds) != 1:
        found = ", ".join(sorted({block.type for block in content.cells})) or "no cells"
        raise InputError(
            f"density.mesh = {str(path)!r}: needs cells of one kind and of dimension {dim}, the number of the "
            f"family's parameters; the file has {found}"
        )
    kind = kinds.pop()
    name, _, order = _FILE_CELLS[kind]
    cells = np.vstack([block.data for block in content.cells if block.type == kind])[:, order].astype(np.int64)
    used, cells = np.unique(cells, return_inverse=True)
    cells = cells.reshape(-1, len(order))
    points = np.asarray(content.points, dtype=np.float64)[used]
    _validate(path, points, cells, name, dim)
    return name, np.ascontiguousarray(points[:, :dim]), cells


def _validate(path: Path, points: np.ndarray, cells: np.ndarray, name: str, dim: int) -> None:
    if not np.isfinite(points).all() or np.ptp(points[:, dim:], axis=0).any():
        raise InputError(f"density.mesh = {str(path)!r}: points must be finite and lie in {dim} dimensions")
    tensor = name in ("quadrilateral", "hexahedron")
    corners = [1 << axis for axis in range(dim)] if tensor else list(range(1, dim + 1))
    x = points[:, :dim]
    edges = np.stack([x[cells[:, j]] - x[cells[:, 0]] for j in corners], axis=1)
    size = np.prod(np.linalg.norm(edges, axis=2), axis=1)
    bad = np.abs(np.linalg.det(edges)) <= 1e-10 * np.maximum(size, np.finfo(float).tiny)
    if bad.any():
        raise InputError(f"density.mesh = {str(path)!r}: {bad.sum()} degenerate cells, the first is {bad.argmax()}")
