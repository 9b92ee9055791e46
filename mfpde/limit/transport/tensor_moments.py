"""The compiled loop of `transport.tensor` that integrates what frames follow, written like `transport.tensor_kernels`.

Moments of ρ̂ alone are sums of few of its Legendre coefficients; those with ∇V take its values at the points.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from mfpde.limit.transport.codegen import Pen, Shape, gradient_at, interpolate, load, load_potential, shape_of
from mfpde.limit.transport.simd import Lanes, Memory, Number, dot
from mfpde.limit.transport.sum_factorisation import Factors, Tensor
from mfpde.parallel.compilation import kernel
from mfpde.parallel.exact_sum import ANCHORS


@kernel()
def gradient_moments(shape, density, potential, centre, start, maps, sums) -> None:  # type: ignore[no-untyped-def]
    """sums (packs, levels, rows, w) += ∫ρ̂ {1, ξ, ∇_ξ V, ξξᵀ, ∇_ξ V ξᵀ} over owned cells, cell by cell exactly.

    Args:
        shape: see `packs.shape_of`.
        density: owned cells, (c, i, b).
        potential: all cells, (c, j, b).
        centre: (c, d).
        start: first block of each pack.
        maps: |det J|, J (d × d), J⁻¹ (d × d) of all cells.
        sums: the integrals, in the levels of `parallel.exact_sum`.
    """
    count, pack = density.shape[2], sums.shape[1] * sums.shape[2] * sums.shape[3]
    for c in range(density.shape[0]):
        for o in range(start.size):
            _add_moments(  # type: ignore[call-arg]
                shape, density, c * density.shape[1] * count + start[o], potential,
                c * potential.shape[1] * count + start[o], count, centre, c * centre.shape[1], maps, sums, o * pack,
            )  # fmt: skip


@intrinsic
def _add_moments(  # type: ignore[no-untyped-def]
    _typing, shape, density, density_at, potential, potential_at, stride, centre, centre_at, maps, sums, sums_at
):  # fmt: skip
    """What a pack, whose numbers are at these places of these arrays, adds."""
    sizes = shape_of(shape)
    signature = types.void(
        shape, density, density_at, potential, potential_at, stride, centre, centre_at, maps, sums, sums_at
    )

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pen = Pen(context, builder, signature.args, values, sizes.width)
        line, d = sizes.factors, sizes.dim
        rho = load(pen.memory(1, 2), pen.values[5], (sizes.modes,) * d)
        phi = load_potential(sizes, pen.memory(3, 4), pen.values[5])
        middle = [pen.memory(6, 7).at(k).spread() for k in range(d)]
        numbers = [pen.memory(8).at(n).spread() for n in range(1 + 2 * d * d)]
        jacobian, inverse = (np.array(numbers[n : n + d * d], dtype=object).reshape(d, d) for n in (1, 1 + d * d))
        found = _in_cell(sizes, line, rho, phi)
        scaled = [number * numbers[0] for number in found]
        sums, rows = pen.memory(9, 10), 1 + 2 * d + 2 * d * d
        for row, number in enumerate(_carried(d, scaled, middle, jacobian, inverse)):
            _add_exactly(number, [sums.row(level * rows + row) for level in range(len(ANCHORS))])
        return context.get_dummy_value()

    return signature, write


def _in_cell(sizes: Shape, line: Factors, rho: Tensor, phi: Tensor) -> list[Number]:
    """∫ρ̂ {1, X, XXᵀ, ∇V, ∇V Xᵀ} over the reference cell, X from its middle."""
    d = sizes.dim
    powers = [(0,) * d, *_units(d), *(tuple(np.add(a, b)) for a, b in product(_units(d), repeat=2))]
    out = []
    for power in powers:
        table = np.ones(())
        for n in power:
            table = np.multiply.outer(table, line.moments[n])
        out.append(dot(table.ravel(), rho.ravel()))
    others = (sizes.points,) * (d - 1)
    partial, slopes = interpolate(sizes, line, rho, phi)
    tested = [np.empty((2, *others), dtype=object) for _ in range(d)]
    for place in np.ndindex(*others):
        at = (slice(None), *place)
        value = line.value.along(0, partial[at])
        for a, slope in enumerate(gradient_at(line, slopes, at)):
            tested[a][at] = line.tested.along(0, value * slope)
    for a in range(d):
        for axis in range(1, d):
            tested[a] = line.tested.along(axis, tested[a])
    return [*out, *(each[(0,) * d] for each in tested), *(each[unit] for each in tested for unit in _units(d))]


def _units(dim: int) -> list[tuple[int, ...]]:
    return [tuple(int(a == b) for b in range(dim)) for a in range(dim)]


def _carried(d: int, found: list[Number], middle: list[Lanes], jacobian: Tensor, inverse: Tensor) -> list[Number]:
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


def _add_exactly(term: Lanes, levels: list[Memory]) -> None:
    """`exact_sum.add_exactly`."""
    rest = term
    for level, anchor in zip(levels, ANCHORS, strict=True):
        part = (rest + anchor) - anchor
        level.store(level.load() + part)
        rest = rest - part
