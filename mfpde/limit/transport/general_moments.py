"""The compiled loops of `transport.general` for the moments that frames follow; columns as in `general_kernels`."""

from __future__ import annotations

import numpy as np

from mfpde.limit.transport.general_arguments import Array, Axes, Cells, Chunks, Operators, Scratch
from mfpde.limit.transport.general_kernels import load, spread
from mfpde.parallel.compilation import kernel
from mfpde.parallel.exact_sum import add_exactly


@kernel()
def gradient_moments(
    axes: Axes, operators: Operators, cells: Cells, chunks: Chunks, scratch: Scratch,
    density: Array, potential: Array, sums: Array,
) -> None:  # fmt: skip
    """sums (levels, rows, b) += ∫ρ̂ {1, ξ, ∇_ξ V, ξξᵀ, ∇_ξ V ξᵀ} over owned cells, cell by cell exactly.

    Args:
        axes: zeros, as many as dimensions.
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
            for column in range(used):
                mass[column] = operators.weights[q] * scale[column] * scratch.value[q, column]
                rows[0, column] += mass[column]
            _add_moments(axes, inverse, scratch.gradient, position, mass, q, used, rows)

        for row in range(sums.shape[1]):
            for c in range(count):
                of_cell = slice(c * chunks.blocks, (c + 1) * chunks.blocks)
                add_exactly(rows[row, of_cell], sums[0, row], sums[1, row], sums[2, row])


@kernel()
def _load_vertices(vertices: Array, first: int, count: int, blocks: int, corner: Array) -> None:
    """Copy the vertices of `count` cells to (v, k, l)."""
    for v in range(corner.shape[0]):
        for k in range(corner.shape[1]):
            for c in range(count):
                for column in range(c * blocks, (c + 1) * blocks):
                    corner[v, k, column] = vertices[first + c, v, k]


@kernel(fastmath={"contract"}, error_model="numpy")
def _add_moments(
    axes: Axes, inverse: Array, gradient: Array, position: Array, mass: Array, q: int, used: int, sums: Array
) -> None:
    """Add the contribution of point q of all cells to the moments with ξ and ∇_ξ V = J⁻ᵀ ∇V."""
    dim = len(axes)
    for k in range(len(axes)):
        row = 1 + 2 * dim + k * dim
        for column in range(used):
            sums[1 + k, column] += mass[column] * position[q, k, column]
        for m in range(len(axes)):
            for column in range(used):
                sums[row + m, column] += mass[column] * position[q, k, column] * position[q, m, column]

        for a in range(len(axes)):
            for column in range(used):
                slope = mass[column] * inverse[a, k, column] * gradient[q * dim + a, column]
                sums[1 + dim + k, column] += slope
        for m in range(len(axes)):
            for column in range(used):
                slope = 0.0
                for a in range(len(axes)):
                    slope += inverse[a, k, column] * gradient[q * dim + a, column]
                sums[row + dim * dim + m, column] += mass[column] * slope * position[q, m, column]
