"""The discontinuous Galerkin transport of the density: upwinding by the local Lax–Friedrichs flux.

In reference coordinates ξ of a frame θ = c + A ξ the density ρ̂ moves with

    û = −A⁻¹A⁻ᵀ ∇_ξ V − A⁻¹ċ − A⁻¹Ȧ ξ

and the scheme finds ∂_τ ρ̂ ∈ DG_p such that for every cell K and test function ψ

    ∫_K ψ ∂_τ ρ̂ = ∫_K ρ̂ û·∇ψ − ∫_∂K ψ F,     F = {ρ̂ û}·n + ½ a (ρ̂⁻ − ρ̂⁺),  a = max(|û⁻·n|, |û⁺·n|),

with F = 0 on the mesh boundary. Source: mathematics.md, section 4; Cockburn & Shu, *J. Sci. Comput.* 16 (2001).

The loops and their memory layout are in `limit.kernels`; here are the tables, the order of the cells and the exchange.
"""

from __future__ import annotations

import numpy as np
from dolfinx import la
from numpy.typing import NDArray

from mfpde.limit import kernels
from mfpde.limit.exact_sum import LEVELS, Share
from mfpde.limit.frame import Motion, VelocityMoments
from mfpde.limit.space import Space

Array = NDArray[np.float64]
_EMPTY = 1e-9  # a cell with less mass holds none: it does not bound the time step
_LANES = (64, 192)  # of a chunk: enough for the loops over them to pay, few enough for the cache
_CACHE = 2**19  # bytes of one chunk's numbers that stay near the processor
_VECTOR = 8  # lanes that a processor handles at once


class Transport:
    """The right-hand side on one space for a fixed number of blocks; owns the ghosted copy of the density."""

    def __init__(self, space: Space, blocks: int) -> None:
        self.space = space
        self.blocks = blocks
        index_map = space.mesh.topology.index_map(space.dim)
        self._ghosted = la.vector(index_map, space.size * blocks, np.float64)
        self._density: Array = self._ghosted.array.reshape(-1, space.size, blocks)
        self._axes = (0,) * space.dim
        self._operators = _operators(space)
        per = max(1, _lanes(self._operators) // blocks)  # cells of a chunk
        self._lanes = -(-per * blocks // _VECTOR) * _VECTOR
        self._block = np.arange(self._lanes) % blocks  # of every lane
        self._chunks = _chunks(space, blocks, per)
        self._cells = _cells(space, self._chunks, self._lanes)
        self._scratch = _scratch(self._operators, self._lanes, int(self._chunks.slot.max(initial=0)) + 1)

    def ghosted(self, density: Array) -> Array:
        """Coefficients (c, i, b) of all cells from those of the owned ones; one neighbour exchange.

        The array is this object's own and holds until the next call.
        """
        self._density[: self.space.owned] = density
        self._ghosted.scatter_forward()
        return self._density

    def rate(self, density: Array, potential: Array, motion: Motion) -> tuple[Array, Array]:
        """∂_τ ρ̂ and the speed that bounds the time step; one neighbour exchange.

        Args:
            density: coefficients (owned, i, b).
            potential: nodal values on all cells (c, j, b).
            motion: metric and frame velocity of the blocks.

        Returns:
            The rate (owned, i, b), and per block (b,) the largest over this rank's cells of Σ_facets ∮a / |K|: an
            explicit step must stay below a constant over it. Cells whose mass is below 1e-9 do not count: what a
            larger step amplifies there is nothing, and it counts as soon as it is something.
        """
        space = self.space
        ghosted = self.ghosted(density)
        frames = kernels.Frames(
            self._spread(motion.metric), self._spread(motion.drift), self._spread(motion.stretch),
            bool(np.any(motion.drift) or np.any(motion.stretch)),
        )  # fmt: skip
        rate, fastest = np.empty((space.owned, space.size, self.blocks)), np.zeros(self.blocks)
        kernels.rate(
            self._axes, self._operators, self._cells, self._chunks, self._scratch, frames, ghosted,
            np.ascontiguousarray(potential), _EMPTY, rate, fastest,
        )  # fmt: skip
        return rate, fastest

    def gradient_moments(self, density: Array, potential: Array) -> Share:
        """This rank's share of ∫ρ̂ {1, ξ, ∇_ξ V, ξξᵀ, ∇_ξ V ξᵀ}, shape (rows, b); no communication.

        Args:
            density: coefficients (owned, i, b).
            potential: nodal values on all cells (c, j, b).
        """
        dim = self.space.dim
        sums = np.zeros((LEVELS, 1 + 2 * dim + 2 * dim * dim, self.blocks))
        kernels.gradient_moments(
            self._axes, self._operators, self._cells, self._chunks, self._scratch, np.ascontiguousarray(density),
            np.ascontiguousarray(potential), sums,
        )  # fmt: skip
        return Share(sums)

    def _spread(self, values: Array) -> Array:
        """Per-block values (b, …) to all lanes (…, l)."""
        return np.take(values.transpose(*range(1, values.ndim), 0), self._block, axis=-1)


def velocity_moments(sums: Array, metric: Array) -> VelocityMoments:
    """What tells a co-moving frame where to go, from `Transport.gradient_moments` summed over all ranks.

    Args:
        sums: (rows, b).
        metric: D, shape (b, d, d).
    """
    rows, blocks = sums.shape
    dim = next(d for d in (1, 2, 3) if 1 + 2 * d + 2 * d * d == rows)
    mass, mean, slope, second, shear = np.split(sums, np.cumsum([1, dim, dim, dim * dim]))
    square = (dim, dim, blocks)
    return VelocityMoments(
        mass=mass[0],
        mean=mean.T,
        second=np.moveaxis(second.reshape(square), 2, 0),
        velocity=-np.einsum("bik,kb->bi", metric, slope),
        shear=-metric @ np.moveaxis(shear.reshape(square), 2, 0),
    )


def _operators(space: Space) -> kernels.Operators:
    """The tables with weights and signs folded in; quadrature points inside first, then facet by facet."""
    tables, facets, size = space.tables, space.facets, space.size
    points = len(tables.weights) + facets.normal.shape[0] * len(facets.weights)
    slope = np.swapaxes(tables.potential_gradient, 1, 2)
    on_facets = np.swapaxes(facets.potential_gradient, 2, 3).reshape(-1, *slope.shape[1:])
    weighted = tables.weights[:, None, None] * tables.density_gradient  # (q, i, d)
    lift = -facets.weights[:, None] * facets.density  # (f, q, i)
    return kernels.Operators(
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


def _cells(space: Space, chunks: kernels.Chunks, lanes: int) -> kernels.Cells:
    """Geometry at the points of `_operators`, and where the traces on the other sides wait."""
    facets, affine = space.facets, space.affine
    inverse, scale = space.inverse_jacobian, space.scale
    weights = np.array([space.tables.weights.sum()]) if affine else space.tables.weights
    return kernels.Cells(
        vertices=space.vertices,
        inverse=inverse if affine else np.concatenate([inverse, facets.inverse_jacobian], axis=1),
        scale=scale if affine else np.concatenate([scale, facets.scale], axis=1),
        inverse_mass=space.inverse_mass,
        volume=scale[: space.owned] @ weights,
        across=_across(space, chunks, lanes),
    )


def _across(space: Space, chunks: kernels.Chunks, lanes: int) -> kernels.Index:
    """(c, f·q) places in `kernels.Scratch.traces` as one row; -1 where there is no other side."""
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


def _lanes(operators: kernels.Operators) -> int:
    """About as many lanes as fit into the cache."""
    scratch = _scratch(operators, 1, 1)
    return int(np.clip(_CACHE // sum(array.nbytes for array in scratch), *_LANES))


def _chunks(space: Space, blocks: int, per: int) -> kernels.Chunks:
    """Cut owned cells and ghosts into chunks of `per`, and find out how long each chunk's results are waited for."""
    cells, owned = len(space.vertices), space.owned
    first = np.concatenate([np.arange(0, owned, per), np.arange(owned, cells, per)])
    count = np.diff(np.append(first, cells))
    chunk = np.repeat(np.arange(len(first)), count)
    mine = int(np.searchsorted(first, owned))
    across = np.where(space.facets.neighbour[:owned] < owned, space.facets.neighbour[:owned], -1)
    need = np.arange(mine)
    linked = np.where(across < 0, chunk[:owned, None], chunk[across])
    np.maximum.at(need, chunk[:owned], linked.max(axis=1, initial=0))
    oldest = np.arange(mine)  # results that the second passes from this chunk on still want
    np.minimum.at(oldest, chunk[:owned], linked.min(axis=1, initial=mine))
    oldest = np.minimum.accumulate(oldest[::-1])[::-1]
    need = np.maximum.accumulate(need)
    ring = int((need - oldest).max(initial=0)) + 1
    slot = np.concatenate([np.arange(mine) % ring, ring + np.arange(len(first) - mine)])
    return kernels.Chunks(
        first=first.astype(np.int32),
        cells=count.astype(np.int32),
        need=need.astype(np.int32),
        slot=slot.astype(np.int32),
        blocks=blocks,
    )


def _scratch(operators: kernels.Operators, lanes: int, slots: int) -> kernels.Scratch:
    """Memory for the chunk at hand and for results that wait."""
    (inside, size), (traces, _) = operators.value.shape, operators.trace.shape
    facets, dim = operators.normal.shape
    points, corners = operators.vertex.shape
    return kernels.Scratch(
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
