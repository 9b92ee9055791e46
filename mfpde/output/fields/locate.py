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
        todo = np.arange(len(cells))

        for _ in range(2 if self._affine else _STEPS):  # the second step takes back the rounding of the first
            if not len(todo):
                break
            here, place = nodes[todo], x[todo]
            residual = theta[todo] - np.einsum("mn,mnd->md", tabulate(self._cell, self._degree, place), here)
            jacobian = np.einsum("amn,mnd->mda", gradients(self._cell, self._degree, place), here)
            step = _solve(jacobian, residual)
            # outside a curved cell its map is meaningless, and iterates may diverge
            x[todo] = place + step if self._affine else np.clip(place + step, -0.5, 1.5)
            todo = todo[np.abs(step).max(axis=1) > 1e-13]

        final = np.einsum("mn,mnd->md", tabulate(self._cell, self._degree, x), nodes)
        found = np.abs(final - theta).max(axis=1, initial=0.0) <= 1e-9 * size + 1e-14 * np.abs(theta).max(axis=1)
        return np.where(found, insideness(self._cell, x), -np.inf), x


def _solve(matrix: Array, right: Array) -> Array:
    """Solutions (m, d); a singular matrix gives a step of zero, and the point will not count as found."""
    determinant = np.linalg.det(matrix)
    safe = np.where((determinant == 0.0)[:, None, None], np.eye(matrix.shape[1]), matrix)
    return np.where((determinant == 0.0)[:, None], 0.0, np.linalg.solve(safe, right[..., None])[..., 0])


def _ranges(first: Index, count: Index) -> tuple[Index, Index]:
    """The ranges first[k], …, first[k] + count[k] − 1 one after the other: to which k each belongs, and the numbers."""
    owner = np.repeat(np.arange(len(count)), count)
    start = np.cumsum(count) - count
    return owner, np.arange(len(owner)) - start[owner] + first[owner]
