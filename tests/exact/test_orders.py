"""Orders in h of risk, moments and density (W₁), Lagrangian and discontinuous elements alike, against characteristics.

The in-context task with sixteen samples to τ = 1, where V is no polynomial and the density no longer Gaussian; each
kind of elements is the other's cross-check, and the particles of `characteristics` are that of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from mpi4py import MPI

from exact.characteristics import Seen
from exact.test_characteristics import followed, problem
from exact.wasserstein import ATOMS, atoms, sliced, spread
from mfpde.limit.solver import Solver
from mfpde.output.records.report import Report

SAMPLES, DECAY, TAU = 16, 0.02, 1.0
CELLS = {"lagrangian": (3, 4, 6), "comoving": (6, 8, 12, 16)}
SETTINGS = {
    "lagrangian": ["density.frame=lagrangian", "density.remap=false"],
    "comoving": ["density.frame=comoving", "density.potential_degree=3"],
}


@dataclass(frozen=True)
class Errors:
    """Of the risk, relative; of means and covariances in standard deviations; W₁ of the density over √tr Σ."""

    risk: float
    moments: float
    density: float


@cache
def exact() -> Seen:
    return followed(problem(SAMPLES, DECAY), (320, 320), [TAU], 1e-7)[0]


def errors(frame: str, cells: int) -> Errors:
    """The largest over layers."""
    settings = [*SETTINGS[frame], f"density.cells={cells}", "time.tolerance=1e-8"]
    solver = Solver(MPI.COMM_SELF, problem(SAMPLES, DECAY, *settings))
    try:
        assert solver.stepper.advance(TAU)
        report = solver.report(solver.stepper.state, certified=False)
    finally:
        solver.close()
    return compare(report, exact())


def compare(report: Report, seen: Seen) -> Errors:
    moved, far = [], []
    for block, theta in zip(report.moments, seen.position, strict=True):
        mean = seen.mass @ theta
        covariance = (seen.mass[:, None] * (theta - mean)).T @ (theta - mean)
        std = np.sqrt(np.diagonal(covariance))
        moved += [np.abs(block.mean - mean) / std, np.abs(block.covariance - covariance) / np.outer(std, std)]
        points, mass = atoms(report.snapshots[0], block.layer, 4 * ATOMS)
        far.append(sliced(points, mass, theta, seen.mass).max() / spread(theta, seen.mass))
    risk = abs(report.history["risk"] / seen.risk - 1.0)
    return Errors(float(risk), float(max(each.max() for each in moved)), float(max(far)))


def order(cells: tuple[int, ...], found: list[float]) -> float:
    return -float(np.polyfit(np.log(cells), np.log(found), 1)[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frame", "risk", "moments", "density"),
    [("lagrangian", 6.0, 6.0, 1.8), ("comoving", 4.0, 4.0, 2.3)],
)
def test_orders_against_characteristics(frame: str, risk: float, moments: float, density: float) -> None:
    """Sums over nodes are exact to all orders where the density is smooth, what is drawn between them to the second."""
    cells = CELLS[frame]
    found = [errors(frame, n) for n in cells]
    assert order(cells, [each.risk for each in found]) > risk, found
    assert order(cells, [each.moments for each in found]) > moments, found
    assert order(cells, [each.density for each in found]) > density, found
