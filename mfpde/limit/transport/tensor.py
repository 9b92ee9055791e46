"""The transport on boxes: intervals, parallelograms, parallelepipeds that are all translates of one cell.

The order of the cells and the places of their results; the loops and their memory layout are in
`limit.transport.tensor_kernels`.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit.fem.frame import Motion
from mfpde.limit.fem.space import Space
from mfpde.limit.transport import tensor_kernels, tensor_moments
from mfpde.limit.transport.codegen import TENSOR_CELLS, Shape
from mfpde.limit.transport.tensor_kernels import BOUNDARY, LATER, Order
from mfpde.parallel.exact_sum import LEVELS

Array = NDArray[np.float64]
_WIDTH = 4  # blocks in a vector, if there are as many; 8 take 1.2 to 1.6 times as long with AVX2
_CONGRUENT = 1e-11  # cells differ by rounding: that of their vertices over their size


def common_jacobian(space: Space) -> Array | None:
    """The Jacobian (d, d) that all cells of the whole mesh share, the same numbers on every rank; collective.

    None if there is none, or if the scheme's quadrature has too few points to extrapolate a trace from.
    """
    if not space.affine or space.cell not in TENSOR_CELLS:
        return None
    if _points(space) <= max(space.degree, space.potential_degree) or space.degree < 1:
        return None
    jacobian = np.linalg.inv(space.inverse_jacobian[:, 0])

    # the same cell, up to rounding, on all ranks
    extremes = np.stack([jacobian.min(axis=0, initial=np.inf), (-jacobian).min(axis=0, initial=np.inf)])
    space.comm.Allreduce(MPI.IN_PLACE, extremes, op=MPI.MIN)
    low, high = extremes[0], -extremes[1]
    middle = 0.5 * (low + high)
    return middle if np.abs(high - low).max() <= _CONGRUENT * np.abs(middle).max() else None


class TensorTransport:
    """The loops over the cells of one space, for a fixed number of blocks."""

    def __init__(self, space: Space, blocks: int, jacobian: Array) -> None:
        self._jacobian, self._scale = jacobian, float(abs(np.linalg.det(jacobian)))
        width = min(_WIDTH, 1 << (blocks.bit_length() - 1))
        shape = Shape(space.dim, space.degree + 1, space.potential_degree + 1, _points(space), width)
        self._zeros = shape.zeros
        self._start = np.minimum(np.arange(0, blocks, width), blocks - width)
        self._block = self._start[:, None] + np.arange(width)  # (vectors, w)

        need = _need(space)
        self._need, self._slot = need.astype(np.int32), _slots(space, need)
        self._across = _across(space, shape, self._slot, len(self._start))
        self._centre = np.ascontiguousarray(space.vertices.mean(axis=1))
        self._results = _aligned((int(self._slot.max(initial=0)) + 1, len(self._start), shape.rows, width))

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
        rate, fastest = np.empty(density.shape), np.zeros(density.shape[2])
        order = Order(self._need, self._slot, self._across, self._centre, self._start, self._motion(motion))
        tensor_kernels.rate(
            self._zeros, order, density, ghosted, potential, -1.0 / self._scale, self._scale, empty, self._results,
            rate, fastest,
        )  # fmt: skip
        return rate, fastest

    def moments(self, density: Array, potential: Array) -> Array:
        """∫ρ̂ {1, ξ, ∇_ξ V, ξξᵀ, ∇_ξ V ξᵀ} over owned cells in the levels of `parallel.exact_sum`, (levels, rows, b)."""
        dim = len(self._jacobian)
        maps = np.concatenate([[self._scale], self._jacobian.ravel(), np.linalg.inv(self._jacobian).ravel()])
        by_vector = np.zeros((len(self._start), LEVELS, 1 + 2 * dim + 2 * dim * dim, self._block.shape[1]))
        tensor_moments.gradient_moments(self._zeros, density, potential, self._centre, self._start, maps, by_vector)

        sums = np.empty((*by_vector.shape[1:3], density.shape[2]))
        sums[:, :, self._block] = np.moveaxis(by_vector, 0, 2)
        return sums

    def _motion(self, motion: Motion) -> Array:
        """`Order.motion`."""
        inverse = self._scale * np.linalg.inv(self._jacobian)
        tensor = inverse @ motion.metric @ np.linalg.inv(self._jacobian).T
        stretch = inverse @ motion.stretch
        parts = (tensor, motion.drift @ inverse.T, stretch, stretch @ self._jacobian)
        rows = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)  # (b, rows)
        return np.ascontiguousarray(np.swapaxes(rows[self._block], 1, 2))


def _points(space: Space) -> int:
    """Points of the quadrature in each direction."""
    return round(len(space.tables.weights) ** (1 / space.dim))


def _need(space: Space) -> NDArray[np.intp]:
    """(owned,) `Order.need`: the last owned neighbour, and no less than that of the cells before."""
    across = space.facets.neighbour[: space.owned]
    own = np.arange(space.owned)
    last = np.where(across < space.owned, across, -1).max(axis=1, initial=-1)
    return np.maximum.accumulate(np.maximum(own, last))


def _slots(space: Space, need: NDArray[np.intp]) -> NDArray[np.int32]:
    """(c,) `Order.slot`: owned cells reuse slots, ghosts keep theirs."""
    own, cells = np.arange(space.owned), len(space.vertices)
    kept = int((need - own).max(initial=0)) + 1
    return np.concatenate([own % kept, kept + np.arange(cells - space.owned)]).astype(np.int32)


def _across(space: Space, shape: Shape, slot: NDArray[np.int32], vectors: int) -> NDArray[np.int64]:
    """(c, 2d) `Order.across`; ghosts come first."""
    normal, facets = space.facets.normal, shape.facets()
    local = [int(np.argmax(normal[:, axis] * (2 * end - 1))) for axis, end, _ in facets]
    neighbour = space.facets.neighbour[:, local]
    opposite = np.array([first for _, _, first in facets]).reshape(-1, 2)[:, ::-1].ravel()
    place = (slot[neighbour].astype(np.int64) * vectors * shape.rows + opposite) * shape.width

    turn = (np.arange(len(slot)) - space.owned) % max(1, len(slot))
    later = turn[neighbour] > turn[:, None]
    return np.ascontiguousarray(np.where(neighbour < 0, BOUNDARY, np.where(later, LATER, place)))


def _aligned(shape: tuple[int, ...]) -> Array:
    """Zeros that begin with a cache line of 64 bytes."""
    size = int(np.prod(shape))
    raw = np.zeros(size + 8)
    first = -raw.ctypes.data // 8 % 8
    return raw[first : first + size].reshape(shape)
