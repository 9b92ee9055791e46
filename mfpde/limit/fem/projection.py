"""Initial laws on a mesh: the box around each law, and the L² projection of ρ₀(c + A ξ) to DG_p in that frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.config.settings import Density
from mfpde.limit.fem.elements import ElementTables, tabulate
from mfpde.limit.fem.frame import Frame, box_frame
from mfpde.limit.fem.law_coverage import WHOLE, judge
from mfpde.limit.fem.space import Space
from mfpde.limit.state import FemPart
from mfpde.parallel import reductions
from mfpde.parallel.exact_sum import collapse, share_of
from mfpde.problem.family import Family

Array = NDArray[np.float64]
_FINEST = 30  # exactness of the quadrature that decides how much of a law a mesh holds


@dataclass(frozen=True)
class InitialLaws:
    """The initial laws of the families on one space.

    Attributes:
        families: the families.
        densities: their settings.
        layers: L.
        margin: by which the box is wider than the settings say.
    """

    families: Sequence[Family]
    densities: Sequence[Density]
    layers: int
    margin: float

    @property
    def blocks(self) -> int:
        """Number of blocks b."""
        return len(self.families) * self.layers

    def project(self, space: Space, warn: Callable[[str], None]) -> FemPart:
        """Each block's law in its frame, with mass one; collective.

        Args:
            space: the space.
            warn: is given a line for each family whose law is cut off by the mesh.

        Raises:
            InputError: on every rank, when the mesh holds much less than a law.
        """
        frame = self._frame()
        coefficients, mass = self._projected(space, frame)

        # Where the projection's masses are not one, either a law is cut off or the cells are coarse.
        if not (np.abs(mass * frame.determinant - 1.0) < WHOLE).all():
            self._judge(space, frame, warn)

        return FemPart(coefficients / mass, frame)

    def _frame(self) -> Frame:
        means, radii = [], []
        for family, density in zip(self.families, self.densities, strict=True):
            for layer in range(self.layers):
                law = family.law(layer)
                means.append(np.asarray(law.mean))
                radii.append(_radius(family, np.asarray(law.mean), np.asarray(law.std), density))
        return box_frame(np.stack(means), self.margin * np.stack(radii))

    def _projected(self, space: Space, frame: Frame) -> tuple[Array, Array]:
        """Coefficients (owned, i, b), by a quadrature finer than the scheme's, and their masses ∫ … dξ (b,)."""
        tables = tabulate(space.cell, space.degree, 1, 2 * space.degree + 6)

        coefficients = np.empty((space.owned, space.size, self.blocks))
        for cells, part, scale, b, values in self._values(space, frame, tables):
            load = np.einsum("q,qi,cq,cq->ci", tables.weights, tables.density, scale, values)
            coefficients[cells, :, b] = part.invert_mass(load[:, :, None])[:, :, 0]

        per_cell = np.empty((space.owned, self.blocks))
        for cells in space.batches(len(tables.weights) * self.blocks):
            scale = space.part(cells).scale_at(tables.points)
            per_cell[cells] = np.einsum("q,qi,cq,cib->cb", tables.weights, tables.density, scale, coefficients[cells])
        return coefficients, _over_ranks(space, per_cell)

    def _values(
        self, space: Space, frame: Frame, tables: ElementTables
    ) -> Iterator[tuple[slice, Space, Array, int, Array]]:
        """Batches of cells, their space, |det J| (c, q), a block's number, and its law at quadrature points (c, q)."""
        for cells in space.batches(len(tables.weights) * self.blocks * space.dim):
            part = space.part(cells)
            points = part.points(tables.vertex)
            theta = frame.theta(points)  # (c, q, d, b)
            scale = part.scale_at(tables.points)
            for f, family in enumerate(self.families):
                for layer in range(self.layers):
                    b = f * self.layers + layer
                    law = family.law(layer)
                    values = law.density(theta[..., b].reshape(-1, space.dim)).reshape(points.shape[:2])
                    yield cells, part, scale, b, values

    def _judge(self, space: Space, frame: Frame, warn: Callable[[str], None]) -> None:
        """Does the mesh hold the laws? A quadrature finer than the projection's decides."""
        tables = tabulate(space.cell, 0, 1, _FINEST)
        per_cell = np.empty((space.owned, self.blocks))
        for cells, _, scale, b, values in self._values(space, frame, tables):
            per_cell[cells, b] = np.einsum("q,cq,cq->c", tables.weights, scale, values)
        held = _over_ranks(space, per_cell) * frame.determinant

        mine = np.ptp(space.vertices[: space.owned], axis=1).max(axis=0, initial=0.0)
        widest = np.empty_like(mine)
        space.comm.Allreduce(mine, widest, op=MPI.MAX)

        for f, (family, density) in enumerate(zip(self.families, self.densities, strict=True)):
            blocks = slice(f * self.layers, (f + 1) * self.layers)
            std = np.array([family.law(layer).std for layer in range(self.layers)])
            width = (np.diagonal(frame.matrix[blocks], axis1=1, axis2=2) * widest / std).max(axis=1)
            judge(family.name, density, held[blocks], width, warn)


def _radius(family: Family, mean: Array, std: Array, density: Density) -> Array:
    """Half-widths of a block's box in θ units; `Density.radius` documents the defaults."""
    wide = np.where(np.isin(np.arange(family.dim), family.linear), 10.0, 5.0)
    if density.frame == "comoving":
        return np.asarray((wide if density.radius is None else np.asarray(density.radius)) * std)
    if density.radius is None:
        return np.asarray(np.abs(mean) + wide * std)
    return np.broadcast_to(np.asarray(density.radius, dtype=np.float64), (family.dim,)).copy()


def _over_ranks(space: Space, per_cell: Array) -> Array:
    """Sums (b,) over the cells (owned, b) of all ranks; collective."""
    return collapse(reductions.sum_over_ranks(space.comm, share_of(per_cell, axes=(0,)).levels))
