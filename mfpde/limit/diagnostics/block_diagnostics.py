"""What reports say of densities: mass, moments in θ, entropy, dissipation, and signs of trouble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BlockDiagnostics:
    """Per block of one discretisation; b blocks, d coordinates of θ.

    Attributes:
        mass: ∫ρ, (b,).
        mean: (b, d), of ρ/mass.
        covariance: (b, d, d), of ρ/mass.
        entropy: ∫ρ log ρ dθ, (b,), with ρ ≤ 0 counted as zero.
        dissipation: ∫|ρ||∇(V + β⁻¹ log ρ)|² in the scheme's own quadrature, (b,), a sum of squares.
        descent: the same with the sign of ρ, (b,): what the energy law has, negative where undershoots outweigh.
        negative_mass: ∫max(−ρ, 0), (b,).
        boundary_mass: mass in the cells at the mesh boundary, (b,).
        resolution: (Σ of squared top coefficients / Σ of all)^½ over the mesh, (b,): the tail of the local expansion in
            orthonormal polynomials, those of degree p against those of degree ≤ p; 1 for p = 0.
        min_density: smallest ρ̂ over quadrature points and nodes, (b,).
        singular_values: of the matrices v, in falling order, on average over the density, (b, k); empty of families
            whose linear coordinates are no matrix, and where they are not computed.
    """

    mass: Array
    mean: Array
    covariance: Array
    entropy: Array
    dissipation: Array
    descent: Array
    negative_mass: Array
    boundary_mass: Array
    resolution: Array
    min_density: Array
    singular_values: Array = field(default_factory=lambda: np.empty((0, 0)))

    def over_replicas(self, replicas: int) -> BlockDiagnostics:
        """The means over replicas of a flow, whose blocks stand one replica after the other."""
        if replicas == 1:
            return self
        arrays = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "singular_values"}
        means = {name: array.reshape(replicas, -1, *array.shape[1:]).mean(axis=0) for name, array in arrays.items()}
        return BlockDiagnostics(**means)


def totals(layers: int, blocks: Sequence[BlockDiagnostics]) -> dict[str, float]:
    """The columns of history.csv that depend on the densities alone; and the descent, for `energy_remainder`."""
    return {
        "entropy": float(sum(b.entropy.sum() for b in blocks)) / layers,
        "dissipation": float(sum(b.dissipation.sum() for b in blocks)) / layers,
        "descent": float(sum(b.descent.sum() for b in blocks)) / layers,
        "mass_error": max(float(np.abs(b.mass - 1.0).max()) for b in blocks),
        "min_density": min(float(b.min_density.min()) for b in blocks),
        "negative_mass": max(float(b.negative_mass.max()) for b in blocks),
        "boundary_mass": max(float(b.boundary_mass.max()) for b in blocks),
    }
