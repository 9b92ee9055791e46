"""The discontinuous Galerkin transport of the density: upwinding by the local Lax–Friedrichs flux.

In reference coordinates ξ of a frame θ = c + A ξ the density ρ̂ moves with

    û = −A⁻¹A⁻ᵀ ∇_ξ V − A⁻¹ċ − A⁻¹Ȧ ξ

and the scheme finds ∂_τ ρ̂ ∈ DG_p such that for every cell K and test function ψ

    ∫_K ψ ∂_τ ρ̂ = ∫_K ρ̂ û·∇ψ − ∫_∂K ψ F,     F = {ρ̂ û}·n + ½ a (ρ̂⁻ − ρ̂⁺),  a = max(|û⁻·n|, |û⁺·n|),

with F = 0 on the mesh boundary. Source: docs/equations.md; Cockburn & Shu, *J. Sci. Comput.* 16 (2001).

This module exchanges the density between ranks; the loops are in `tensor` for boxes and in `general` for all else.
"""

from __future__ import annotations

import numpy as np
from dolfinx import la
from numpy.typing import NDArray

from mfpde.limit.fem.frame import Motion, VelocityMoments
from mfpde.limit.fem.space import Space
from mfpde.limit.transport.general import GeneralTransport
from mfpde.limit.transport.tensor import TensorTransport, common_jacobian
from mfpde.parallel.exact_sum import Share

Array = NDArray[np.float64]
_EMPTY = 1e-9  # a cell with less mass counts as empty: it does not bound the time step


class Transport:
    """The right-hand side on one space for a fixed number of blocks; owns a copy of the density with ghosts.

    On one rank there are no ghosts, and there is no copy.
    """

    def __init__(self, space: Space, blocks: int) -> None:
        self.space = space
        self.blocks = blocks

        index_map = space.mesh.topology.index_map(space.dim)
        self._alone = space.comm.size == 1
        self._ghosted = la.vector(index_map, 1 if self._alone else space.size * blocks, np.float64)
        if not self._alone:
            self._density: Array = self._ghosted.array.reshape(-1, space.size, blocks)
            self._shared = _shared(self._ghosted, space.owned)

        jacobian = common_jacobian(space)
        self._loops: GeneralTransport | TensorTransport = (
            GeneralTransport(space, blocks) if jacobian is None else TensorTransport(space, blocks, jacobian)
        )

    def ghosted(self, density: Array) -> Array:
        """Coefficients (c, i, b) of all cells from those of the owned ones; one neighbour exchange.

        The result is read-only: it is this object's own memory, until the next call, or the argument itself.
        """
        if self._alone:
            return np.ascontiguousarray(density)
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
            explicit step must stay below a constant over it. Cells whose mass is below 1e-9 do not count until their
            mass grows above it.
        """
        density, potential = np.ascontiguousarray(density), np.ascontiguousarray(potential)
        if not self._alone:
            self._density[self._shared] = density[self._shared]
        self._ghosted.scatter_forward()
        ghosted = density if self._alone else self._density

        rate, fastest = self._loops.rate(density, ghosted, potential, motion, _EMPTY)
        return rate, fastest

    def gradient_moments(self, density: Array, potential: Array) -> Share:
        """This rank's share of ∫ρ̂ {1, ξ, ∇_ξ V, ξξᵀ, ∇_ξ V ξᵀ}, shape (rows, b); no communication.

        Args:
            density: coefficients (owned, i, b).
            potential: nodal values on all cells (c, j, b).
        """
        return Share(self._loops.moments(np.ascontiguousarray(density), np.ascontiguousarray(potential)))


def _shared(ghosted: la.Vector, owned: int) -> NDArray[np.intp]:
    """The owned cells that other ranks have as ghosts; collective."""
    cells = ghosted.array.reshape(-1, ghosted.block_size)
    cells[owned:] = 1.0
    ghosted.scatter_reverse(la.InsertMode.add)
    shared = np.flatnonzero(cells[:owned, 0])
    cells[:] = 0.0
    return shared


def velocity_moments(sums: Array, metric: Array) -> VelocityMoments:
    """The moments that move a co-moving frame, from `Transport.gradient_moments` summed over all ranks.

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
