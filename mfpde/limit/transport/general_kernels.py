"""The compiled loops of `limit.transport.general`.

Cells are processed in chunks, and inside a chunk the last axis of every array, its *columns* l, is cell × block with
the block fastest. A chunk has enough cells for about a hundred columns, so that loops over few blocks vectorise as well
as those over many, and everything stays in the cache. Contractions with tables are products of small matrices, (rows,
terms) × (terms, columns), by BLAS; the rest are loops over columns. Columns behind the last cell hold arbitrary numbers
that are never written out. The arguments are described in `general_arguments`.

A right-hand side takes two passes. The first evaluates a chunk and stores, for each side of each facet, the density and
the speed through it; the second reads these values of the neighbours and completes the rate. So each cell is loaded
once, and its numbers are added in one order. The second pass of a chunk follows as soon as its neighbours have had
their first.
"""

from __future__ import annotations

import numpy as np

from mfpde.limit.transport.general_arguments import Array, Axes, Cells, Chunks, Frames, Index, Operators, Scratch
from mfpde.parallel.compilation import kernel

_FEW = 8  # blocks, fewer than a vector register holds: then the inner loops run over cells


@kernel()
def rate(
    axes: Axes, operators: Operators, cells: Cells, chunks: Chunks, scratch: Scratch, frames: Frames,
    density: Array, ghosted: Array, potential: Array, empty: float, out: Array, fastest: Array,
) -> None:  # fmt: skip
    """∂_τ ρ̂ (owned, i, b) of all owned cells, and the largest speed over the volume (b,).

    Args:
        axes: zeros, as many as dimensions.
        operators: tables.
        cells: geometry.
        chunks: order.
        scratch: memory.
        frames: metric and motion.
        density: owned cells, (owned, i, b).
        ghosted: all cells, of which the ghosts are read, (c, i, b).
        potential: all cells, (c, j, b).
        empty: mass below which a cell does not count for `fastest`.
        out: the rate.
        fastest: the speed; zero before.
    """
    owned = chunks.need.size
    for n in range(owned, chunks.first.size):
        _first_pass(axes, operators, cells, chunks, scratch, frames, ghosted, potential, n)

    done = -1  # counted before it is an argument: as a constant it would make numba compile the pass once more
    for n in range(owned):
        while done < chunks.need[n]:
            done += 1
            _first_pass(axes, operators, cells, chunks, scratch, frames, density, potential, done)
        _second_pass(operators, cells, chunks, scratch, n, empty, out, fastest)


@kernel()
def _first_pass(
    axes: Axes, operators: Operators, cells: Cells, chunks: Chunks, scratch: Scratch, frames: Frames,
    density: Array, potential: Array, n: int,
) -> None:  # fmt: skip
    """First pass of chunk n: traces on its facets, and the integrals over its cells."""
    first, count, slot, moving = chunks.first[n], chunks.cells[n], chunks.slot[n], frames.moving
    inverse, scaled, scale, frame = scratch.inverse, scratch.scaled, scratch.scale, scratch.frame

    load(density, first, count, scratch.density)
    load(potential, first, count, scratch.potential)
    np.dot(operators.value, scratch.density, scratch.value)
    np.dot(operators.trace, scratch.density, scratch.traces[slot, 0])
    np.dot(operators.gradient, scratch.potential, scratch.gradient)
    if moving:
        width = scratch.corner.shape[1] * scratch.corner.shape[2]
        _frame_velocity(axes, frames.drift, frames.stretch, cells.vertices, first, count, chunks.blocks, scratch.corner)
        np.dot(operators.vertex, scratch.corner.reshape(-1, width), frame.reshape(-1, width))

    # on affine cells all points have one geometry, elsewhere each its own
    inside, points = scratch.value.shape[0], frame.shape[0]
    step = points if cells.scale.shape[1] == 1 else 1
    for p in range(0, points, step):
        spread(axes, cells.inverse, cells.scale, first, count, p, chunks.blocks, inverse, scaled, scale)
        _pull_back_metric(axes, inverse, scaled, frames.metric, scratch.half, scratch.tensor)
        ends = p, min(p + step, inside)
        _volume_flux(
            axes, *ends, scratch.tensor, scaled, scratch.gradient, frame, moving, scratch.value, scratch.inside
        )
        ends = max(p, inside), p + step
        _normal_speed(
            axes, *ends, scratch.tensor, scaled, scratch.gradient, frame, moving, operators.normal,
            scratch.traces[slot, 1],
        )  # fmt: skip

    np.dot(operators.test, scratch.inside, scratch.residual[slot])
    _add_squares(scratch.density, scratch.square[slot])


@kernel()
def _second_pass(
    operators: Operators, cells: Cells, chunks: Chunks, scratch: Scratch, n: int, empty: float,
    out: Array, fastest: Array,
) -> None:  # fmt: skip
    """Second pass of chunk n: fluxes through its facets, the rate and the speed."""
    first, count, slot = chunks.first[n], chunks.cells[n], chunks.slot[n]

    traces, rows = scratch.traces.reshape(-1), scratch.flux.size
    for part in range(2):
        _load_neighbours(traces, part * rows, cells.across, first, count, chunks.blocks, scratch.across[part])
    _mark_interior(cells.across, first, count, chunks.blocks, scratch.interior)
    _lax_friedrichs(
        operators.facet_weights, scratch.traces[slot], scratch.across, scratch.interior, scratch.flux, scratch.speed
    )

    np.dot(operators.lift, scratch.flux, scratch.lifted)
    _add(scratch.residual[slot], scratch.lifted)
    if cells.inverse_mass.shape[1] == 1:
        _store_affine(scratch.lifted, cells.inverse_mass, first, count, out)
    else:
        _store(scratch.lifted, cells.inverse_mass, first, count, out)
    _update_fastest(scratch.speed, scratch.square[slot], cells.volume, first, count, empty, fastest)


@kernel()
def load(source: Array, first: int, count: int, columns: Array) -> None:
    """Copy `count` cells of (c, i, b) to (i, l)."""
    size, blocks = source.shape[1:]
    for i in range(size):
        if blocks < _FEW:
            for b in range(blocks):
                for c in range(count):
                    columns[i, c * blocks + b] = source[first + c, i, b]
        else:
            for c in range(count):
                for b in range(blocks):
                    columns[i, c * blocks + b] = source[first + c, i, b]


@kernel()
def _store_affine(columns: Array, inverse_mass: Array, first: int, count: int, out: Array) -> None:
    """M⁻¹ r of `count` cells, from (i, l) to (c, i, b), where M is a multiple of the identity."""
    size, blocks = out.shape[1:]
    for i in range(size):
        if blocks < _FEW:
            for b in range(blocks):
                for c in range(count):
                    out[first + c, i, b] = inverse_mass[first + c, 0, 0] * columns[i, c * blocks + b]
        else:
            for c in range(count):
                factor = inverse_mass[first + c, 0, 0]
                for b in range(blocks):
                    out[first + c, i, b] = factor * columns[i, c * blocks + b]


@kernel(fastmath={"contract"})
def _store(columns: Array, inverse_mass: Array, first: int, count: int, out: Array) -> None:
    """M⁻¹ r of `count` cells, from (i, l) to (c, i, b)."""
    size, blocks = out.shape[1:]
    sums = np.empty(size)
    for c in range(count):
        for b in range(blocks):
            for i in range(size):
                sums[i] = 0.0

            for i in range(size):
                value = columns[i, c * blocks + b]
                for row in range(size):
                    sums[row] += inverse_mass[first + c, i, row] * value
            for i in range(size):
                out[first + c, i, b] = sums[i]


@kernel()
def _load_neighbours(
    traces: Array, shift: int, across: Index, first: int, count: int, blocks: int, columns: Array
) -> None:
    """Copy the values on the other sides of the facets of `count` cells to (f·q, l), any where there are none."""
    for r in range(columns.shape[0]):
        if blocks < _FEW:
            for b in range(blocks):
                for c in range(count):
                    columns[r, c * blocks + b] = traces[max(across[first + c, r], 0) + shift + b]
        else:
            for c in range(count):
                start = max(across[first + c, r], 0) + shift
                for b in range(blocks):
                    columns[r, c * blocks + b] = traces[start + b]


@kernel()
def _mark_interior(across: Index, first: int, count: int, blocks: int, interior: Array) -> None:
    """1 in (f, l) where a cell lies across a facet, else 0."""
    points = across.shape[1] // interior.shape[0]
    for f in range(interior.shape[0]):
        for c in range(count):
            there = 1.0 if across[first + c, f * points] >= 0 else 0.0
            for b in range(blocks):
                interior[f, c * blocks + b] = there


@kernel()
def spread(
    axes: Axes, inverse: Array, scale: Array, first: int, count: int, p: int, blocks: int, inverse_columns: Array,
    scaled_columns: Array, scale_columns: Array,
) -> None:  # fmt: skip
    """J⁻¹, |det J| J⁻¹ and |det J| of `count` cells at point p (or any, on affine cells), for every column."""
    g = p % scale.shape[1]
    for c in range(count):
        for column in range(c * blocks, (c + 1) * blocks):
            scale_columns[column] = scale[first + c, g]
            for a in range(len(axes)):
                for k in range(len(axes)):
                    inverse_columns[a, k, column] = inverse[first + c, g, a, k]
                    scaled_columns[a, k, column] = inverse[first + c, g, a, k] * scale[first + c, g]


@kernel(fastmath={"contract"}, error_model="numpy")
def _pull_back_metric(axes: Axes, inverse: Array, scaled: Array, metric: Array, half: Array, tensor: Array) -> None:
    """|det J| J⁻¹ D J⁻ᵀ, the tensor by which ∇V drives ρ̂ in the reference cell; `half` of it is |det J| J⁻¹ D."""
    for a in range(len(axes)):
        for k in range(len(axes)):
            for column in range(half.shape[2]):
                entry = 0.0
                for m in range(len(axes)):
                    entry += scaled[a, m, column] * metric[m, k, column]
                half[a, k, column] = entry

    for a in range(len(axes)):
        for k in range(len(axes)):
            for column in range(half.shape[2]):
                entry = 0.0
                for m in range(len(axes)):
                    entry += half[a, m, column] * inverse[k, m, column]
                tensor[a, k, column] = entry


@kernel(fastmath={"contract"}, error_model="numpy")
def _frame_velocity(
    axes: Axes, drift: Array, stretch: Array, vertices: Array, first: int, count: int, blocks: int, corner: Array
) -> None:
    """The frame's velocity b + C ξ at the vertices of `count` cells, (v, k, l): linear in between."""
    for v in range(corner.shape[0]):
        for i in range(len(axes)):
            for c in range(count):
                for column in range(c * blocks, (c + 1) * blocks):
                    entry = drift[i, column]
                    for k in range(len(axes)):
                        entry += stretch[i, k, column] * vertices[first + c, v, k]
                    corner[v, i, column] = entry


@kernel(fastmath={"contract"}, error_model="numpy")
def _volume_flux(
    axes: Axes, begin: int, end: int, tensor: Array, scaled: Array, gradient: Array, frame: Array, moving: bool,
    value: Array, inside: Array,
) -> None:  # fmt: skip
    """ρ̂ |det J| J⁻¹ û = −ρ̂ |det J| J⁻¹ (D J⁻ᵀ ∇V + b + C ξ) at points begin … end inside."""
    dim = len(axes)
    for p in range(begin, end):
        for a in range(len(axes)):
            row = p * dim + a
            for column in range(value.shape[1]):
                entry = 0.0
                for k in range(len(axes)):
                    entry += tensor[a, k, column] * gradient[p * dim + k, column]
                inside[row, column] = -value[p, column] * entry

            if moving:
                for column in range(value.shape[1]):
                    entry = 0.0
                    for k in range(len(axes)):
                        entry += scaled[a, k, column] * frame[p, k, column]
                    inside[row, column] -= value[p, column] * entry


@kernel(fastmath={"contract"}, error_model="numpy")
def _normal_speed(
    axes: Axes, begin: int, end: int, tensor: Array, scaled: Array, gradient: Array, frame: Array, moving: bool,
    normals: Array, through: Array,
) -> None:  # fmt: skip
    """|det J| J⁻¹ û·n at points begin … end, which are those on the facets."""
    dim, inside = len(axes), frame.shape[0] - through.shape[0]
    points = through.shape[0] // normals.shape[0]
    for p in range(begin, end):
        r = p - inside
        normal = normals[r // points]
        for column in range(through.shape[1]):
            entry = 0.0
            for a in range(len(axes)):
                for k in range(len(axes)):
                    entry -= normal[a] * tensor[a, k, column] * gradient[p * dim + k, column]
            through[r, column] = entry

        if moving:
            for column in range(through.shape[1]):
                entry = 0.0
                for a in range(len(axes)):
                    for k in range(len(axes)):
                        entry -= normal[a] * scaled[a, k, column] * frame[p, k, column]
                through[r, column] += entry


@kernel(error_model="numpy")
def _lax_friedrichs(weights: Array, own: Array, across: Array, interior: Array, flux: Array, speed: Array) -> None:
    """F (f·q, l) and Σ_facets ∮a (l,); not contracted, so that both sides of a facet compute the same F."""
    for column in range(speed.size):
        speed[column] = 0.0

    for r in range(flux.shape[0]):
        f, weight = r // weights.size, weights[r % weights.size]
        for column in range(speed.size):
            value, through = own[0, r, column], own[1, r, column]
            other, back = across[0, r, column], across[1, r, column]
            a = max(abs(through), abs(back))
            mean = 0.5 * (value * through - other * back)
            flux[r, column] = interior[f, column] * (mean + 0.5 * a * (value - other))
            speed[column] += interior[f, column] * weight * a


@kernel()
def _add(term: Array, total: Array) -> None:
    """total += term, (i, l)."""
    for i in range(total.shape[0]):
        for column in range(total.shape[1]):
            total[i, column] += term[i, column]


@kernel()
def _add_squares(density: Array, square: Array) -> None:
    """Σ_i ρ̂_i² (l,)."""
    for column in range(square.size):
        square[column] = 0.0
    for i in range(density.shape[0]):
        for column in range(square.size):
            square[column] += density[i, column] * density[i, column]


@kernel()
def _update_fastest(
    speed: Array, square: Array, volume: Array, first: int, count: int, empty: float, fastest: Array
) -> None:
    """The largest speed/|K| (b,) over cells that hold mass: ∫_K |ρ̂| ≤ |K| (Σ_i ρ̂_i²)^½ by orthonormality."""
    blocks = fastest.size
    for c in range(count):
        least = (empty / volume[first + c]) ** 2
        for b in range(blocks):
            if square[c * blocks + b] > least:
                fastest[b] = max(fastest[b], speed[c * blocks + b] / volume[first + c])
