"""Longer steps of the transport, which docs/steps.md mentions: `uv run python docs/studies/pairs.py`.

Which Runge–Kutta method lets the transport take the longest step per right-hand side? ν_p is the largest u Δ/h for
which all Fourier modes of upwind DG_p on a uniform grid of cells h are damped; it is divided by the method's stages,
and compared with that of the pair that is used, SSP43(2). NumPy alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

type Method = Callable[[np.ndarray], np.ndarray]
"""From Δ times the eigenvalues to the factors by which their modes grow in a step."""
MODES = 240  # wave numbers


def spectrum(degree: int) -> np.ndarray:
    """Eigenvalues of upwind DG_p for u = h = 1, of all wave numbers; as `test_stepper.growth` has them."""
    points, weights = np.polynomial.legendre.leggauss(degree + 2)
    scale = np.sqrt(2.0 * np.arange(degree + 1) + 1.0)
    values = np.polynomial.legendre.legvander(points, degree) * scale
    slopes = np.stack(
        [2.0 * np.polynomial.legendre.Legendre.basis(i).deriv()(points) * s for i, s in enumerate(scale)], axis=1
    )
    right, left = scale, scale * (-1.0) ** np.arange(degree + 1)
    inside = np.einsum("q,qi,qj->ij", weights / 2.0, slopes, values) - np.outer(right, right)
    phases = np.exp(-1j * np.linspace(0.0, np.pi, MODES))
    return np.concatenate([np.linalg.eigvals(inside + phase * np.outer(left, right)) for phase in phases])


def second(stages: int) -> Method:
    """SSP(s, 2): s Euler steps of length Δ/(s − 1), of which the last is averaged with the start."""

    def grown(z: np.ndarray) -> np.ndarray:
        step = 1.0 + z / (stages - 1)
        return (1.0 + (stages - 1) * step**stages) / stages

    return grown


def third(n: int) -> Method:
    """SSP(n², 3) of Ketcheson; n = 2 is the pair's."""

    def grown(z: np.ndarray) -> np.ndarray:
        step = 1.0 + z / (n * n - n)
        early = step ** ((n - 1) * (n - 2) // 2)
        late = early * step ** (n * (n + 1) // 2 - (n - 1) * (n - 2) // 2)
        mixed = ((n - 1) * late + n * early) / (2 * n - 1)
        return mixed * step ** (n * n - n * (n + 1) // 2)

    return grown


def fourth(z: np.ndarray) -> np.ndarray:
    """SSP(10, 4) of Ketcheson."""
    step = 1.0 + z / 6.0
    middle = (1.0 + 9.0 * step**5) / 25.0  # q₂
    first = 15.0 * middle - 5.0 * step**5
    late = first * step**4
    return middle + 0.6 * late + z / 10.0 * late


def taylor(order: int) -> Method:
    """As many stages as its order: the classical methods."""
    return lambda z: sum(z**k / float(np.prod(np.arange(1.0, k + 1.0))) for k in range(order + 1))


METHODS: tuple[tuple[str, int, int, Method], ...] = (  # name, order, stages
    ("SSP43(2), used", 3, 4, third(2)),
    ("classical", 3, 3, taylor(3)),
    ("classical", 4, 4, taylor(4)),
    ("SSP(9, 3)", 3, 9, third(3)),
    ("SSP(16, 3)", 3, 16, third(4)),
    ("SSP(10, 4)", 4, 10, fourth),
    ("SSP(4, 2)", 2, 4, second(4)),
    ("SSP(10, 2)", 2, 10, second(10)),
)


def largest(method: Method, eigenvalues: np.ndarray) -> float:
    """ν: the first step, from 0 on, at which a mode grows."""
    steps = np.arange(1, 12001) * 5e-4
    for step in steps:
        if np.abs(method(step * eigenvalues)).max() > 1.0 + 1e-9:
            return float(step - 5e-4)
    return float(steps[-1])


def main() -> None:
    """Print the table."""
    degrees = (1, 2, 3)
    used = {p: largest(METHODS[0][3], spectrum(p)) / METHODS[0][2] for p in degrees}
    heads = " | ".join(f"ν, p = {p} | a stage, of the pair's" for p in degrees)
    sys.stdout.write(f"| method | order | stages | {heads} |\n|{' --- |' * (3 + 2 * len(degrees))}\n")
    for name, order, stages, method in METHODS:
        found = {p: largest(method, spectrum(p)) for p in degrees}
        columns = " | ".join(f"{found[p]:.3f} | {found[p] / stages / used[p]:.2f}" for p in degrees)
        sys.stdout.write(f"| {name} | {order} | {stages} | {columns} |\n")


if __name__ == "__main__":
    main()
