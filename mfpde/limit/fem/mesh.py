"""Reference meshes: the box [-1, 1]^d, or a .msh file, distributed with one layer of ghost cells.

Every layer and family is solved on the same reference mesh; its frame (`limit.fem.frame`) carries it to θ.
"""

from __future__ import annotations

import io
import locale
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import basix.ufl
import numpy as np
from dolfinx import mesh as dmesh
from mpi4py import MPI

from mfpde.errors import InputError
from mfpde.inputs import existing
from mfpde.limit.fem import mesh_validity
from mfpde.parallel.agreement import agree

_TENSOR = {1: dmesh.CellType.interval, 2: dmesh.CellType.quadrilateral, 3: dmesh.CellType.hexahedron}
_SIMPLEX = {1: dmesh.CellType.interval, 2: dmesh.CellType.triangle, 3: dmesh.CellType.tetrahedron}
_LOCALE = threading.Lock()
# meshio's name, topological dimension, and meshio's vertex order in DOLFINx's tensor-product order
_FILE_CELLS = {
    "line": ("interval", 1, [0, 1]),
    "triangle": ("triangle", 2, [0, 1, 2]),
    "quad": ("quadrilateral", 2, [0, 1, 3, 2]),
    "tetra": ("tetrahedron", 3, [0, 1, 2, 3]),
    "hexahedron": ("hexahedron", 3, [0, 1, 3, 2, 4, 5, 7, 6]),
}
_EXPORT = "export it from gmsh with -format msh22, without Mesh.SaveAll, Mesh.SaveParametric and partitions"
_FLAT = 1e-10  # a cell whose edges span less than this part of what they would at right angles


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

    with _decimal_points():
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
    name, points, cells = comm.bcast(agree(lambda: _load(path, dim) if comm.rank == 0 else ("", None, None)), root=0)
    if comm.rank != 0:
        points, cells = np.empty((0, dim)), np.empty((0, cells.shape[1]), dtype=np.int64)

    element = basix.ufl.element("Lagrange", name, 1, shape=(dim,))
    partitioner = dmesh.create_cell_partitioner(dmesh.GhostMode.shared_facet, 2)
    with _decimal_points():
        return dmesh.create_mesh(comm, cells, element, points, partitioner)


@contextmanager
def _decimal_points() -> Iterator[None]:
    """Numbers in texts have points meanwhile, as SCOTCH writes them in its strategies and C's library reads them.

    The locale of the user's program may want commas there; it belongs to the process, and one thread changes it.
    """
    with _LOCALE:
        before = locale.setlocale(locale.LC_NUMERIC)
        locale.setlocale(locale.LC_NUMERIC, "C")
        try:
            yield
        finally:
            locale.setlocale(locale.LC_NUMERIC, before)


def _load(path: Path, dim: int) -> tuple[str, np.ndarray, np.ndarray]:
    """Points (n, dim) and cells (m, vertices) of the file's cells of dimension `dim`."""
    import meshio  # noqa: PLC0415

    existing("density.mesh", path)
    try:
        last = path.read_bytes().rstrip().rpartition(b"\n")[2]
        if not last.startswith(b"$End"):
            raise OSError("it ends inside a section: truncated?")
        with redirect_stderr(io.StringIO()):  # its warnings
            content = meshio.gmsh.read(path)
    except Exception as error:  # a parser meets anything in a damaged file
        reason = f" ({error.strerror or error})" if isinstance(error, OSError) else ""  # others speak of the parser
        raise InputError(f"density.mesh = {str(path)!r}: not a readable gmsh file{reason}; {_EXPORT}") from error
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
    bad = _degenerate(points[:, :dim], cells, tensor=name in ("quadrilateral", "hexahedron"))
    if bad.any():
        raise InputError(f"density.mesh = {str(path)!r}: {bad.sum()} degenerate cells, the first is {bad.argmax()}")
    facets = np.vstack([cells[:, corners] for corners in basix.topology(getattr(basix.CellType, name))[dim - 1]])
    shared = np.unique(np.sort(facets, axis=1), axis=0, return_counts=True)[1].max()
    if shared > 2 or len(np.unique(np.sort(cells, axis=1), axis=0)) < len(cells):
        raise InputError(f"density.mesh = {str(path)!r}: cells overlap; a facet must belong to one cell or two")
    reason = mesh_validity.fault(points[:, :dim], cells, name)
    if reason is not None:
        raise InputError(f"density.mesh = {str(path)!r}: {reason}; fragment or fuse them in gmsh before meshing")


def _degenerate(x: np.ndarray, cells: np.ndarray, tensor: bool) -> np.ndarray:
    """Cells (m,) whose Jacobian vanishes, or changes sign between their corners; x (n, d), cells (m, v)."""
    dim = x.shape[1]
    signed = []
    for corner in range(cells.shape[1] if tensor else 1):
        ends = [corner ^ (1 << axis) for axis in range(dim)] if tensor else range(1, dim + 1)
        edges = np.stack([x[cells[:, end]] - x[cells[:, corner]] for end in ends], axis=1)
        size = np.maximum(np.prod(np.linalg.norm(edges, axis=2), axis=1), np.finfo(float).tiny)
        signed.append((-1) ** corner.bit_count() * np.linalg.det(edges) / size)
    least, most = np.min(signed, axis=0), np.max(signed, axis=0)
    return np.asarray((least * most <= 0.0) | (np.minimum(np.abs(least), np.abs(most)) <= _FLAT))
