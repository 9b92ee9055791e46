"""The compiled loops of `limit.transport.general`.

Memory: cells are processed in chunks, and inside a chunk every array ends in *lanes* l: cell × block, the block
fastest. A chunk has enough cells for about a hundred lanes, so that few blocks vectorise as well as many and everything
stays in the cache. Contractions with tables are products of small matrices, (rows, terms) × (terms, lanes), by BLAS;
the rest are loops over lanes. Lanes behind the last cell hold anything and are never written out. Other axes: c cells,
i density, j potential, v vertices, a and k directions; q points inside a cell, then f·q on its facets, together p.

A right-hand side takes two passes. `_look` evaluates a chunk and leaves, for each side of each facet, the density and
the speed through it; `_exchange` reads what lies across and finishes the rate. So each cell is loaded once, and its
numbers are added in one order. A chunk has its second pass as soon as its neighbours have had their first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.parallel.compilation import kernel

Array = NDArray[np.float64]
Index = NDArray[np.int32]
_FEW = 8  # blocks, fewer than a vector register holds: then loops run along cells


class Operators(NamedTuple):
    """Tables of the reference cell, with weights and signs folded in."""

    value: Array  # (q, i): ρ̂ inside
    trace: Array  # (f·q, i): ρ̂ on the facets
    slope: Array  # (q·a, j): ∇V inside
    gradient: Array  # (p·a, j): ∇V inside and on the facets
    vertex: Array  # (p, v)
    test: Array  # (i, q·a): w ∂_a ψ_i
    lift: Array  # (i, f·q): −w ψ_i
    weights: Array  # (q,) inside
    facet_weights: Array  # (q,) on a facet
    normal: Array  # (f, a): outward, scaled with the surface element


class Cells(NamedTuple):
    """Geometry of all cells, and where to look for what lies across their facets."""

    vertices: Array  # (c, v, k)
    inverse: Array  # (c, g, a, k): J⁻¹; g = 1 on affine cells, else p
    scale: Array  # (c, g): |det J|
    inverse_mass: Array  # (c, 1, 1) or (c, i, i)
    volume: Array  # (owned,)
    across: Index  # (c, f·q): where in `Scratch.traces` ρ̂ on the other side waits for block 0; -1 if there is none


class Scratch(NamedTuple):
    """The numbers of one chunk, and those of s chunks between the passes."""

    density: Array  # (i, l)
    potential: Array  # (j, l)
    inverse: Array  # (a, k, l): J⁻¹
    scaled: Array  # (a, k, l): |det J| J⁻¹
    scale: Array  # (l,): |det J|
    half: Array  # (a, k, l): |det J| J⁻¹ D
    tensor: Array  # (a, k, l): |det J| J⁻¹ D J⁻ᵀ
    value: Array  # (q, l): ρ̂ inside
    mass: Array  # (l,)
    gradient: Array  # (p·a, l): ∇V in the reference cell
    inside: Array  # (q·a, l): ρ̂ |det J| J⁻¹ û
    corner: Array  # (v, a, l): the frame's velocity at the vertices
    frame: Array  # (p, a, l): and at all points
    across: Array  # (2, f·q, l): traces of the cells across
    seen: Array  # (f, l): 1 where a cell lies across, else 0
    flux: Array  # (f·q, l)
    lifted: Array  # (i, l)
    speed: Array  # (l,)
    traces: Array  # (s, 2, f·q, l): ρ̂ and |det J| J⁻¹ û·n
    residual: Array  # (s, i, l)
    square: Array  # (s, l): Σ_i ρ̂_i²


class Frames(NamedTuple):
    """The frames of the blocks, spread over lanes: metric D (a, k, l), drift b (a, l), stretch C (a, k, l)."""

    metric: Array
    drift: Array
    stretch: Array
    moving: bool


@kernel()
def rate(  # type: ignore[no-untyped-def]
    axes, operators, cells, chunks, scratch, frames, density, ghosted, potential, empty, out, fastest
) -> None:  # fmt: skip
    """∂_τ ρ̂ (owned, i, b) of all owned cells, and the largest speed over the volume (b,).

    Args:
        axes: a tuple as long as the dimension: the compiler knows its length.
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
        _look(axes, operators, cells, chunks, scratch, frames, ghosted, potential, n)
    done = -1  # counted before it is handed on: as a constant it would compile the pass once more
    for n in range(owned):
        while done < chunks.need[n]:
            done += 1
            _look(axes, operators, cells, chunks, scratch, frames, density, potential, done)
        _exchange(operators, cells, chunks, scratch, n, empty, out, fastest)


@kernel()
def _look(axes, operators, cells, chunks, scratch, frames, density, potential, n):  # type: ignore[no-untyped-def]
    """First pass of chunk n: traces on its facets, and the integrals over its cells."""
    first, count, slot, moving = chunks.first[n], chunks.cells[n], chunks.slot[n], frames.moving
    inverse, scaled, scale, frame = scratch.inverse, scratch.scaled, scratch.scale, scratch.frame
    half, tensor = scratch.half, scratch.tensor
    load(density, first, count, scratch.density)
    load(potential, first, count, scratch.potential)
    np.dot(operators.value, scratch.density, scratch.value)
    np.dot(operators.trace, scratch.density, scratch.traces[slot, 0])
    np.dot(operators.gradient, scratch.potential, scratch.gradient)
    if moving:
        width = scratch.corner.shape[1] * scratch.corner.shape[2]
        _move(axes, frames.drift, frames.stretch, cells.vertices, first, count, chunks.blocks, scratch.corner)
        np.dot(operators.vertex, scratch.corner.reshape(-1, width), frame.reshape(-1, width))
    inside, points = scratch.value.shape[0], frame.shape[0]
    step = points if cells.scale.shape[1] == 1 else 1
    for p in range(0, points, step):
        spread(axes, cells.inverse, cells.scale, first, count, p, chunks.blocks, inverse, scaled, scale)
        _contract(axes, inverse, scaled, frames.metric, half, tensor)
        ends = p, min(p + step, inside)
        _carry(axes, *ends, tensor, scaled, scratch.gradient, frame, moving, scratch.value, scratch.inside)
        ends = max(p, inside), p + step
        _pass(axes, *ends, tensor, scaled, scratch.gradient, frame, moving, operators.normal, scratch.traces[slot, 1])
    np.dot(operators.test, scratch.inside, scratch.residual[slot])
    _add_squares(scratch.density, scratch.square[slot])


@kernel()
def _exchange(operators, cells, chunks, scratch, n, empty, out, fastest):  # type: ignore[no-untyped-def]
    """Second pass of chunk n: fluxes through its facets, the rate and the speed."""
    first, count, slot = chunks.first[n], chunks.cells[n], chunks.slot[n]
    waiting, rows = scratch.traces.reshape(-1), scratch.flux.size
    for part in range(2):
        _load_across(waiting, part * rows, cells.across, first, count, chunks.blocks, scratch.across[part])
    _see(cells.across, first, count, chunks.blocks, scratch.seen)
    _upwind(operators.facet_weights, scratch.traces[slot], scratch.across, scratch.seen, scratch.flux, scratch.speed)
    np.dot(operators.lift, scratch.flux, scratch.lifted)
    _add(scratch.residual[slot], scratch.lifted)
    if cells.inverse_mass.shape[1] == 1:
        _store_affine(scratch.lifted, cells.inverse_mass, first, count, out)
    else:
        _store(scratch.lifted, cells.inverse_mass, first, count, out)
    _keep_fastest(scratch.speed, scratch.square[slot], cells.volume, first, count, empty, fastest)


@kernel()
def load(source, first, count, lanes) -> None:  # type: ignore[no-untyped-def]
    """Copy `count` cells of (c, i, b) to (i, l)."""
    size, blocks = source.shape[1:]
    for i in range(size):
        if blocks < _FEW:
            for b in range(blocks):
                for c in range(count):
                    lanes[i, c * blocks + b] = source[first + c, i, b]
        else:
            for c in range(count):
                for b in range(blocks):
                    lanes[i, c * blocks + b] = source[first + c, i, b]


@kernel()
def _store_affine(lanes, inverse_mass, first, count, out):  # type: ignore[no-untyped-def]
    """M⁻¹ r of `count` cells, from (i, l) to (c, i, b), where M is a multiple of the identity."""
    size, blocks = out.shape[1:]
    for i in range(size):
        if blocks < _FEW:
            for b in range(blocks):
                for c in range(count):
                    out[first + c, i, b] = inverse_mass[first + c, 0, 0] * lanes[i, c * blocks + b]
        else:
            for c in range(count):
                factor = inverse_mass[first + c, 0, 0]
                for b in range(blocks):
                    out[first + c, i, b] = factor * lanes[i, c * blocks + b]


@kernel(fastmath={"contract"})
def _store(lanes, inverse_mass, first, count, out):  # type: ignore[no-untyped-def]
    """M⁻¹ r of `count` cells, from (i, l) to (c, i, b)."""
    size, blocks = out.shape[1:]
    sums = np.empty(size)
    for c in range(count):
        for b in range(blocks):
            for i in range(size):
                sums[i] = 0.0
            for i in range(size):
                value = lanes[i, c * blocks + b]
                for row in range(size):
                    sums[row] += inverse_mass[first + c, i, row] * value
            for i in range(size):
                out[first + c, i, b] = sums[i]


@kernel()
def _load_across(waiting, shift, across, first, count, blocks, lanes):  # type: ignore[no-untyped-def]
    """Copy what waits on the other sides of the facets of `count` cells to (f·q, l); nothing where there is none."""
    for r in range(lanes.shape[0]):
        if blocks < _FEW:
            for b in range(blocks):
                for c in range(count):
                    lanes[r, c * blocks + b] = waiting[max(across[first + c, r], 0) + shift + b]
        else:
            for c in range(count):
                start = max(across[first + c, r], 0) + shift
                for b in range(blocks):
                    lanes[r, c * blocks + b] = waiting[start + b]


@kernel()
def _see(across, first, count, blocks, seen):  # type: ignore[no-untyped-def]
    """1 in (f, l) where a cell lies across a facet, else 0."""
    points = across.shape[1] // seen.shape[0]
    for f in range(seen.shape[0]):
        for c in range(count):
            there = 1.0 if across[first + c, f * points] >= 0 else 0.0
            for b in range(blocks):
                seen[f, c * blocks + b] = there


@kernel()
def spread(axes, inverse, scale, first, count, p, blocks, inverse_lanes, scaled_lanes, scale_lanes) -> None:  # type: ignore[no-untyped-def]
    """J⁻¹, |det J| J⁻¹ and |det J| of `count` cells at point p (or any, on affine cells), to every lane."""
    g = p % scale.shape[1]
    for c in range(count):
        for lane in range(c * blocks, (c + 1) * blocks):
            scale_lanes[lane] = scale[first + c, g]
            for a in range(len(axes)):
                for k in range(len(axes)):
                    inverse_lanes[a, k, lane] = inverse[first + c, g, a, k]
                    scaled_lanes[a, k, lane] = inverse[first + c, g, a, k] * scale[first + c, g]


@kernel(fastmath={"contract"}, error_model="numpy")
def _contract(axes, inverse, scaled, metric, half, tensor):  # type: ignore[no-untyped-def]
    """|det J| J⁻¹ D J⁻ᵀ, the tensor by which ∇V drives ρ̂ in the reference cell; `half` of it is |det J| J⁻¹ D."""
    for a in range(len(axes)):
        for k in range(len(axes)):
            for lane in range(half.shape[2]):
                entry = 0.0
                for m in range(len(axes)):
                    entry += scaled[a, m, lane] * metric[m, k, lane]
                half[a, k, lane] = entry
    for a in range(len(axes)):
        for k in range(len(axes)):
            for lane in range(half.shape[2]):
                entry = 0.0
                for m in range(len(axes)):
                    entry += half[a, m, lane] * inverse[k, m, lane]
                tensor[a, k, lane] = entry


@kernel(fastmath={"contract"}, error_model="numpy")
def _move(axes, drift, stretch, vertices, first, count, blocks, corner):  # type: ignore[no-untyped-def]
    """The frame's velocity b + C ξ at the vertices of `count` cells, (v, k, l): linear in between."""
    for v in range(corner.shape[0]):
        for i in range(len(axes)):
            for c in range(count):
                for lane in range(c * blocks, (c + 1) * blocks):
                    entry = drift[i, lane]
                    for k in range(len(axes)):
                        entry += stretch[i, k, lane] * vertices[first + c, v, k]
                    corner[v, i, lane] = entry


@kernel(fastmath={"contract"}, error_model="numpy")
def _carry(axes, begin, end, tensor, scaled, gradient, frame, moving, value, inside):  # type: ignore[no-untyped-def]
    """ρ̂ |det J| J⁻¹ û = −ρ̂ |det J| J⁻¹ (D J⁻ᵀ ∇V + b + C ξ) at points begin … end inside."""
    dim = len(axes)
    for p in range(begin, end):
        for a in range(len(axes)):
            row = p * dim + a
            for lane in range(value.shape[1]):
                entry = 0.0
                for k in range(len(axes)):
                    entry += tensor[a, k, lane] * gradient[p * dim + k, lane]
                inside[row, lane] = -value[p, lane] * entry
            if moving:
                for lane in range(value.shape[1]):
                    entry = 0.0
                    for k in range(len(axes)):
                        entry += scaled[a, k, lane] * frame[p, k, lane]
                    inside[row, lane] -= value[p, lane] * entry


@kernel(fastmath={"contract"}, error_model="numpy")
def _pass(axes, begin, end, tensor, scaled, gradient, frame, moving, normals, through):  # type: ignore[no-untyped-def]
    """|det J| J⁻¹ û·n at points begin … end, which are those on the facets."""
    dim, inside = len(axes), frame.shape[0] - through.shape[0]
    points = through.shape[0] // normals.shape[0]
    for p in range(begin, end):
        r = p - inside
        normal = normals[r // points]
        for lane in range(through.shape[1]):
            entry = 0.0
            for a in range(len(axes)):
                for k in range(len(axes)):
                    entry -= normal[a] * tensor[a, k, lane] * gradient[p * dim + k, lane]
            through[r, lane] = entry
        if moving:
            for lane in range(through.shape[1]):
                entry = 0.0
                for a in range(len(axes)):
                    for k in range(len(axes)):
                        entry -= normal[a] * scaled[a, k, lane] * frame[p, k, lane]
                through[r, lane] += entry


@kernel(error_model="numpy")
def _upwind(weights, own, across, seen, flux, speed):  # type: ignore[no-untyped-def]
    """F (f·q, l) and Σ_facets ∮a (l,); nothing is contracted, so that both sides of a facet find the same F."""
    for lane in range(speed.size):
        speed[lane] = 0.0
    for r in range(flux.shape[0]):
        f, weight = r // weights.size, weights[r % weights.size]
        for lane in range(speed.size):
            value, through = own[0, r, lane], own[1, r, lane]
            other, back = across[0, r, lane], across[1, r, lane]
            a = max(abs(through), abs(back))
            mean = 0.5 * (value * through - other * back)
            flux[r, lane] = seen[f, lane] * (mean + 0.5 * a * (value - other))
            speed[lane] += seen[f, lane] * weight * a


@kernel()
def _add(term, total):  # type: ignore[no-untyped-def]
    """total += term, (i, l)."""
    for i in range(total.shape[0]):
        for lane in range(total.shape[1]):
            total[i, lane] += term[i, lane]


@kernel()
def _add_squares(density, square):  # type: ignore[no-untyped-def]
    """Σ_i ρ̂_i² (l,)."""
    for lane in range(square.size):
        square[lane] = 0.0
    for i in range(density.shape[0]):
        for lane in range(square.size):
            square[lane] += density[i, lane] * density[i, lane]


@kernel()
def _keep_fastest(speed, square, volume, first, count, empty, fastest):  # type: ignore[no-untyped-def]
    """The largest speed/|K| (b,) over cells that hold mass: ∫_K |ρ̂| ≤ |K| (Σ_i ρ̂_i²)^½ by orthonormality."""
    blocks = fastest.size
    for c in range(count):
        least = (empty / volume[first + c]) ** 2
        for b in range(blocks):
            if square[c * blocks + b] > least:
                fastest[b] = max(fastest[b], speed[c * blocks + b] / volume[first + c])
