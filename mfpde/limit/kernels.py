"""The compiled loops of `limit.transport`.

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
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int32]


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
    """Geometry of all cells, and what lies across their facets."""

    vertices: Array  # (c, v, k)
    inverse: Array  # (c, g, a, k): J⁻¹; g = 1 on affine cells, else p
    scale: Array  # (c, g): |det J|
    inverse_mass: Array  # (c, 1, 1) or (c, i, i)
    volume: Array  # (owned,)
    neighbour: Index  # (c, f)
    facet: Index  # (c, f)
    order: Index  # (c, f)
    permutation: Index  # (o, q)


class Chunks(NamedTuple):
    """Which cells are processed together (n chunks), when, and where their results wait."""

    first: Index  # (n,) their first cell; chunks of owned cells, then chunks of ghosts
    cells: Index  # (n,) how many
    need: Index  # (owned chunks,) the last owned chunk whose first pass comes before the second of this one
    slot: Index  # (n,) where the results of the first pass wait
    chunk: Index  # (c,) the chunk of a cell
    lane: Index  # (c,) and its first lane
    blocks: int


class Scratch(NamedTuple):
    """The numbers of one chunk, and those of s chunks between the passes."""

    density: Array  # (i, l)
    potential: Array  # (j, l)
    inverse: Array  # (a, k, l): J⁻¹
    scale: Array  # (l,): |det J|
    half: Array  # (a, k, l): |det J| J⁻¹ D
    tensor: Array  # (a, k, l): |det J| J⁻¹ D J⁻ᵀ
    normal: Array  # (a, l): the tensor times a facet's normal
    value: Array  # (q, l): ρ̂ inside
    gradient: Array  # (p·a, l): ∇V in the reference cell
    inside: Array  # (q·a, l): ρ̂ |det J| J⁻¹ û
    corner: Array  # (v, a, l): the frame's velocity at the vertices
    frame: Array  # (p, a, l): and at all points, as |det J| J⁻¹ (b + C ξ)
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


@njit(cache=True)
def rate(  # type: ignore[no-untyped-def]
    axes, operators, cells, chunks, scratch, frames, density, potential, empty, out, fastest
) -> None:  # fmt: skip
    """∂_τ ρ̂ (owned, i, b) of all owned cells, and the largest speed over the volume (b,).

    Args:
        axes: a tuple as long as the dimension: the compiler knows its length.
        operators: tables.
        cells: geometry.
        chunks: order.
        scratch: memory.
        frames: metric and motion.
        density: all cells, (c, i, b).
        potential: all cells, (c, j, b).
        empty: mass below which a cell does not count for `fastest`.
        out: the rate.
        fastest: the speed; zero before.
    """
    owned = chunks.need.size
    for n in range(owned, chunks.first.size):
        _look(axes, operators, cells, chunks, scratch, frames, density, potential, n, False)
    ahead = 0
    for n in range(owned):
        while ahead <= chunks.need[n]:
            _look(axes, operators, cells, chunks, scratch, frames, density, potential, ahead, True)
            ahead += 1
        _exchange(operators, cells, chunks, scratch, n, out)
        _keep_fastest(cells, chunks, scratch, n, empty, fastest)


@njit(cache=True)
def _look(axes, operators, cells, chunks, scratch, frames, density, potential, n, mine):  # type: ignore[no-untyped-def]
    """First pass of chunk n: traces on its facets and, if it is `mine`, the integrals over its cells."""
    first, count, slot = chunks.first[n], chunks.cells[n], chunks.slot[n]
    _load(density, first, count, scratch.density)
    _load(potential, first, count, scratch.potential)
    np.dot(operators.gradient, scratch.potential, scratch.gradient)
    np.dot(operators.trace, scratch.density, scratch.traces[slot, 0])
    _spread_geometry(axes, cells, chunks, n, 0, scratch)
    _contract_metric(axes, frames.metric, scratch)
    if frames.moving:
        _move_frame(axes, operators, cells, chunks, scratch, frames, n)
    if mine:
        np.dot(operators.value, scratch.density, scratch.value)
        _carry_inside(axes, cells, chunks, scratch, frames, n)
        np.dot(operators.test, scratch.inside, scratch.residual[slot])
        _add_squares(scratch.density, scratch.square[slot])
    _pass_through(axes, operators, cells, chunks, scratch, frames, n)


@njit(cache=True)
def _exchange(operators, cells, chunks, scratch, n, out):  # type: ignore[no-untyped-def]
    """Second pass of chunk n: fluxes through its facets, and the rate."""
    first, count, slot = chunks.first[n], chunks.cells[n], chunks.slot[n]
    _load_across(cells, chunks, scratch, first, count)
    _upwind(operators.facet_weights, scratch.traces[slot], scratch.across, scratch.seen, scratch.flux, scratch.speed)
    np.dot(operators.lift, scratch.flux, scratch.lifted)
    _add(scratch.residual[slot], scratch.lifted)
    _store(scratch.lifted, cells.inverse_mass, first, count, out)


@njit(cache=True)
def _load(source, first, count, lanes):  # type: ignore[no-untyped-def]
    """Copy `count` cells of (c, i, b) to (i, l)."""
    blocks = source.shape[2]
    for c in range(count):
        for i in range(source.shape[1]):
            for b in range(blocks):
                lanes[i, c * blocks + b] = source[first + c, i, b]


@njit(cache=True)
def _store(lanes, inverse_mass, first, count, out):  # type: ignore[no-untyped-def]
    """M⁻¹ r of `count` cells, from (i, l) to (c, i, b)."""
    size, blocks = out.shape[1:]
    if inverse_mass.shape[1] == 1:
        for c in range(count):
            factor = inverse_mass[first + c, 0, 0]
            for i in range(size):
                for b in range(blocks):
                    out[first + c, i, b] = factor * lanes[i, c * blocks + b]
        return
    sums = np.empty(size)
    for c in range(count):
        for b in range(blocks):
            sums[:] = 0.0
            for i in range(size):
                value = lanes[i, c * blocks + b]
                for other in range(size):
                    sums[other] += inverse_mass[first + c, i, other] * value
            out[first + c, :, b] = sums


@njit(cache=True)
def _spread_geometry(axes, cells, chunks, n, g, scratch):  # type: ignore[no-untyped-def]
    """J⁻¹ and |det J| of chunk n at point g, to every lane."""
    inverse, scale, blocks = scratch.inverse, scratch.scale, chunks.blocks
    for c in range(chunks.cells[n]):
        here = cells.inverse[chunks.first[n] + c, g]
        for b in range(c * blocks, (c + 1) * blocks):
            scale[b] = cells.scale[chunks.first[n] + c, g]
            for a in range(len(axes)):
                for k in range(len(axes)):
                    inverse[a, k, b] = here[a, k]


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def _contract_metric(axes, metric, scratch):  # type: ignore[no-untyped-def]
    """|det J| J⁻¹ D J⁻ᵀ, the tensor by which ∇V drives ρ̂ in the reference cell."""
    inverse, scale, half, tensor = scratch.inverse, scratch.scale, scratch.half, scratch.tensor
    for a in range(len(axes)):
        for k in range(len(axes)):
            for lane in range(scale.size):
                entry = 0.0
                for m in range(len(axes)):
                    entry += inverse[a, m, lane] * metric[m, k, lane]
                half[a, k, lane] = scale[lane] * entry
    for a in range(len(axes)):
        for k in range(len(axes)):
            for lane in range(scale.size):
                entry = 0.0
                for m in range(len(axes)):
                    entry += half[a, m, lane] * inverse[k, m, lane]
                tensor[a, k, lane] = entry


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def _move_frame(axes, operators, cells, chunks, scratch, frames, n):  # type: ignore[no-untyped-def]
    """|det J| J⁻¹ (b + C ξ) of chunk n at all points: linear between the vertices, apart from J."""
    corner, frame = scratch.corner, scratch.frame
    affine, width = cells.scale.shape[1] == 1, corner.shape[1] * corner.shape[2]
    for c in range(chunks.cells[n]):
        here = cells.vertices[chunks.first[n] + c]
        for v in range(corner.shape[0]):
            for i in range(len(axes)):
                for lane in range(c * chunks.blocks, (c + 1) * chunks.blocks):
                    entry = frames.drift[i, lane]
                    for k in range(len(axes)):
                        entry += frames.stretch[i, k, lane] * here[v, k]
                    corner[v, i, lane] = entry
    if affine:
        _pull_back(axes, scratch, corner)
    np.dot(operators.vertex, corner.reshape(-1, width), frame.reshape(-1, width))
    if not affine:
        for p in range(frame.shape[0]):
            _spread_geometry(axes, cells, chunks, n, p, scratch)
            _pull_back(axes, scratch, frame[p : p + 1])


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def _pull_back(axes, scratch, vectors):  # type: ignore[no-untyped-def]
    """|det J| J⁻¹ times vectors (p, a, l), in place."""
    inverse, scale, pulled = scratch.inverse, scratch.scale, scratch.normal
    for p in range(vectors.shape[0]):
        for a in range(len(axes)):
            for lane in range(scale.size):
                entry = 0.0
                for k in range(len(axes)):
                    entry += inverse[a, k, lane] * vectors[p, k, lane]
                pulled[a, lane] = scale[lane] * entry
        vectors[p] = pulled


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def _carry_inside(axes, cells, chunks, scratch, frames, n):  # type: ignore[no-untyped-def]
    """ρ̂ |det J| J⁻¹ û = −ρ̂ (|det J| J⁻¹ D J⁻ᵀ ∇V + frame) of chunk n at the points inside, (q·a, l)."""
    tensor, gradient, frame = scratch.tensor, scratch.gradient, scratch.frame
    value, inside, dim = scratch.value, scratch.inside, len(axes)
    for q in range(value.shape[0]):
        if cells.scale.shape[1] > 1:
            _spread_geometry(axes, cells, chunks, n, q, scratch)
            _contract_metric(axes, frames.metric, scratch)
        for a in range(len(axes)):
            for lane in range(value.shape[1]):
                entry = frame[q, a, lane] if frames.moving else 0.0
                for k in range(len(axes)):
                    entry += tensor[a, k, lane] * gradient[q * dim + k, lane]
                inside[q * dim + a, lane] = -value[q, lane] * entry


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def _pass_through(axes, operators, cells, chunks, scratch, frames, n):  # type: ignore[no-untyped-def]
    """|det J| J⁻¹ û·n of chunk n at the points on the facets, (f·q, l)."""
    tensor, gradient, frame, turned = scratch.tensor, scratch.gradient, scratch.frame, scratch.normal
    through, normal, dim = scratch.traces[chunks.slot[n], 1], operators.normal, len(axes)
    points = operators.facet_weights.size
    affine, first = cells.scale.shape[1] == 1, operators.value.shape[0]
    for f in range(normal.shape[0]):
        for q in range(points):
            r = f * points + q
            p = first + r
            if not affine:
                _spread_geometry(axes, cells, chunks, n, p, scratch)
                _contract_metric(axes, frames.metric, scratch)
            if q == 0 or not affine:
                _turn(axes, tensor, normal[f], turned)
            for lane in range(through.shape[1]):
                entry = 0.0
                for a in range(len(axes)):
                    entry -= turned[a, lane] * gradient[p * dim + a, lane]
                through[r, lane] = entry
            if frames.moving:
                for lane in range(through.shape[1]):
                    entry = through[r, lane]
                    for a in range(len(axes)):
                        entry -= normal[f, a] * frame[p, a, lane]
                    through[r, lane] = entry


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def _turn(axes, tensor, normal, turned):  # type: ignore[no-untyped-def]
    """A symmetric tensor (a, k, l) times one vector (k,)."""
    for a in range(len(axes)):
        for lane in range(turned.shape[1]):
            entry = 0.0
            for k in range(len(axes)):
                entry += tensor[a, k, lane] * normal[k]
            turned[a, lane] = entry


@njit(cache=True)
def _load_across(cells, chunks, scratch, first, count):  # type: ignore[no-untyped-def]
    """The traces (2, f·q, l) of the neighbours of a chunk, and which facets have one."""
    seen, blocks = scratch.seen, chunks.blocks
    points, rows, width = cells.permutation.shape[1], scratch.across.shape[1], seen.shape[1]
    traces, across = scratch.traces.reshape(-1, width), scratch.across.reshape(-1, width)
    for c in range(count):
        lane = c * blocks
        for f in range(seen.shape[0]):
            other = cells.neighbour[first + c, f]
            seen[f, lane : lane + blocks] = 1.0 if other >= 0 else 0.0
            if other < 0:
                continue
            start = 2 * rows * chunks.slot[chunks.chunk[other]] + points * cells.facet[first + c, f]
            order, begin = cells.order[first + c, f], chunks.lane[other]
            for q in range(points):
                row, source = f * points + q, start + cells.permutation[order, q]
                for b in range(blocks):
                    across[row, lane + b] = traces[source, begin + b]
                for b in range(blocks):
                    across[rows + row, lane + b] = traces[source + rows, begin + b]


@njit(cache=True, error_model="numpy")
def _upwind(weights, own, across, seen, flux, speed):  # type: ignore[no-untyped-def]
    """F (f·q, l) and Σ_facets ∮a (l,); nothing is contracted, so that both sides of a facet find the same F."""
    speed[:] = 0.0
    for f in range(seen.shape[0]):
        for q in range(weights.size):
            r = f * weights.size + q
            for lane in range(speed.size):
                value, through = own[0, r, lane], own[1, r, lane]
                other, back = across[0, r, lane], across[1, r, lane]
                a = max(abs(through), abs(back))
                mean = 0.5 * (value * through - other * back)
                flux[r, lane] = seen[f, lane] * (mean + 0.5 * a * (value - other))
                speed[lane] += seen[f, lane] * weights[q] * a


@njit(cache=True)
def _add(term, total):  # type: ignore[no-untyped-def]
    """total += term, (i, l)."""
    for i in range(total.shape[0]):
        for lane in range(total.shape[1]):
            total[i, lane] += term[i, lane]


@njit(cache=True)
def _add_squares(density, square):  # type: ignore[no-untyped-def]
    """Σ_i ρ̂_i² (l,)."""
    square[:] = 0.0
    for i in range(density.shape[0]):
        for lane in range(square.size):
            square[lane] += density[i, lane] ** 2


@njit(cache=True)
def _keep_fastest(cells, chunks, scratch, n, empty, fastest):  # type: ignore[no-untyped-def]
    """The largest speed/|K| (b,) over cells that hold mass: ∫_K |ρ̂| ≤ |K| (Σ_i ρ̂_i²)^½ by orthonormality."""
    square, blocks = scratch.square[chunks.slot[n]], chunks.blocks
    for c in range(chunks.cells[n]):
        volume = cells.volume[chunks.first[n] + c]
        least = (empty / volume) ** 2
        for b in range(blocks):
            if square[c * blocks + b] > least:
                fastest[b] = max(fastest[b], scratch.speed[c * blocks + b] / volume)


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def velocity_moments(  # type: ignore[no-untyped-def]
    axes, operators, cells, chunks, scratch, density, potential, sums
) -> None:  # fmt: skip
    """sums (rows, l) += ∫ρ̂ {1, ξ, ∇_ξ V, ξξᵀ, ∇_ξ V ξᵀ} over owned cells."""
    inverse, gradient, value, position = scratch.inverse, scratch.gradient, scratch.value, scratch.frame
    width, dim = position.shape[1] * position.shape[2], len(axes)
    for n in range(chunks.need.size):
        first, used = chunks.first[n], chunks.cells[n] * chunks.blocks
        _load(density, first, chunks.cells[n], scratch.density)
        _load(potential, first, chunks.cells[n], scratch.potential)
        _load_vertices(cells, chunks, n, scratch.corner)
        np.dot(operators.slope, scratch.potential, gradient[: value.shape[0] * dim])
        np.dot(operators.value, scratch.density, value)
        np.dot(operators.vertex, scratch.corner.reshape(-1, width), position.reshape(-1, width))
        for q in range(value.shape[0]):
            if q == 0 or cells.scale.shape[1] > 1:
                _spread_geometry(axes, cells, chunks, n, q, scratch)
            local = gradient[q * dim : (q + 1) * dim]
            _turn_back(axes, inverse, local, scratch.normal)
            _add_moments(axes, operators.weights[q], scratch.scale, value[q], position[q], scratch.normal, sums, used)


@njit(cache=True)
def _load_vertices(cells, chunks, n, corner):  # type: ignore[no-untyped-def]
    """Copy the vertices of chunk n to (v, k, l)."""
    for c in range(chunks.cells[n]):
        here = cells.vertices[chunks.first[n] + c]
        for v in range(corner.shape[0]):
            for k in range(corner.shape[1]):
                corner[v, k, c * chunks.blocks : (c + 1) * chunks.blocks] = here[v, k]


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def _turn_back(axes, inverse, local, gradient):  # type: ignore[no-untyped-def]
    """∇_ξ V = J⁻ᵀ ∇V, (k, l)."""
    for k in range(len(axes)):
        for lane in range(gradient.shape[1]):
            entry = 0.0
            for a in range(len(axes)):
                entry += inverse[a, k, lane] * local[a, lane]
            gradient[k, lane] = entry


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def _add_moments(axes, weight, scale, value, position, gradient, sums, used):  # type: ignore[no-untyped-def]
    """What one point of all lanes adds to the rows of `velocity_moments`."""
    dim = len(axes)
    second, shear = 1 + 2 * dim, 1 + 2 * dim + dim * dim
    for lane in range(used):
        mass = weight * scale[lane] * value[lane]
        sums[0, lane] += mass
        for k in range(len(axes)):
            sums[1 + k, lane] += mass * position[k, lane]
            sums[1 + dim + k, lane] += mass * gradient[k, lane]
            for m in range(len(axes)):
                sums[second + k * dim + m, lane] += mass * position[k, lane] * position[m, lane]
                sums[shear + k * dim + m, lane] += mass * gradient[k, lane] * position[m, lane]
