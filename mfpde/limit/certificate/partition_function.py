"""The certificate at β⁻¹ > 0, which vanishes at ρ ∝ e^{−βV}.

    gap = (1/L) Σ_{ℓ,c} ( ∫(V + β⁻¹ log ρ) dρ + β⁻¹ log ∫_{R^d} e^{−βV} dθ ).

The integral is over all of R^d. Jointly linear coordinates v are integrated exactly: with
V = λ/2 |q|² + v·G(q) + λ/2 |v|²

    ∫e^{−βV} dv = (2π/(βλ))^{dim v / 2} e^{−βW(q)},    W(q) = λ/2 |q|² − |G(q)|²/(2λ),

and the integral over the other coordinates is a trapezoidal sum over a box outside which the integrand is negligible:
the largest gain G²/(2λ), or minus the data part of V, is that of the points evaluated, enlarged as in
`certificate.minimisation`. For analytic integrands that vanish at the box's ends the sum converges faster than any
power of its spacing, which is halved until two sums agree. Where they do not within the number of points allowed, the
gap is nan; where λ = 0 the integral is infinite and so is the gap.

By convexity of the entropy and the inequality of Gibbs, it bounds Q − Q* where Q without entropy is convex in ρ
(`certificate.gap_kind`). Source: docs/equations.md; Chizat, *TMLR* 2022 (arXiv 2202.01009), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.certificate.potential_probes import PotentialProbes

Array = NDArray[np.float64]
_FIRST = {1: 65, 2: 33, 3: 13}  # points in each direction, by the number of nonlinear coordinates
_MOST = {1: 2**15 + 1, 2: 513, 3: 49}
_NEGLIGIBLE = 40.0  # β (W − min W) beyond which e^{−βW} does not contribute to the integral
_AGREE = 1e-8  # of two sums' logarithms


def log_partition(
    probes: PotentialProbes, temperature: float, linear: Sequence[int], least: Sequence[Array], gain: Sequence[Array]
) -> list[Array]:
    """β⁻¹ log ∫e^{−βV} dθ per family of the probes and layer, (L,); collective, with one reduction for each spacing.

    Args:
        probes: of families with nonlinear coordinates; λ > 0.
        temperature: β⁻¹.
        linear: number of jointly linear coordinates of each family.
        least: the least W found (L,).
        gain: the largest of λ/2 |q|² − W anywhere, at most (L,).
    """
    decay = probes.weight_decay
    far = [np.maximum(g + w + _NEGLIGIBLE * temperature, temperature) for w, g in zip(least, gain, strict=True)]
    reach = [np.sqrt(2.0 * f / decay) for f in far]
    dims = [len(probes.backprop.model.families[place].nonlinear_axes) for place in probes.places]
    sizes = [_FIRST[m] for m in dims]
    before = [np.full_like(r, np.nan) for r in reach]

    while True:
        grids = [_grid(r, n, m) for r, n, m in zip(reach, sizes, dims, strict=True)]
        jets = probes(grids, derivatives=False)
        found = [
            _log_sum(jet.value, temperature, r, n, m) for jet, r, n, m in zip(jets, reach, sizes, dims, strict=True)
        ]

        agreed = [np.abs(a - b) <= _AGREE * np.maximum(1.0, np.abs(a)) for a, b in zip(found, before, strict=True)]
        if probes.agree(all(a.all() for a in agreed)):
            break

        finer = [2 * n - 1 for n in sizes]
        if any(n > _MOST[m] for n, m in zip(finer, dims, strict=True)):
            found = [np.where(a, f, np.nan) for a, f in zip(agreed, found, strict=True)]
            break
        before, sizes = found, finer

    return [temperature * (f + gaussian(v, temperature, decay)) for f, v in zip(found, linear, strict=True)]


def gaussian(count: int, temperature: float, decay: float) -> float:
    """log ∫e^{−βλ|v|²/2} dv over R^count."""
    return 0.5 * count * float(np.log(2.0 * np.pi * temperature / decay))


def _grid(reach: Array, points: int, m: int) -> Array:
    """A uniform grid (L, points^m, m) of each layer's box, its ends included."""
    unit = np.linspace(-1.0, 1.0, points)
    axes = np.stack(np.meshgrid(*[unit] * m, indexing="ij"), axis=-1).reshape(-1, m)
    return reach[:, None, None] * axes


def _log_sum(value: Array, temperature: float, reach: Array, points: int, m: int) -> Array:
    """log of the trapezoidal sum of e^{−βW} (L,); the integrand vanishes at the ends of the box."""
    least = value.min(axis=1, keepdims=True)
    total = np.exp(-(value - least) / temperature).sum(axis=1)
    return np.log(total) - least[:, 0] / temperature + m * np.log(2.0 * reach / (points - 1))
