"""The transport on any cells: simplices, and cells that differ in shape.

Tables of the reference cell, the geometry at its points and the order of the cells; the loops and their memory layout
are in `general_kernels`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.fem.frame import Motion
from mfpde.limit.fem.space import Space
from mfpde.limit.transport import general_arguments, general_kernels, general_moments
from mfpde.parallel.exact_sum import LEVELS

Array = NDArray[np.float64]
_COLUMNS = (64, 192)  # of a chunk: enough for the loops over them to pay, few enough for the cache
_CACHE = 2**19  # bytes of one chunk's numbers that stay near the processor
_VECTOR = 8  # numbers that a processor handles at once


class GeneralTransport:
    """The loops over the cells of one space, for a fixed number of blocks."""

    def __init__(self, space: Space, blocks: int) -> None:
        self._size = space.size
        self._axes = (0,) * space.dim
        self._operators = _operators(space)
        per_chunk = max(1, _most_columns(self._operators) // blocks)
        columns = -(-per_chunk * blocks // _VECTOR) * _VECTOR
        self._block = np.arange(columns) % blocks  # of every column
        self._chunks = cut(space, blocks, per_chunk)
        self._cells = _cells(space, self._chunks, columns)
        self._scratch = _scratch(self._operators, columns, int(self._chunks.slot.max(initial=0)) + 1)

    def rate(
        self, density: Array, ghosted: Array, potential: Array, motion: Motion, empty: float
    ) -> tuple[Array, Array]:
        """∂_τ ρ̂ (owned, i, b) and the largest Σ_facets ∮a / |K| (b,).

        Args:
            density: coefficients (owned, i, b).
            ghosted: those of all cells, of which the ghosts are read.
            potential: nodal values on all cells (c, j, b).
            motion: metric and frame velocity of the blocks.
            empty: mass below which a cell does not count for the speed.
        """
        frames = general_arguments.Frames(
            self._spread(motion.metric), self._spread(motion.drift), self._spread(motion.stretch),
            bool(np.any(motion.drift) or np.any(motion.stretch)),
        )  # fmt: skip
        rate, fastest = np.empty(density.shape), np.zeros(density.shape[2])
        general_kernels.rate(
            self._axes, self._operators, self._cells, self._chunks, self._scratch, frames, density, ghosted, potential,
            empty, rate, fastest,
        )  # fmt: skip
        return rate, fastest

    def moments(self, density: Array, potential: Array) -> Array:
        """∫ρ̂ {1, ξ, ∇_ξ V, ξξᵀ, ∇_ξ V ξᵀ} over owned cells in the levels of `parallel.exact_sum`, (levels, rows, b)."""
        dim = len(self._axes)
        sums = np.zeros((LEVELS, 1 + 2 * dim + 2 * dim * dim, density.shape[2]))
        general_moments.gradient_moments(
            self._axes, self._operators, self._cells, self._chunks, self._scratch, density, potential, sums
        )
        return sums

    def _spread(self, values: Array) -> Array:
        """Per-block values (b, …) for all columns (…, l)."""
        return np.take(values.transpose(*range(1, values.ndim), 0), self._block, axis=-1)


def cut(space: Space, blocks: int, per_chunk: int) -> general_arguments.Chunks:
    """Divide owned cells and ghosts into chunks, and find out how long the results of each have to be kept."""
    cells, owned = len(space.vertices), space.owned
    first = np.concatenate([np.arange(0, owned, per_chunk), np.arange(owned, cells, per_chunk)])
    count = np.diff(np.append(first, cells))
    chunk = np.repeat(np.arange(len(first)), count)
    owned_chunks = int(np.searchsorted(first, owned))

    across = np.where(space.facets.neighbour[:owned] < owned, space.facets.neighbour[:owned], -1)
    need = np.arange(owned_chunks)
    linked = np.where(across < 0, chunk[:owned, None], chunk[across])
    np.maximum.at(need, chunk[:owned], linked.max(axis=1, initial=0))

    oldest = np.arange(owned_chunks)  # whose results the second passes from this chunk on still read
    np.minimum.at(oldest, chunk[:owned], linked.min(axis=1, initial=owned_chunks))
    oldest = np.minimum.accumulate(oldest[::-1])[::-1]

    need = np.maximum.accumulate(need)
    ring = int((need - oldest).max(initial=0)) + 1
    slot = np.concatenate([np.arange(owned_chunks) % ring, ring + np.arange(len(first) - owned_chunks)])

    return general_arguments.Chunks(
        first=first.astype(np.int32),
        cells=count.astype(np.int32),
        need=need.astype(np.int32),
        slot=slot.astype(np.int32),
        blocks=blocks,
    )


def _operators(space: Space) -> general_arguments.Operators:
    """The tables with weights and signs folded in; quadrature points inside first, then facet by facet."""
    tables, facets, size = space.tables, space.facets, space.size
    points = len(tables.weights) + facets.normal.shape[0] * len(facets.weights)
    slope = np.swapaxes(tables.potential_gradient, 1, 2)
    on_facets = np.swapaxes(facets.potential_gradient, 2, 3).reshape(-1, *slope.shape[1:])
    weighted = tables.weights[:, None, None] * tables.density_gradient  # (q, i, d)
    lift = -facets.weights[:, None] * facets.density  # (f, q, i)
    return general_arguments.Operators(
        value=tables.density,
        trace=facets.density.reshape(-1, size),
        slope=slope.reshape(-1, slope.shape[2]),
        gradient=np.concatenate([slope, on_facets]).reshape(points * space.dim, -1),
        vertex=np.concatenate([tables.vertex, facets.vertex.reshape(-1, tables.vertex.shape[1])]),
        test=np.ascontiguousarray(np.moveaxis(weighted, 1, 0).reshape(size, -1)),
        lift=np.ascontiguousarray(lift.reshape(-1, size).T),
        weights=tables.weights,
        facet_weights=facets.weights,
        normal=facets.normal,
    )


def _cells(space: Space, chunks: general_arguments.Chunks, columns: int) -> general_arguments.Cells:
    """Geometry at the points of `_operators`, and the places of the traces on the other sides."""
    facets, affine = space.facets, space.affine
    inverse, scale = space.inverse_jacobian, space.scale
    weights = np.array([space.tables.weights.sum()]) if affine else space.tables.weights
    return general_arguments.Cells(
        vertices=space.vertices,
        inverse=inverse if affine else np.concatenate([inverse, facets.inverse_jacobian], axis=1),
        scale=scale if affine else np.concatenate([scale, facets.scale], axis=1),
        inverse_mass=space.inverse_mass,
        volume=scale[: space.owned] @ weights,
        across=_across(space, chunks, columns),
    )


def _across(space: Space, chunks: general_arguments.Chunks, columns: int) -> general_arguments.Index:
    """(c, f·q) places in `general_arguments.Scratch.traces` as one row; -1 where there is no other side."""
    facets = space.facets
    cells, points = len(space.vertices), len(facets.weights)
    chunk = np.repeat(np.arange(len(chunks.first)), chunks.cells)
    column = (np.arange(cells) - chunks.first[chunk]) * chunks.blocks
    row = facets.facet[:, :, None] * points + facets.permutation[facets.order]  # (c, f, q)
    slot, begin = (each[facets.neighbour][:, :, None] for each in (chunks.slot[chunk], column))
    place = (2 * slot * facets.normal.shape[0] * points + row) * columns + begin
    place = np.where(facets.neighbour[:, :, None] < 0, -1, place)
    return place.reshape(cells, facets.normal.shape[0] * points).astype(np.int32)


def _most_columns(operators: general_arguments.Operators) -> int:
    """About as many columns as fit into the cache."""
    scratch = _scratch(operators, 1, 1)
    return int(np.clip(_CACHE // sum(array.nbytes for array in scratch), *_COLUMNS))


def _scratch(operators: general_arguments.Operators, columns: int, slots: int) -> general_arguments.Scratch:
    """Memory for one chunk, and for the results of several between the passes."""
    (inside, size), (traces, _) = operators.value.shape, operators.trace.shape
    facets, dim = operators.normal.shape
    points, corners = operators.vertex.shape

    return general_arguments.Scratch(
        density=np.zeros((size, columns)),
        potential=np.zeros((operators.gradient.shape[1], columns)),
        inverse=np.zeros((dim, dim, columns)),
        scaled=np.zeros((dim, dim, columns)),
        scale=np.zeros(columns),
        half=np.zeros((dim, dim, columns)),
        tensor=np.zeros((dim, dim, columns)),
        value=np.zeros((inside, columns)),
        mass=np.zeros(columns),
        gradient=np.zeros((points * dim, columns)),
        inside=np.zeros((inside * dim, columns)),
        corner=np.zeros((corners, dim, columns)),
        frame=np.zeros((points, dim, columns)),
        across=np.zeros((2, traces, columns)),
        interior=np.zeros((facets, columns)),
        flux=np.zeros((traces, columns)),
        lifted=np.zeros((size, columns)),
        speed=np.zeros(columns),
        traces=np.zeros((slots, 2, traces, columns)),
        residual=np.zeros((slots, size, columns)),
        square=np.zeros((slots, columns)),
    )
