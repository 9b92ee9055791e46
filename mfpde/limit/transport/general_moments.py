"""The compiled loops of `general` that integrate what a co-moving frame follows; memory as in `general_kernels`."""

from __future__ import annotations

import numpy as np

from mfpde.limit.transport.general_kernels import load, spread
from mfpde.parallel.compilation import kernel
from mfpde.parallel.exact_sum import add_exactly


@kernel()
def gradient_moments(  # type: ignore[no-untyped-def]
    axes, operators, cells, chunks, scratch, density, potential, sums
) -> None:  # fmt: skip
    """sums (levels, rows, b) += ∫ρ̂ {1, ξ, ∇_ξ V, ξξᵀ, ∇_ξ V ξᵀ} over owned cells, cell by cell exactly.

    Args:
        axes: a tuple as long as the dimension: the compiler knows its length.
        operators: tables.
        cells: geometry.
        chunks: order.
        scratch: memory.
        density: owned cells, (c, i, b).
        potential: all cells, (c, j, b).
        sums: the integrals, in the levels of `parallel.exact_sum`.
    """
    inverse, scale, mass, position = scratch.inverse, scratch.scale, scratch.mass, scratch.frame
    width, inside = position.shape[1] * position.shape[2], scratch.value.shape[0]
    rows = np.empty((sums.shape[1], mass.size))
    for n in range(chunks.need.size):
        first, count = chunks.first[n], chunks.cells[n]
        used = count * chunks.blocks
        load(density, first, count, scratch.density)
        load(potential, first, count, scratch.potential)
        _load_vertices(cells.vertices, first, count, chunks.blocks, scratch.corner)
        np.dot(operators.value, scratch.density, scratch.value)
        np.dot(operators.slope, scratch.potential, scratch.gradient[: inside * len(axes)])
        np.dot(operators.vertex[:inside], scratch.corner.reshape(-1, width), position[:inside].reshape(-1, width))
        rows[:] = 0.0
        for q in range(inside):
            if q == 0 or cells.scale.shape[1] > 1:
                spread(axes, cells.inverse, cells.scale, first, count, q, chunks.blocks, inverse, scratch.scaled, scale)
            for lane in range(used):
                mass[lane] = operators.weights[q] * scale[lane] * scratch.value[q, lane]
                rows[0, lane] += mass[lane]
            _add_moments(axes, inverse, scratch.gradient, position, mass, q, used, rows)
        for row in range(sums.shape[1]):
            for c in range(count):
                lanes = slice(c * chunks.blocks, (c + 1) * chunks.blocks)
                add_exactly(rows[row, lanes], sums[0, row], sums[1, row], sums[2, row])


@kernel()
def _load_vertices(vertices, first, count, blocks, corner):  # type: ignore[no-untyped-def]
    """Copy the vertices of `count` cells to (v, k, l)."""
    for v in range(corner.shape[0]):
        for k in range(corner.shape[1]):
            for c in range(count):
                for lane in range(c * blocks, (c + 1) * blocks):
                    corner[v, k, lane] = vertices[first + c, v, k]


@kernel(fastmath={"contract"}, error_model="numpy")
def _add_moments(axes, inverse, gradient, position, mass, q, used, sums):  # type: ignore[no-untyped-def]
    """What point q of all lanes adds to the moments with ξ and ∇_ξ V = J⁻ᵀ ∇V."""
    dim = len(axes)
    for k in range(len(axes)):
        row = 1 + 2 * dim + k * dim
        for lane in range(used):
            sums[1 + k, lane] += mass[lane] * position[q, k, lane]
        for m in range(len(axes)):
            for lane in range(used):
                sums[row + m, lane] += mass[lane] * position[q, k, lane] * position[q, m, lane]
        for a in range(len(axes)):
            for lane in range(used):
                slope = mass[lane] * inverse[a, k, lane] * gradient[q * dim + a, lane]
                sums[1 + dim + k, lane] += slope
        for m in range(len(axes)):
            for lane in range(used):
                slope = 0.0
                for a in range(len(axes)):
                    slope += inverse[a, k, lane] * gradient[q * dim + a, lane]
                sums[row + dim * dim + m, lane] += mass[lane] * slope * position[q, m, lane]
