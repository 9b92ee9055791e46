"""One layer of neurons a·tanh(w x) trained with squared loss, as the convex programme that its limit is.

    min over probability measures ρ on R²:   ½ mean_n (y_n − x_n − η ∫ a tanh(w x_n) dρ)² + λ/2 ∫ (a² + w²) dρ

NumPy and SciPy alone; nothing of the solver. Of all measures with the same mass m(w) at w the best one has a single
a(w), and a enters by ridge regression. With K = η tanh(x w), r = y − x and n samples that leaves

    F(m) = ½ rᵀ (n I + K diag(m) Kᵀ / λ)⁻¹ r + λ/2 Σ_k w_k² m_k

convex on the simplex. With α = (n I + K diag(m) Kᵀ / λ)⁻¹ r and G = −Kᵀ α its derivative

    ∂F/∂m_k = W(w_k) = λ/2 w_k² − G_k² / (2λ)

is the reduced potential, and Σ_k m_k W_k − min W bounds how far F(m) is above the minimum: its own duality gap.
It is solved by fully corrective Frank–Wolfe steps; W is searched on a grid up to |w| = Σ|α| η/λ, beyond which W > 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

Array = NDArray[np.float64]
_FINE = 4000  # points of the grid on [0, 6]
_FAR = 400  # beyond, in geometric progression


@dataclass(frozen=True)
class Minimum:
    """What the programme found.

    Attributes:
        energy: F, above the minimum by at most `gap`.
        gap: Σ m W − min W.
        risk: ½ mean (y − output)².
        w, a, mass: of its clusters, w ≥ 0 (a tanh(w x) is even in (a, w)), in the order of w.
    """

    energy: float
    gap: float
    risk: float
    w: Array
    a: Array
    mass: Array


class Programme:
    """F and W of one set of samples."""

    def __init__(self, x: Array, y: Array, decay: float, step: float = 1.0) -> None:
        self.x, self.r, self.decay, self.step = x, y - x, decay, step

    def pull(self, w: Array, mass: Array) -> Array:
        """α (n,)."""
        k = self.step * np.tanh(np.outer(self.x, w))
        return np.linalg.solve(len(self.x) * np.eye(len(self.x)) + k * mass @ k.T / self.decay, self.r)

    def energy(self, w: Array, mass: Array) -> float:
        """F."""
        return float(0.5 * self.r @ self.pull(w, mass) + 0.5 * self.decay * w**2 @ mass)

    def gain(self, alpha: Array, w: Array) -> Array:
        """Kᵀ α, which is −G and a λ."""
        return self.step * np.tanh(np.outer(w, self.x)) @ alpha

    def potential(self, alpha: Array, w: Array) -> Array:
        """W."""
        return 0.5 * self.decay * w**2 - self.gain(alpha, w) ** 2 / (2.0 * self.decay)

    def least(self, alpha: Array) -> tuple[float, float]:
        """(w, W) where W is smallest."""
        far = max(12.0, 1.01 * self.step * float(np.abs(alpha).sum()) / self.decay)
        grid = np.concatenate([np.linspace(0.0, 6.0, _FINE), np.geomspace(6.0, far, _FAR)[1:]])
        k = int(self.potential(alpha, grid).argmin())
        low, high = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)]
        found = minimize_scalar(lambda w: self.potential(alpha, np.array([w]))[0], bounds=(low, high), method="bounded",
                                options={"xatol": 1e-12})  # fmt: skip
        values = {float(grid[k]): float(self.potential(alpha, grid[k : k + 1])[0]), float(found.x): float(found.fun)}
        w = min(values, key=values.__getitem__)
        return w, values[w]

    def solve(self, tolerance: float = 1e-9, rounds: int = 200) -> Minimum:
        """Fully corrective Frank–Wolfe: add where W is least, then move all clusters and masses together."""
        w, mass = np.array([1.0]), np.array([1.0])
        for _ in range(rounds):
            alpha = self.pull(w, mass)
            best, value = self.least(alpha)
            at_clusters = self.potential(alpha, w)
            gap = float(mass @ at_clusters) - min(value, float(at_clusters.min()))
            if gap <= tolerance * self.energy(w, mass):
                break
            w, mass = self._correct(np.append(w, best), np.append(0.98 * mass, 0.02))
        order = np.argsort(w)
        w, mass = w[order], mass[order]
        alpha = self.pull(w, mass)
        risk = 0.5 * len(self.x) * float(alpha @ alpha)  # y − output = n α
        return Minimum(self.energy(w, mass), gap, risk, w, self.gain(alpha, w) / self.decay, mass)

    def _correct(self, w: Array, mass: Array) -> tuple[Array, Array]:
        """A local minimum of F in places and masses; what is empty goes, what coincides is one."""
        size = len(w)

        def both(z: Array) -> tuple[float, Array]:
            places, masses = z[:size], z[size:]
            alpha = self.pull(places, masses)
            gain = self.gain(alpha, places)
            steep = self.step * (self.x / np.cosh(np.outer(places, self.x)) ** 2) @ alpha
            slope = masses * (self.decay * places - gain * steep / self.decay)
            return self.energy(places, masses), np.concatenate([slope, self.potential(alpha, places)])

        ended = minimize(both, np.concatenate([w, mass]), jac=True, method="SLSQP",
                         bounds=[(0.0, None)] * size + [(0.0, 1.0)] * size,
                         constraints={"type": "eq", "fun": lambda z: z[size:].sum() - 1.0,
                                      "jac": lambda _z: np.repeat([0.0, 1.0], size)},
                         options={"ftol": 1e-16, "maxiter": 500})  # fmt: skip
        order = np.argsort(ended.x[:size])
        w, mass = ended.x[:size][order], np.maximum(ended.x[size:][order], 0.0)
        first = np.concatenate([[True], np.diff(w) > 1e-4])
        mass = np.add.reduceat(mass, np.flatnonzero(first))
        kept = mass > 1e-9
        return w[first][kept], mass[kept] / mass[kept].sum()


def slopes_minimum(x: Array, y: Array, decay: float, widest: float = 6.0, points: int = 24001) -> tuple[float, float]:
    """(least energy, duality gap) of one layer of units tanh(w x) with one parameter, by Frank–Wolfe on a fine grid.

        min over probability measures ρ on R:   ½ mean_n (y_n − x_n − ∫ tanh(w x_n) dρ)² + λ/2 ∫ w² dρ

    Fully corrective: the masses of all places so far are the minimum of a quadratic programme on their simplex. The
    energy is the minimum over the grid up to the gap. Beyond |w| = `widest` the potential is above λ/2 w² − mean |r −
    output|, as |tanh| < 1, and that must not be below its least value.

    Raises:
        ValueError: when the grid is too narrow for that.
    """
    r = y - x
    grid = np.linspace(-widest, widest, points)
    table = np.tanh(np.outer(x, grid))
    places, mass = np.array([points // 2]), np.array([1.0])
    for _ in range(60):
        missing = r - table[:, places] @ mass
        energy = 0.5 * float(missing @ missing) / len(x) + 0.5 * decay * float(grid[places] ** 2 @ mass)
        potential = 0.5 * decay * grid**2 - table.T @ missing / len(x)
        gap = float(potential[places] @ mass - potential.min())
        if gap <= 1e-9 * energy:
            break
        places = np.unique(np.append(places, potential.argmin()))
        k, cost = table[:, places], 0.5 * decay * grid[places] ** 2
        quadratic, linear = k.T @ k / len(x), cost - k.T @ r / len(x)
        start = np.full(len(places), 1.0 / len(places))
        ended = minimize(
            lambda m, q=quadratic, c=linear: (0.5 * m @ q @ m + c @ m, q @ m + c), start,
            jac=True, method="SLSQP", bounds=[(0.0, 1.0)] * len(places), options={"ftol": 1e-17, "maxiter": 1000},
            constraints={"type": "eq", "fun": lambda m: m.sum() - 1.0, "jac": np.ones_like},
        )  # fmt: skip
        kept = ended.x > 1e-10
        places, mass = places[kept], ended.x[kept] / ended.x[kept].sum()
    if 0.5 * decay * widest**2 - float(np.abs(missing).mean()) < potential.min():
        raise ValueError("widen the grid")
    return energy, gap
