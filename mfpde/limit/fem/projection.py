"""Initial laws on a mesh: the L² projection of ρ₀(c + A ξ) to DG_p around each law, with its mean and covariance.

The projection of what the mesh holds of a law lacks what is cut off, and for p < 2 the second moments of polynomials of
higher degree. A co-moving frame makes up for it exactly: (c, A) becomes that in which mean and covariance of ρ_h are
those of ρ₀. A fixed frame stays, and the density is changed instead, as little as polynomials of degree two can do it:

    ρ_h becomes Π_p(e^q ρ_h),   q(ξ) = a + b·ξ + ξᵀB ξ  such that  ∫ρ_h {1, ξ, ξξᵀ} = ∫ρ₀ {1, ξ, ξξᵀ},

with the L² projection Π_p: 1 + d + d(d + 1)/2 unknowns a block, for every p. With p = 0 the density stays nonnegative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.config.settings import Density
from mfpde.limit.fem.elements import ElementTables, tabulate
from mfpde.limit.fem.frame import Frame, box_frame, mean_and_covariance, roots, with_moments
from mfpde.limit.fem.law_coverage import Held, judge
from mfpde.limit.fem.law_quadrature import integrate
from mfpde.limit.fem.space import Space, cell_moments, monomials
from mfpde.limit.state import FemPart
from mfpde.parallel import reductions
from mfpde.parallel.exact_sum import Share, collapse, pack, share_of, unpack
from mfpde.problem.family import Family
from mfpde.problem.laws import Law

Array = NDArray[np.float64]
_PASSES, _HALVINGS = 20, 8  # of Newton's method, and of its steps, at most
_STEEPEST = 50.0  # exponent of a change that is not going to be taken
_EXACT = 1e-15  # moments nearer to what they should be, in reference coordinates, are
_REACHED = 1e-12  # and these count as reached where rounding keeps them from being nearer
_SINGULAR = 1e-13  # relative singular values that count as zero


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

    def project(self, space: Space, warn: Callable[[str], None]) -> tuple[FemPart, float]:
        """Each block's law in its frame, with its mass, mean and covariance; collective.

        Args:
            space: the space.
            warn: is given a line for each family whose law is cut off by the mesh.

        Returns:
            The part, and by how much mass, mean and covariance were off before they were corrected: the largest over
            blocks, in standard deviations.

        Raises:
            InputError: on every rank, when the mesh holds much less than a law.
        """
        laws = [family.law(layer) for family in self.families for layer in range(self.layers)]
        frame = self._frame(laws)
        coefficients, held, made = _projected(space, frame, laws)
        self._judge(space, frame, laws, held, warn)

        wanted = _in_frame(frame, laws)
        law, found = mean_and_covariance(wanted), mean_and_covariance(made)
        std = np.sqrt(np.diagonal(law[1], axis1=1, axis2=2))
        error = max(
            float(np.abs(made[0] * frame.determinant - 1.0).max()),
            float((np.abs(law[0] - found[0]) / std).max()),
            float((np.abs(law[1] - found[1]) / (std[:, :, None] * std[:, None, :])).max()),
        )

        coefficients /= made[0]
        if self.densities[0].frame == "comoving":
            linear = [family.linear for family in self.families for _ in range(self.layers)]
            return FemPart(coefficients, with_moments(frame, law, found, linear)), error
        return FemPart(_corrected(space, coefficients, wanted), frame), error

    def _frame(self, laws: Sequence[Law]) -> Frame:
        """The box around each law; of a correlated law along the axes of its covariance, where frames may turn."""
        means, halves = np.stack([law.mean for law in laws]), []
        for b, law in enumerate(laws):
            f = b // self.layers
            halves.append(_half_widths(self.families[f], law, self.densities[f]))
        frame = box_frame(means, self.margin * np.stack(halves))

        for b, law in enumerate(laws):
            if law.correlated and self.densities[0].frame == "comoving":
                root = roots(law.covariance[None], self.families[b // self.layers].linear)[0]
                frame.matrix[b] = root @ (frame.matrix[b] / np.asarray(law.std)[:, None])
        return frame

    def _judge(self, space: Space, frame: Frame, laws: Sequence[Law], held: Array, warn: Callable[[str], None]) -> None:
        """Does the mesh hold the laws?"""
        mine = np.ptp(space.vertices[: space.owned], axis=1).max(axis=0, initial=0.0)
        widest = np.empty_like(mine)
        space.comm.Allreduce(mine, widest, op=MPI.MAX)

        inside, outside = np.linalg.inv(frame.matrix), np.stack([law.std for law in laws])
        mass = held[0] * frame.determinant
        second = _about(held, np.einsum("bij,bj->bi", inside, np.stack([law.mean for law in laws]) - frame.centre))
        spread = frame.matrix @ second @ np.swapaxes(frame.matrix, 1, 2) * frame.determinant[:, None, None]
        variance = (np.diagonal(spread, axis1=1, axis2=2) / outside**2).min(axis=1)
        width = (np.abs(frame.matrix) @ widest / outside).max(axis=1)

        for f, (family, density) in enumerate(zip(self.families, self.densities, strict=True)):
            blocks = slice(f * self.layers, (f + 1) * self.layers)
            judge(family.name, density, Held(mass[blocks], variance[blocks], width[blocks]), warn)


def _half_widths(family: Family, law: Law, density: Density) -> Array:
    """Half-widths of a block's box in θ units; `Density.radius` documents the defaults."""
    mean, std = np.asarray(law.mean), np.asarray(law.std)
    wide = 5.0 * max(part.tails for _, part in law.parts)
    low, high = law.box(np.where(np.isin(np.arange(family.dim), family.linear), max(wide, 10.0), wide))
    around = np.maximum(mean - low, high - mean)
    if density.frame == "comoving":
        return around if density.radius is None else np.asarray(density.radius) * std
    if density.radius is None:
        return np.asarray(np.abs(mean) + around)
    return np.broadcast_to(np.asarray(density.radius, dtype=np.float64), (family.dim,)).copy()


def _projected(space: Space, frame: Frame, laws: Sequence[Law]) -> tuple[Array, Array, Array]:
    """Coefficients (owned, i, b), and ∫ … {1, ξ, ξξᵀ} dξ (r, b) of the laws over the mesh and of the projections."""
    coefficients = np.empty((space.owned, space.size, len(laws)))
    per_law = []
    for b, law in enumerate(laws):
        load, moments = integrate(space, frame, b, law)
        coefficients[:, :, b] = space.invert_mass(load[:, :, None])[:, :, 0]
        per_law.append(share_of(moments, axes=(0,)))

    made = _moments(space, coefficients)
    sums = unpack(reductions.sum_over_ranks(space.comm, pack([*per_law, made])), [*per_law, made])
    return coefficients, np.stack(sums[:-1], axis=1), sums[-1]


def _moments(space: Space, coefficients: Array) -> Share:
    """This rank's share of ∫ρ_h {1, ξ, ξξᵀ} (r, b)."""
    shares = [
        share_of(np.matmul(cell_moments(space.part(cells)), coefficients[cells]), axes=(0,))
        for cells in space.batches(4**space.dim * 10)
    ]
    return sum(shares[1:], shares[0])


def _in_frame(frame: Frame, laws: Sequence[Law]) -> Array:
    """∫ρ₀ {1, ξ, ξξᵀ} (r, b) in the frame's coordinates, from the laws' means and covariances."""
    inverse = np.linalg.inv(frame.matrix)
    mean = np.einsum("bij,bj->bi", inverse, np.stack([law.mean for law in laws]) - frame.centre)
    covariance = inverse @ np.stack([law.covariance for law in laws]) @ np.swapaxes(inverse, 1, 2)
    second = covariance + mean[:, :, None] * mean[:, None, :]
    upper = np.triu_indices(mean.shape[1])
    return np.concatenate([np.ones((1, len(laws))), mean.T, second[:, upper[0], upper[1]].T])


def _about(sums: Array, centre: Array) -> Array:
    """∫ρ (ξ − c)(ξ − c)ᵀ (b, d, d) from ∫ρ {1, ξ, ξξᵀ} (r, b)."""
    mean, covariance = mean_and_covariance(sums)
    apart = mean - centre
    return sums[0][:, None, None] * (covariance + apart[:, :, None] * apart[:, None, :])


def _corrected(space: Space, coefficients: Array, wanted: Array) -> Array:
    """Π_p(e^q ρ_h) with ∫ρ_h {1, ξ, ξξᵀ} as wanted (r, b), by Newton's method with halved steps; collective.

    Where cells of degree 0 or 1 are too few for any such density, ρ_h itself.
    """
    now, found = coefficients, _sums(space, coefficients)
    for _ in range(_PASSES):
        off = float(np.abs(wanted - found).max())
        if off < _EXACT:
            break
        inverse = np.linalg.pinv(np.moveaxis(_responses(space, now), 2, 0), rcond=_SINGULAR)
        factors = (inverse @ (wanted - found).T[:, :, None])[:, :, 0]

        for halved in range(_HALVINGS if off > _REACHED else 1):  # below it rounding alone may be in the way
            tried = _tilted(space, now, 0.5**halved * factors)
            sums = _sums(space, tried)
            if float(np.abs(wanted - sums).max()) < off:
                break
        else:
            break
        now, found = tried, sums
    return np.where((np.abs(wanted - found) < _REACHED).all(axis=0), now, coefficients)


def _sums(space: Space, coefficients: Array) -> Array:
    """∫ρ_h {1, ξ, ξξᵀ} (r, b); collective."""
    return collapse(reductions.sum_over_ranks(space.comm, _moments(space, coefficients).levels))


def _responses(space: Space, coefficients: Array) -> Array:
    """∫ m_r Π_p(m_s ρ_h) (r, s, b) for the monomials m = {1, ξ, ξξᵀ}; collective."""
    shares = list[Share]()
    fine = _fine(space)
    for cells in space.batches(10 * len(fine.weights) * coefficients.shape[2]):
        part = space.part(cells)
        measure = fine.weights * part.scale_at(fine.points)
        values = measure[..., None] * np.matmul(fine.density, coefficients[cells])  # (c, q, b)
        functions = monomials(part.points(fine.vertex))
        count, blocks = functions.shape[2], values.shape[2]  # a rank may hold no cell, which leaves no size to infer
        weighted = (functions[..., None] * values[:, :, None]).reshape(*values.shape[:2], count * blocks)
        products = part.invert_mass(np.matmul(fine.density.T, weighted))  # (c, i, s·b)
        terms = np.matmul(cell_moments(part), products)
        shares.append(share_of(terms.reshape(*terms.shape[:2], count, blocks), axes=(0,)))
    return collapse(reductions.sum_over_ranks(space.comm, sum(shares[1:], shares[0]).levels))


def _tilted(space: Space, coefficients: Array, factors: Array) -> Array:
    """Coefficients (owned, i, b) of Π_p(e^q ρ_h) with q = Σ_r factors_br m_r."""
    tilted = np.empty_like(coefficients)
    fine = _fine(space)
    for cells in space.batches(4 * len(fine.weights) * coefficients.shape[2]):
        part = space.part(cells)
        measure = fine.weights * part.scale_at(fine.points)
        values = measure[..., None] * np.matmul(fine.density, coefficients[cells])
        exponent = np.einsum("cqr,br->cqb", monomials(part.points(fine.vertex)), factors)
        load = np.matmul(fine.density.T, np.expm1(np.minimum(exponent, _STEEPEST)) * values)
        tilted[cells] = coefficients[cells] + part.invert_mass(load)
    return tilted


def _fine(space: Space) -> ElementTables:
    """The tables of a quadrature that is exact for q ρ_h ψ_i."""
    return tabulate(space.cell, space.degree, 1, 2 * space.degree + 4)
