"""The compiled loops of `limit.diffusion.interior_penalty`; their columns l are cell × block, the block fastest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.parallel.compilation import kernel

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@kernel(fastmath={"contract"})
def normal_flux(through: Array, slope: Array, flux: Array) -> None:
    """D∇ρ̂·n (f·q, l), outward from each cell."""
    rows, columns = flux.shape
    step, dim = rows // through.shape[0], through.shape[1]

    for r in range(rows):
        for column in range(columns):
            flux[r, column] = through[r // step, 0, column] * slope[r * dim, column]
        for a in range(1, dim):
            for column in range(columns):
                flux[r, column] += through[r // step, a, column] * slope[r * dim + a, column]


@kernel(fastmath={"contract"})
def volume_flux(weights: Array, inside: Array, slope: Array, weighted: Array) -> None:
    """w |det J| J⁻¹ D J⁻ᵀ ∇̂ρ̂ (q·a, l)."""
    affine, dim, columns = inside.shape[0] == 1, inside.shape[1], slope.shape[1]
    for q in range(weights.size):
        g = 0 if affine else q
        for a in range(dim):
            row = q * dim + a
            for column in range(columns):
                weighted[row, column] = weights[q] * inside[g, a, 0, column] * slope[q * dim, column]
            for k in range(1, dim):
                for column in range(columns):
                    weighted[row, column] += weights[q] * inside[g, a, k, column] * slope[q * dim + k, column]


@kernel(fastmath={"contract"})
def facet_terms(
    weights: Array, penalty: Array, through: Array, across: Index, blocks: int, first: int,
    value: Array, flux: Array, alone: bool, jumps: Array, slopes: Array,
) -> None:  # fmt: skip
    """The factors of ψ on the facets, (f·q, l), and of ∇̂ψ, (f·q·a, l); `alone`: as if ρ̂ were 0 in all other cells."""
    rows, cells = across.shape
    step, dim = rows // through.shape[0], through.shape[1]

    for r in range(rows):
        weight, here = weights[r], r // step
        for c in range(cells):
            other = across[r, c]
            for b in range(blocks):
                column = c * blocks + b
                if other < 0:
                    jumps[r, column] = 0.0
                    for a in range(dim):
                        slopes[r * dim + a, column] = 0.0
                    continue

                there, back = 0.0, 0.0  # ρ̂ and D∇ρ̂·n of the other side, outward from there
                if not alone:
                    there = value[other % rows, other // rows * blocks + b]
                    back = flux[other % rows, other // rows * blocks + b]

                jump = value[r, first + column] - there
                mean = 0.5 * (flux[r, first + column] - back)
                jumps[r, column] = weight * (penalty[here, column] * jump - mean)
                for a in range(dim):
                    slopes[r * dim + a, column] = -0.5 * weight * jump * through[here, a, column]
