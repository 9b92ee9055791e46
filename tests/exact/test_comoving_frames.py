"""Co-moving frames over a long time: moments and risk to 1e-8, on few cells, however far the density goes.

V is quadratic in these cases, so that the moments obey closed equations after discretisation too, and the only error is
that of the steps; it shrinks with the tolerance.
"""

from __future__ import annotations

import numpy as np
import pytest

from exact.closed_forms import Case, Clock, bilinear, decay, linear, run
from mfpde.config.settings import Density, Time

LONG = Clock(decay=1.0, horizon=5.0)
CASES = {
    "decay 1-D": lambda: decay(1, clock=LONG),
    "decay 2-D": lambda: decay(2, clock=LONG),
    "decay 3-D": lambda: decay(3, clock=LONG),
    "linear 1-D": lambda: linear(1, LONG),
    "linear 2-D": lambda: linear(2, LONG),
    "linear 3-D": lambda: linear(3, LONG),
    "linear 2-D, far": lambda: linear(2, LONG, far=10.0),
    "bilinear": lambda: bilinear(Clock(decay=0.4, horizon=5.0)),
}


def moment_error(case: Case, tolerance: float) -> float:
    """Largest relative error of means, covariances and risk with 8 cells per direction and p = 2."""
    found = run(case, Density(degree=2, cells=8, frame="comoving"), Time(tolerance=tolerance))
    if case.task.targets.max() > 10.0:
        moved = found.stop.mean - found.start.mean
        assert np.abs(moved / np.sqrt(np.diagonal(found.start.covariance, axis1=1, axis2=2))).max() > 20.0
    return found.moment_error()


@pytest.mark.parametrize("tolerance", [1e-7, pytest.param(1e-9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["decay 2-D", "linear 1-D", "linear 2-D, far", "bilinear"])
def test_moments_and_risk_to_ten_times_the_tolerance(name: str, tolerance: float) -> None:
    """λτ = 5, or τ = 5."""
    assert moment_error(CASES[name](), tolerance) < 10.0 * tolerance


@pytest.mark.study
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CASES)
def test_moments_and_risk_at_the_tolerance_of_the_claim(name: str) -> None:
    """All of them at 1e-10, where they are ten times better."""
    assert moment_error(CASES[name](), 1e-10) < 1e-9
