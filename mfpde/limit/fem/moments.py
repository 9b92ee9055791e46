"""From a density to its moments, and from the gradient in the moments back to the potential.

By the moments m_j = ∫ φ_j ρ_h the Transformer sees one point of signed weight per potential node. If the update is
linear in part of θ, f(T, (q, v)) = Σ_a v_a f(T, (q, e_a)), nodes with the same nonlinear coordinate q share their
evaluation: the weight of the distinct node (q_g, e_a) is S_ga = Σ_{j: q_j = q_g} m_j v_ja, and with G = L ∂R/∂S the
data part of the potential is V(θ_j) = Σ_a v_ja G_ga. This is exact. Source: docs/equations.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.fem.frame import Frame
from mfpde.limit.fem.space import Space
from mfpde.parallel.compilation import kernel
from mfpde.parallel.exact_sum import LEVELS, Share, add_exactly

Array = NDArray[np.float64]
_SAME = 1e-10  # reference coordinates closer than this are one node's


@dataclass(frozen=True)
class MomentMap:
    """The distinct nodes of one family on one space.

    Attributes:
        blocks: this family's blocks (layers) among those of the space, a contiguous range.
        linear: indices of θ in which the update is jointly linear.
        coordinates: (g, d) distinct nonlinear reference coordinates, the linear ones zero; the same on every rank.
        number: (c, j) number g of each cell's potential nodes.
    """

    blocks: slice
    linear: tuple[int, ...]
    coordinates: Array
    number: NDArray[np.int32]

    @property
    def directions(self) -> int:
        """Nodes per distinct nonlinear coordinate: one per linear coordinate, or one."""
        return max(1, len(self.linear))

    def points(self, frame: Frame) -> Array:
        """Nonlinear coordinates (L, g, s) of the distinct nodes; of a frame's rate (ċ, Ȧ) their velocities."""
        theta = np.moveaxis(frame.theta(self.coordinates)[..., self.blocks], 2, 0)  # (L, g, d)
        return np.ascontiguousarray(np.delete(theta, self.linear, axis=2))

    def weights(self, space: Space, density: Array, frame: Frame) -> tuple[Share, Share]:
        """This rank's share of the weights (L, u), and of Σ_j m_j |θ_j|² (L,); to be summed over ranks.

        Args:
            space: the pair of spaces.
            density: coefficients (owned, i, b).
            frame: of all blocks, that gives θ at the nodes.
        """
        layers = self.blocks.stop - self.blocks.start
        weights = np.zeros((LEVELS, len(self.coordinates), self.directions, layers))
        square = np.zeros((LEVELS, layers))

        scale = space.scale[:, 0] if space.affine else np.ones(len(space.scale))
        linear = np.array(self.linear, dtype=np.int64)
        place = (space.nodes, *self._maps(frame), self.number, linear)
        _sum_moments(density, space.moment, scale, *place, self.blocks.start, weights, square)
        return Share(np.swapaxes(weights.reshape(LEVELS, -1, layers), 1, 2)), Share(square)

    def potential(self, gradient: Array, space: Space, frame: Frame, weight_decay: float, out: Array) -> None:
        """Nodal potential V = Σ_a v_a G_ga + λ/2 |θ|² of this family's blocks on all cells.

        Args:
            gradient: G = L ∂R/∂S, shape (L, u).
            space: the pair of spaces.
            frame: of all blocks, that gives θ at the nodes.
            weight_decay: λ.
            out: potential (c, j, b) of all blocks of the space, of which this family's are filled.
        """
        shaped = np.ascontiguousarray(gradient.T).reshape(len(self.coordinates), self.directions, -1)
        linear = np.array(self.linear, dtype=np.int64)
        _spread(shaped, space.nodes, *self._maps(frame), self.number, linear, weight_decay, self.blocks.start, out)

    def _maps(self, frame: Frame) -> tuple[Array, Array]:
        """c (d, L) and A (d, d, L) of this family's blocks: its kernels find θ at a node as they come to it."""
        centre, matrix = frame.centre[self.blocks], frame.matrix[self.blocks]
        return np.ascontiguousarray(centre.T), np.ascontiguousarray(np.moveaxis(matrix, 0, 2))


def build_moment_map(space: Space, linear: tuple[int, ...], blocks: slice) -> MomentMap:
    """Number the distinct nonlinear coordinates of the potential nodes; collective."""
    nonlinear = [axis for axis in range(space.dim) if axis not in linear]
    flat = space.nodes.reshape(-1, space.dim)
    keys = np.zeros((len(flat), len(nonlinear)), dtype=np.int64)
    values = []
    for column, axis in enumerate(nonlinear):
        distinct = _distinct(np.concatenate(space.comm.allgather(np.unique(flat[:, axis]))))
        keys[:, column] = np.clip(np.searchsorted(distinct, flat[:, axis] - _SAME), 0, len(distinct) - 1)
        values.append(distinct)

    local = np.unique(keys, axis=0)
    every = np.unique(np.concatenate(space.comm.allgather(local)), axis=0)
    coordinates = np.zeros((len(every), space.dim))
    for column, axis in enumerate(nonlinear):
        coordinates[:, axis] = values[column][every[:, column]]

    place = {tuple(row): g for g, row in enumerate(every.tolist())}
    number = np.array([place[tuple(row)] for row in keys.tolist()], dtype=np.int32)
    return MomentMap(blocks, linear, coordinates, number.reshape(space.nodes.shape[:2]))


def _distinct(values: Array) -> Array:
    """Sorted values with those closer than rounding merged into their smallest."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], np.diff(ordered) > _SAME])] if len(ordered) else ordered


@kernel(inline="always")
def _theta(node, centre, matrix, theta):  # type: ignore[no-untyped-def]
    """θ (d, L) of a node (d,)."""
    for axis in range(node.size):
        for b in range(centre.shape[1]):
            theta[axis, b] = centre[axis, b]
        for k in range(node.size):
            for b in range(centre.shape[1]):
                theta[axis, b] += matrix[axis, k, b] * node[k]


@kernel()
def _sum_moments(  # type: ignore[no-untyped-def]
    density, moment, scale, node, centre, matrix, unit, linear, first, weights, square
):  # fmt: skip
    cells, size, _ = density.shape
    blocks = square.shape[1]
    nodes, dim = node.shape[1], node.shape[2]
    m, term, second, theta = np.empty(blocks), np.empty(blocks), np.empty(blocks), np.empty((dim, blocks))
    for c in range(cells):
        table = moment[c] if moment.shape[0] > 1 else moment[0]
        second[:] = 0.0
        for j in range(nodes):
            g = unit[c, j]
            m[:] = 0.0
            for i in range(size):
                factor = scale[c] * table[j, i]
                for b in range(blocks):
                    m[b] += factor * density[c, i, first + b]
            _theta(node[c, j], centre, matrix, theta)
            for axis in range(dim):
                for b in range(blocks):
                    second[b] += m[b] * theta[axis, b] ** 2
            if linear.size == 0:
                add_exactly(m, weights[0, g, 0], weights[1, g, 0], weights[2, g, 0])
            for a in range(linear.size):
                for b in range(blocks):
                    term[b] = m[b] * theta[linear[a], b]
                add_exactly(term, weights[0, g, a], weights[1, g, a], weights[2, g, a])
        add_exactly(second, square[0], square[1], square[2])


@kernel()
def _spread(  # type: ignore[no-untyped-def]
    gradient, node, centre, matrix, unit, linear, weight_decay, first, potential
):  # fmt: skip
    cells, nodes, _ = potential.shape
    blocks = gradient.shape[2]
    dim = node.shape[2]
    theta = np.empty((dim, blocks))
    for c in range(cells):
        for j in range(nodes):
            g = unit[c, j]
            _theta(node[c, j], centre, matrix, theta)
            for b in range(blocks):
                square = 0.0
                for axis in range(dim):
                    square += theta[axis, b] ** 2
                value = 0.5 * weight_decay * square
                if linear.size == 0:
                    value += gradient[g, 0, b]
                for a in range(linear.size):
                    value += gradient[g, a, b] * theta[linear[a], b]
                potential[c, j, first + b] = value
