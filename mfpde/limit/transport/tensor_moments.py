"""The generated loop of `transport.tensor` for the moments that frames follow; memory as in `tensor_kernels`.

Moments of ρ̂ alone are sums of few of its Legendre coefficients; those with ∇V need its values at the points.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.transport.codegen import Shape, Zeros, generated, gradient_at, interpolate, load, load_potential
from mfpde.limit.transport.simd import Memory, Number, Vector, dot
from mfpde.limit.transport.sum_factorisation import Tensor
from mfpde.parallel.compilation import kernel
from mfpde.parallel.exact_sum import ANCHORS

Array = NDArray[np.float64]


@kernel()
def gradient_moments(
    zeros: Zeros, density: Array, potential: Array, centre: Array, start: NDArray[np.int64], maps: Array, sums: Array
) -> None:
    """sums (vectors, levels, rows, w) += ∫ρ̂ {1, ξ, ∇_ξ V, ξξᵀ, ∇_ξ V ξᵀ} over owned cells, cell by cell exactly.

    Args:
        zeros: `codegen.Shape.zeros`.
        density: owned cells, (c, i, b).
        potential: all cells, (c, j, b).
        centre: (c, d).
        start: first block of each vector.
        maps: |det J|, J (d × d), J⁻¹ (d × d) of all cells.
        sums: the integrals, in the levels of `parallel.exact_sum`.
    """
    count, size = density.shape[2], sums.shape[1] * sums.shape[2] * sums.shape[3]
    for c in range(density.shape[0]):
        for v in range(start.size):
            _add_moments(
                zeros, density, c * density.shape[1] * count + start[v], potential,
                c * potential.shape[1] * count + start[v], count, centre, c * centre.shape[1], maps, sums, v * size,
            )  # fmt: skip


@generated
def _add_moments(
    shape: Shape, density: Memory, density_at: Any, potential: Memory, potential_at: Any, stride: Any,
    centre: Memory, centre_at: Any, maps: Memory, sums: Memory, sums_at: Any,
) -> None:  # fmt: skip
    """Add the integrals of a cell and a vector of blocks, whose numbers are at these places of these arrays."""
    d = shape.dim
    rho = load(density.at(density_at), stride, (shape.modes,) * d)
    phi = load_potential(shape, potential.at(potential_at), stride)
    middle = [centre.at(centre_at).at(k).spread() for k in range(d)]
    numbers = [maps.at(n).spread() for n in range(1 + 2 * d * d)]
    jacobian, inverse = (np.array(numbers[n : n + d * d], dtype=object).reshape(d, d) for n in (1, 1 + d * d))

    scaled = [number * numbers[0] for number in _in_reference_cell(shape, rho, phi)]
    target, rows = sums.at(sums_at), 1 + 2 * d + 2 * d * d
    for row, number in enumerate(_in_frame(d, scaled, middle, jacobian, inverse)):
        _add_exactly(number, [target.row(level * rows + row) for level in range(len(ANCHORS))])


def _in_reference_cell(shape: Shape, rho: Tensor, phi: Tensor) -> list[Number]:
    """∫ρ̂ {1, X, XXᵀ, ∇V, ∇V Xᵀ} over the reference cell, X from its middle."""
    d, operators = shape.dim, shape.operators
    powers = [(0,) * d, *_units(d), *(tuple(np.add(a, b)) for a, b in product(_units(d), repeat=2))]
    out = []
    for power in powers:
        table = np.ones(())
        for n in power:
            table = np.multiply.outer(table, operators.moments[n])
        out.append(dot(table.ravel(), rho.ravel()))

    others = (shape.points,) * (d - 1)
    partial, slopes = interpolate(shape, operators, rho, phi)
    tested = [np.empty((2, *others), dtype=object) for _ in range(d)]
    for place in np.ndindex(*others):
        at = (slice(None), *place)
        value = operators.value.along(0, partial[at])
        for a, slope in enumerate(gradient_at(operators, slopes, at)):
            tested[a][at] = operators.tested.along(0, value * slope)
    for a in range(d):
        for axis in range(1, d):
            tested[a] = operators.tested.along(axis, tested[a])

    return [*out, *(each[(0,) * d] for each in tested), *(each[unit] for each in tested for unit in _units(d))]


def _units(dim: int) -> list[tuple[int, ...]]:
    return [tuple(int(a == b) for b in range(dim)) for a in range(dim)]


def _in_frame(d: int, found: list[Number], middle: list[Vector], jacobian: Tensor, inverse: Tensor) -> list[Number]:
    """The moments of ξ = centre + J X, and of ∇_ξ V = J⁻ᵀ ∇V, in their order."""
    mass, mean, square, slope, shear = (
        np.array(part, dtype=object)
        for part in (found[:1], *np.split(np.array(found[1:], dtype=object), np.cumsum([d, d * d, d])))
    )
    square, shear = square.reshape(d, d), shear.reshape(d, d)
    shifted, transposed = jacobian @ mean, inverse.T

    xi = [mass[0] * middle[k] + shifted[k] for k in range(d)]
    gradient = transposed @ slope
    spread, turned = jacobian @ square @ jacobian.T, transposed @ shear @ jacobian.T
    pairs = list(product(range(d), repeat=2))
    second = [middle[k] * xi[m] + shifted[k] * middle[m] + spread[k, m] for k, m in pairs]
    return [mass[0], *xi, *gradient, *second, *(gradient[k] * middle[m] + turned[k, m] for k, m in pairs)]


def _add_exactly(term: Vector, levels: list[Memory]) -> None:
    """`exact_sum.add_exactly`."""
    rest = term
    for level, anchor in zip(levels, ANCHORS, strict=True):
        part = (rest + anchor) - anchor
        level.store(level.load() + part)
        rest = rest - part
