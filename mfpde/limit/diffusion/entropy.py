"""The energy law with temperature: dQ/dτ = −(1/L) Σ_{ℓ,c} ∫ρ |∇(V + β⁻¹ log ρ)|², Q with β⁻¹ ∫ρ log ρ.

With ρ = ρ̂/|det A| the entropy of a block is S = ∫ρ̂ log ρ̂ dξ − log |det A| ∫ρ̂ dξ. A discontinuous density can be
negative at some points, where it has no logarithm: ρ log ρ counts as zero there, as its limit at zero is. The
dissipation is that of the flux j = −(ρ∇V + β⁻¹∇ρ), which needs no logarithm: ∫|j|²/max(|ρ|, ε), never negative, and
zero where nothing flows. ε is a tenth of the largest |ρ| in the cell: where a density varies more than tenfold within a
cell, or changes its sign, the polynomial does not resolve the logarithm's slope, and tails without mass would outweigh
all else. On cells that resolve the density, and so in the limit, ε has no effect.

β⁻¹ log ρ_h is not in the test space, so that no discrete energy law is exact; the remainder of the one reported,
`energy_remainder`, vanishes with the mesh size (a test measures its order).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.fem.elements import tabulate
from mfpde.limit.fem.frame import Frame
from mfpde.limit.fem.space import Space

Array = NDArray[np.float64]
_UNRESOLVED = 0.1  # ε, relative to the largest |ρ̂| in a cell


def entropy_rate(space: Space, density: Array, frame: Frame, rate: Array, moved: Frame) -> Array:
    """dS/dτ = ∫_{ρ̂ > 0} (1 + log ρ) ∂_τρ̂ − tr(A⁻¹Ȧ) ρ̂ dξ of this rank's cells, (owned, b), in the entropy's quadrature.

    Args:
        space: the space.
        density: coefficients (owned, i, b).
        frame: of the blocks.
        rate: ∂_τ ρ̂ (owned, i, b), all of it.
        moved: (ċ, Ȧ).
    """
    fine = tabulate(space.cell, space.degree, space.potential_degree, 2 * space.degree + 4)
    values, change = (np.einsum("qi,cib->cqb", fine.density, part) for part in (density, rate))

    measure = (fine.weights * space.scale_at(fine.points))[..., None]
    log = np.log(np.maximum(values / frame.determinant, np.finfo(float).tiny))
    widening = np.trace(frame.inverse @ moved.matrix, axis1=1, axis2=2)
    integrand = measure * ((1.0 + log) * change - widening * values)
    return np.where(values > 0.0, integrand, 0.0).sum(axis=1)


def flux_dissipation(space: Space, density: Array, frame: Frame, slope: Array, temperature: float) -> Array:
    """∫|j|²/|ρ| dθ of this rank's cells, (owned, b), j = −(ρ∇V + β⁻¹∇ρ), in the scheme's quadrature.

    Args:
        space: the space.
        density: coefficients (owned, i, b).
        frame: of the blocks.
        slope: ∇_ξ V at the quadrature points (owned, q, k, b).
        temperature: β⁻¹.
    """
    tables = space.tables
    inverse = space.inverse_jacobian[: space.owned]

    values = np.einsum("qi,cib->cqb", tables.density, density)
    local = np.einsum("qia,cib->cqab", tables.density_gradient, density)
    gradient = np.einsum("cak,cqab->cqkb", inverse[:, 0], local) if space.affine else np.einsum(
        "cqak,cqab->cqkb", inverse, local
    )  # fmt: skip

    flux = values[:, :, None] * slope + temperature * gradient
    square = np.einsum("cqkb,bkl,cqlb->cqb", flux, frame.metric, flux, optimize=True)
    measure = tables.weights * space.scale_at(tables.points)
    size = np.abs(values)
    least = np.maximum(_UNRESOLVED * size.max(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(np.einsum("cq,cqb->cb", measure, square / np.maximum(size, least)))
