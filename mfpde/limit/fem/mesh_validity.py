"""Do the cells of a mesh cover each point once? Parts that overlap, or are not joined along a seam, do not fit a flow.

Across a seam with nodes of its own on either side nothing flows: each side ends in a wall. So next to the middle of
every facet of the boundary there must be one cell within and none beyond.
"""

from __future__ import annotations

import basix
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]
_SAME = 1e-10  # vertices closer than this part of the mesh's width are one
_BESIDE = 1e-3  # from the middle of a facet, of the way to that of its cell
_TANGENTS = {1: (), 2: ((0, 1),), 3: ((0, 1), (0, 2)), 4: ((0, 3), (1, 2))}  # of a facet with so many vertices


def fault(points: Array, cells: Index, name: str) -> str | None:
    """What is wrong with the seams of a mesh of straight, convex cells; None where nothing is.

    Args:
        points: vertices (n, d), all of them used.
        cells: (m, v), in basix's order.
        name: of the cell, as in basix.
    """
    from scipy.spatial import cKDTree  # noqa: PLC0415  (slow, and only a mesh from a file needs it)

    close = cKDTree(points).query_pairs(_SAME * float(np.ptp(points, axis=0).max()), output_type="ndarray")
    if len(close):
        return f"{len(close)} vertices lie on others: parts that touch there are not joined"
    corners = np.asarray(basix.topology(getattr(basix.CellType, name))[points.shape[1] - 1])
    facets = cells[:, corners]  # (m, f, vertices of a facet)
    centre, middle = points[cells].mean(axis=1), points[facets].mean(axis=2)
    c, f = _boundary(facets)
    away = _BESIDE * (middle[c, f] - centre[c])
    beside = np.concatenate([middle[c, f] - away, middle[c, f] + away])
    radius = np.linalg.norm(points[cells] - centre[:, None], axis=2).max(axis=1)
    near = cKDTree(beside).query_ball_point(centre, 1.001 * radius, return_sorted=False)
    cell = np.repeat(np.arange(len(cells)), [len(found) for found in near])
    point = np.concatenate([np.asarray(found, dtype=np.int64) for found in near])
    inside = _inside(points[facets[cell]], middle[cell], centre[cell], beside[point])
    count = np.bincount(point[inside], minlength=len(beside))
    bad = (count[: len(c)] != 1) | (count[len(c) :] != 0)
    return (
        f"{bad.sum()} of the {len(c)} facets of its boundary lie inside other cells: parts overlap"
        if bad.any()
        else None
    )


def _boundary(facets: Index) -> tuple[Index, Index]:
    """Cell and local number of the facets that belong to one cell."""
    keys = np.sort(facets.reshape(-1, facets.shape[2]), axis=1)
    _, group, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    return np.divmod(np.flatnonzero(count[group.ravel()] == 1), facets.shape[1])


def _inside(facets: Array, middle: Array, centre: Array, point: Array) -> NDArray[np.bool_]:
    """Is each point (k, d) on the same side of every facet (k, f, v, d) as the centre (k, d) of the cell?"""
    tangents = [facets[:, :, b] - facets[:, :, a] for a, b in _TANGENTS[facets.shape[2]]]

    def side(x: Array) -> Array:
        return np.sign(np.linalg.det(np.stack([*tangents, x[:, None] - middle], axis=-2)))

    return np.asarray((side(point) == side(centre)).all(axis=1))
