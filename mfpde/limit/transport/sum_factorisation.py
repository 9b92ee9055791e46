"""Sum factorisation: matrices that act along one axis of a tensor, of which a tensor-product element consists.

On [0, 1] everything is symmetric about the middle: points and nodes come in pairs x, 1 − x, Legendre polynomials are
even or odd, a derivative turns one into the other. A matrix between two such sets splits into a part that acts on the
even half of its input and one that acts on the odd half, each of a quarter of the size: half the multiplications, for
additions that the processor does meanwhile. Source: Solomonoff, *J. Comput. Phys.* 103 (1992), even–odd decomposition.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import basix
import numpy as np
from basix import CellType
from numpy.typing import NDArray

from mfpde.limit.fem.elements import density_element, potential_element
from mfpde.limit.transport.simd import Number, dot

Array = NDArray[np.float64]
Tensor = NDArray[np.object_]  # of `simd.Number`


class AxisOperator:
    """A matrix (r, c) along an axis; rows and columns are points, mirrored in the middle, or modes of parity (−1)ⁱ."""

    def __init__(self, matrix: Array, modal_rows: bool = False, modal_columns: bool = False) -> None:
        rows, columns = matrix.shape
        self._columns = columns
        self._modal_columns = modal_columns

        # rows that act on sums and differences of mirrored columns, where the columns are points
        split = matrix if modal_columns else matrix @ _unsplit(columns)

        # a pair of mirrored rows shares its products with the even and the odd half
        self._pairs = [] if modal_rows else [(r, rows - 1 - r) for r in range(rows // 2)]
        self._sums = [0.5 * (split[r] + split[s]) for r, s in self._pairs]
        self._differences = [0.5 * (split[r] - split[s]) for r, s in self._pairs]
        self._single = {r: split[r] for r in (range(rows) if modal_rows else range(rows // 2, rows - rows // 2))}

    def along(self, axis: int, tensor: Tensor, start: Tensor | None = None) -> Tensor:
        """The products with all fibres of `tensor` along `axis`; added to `start` if the rows are modes."""
        tensor = np.moveaxis(tensor, axis, 0)
        out = np.empty((2 * len(self._pairs) + len(self._single), *tensor.shape[1:]), dtype=object)
        begin = np.zeros(out.shape) if start is None else np.moveaxis(start, axis, 0)
        for place in np.ndindex(*tensor.shape[1:]):
            fibre = (slice(None), *place)
            out[fibre] = self._apply(list(tensor[fibre]), begin[fibre])
        return np.moveaxis(out, 0, axis)

    def _apply(self, fibre: list[Number], start: Tensor) -> Tensor:
        count = self._columns
        if not self._modal_columns:
            pairs = [(fibre[c], fibre[count - 1 - c]) for c in range(count // 2)]
            fibre = [a + b for a, b in pairs] + fibre[count // 2 : count - count // 2] + [a - b for a, b in pairs]

        out = np.empty(start.shape, dtype=object)
        for (r, s), sums, differences in zip(self._pairs, self._sums, self._differences, strict=True):
            even, odd = dot(sums, fibre), dot(differences, fibre)
            out[r], out[s] = even + odd, even - odd
        for r, row in self._single.items():
            out[r] = dot(row, fibre, start[r])
        return out


@dataclass(frozen=True)
class AxisOperators:
    """The 1-D matrices of a tensor-product pair DG_p, CG_k at m Gauss points; x in [0, 1]."""

    points: Array  # (m,)
    weights: Array  # (m,)
    ends: Array  # (i,): ψ_i at 1; (−1)ⁱ times that at 0
    value: AxisOperator  # ρ̂: modes to points
    potential: AxisOperator  # V: nodes to points
    slope: AxisOperator  # V′
    trace: AxisOperator  # from points to the two ends, for polynomials of degree below m
    outward: AxisOperator  # from −û along the axis at the points to û outward at the two ends
    test: AxisOperator  # Σ_q w ψ_i: points to modes
    test_slope: AxisOperator  # Σ_q w ψ_i′
    moments: Array  # (3, i): ∫ψ_i (x − ½)ⁿ
    tested: AxisOperator  # Σ_q w (x − ½)ⁿ, n = 0, 1


@cache
def axis_operators(degree: int, potential_degree: int, points: int) -> AxisOperators:
    """The matrices for densities and potentials of these degrees."""
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

    return AxisOperators(
        points=x[:, 0],
        weights=weights,
        ends=modal.tabulate(0, np.ones((1, 1)))[0, 0, :, 0],
        value=AxisOperator(psi[0], modal_columns=True),
        potential=AxisOperator(phi[0]),
        slope=AxisOperator(phi[1]),
        trace=AxisOperator(ends),
        outward=AxisOperator(ends * np.array([[1.0], [-1.0]])),
        test=AxisOperator((weights[:, None] * psi[0]).T, modal_rows=True),
        test_slope=AxisOperator((weights[:, None] * psi[1]).T, modal_rows=True),
        moments=(powers * weights) @ psi[0],
        tested=AxisOperator(powers[:2] * weights, modal_rows=True),
    )


def _unsplit(count: int) -> Array:
    """Columns: the contributions of a pair's sum, the middle, and a pair's difference to a fibre (count,)."""
    half, eye = count // 2, np.eye(count)
    sums = [0.5 * (eye[c] + eye[count - 1 - c]) for c in range(half)]
    differences = [0.5 * (eye[c] - eye[count - 1 - c]) for c in range(half)]
    return np.array([*sums, *eye[half : count - half], *differences]).T
