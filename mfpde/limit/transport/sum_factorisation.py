"""Matrices that act along one axis of a tensor of numbers: the factors of a tensor-product element.

On [0, 1] everything is symmetric about the middle: points and nodes come in pairs x, 1 − x, Legendre polynomials are
even or odd, a derivative turns one into the other. A matrix between two such sets falls into a part that acts on the
even half of its input and one that acts on the odd half, each of a quarter of the size: half the multiplications, for
additions that the processor does meanwhile. Source: Solomonoff, *J. Comput. Phys.* 103 (1992), even–odd decomposition.
"""

from __future__ import annotations

from dataclasses import dataclass

import basix
import numpy as np
from basix import CellType
from numpy.typing import NDArray

from mfpde.limit.fem.space import density_element, potential_element
from mfpde.limit.transport.simd import Number, dot

Array = NDArray[np.float64]
Tensor = NDArray[np.object_]  # of `lanes.Number`


class Line:
    """A matrix (r, c) along an axis; rows and columns are points, mirrored in the middle, or modes of parity (−1)ⁱ."""

    def __init__(self, matrix: Array, modal_rows: bool = False, modal_columns: bool = False) -> None:
        rows, columns = matrix.shape
        self._columns = columns
        self._modal_columns = modal_columns
        split = matrix if modal_columns else matrix @ _unsplit(columns)
        self._pairs = [] if modal_rows else [(r, rows - 1 - r) for r in range(rows // 2)]
        self._sums = [0.5 * (split[r] + split[s]) for r, s in self._pairs]
        self._differences = [0.5 * (split[r] - split[s]) for r, s in self._pairs]
        self._single = {r: split[r] for r in (range(rows) if modal_rows else range(rows // 2, rows - rows // 2))}

    def along(self, axis: int, tensor: Tensor, start: Tensor | None = None) -> Tensor:
        """The products with all lines of `tensor` along `axis`; added to `start` if the rows are modes."""
        tensor = np.moveaxis(tensor, axis, 0)
        out = np.empty((2 * len(self._pairs) + len(self._single), *tensor.shape[1:]), dtype=object)
        begin = np.zeros(out.shape) if start is None else np.moveaxis(start, axis, 0)
        for line in np.ndindex(*tensor.shape[1:]):
            out[(slice(None), *line)] = self._apply(list(tensor[(slice(None), *line)]), begin[(slice(None), *line)])
        return np.moveaxis(out, 0, axis)

    def _apply(self, line: list[Number], start: Tensor) -> Tensor:
        count = self._columns
        if not self._modal_columns:
            mirrored = [(line[c], line[count - 1 - c]) for c in range(count // 2)]
            line = [a + b for a, b in mirrored] + line[count // 2 : count - count // 2] + [a - b for a, b in mirrored]
        out = np.empty(start.shape, dtype=object)
        for (r, s), sums, differences in zip(self._pairs, self._sums, self._differences, strict=True):
            even, odd = dot(sums, line), dot(differences, line)
            out[r], out[s] = even + odd, even - odd
        for r, row in self._single.items():
            out[r] = dot(row, line, start[r])
        return out


@dataclass(frozen=True)
class Factors:
    """The 1-D matrices of a tensor-product pair DG_p, CG_k at m Gauss points; x in [0, 1]."""

    points: Array  # (m,)
    weights: Array  # (m,)
    ends: Array  # (i,): ψ_i at 1; (−1)ⁱ times that at 0
    value: Line  # ρ̂: modes to points
    potential: Line  # V: nodes to points
    slope: Line  # V′
    trace: Line  # from points to the two ends, for polynomials of degree below m
    outward: Line  # from −û along the axis at the points to û outward at the two ends
    test: Line  # Σ_q w ψ_i: points to modes
    test_slope: Line  # Σ_q w ψ_i′
    moments: Array  # (3, i): ∫ψ_i (x − ½)ⁿ
    tested: Line  # Σ_q w (x − ½)ⁿ, n = 0, 1


def factors(degree: int, potential_degree: int, points: int) -> Factors:
    """Tabulate."""
    x, weights = basix.make_quadrature(CellType.interval, 2 * points - 1)
    order = np.argsort(x[:, 0])
    x, weights = x[order], weights[order]
    nodal = potential_element(CellType.interval, potential_degree)
    ranks = np.argsort(nodal.points[:, 0])
    modal = density_element(CellType.interval, degree)
    psi, phi = modal.tabulate(1, x)[..., 0], nodal.tabulate(1, x)[:, :, ranks, 0]
    centred = x[:, 0] - 0.5
    powers = centred[None, :] ** np.arange(3)[:, None]
    ends = np.vander([-0.5, 0.5], points, increasing=True) @ np.linalg.inv(np.vander(centred, points, increasing=True))
    return Factors(
        points=x[:, 0],
        weights=weights,
        ends=modal.tabulate(0, np.ones((1, 1)))[0, 0, :, 0],
        value=Line(psi[0], modal_columns=True),
        potential=Line(phi[0]),
        slope=Line(phi[1]),
        trace=Line(ends),
        outward=Line(ends * np.array([[1.0], [-1.0]])),
        test=Line((weights[:, None] * psi[0]).T, modal_rows=True),
        test_slope=Line((weights[:, None] * psi[1]).T, modal_rows=True),
        moments=(powers * weights) @ psi[0],
        tested=Line(powers[:2] * weights, modal_rows=True),
    )


def _unsplit(count: int) -> Array:
    """Columns: what a sum of a pair, the middle, and a difference of a pair stand for in the line (count,)."""
    half, eye = count // 2, np.eye(count)
    sums = [0.5 * (eye[c] + eye[count - 1 - c]) for c in range(half)]
    differences = [0.5 * (eye[c] - eye[count - 1 - c]) for c in range(half)]
    return np.array([*sums, *eye[half : count - half], *differences]).T
