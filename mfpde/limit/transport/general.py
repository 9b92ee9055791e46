"""The transport on any cells: simplices, and cells that differ in shape.

Tables of the reference cell and the geometry at its points; the loops and their memory layout are in `general_kernels`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.fem.frame import Motion
from mfpde.limit.fem.space import Space
from mfpde.limit.transport import general_kernels, general_moments
from mfpde.limit.transport.chunks import Chunks, cut
from mfpde.parallel.exact_sum import LEVELS

Array = NDArray[np.float64]
_LANES = (64, 192)  # of a chunk: enough for the loops over them to pay, few enough for the cache
_CACHE = 2**19  # bytes of one chunk's numbers that stay near the processor
_VECTOR = 8  # lanes that a processor handles at once


class Dense:
    """The loops over the cells of one space, for a fixed number of blocks."""

    def __init__(self, space: Space, blocks: int) -> None:
        self._size = space.size
        self._axes = (0,) * space.dim
        self._operators = _operators(space)
        per = max(1, _lanes(self._operators) // blocks)  # cells of a chunk
        self._lanes = -(-per * blocks // _VECTOR) * _VECTOR
        self._block = np.arange(self._lanes) % blocks  # of every lane
        self._chunks = cut(space, blocks, per)
        self._cells = _cells(space, self._chunks, self._lanes)
        self._scratch = _scratch(self._operators, self._lanes, int(self._chunks.slot.max(initial=0)) + 1)

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
        frames = general_kernels.Frames(
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
        """Per-block values (b, …) to all lanes (…, l)."""
        return np.take(values.transpose(*range(1, values.ndim), 0), self._block, axis=-1)


def _operators(space: Space) -> general_kernels.Operators:
    """The tables with weights and signs folded in; quadrature points inside first, then facet by facet."""
    tables, facets, size = space.tables, space.facets, space.size
    points = len(tables.weights) + facets.normal.shape[0] * len(facets.weights)
    slope = np.swapaxes(tables.potential_gradient, 1, 2)
    on_facets = np.swapaxes(facets.potential_gradient, 2, 3).reshape(-1, *slope.shape[1:])
    weighted = tables.weights[:, None, None] * tables.density_gradient  # (q, i, d)
    lift = -facets.weights[:, None] * facets.density  # (f, q, i)
    return general_kernels.Operators(
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


def _cells(space: Space, chunks: Chunks, lanes: int) -> general_kernels.Cells:
    """Geometry at the points of `_operators`, and where the traces on the other sides wait."""
    facets, affine = space.facets, space.affine
    inverse, scale = space.inverse_jacobian, space.scale
    weights = np.array([space.tables.weights.sum()]) if affine else space.tables.weights
    return general_kernels.Cells(
        vertices=space.vertices,
        inverse=inverse if affine else np.concatenate([inverse, facets.inverse_jacobian], axis=1),
        scale=scale if affine else np.concatenate([scale, facets.scale], axis=1),
        inverse_mass=space.inverse_mass,
        volume=scale[: space.owned] @ weights,
        across=_across(space, chunks, lanes),
    )


def _across(space: Space, chunks: Chunks, lanes: int) -> general_kernels.Index:
    """(c, f·q) places in `general_kernels.Scratch.traces` as one row; -1 where there is no other side."""
    facets = space.facets
    cells, points = len(space.vertices), len(facets.weights)
    chunk = np.repeat(np.arange(len(chunks.first)), chunks.cells)
    lane = (np.arange(cells) - chunks.first[chunk]) * chunks.blocks
    row = facets.facet[:, :, None] * points + facets.permutation[facets.order]  # (c, f, q)
    slot, begin = (each[facets.neighbour][:, :, None] for each in (chunks.slot[chunk], lane))
    place = (2 * slot * facets.normal.shape[0] * points + row) * lanes + begin
    return (
        np.where(facets.neighbour[:, :, None] < 0, -1, place)
        .reshape(cells, facets.normal.shape[0] * points)
        .astype(np.int32)
    )


def _lanes(operators: general_kernels.Operators) -> int:
    """About as many lanes as fit into the cache."""
    scratch = _scratch(operators, 1, 1)
    return int(np.clip(_CACHE // sum(array.nbytes for array in scratch), *_LANES))


def _scratch(operators: general_kernels.Operators, lanes: int, slots: int) -> general_kernels.Scratch:
    """Memory for the chunk at hand and for results that wait."""
    (inside, size), (traces, _) = operators.value.shape, operators.trace.shape
    facets, dim = operators.normal.shape
    points, corners = operators.vertex.shape
    return general_kernels.Scratch(
        density=np.zeros((size, lanes)),
        potential=np.zeros((operators.gradient.shape[1], lanes)),
        inverse=np.zeros((dim, dim, lanes)),
        scaled=np.zeros((dim, dim, lanes)),
        scale=np.zeros(lanes),
        half=np.zeros((dim, dim, lanes)),
        tensor=np.zeros((dim, dim, lanes)),
        value=np.zeros((inside, lanes)),
        mass=np.zeros(lanes),
        gradient=np.zeros((points * dim, lanes)),
        inside=np.zeros((inside * dim, lanes)),
        corner=np.zeros((corners, dim, lanes)),
        frame=np.zeros((points, dim, lanes)),
        across=np.zeros((2, traces, lanes)),
        seen=np.zeros((facets, lanes)),
        flux=np.zeros((traces, lanes)),
        lifted=np.zeros((size, lanes)),
        speed=np.zeros(lanes),
        traces=np.zeros((slots, 2, traces, lanes)),
        residual=np.zeros((slots, size, lanes)),
        square=np.zeros((slots, lanes)),
    )
