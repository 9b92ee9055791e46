"""Gaussians in linear velocity fields, whose density is known: what `bench_peers.py` and `peers.py` solve.

On [−1, 1]², with u = B x and tr B = 0: ∂_τ ρ + ∇·(ρ u) = 0 and ∂_τ ρ + u·∇ρ = 0 are then the same equation, which suits
peers that know only the second one. B has no diagonal, so that u_x does not depend on x, nor u_y on y, which suits them
as well. Needs NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
WANTED = 1e-3  # relative error in L²


@dataclass(frozen=True)
class Gaussian:
    """A normal law at τ = 0, and what moves it to τ = horizon.

    Attributes:
        field: (b, c) in u = (b y, c x).
        mean: at τ = 0.
        std: at τ = 0, the same in all directions.
        horizon: τ at the end.
    """

    field: tuple[float, float]
    mean: tuple[float, float]
    std: float
    horizon: float

    @property
    def matrix(self) -> Array:
        """B."""
        return np.array([[0.0, self.field[0]], [self.field[1], 0.0]])

    def at(self, x: Array, y: Array, tau: float) -> Array:
        """ρ(τ) at points: that of τ = 0 where the flow came from."""
        b, c = self.field
        rate = np.sqrt(complex(b * c))
        even, odd = np.cosh(rate * tau).real, (np.sinh(rate * tau) / rate).real
        from_x, from_y = even * x - odd * b * y, even * y - odd * c * x  # exp(−B τ) (x, y)
        square = (from_x - self.mean[0]) ** 2 + (from_y - self.mean[1]) ** 2
        return np.exp(-0.5 * square / self.std**2) / (2.0 * np.pi * self.std**2)

    def centres(self, cells: int, tau: float) -> Array:
        """ρ(τ) at the centres of cells², (x, y)."""
        line = (np.arange(cells) + 0.5) * 2.0 / cells - 1.0
        return self.at(line[:, None], line[None, :], tau)

    def averages(self, cells: int, tau: float) -> Array:
        """Of ρ(τ) over cells², (x, y), by a quadrature that is as good as exact."""
        place, weight = np.polynomial.legendre.leggauss(4)
        total, line = np.zeros((cells, cells)), (np.arange(cells) + 0.5) * 2.0 / cells - 1.0
        for a, wa in zip(place, weight, strict=True):
            for b, wb in zip(place, weight, strict=True):
                total += 0.25 * wa * wb * self.at(line[:, None] + a / cells, line[None, :] + b / cells, tau)
        return total


PROBLEMS = {
    "linear field": Gaussian(field=(0.7, 0.7), mean=(-0.15, 0.15), std=0.08, horizon=1.0),
    "rotation": Gaussian(field=(-1.0, 1.0), mean=(0.5, 0.0), std=0.05, horizon=2.0 * np.pi),
}


def relative(found: Array, truth: Array) -> float:
    """The error in L² over the norm."""
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))
