"""Where is θ? The cell that holds a point, and the point's coordinates in the reference cell.

Bounding boxes sorted into a uniform grid of bins give a few candidate cells for a point. Newton's method inverts the
map of each (one step suffices for simplices and parallelepipeds), and the candidate in which the point is deepest wins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.output.fields.lattice import element, gradients, insideness, tabulate

Array = NDArray[np.float64]
Index = NDArray[np.int64]

_INSIDE = 1e-9  # in reference coordinates: a point this little outside of a cell counts as on its boundary
_STEPS = 30
_LEAST, _MOST = -0.5, 1.5  # coordinates between which iterates are kept
_LEFT = 4  # steps in a row that lead beyond, after which a point counts as outside
_CHUNK = 4096  # points at a time, so that the candidates' tables stay small


class Locator:
    """The cells of one layer: affine, multilinear or Lagrange images of the reference cell."""

    def __init__(self, cell: str, degree: int, points: Array) -> None:
        """Sort the cells into bins.

        Args:
            cell: name of the reference cell.
            degree: of the Lagrange points.
            points: (cells, n, d) in the order of basix's equispaced element.
        """
        self._cell = cell
        corners = len(element(cell, 1).points)
        straight = tabulate(cell, 1, element(cell, degree).points) @ points[:, :corners]
        size = np.ptp(points, axis=1).max(axis=1)
        curved = bool((np.abs(straight - points).max(axis=(1, 2)) > 1e-9 * size).any())
        self._degree = degree if curved else 1
        self._nodes = points if curved else points[:, :corners]
        self._affine = not curved and self._is_affine()

        # a curved cell can leave the box of its nodes a little
        margin = (0.25 if curved else 1e-8) * size[:, None]
        self._low, self._high = points.min(axis=1) - margin, points.max(axis=1) + margin

        self._origin = self._low.min(axis=0)
        extent = np.maximum(self._high.max(axis=0) - self._origin, np.finfo(float).tiny)
        self._bins = np.full(points.shape[2], max(1, round(len(points) ** (1 / points.shape[2]))))
        self._width = extent / self._bins
        self._fill()

    def _is_affine(self) -> bool:
        """Is the Jacobian constant in each cell?"""
        jacobian = np.einsum("avn,cnd->cvda", gradients(self._cell, 1, element(self._cell, 1).points), self._nodes)
        spread = np.ptp(jacobian, axis=1).max(axis=(1, 2))
        return bool((spread <= 1e-12 * np.abs(jacobian).max(axis=(1, 2, 3))).all())

    def _fill(self) -> None:
        """Lists of the cells that meet each bin, one after the other."""
        first = self._bin(self._low)
        shape = self._bin(self._high) - first + 1
        owner, rest = _ranges(np.zeros(len(first), dtype=np.int64), shape.prod(axis=1))
        number = np.zeros(len(owner), dtype=np.int64)
        for axis, bins in enumerate(self._bins):
            rest, along = np.divmod(rest, shape[owner, axis])
            number = number * bins + first[owner, axis] + along
        order = np.argsort(number, kind="stable")
        self._members = owner[order]
        self._count = np.bincount(number, minlength=int(self._bins.prod()))
        self._start = np.cumsum(self._count) - self._count

    def _bin(self, theta: Array) -> Index:
        """Bin coordinates (m, d) of points, those outside moved to the nearest bin."""
        place = np.floor((theta - self._origin) / self._width)
        return np.clip(place, 0, self._bins - 1).astype(np.int64)

    def locate(self, theta: Array) -> tuple[Index, Array]:
        """Cell (m,) and reference coordinates (m, d) of points θ (m, d).

        The cell is −1 outside the mesh; on the boundary between cells it is one of them.
        """
        cells = np.full(len(theta), -1, dtype=np.int64)
        reference = np.zeros_like(theta)
        for start in range(0, len(theta), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            cells[chunk], reference[chunk] = self._locate(theta[chunk])
        return cells, reference

    def _locate(self, theta: Array) -> tuple[Index, Array]:
        place = np.ravel_multi_index(tuple(self._bin(theta).T), tuple(self._bins))
        point, entry = _ranges(self._start[place], self._count[place])
        candidate = self._members[entry]
        near = ((self._low[candidate] <= theta[point]) & (theta[point] <= self._high[candidate])).all(axis=1)
        point, candidate = point[near], candidate[near]
        inside, x = self._invert(candidate, theta[point])
        holds = np.flatnonzero(inside >= -_INSIDE)
        holds = holds[np.argsort(inside[holds], kind="stable")]  # the best is assigned last, and stays
        cells = np.full(len(theta), -1, dtype=np.int64)
        reference = np.zeros_like(theta)
        cells[point[holds]], reference[point[holds]] = candidate[holds], x[holds]
        return cells, reference

    def _invert(self, cells: Index, theta: Array) -> tuple[Array, Array]:
        """Solve x(X) = θ in each given cell; how far inside X lies (−∞ when there is none), and X."""
        nodes = self._nodes[cells]
        size = np.ptp(nodes, axis=1).max(axis=1)
        x = np.broadcast_to(element(self._cell, 1).points.mean(axis=0), theta.shape).copy()
        todo, outside = np.arange(len(cells)), np.zeros(len(cells), dtype=np.int64)

        for _ in range(2 if self._affine else _STEPS):  # the second step takes back the rounding of the first
            if not len(todo):
                break
            here, place = nodes[todo], x[todo]
            residual = theta[todo] - np.einsum("mn,mnd->md", tabulate(self._cell, self._degree, place), here)
            jacobian = np.einsum("amn,mnd->mda", gradients(self._cell, self._degree, place), here)
            step = _solve(jacobian, residual)
            if self._affine:
                x[todo] = place + step
                todo = todo[np.abs(step).max(axis=1) > 1e-13]
                continue

            # Outside a curved cell its map is meaningless, and iterates may diverge: they are kept near it, and given
            # up where they stay at that bound, as those of most candidates do.
            moved = place + step
            x[todo] = np.clip(moved, _LEAST, _MOST)
            left = ((moved < _LEAST) | (moved > _MOST)).any(axis=1)
            outside[todo] = np.where(left, outside[todo] + 1, 0)
            todo = todo[(np.abs(step).max(axis=1) > 1e-13) & (outside[todo] < _LEFT)]

        final = np.einsum("mn,mnd->md", tabulate(self._cell, self._degree, x), nodes)
        found = np.abs(final - theta).max(axis=1, initial=0.0) <= 1e-9 * size + 1e-14 * np.abs(theta).max(axis=1)
        return np.where(found, insideness(self._cell, x), -np.inf), x


def _solve(matrix: Array, right: Array) -> Array:
    """Solutions (m, d); a singular matrix gives a step of zero, and the point will not count as found."""
    adjugate = _adjugate(matrix)
    determinant = np.einsum("mi,mi->m", matrix[:, 0], adjugate[:, :, 0])
    inverse = np.divide(1.0, determinant, out=np.zeros_like(determinant), where=determinant != 0.0)
    return np.asarray(np.einsum("mij,mj->mi", adjugate, right) * inverse[:, None])


def _adjugate(matrix: Array) -> Array:
    """Of matrices (m, d, d) of up to three rows, written out: a library's call for each takes several times as long."""
    if matrix.shape[1] == 1:
        return np.ones_like(matrix)
    if matrix.shape[1] == 2:
        (a, b), (c, d) = np.moveaxis(matrix, 0, -1)
        return np.stack([np.stack([d, -b], axis=-1), np.stack([-c, a], axis=-1)], axis=1)
    rows = np.moveaxis(matrix, 1, 0)
    return np.stack([np.cross(rows[(k + 1) % 3], rows[(k + 2) % 3]) for k in range(3)], axis=2)


def _ranges(first: Index, count: Index) -> tuple[Index, Index]:
    """The ranges first[k], …, first[k] + count[k] − 1 one after the other: to which k each belongs, and the numbers."""
    owner = np.repeat(np.arange(len(count)), count)
    start = np.cumsum(count) - count
    return owner, np.arange(len(owner)) - start[owner] + first[owner]
