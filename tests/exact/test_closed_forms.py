"""The whole solver against the exact solutions: moments and risk, order in time, order of the density."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exact.closed_forms import SHORT, Case, bilinear, decay, linear, run
from mfpde.config.settings import Density, Time
from mfpde.problem.product_laws import Bump

HORIZON = SHORT.horizon
MESHES = Path(__file__).parents[2] / "meshes"
MOMENT_CASES = {
    "decay 1-D": (decay(1), {"cells": 12}),
    "decay of a bump 2-D": (decay(2, Bump), {"cells": 10}),
    "decay 3-D": (decay(3), {"cells": 6}),
    "linear 1-D": (linear(1), {"cells": 12}),
    "linear 2-D": (linear(2), {"cells": 8}),
    "linear triangles": (linear(2), {"cells": 8, "cell_type": "simplex"}),
    "linear 3-D": (linear(3), {"cells": 4}),
    "bilinear": (bilinear(), {"cells": 10}),
    "bilinear triangles": (bilinear(), {"cells": 10, "cell_type": "simplex"}),
    "bilinear graded": (bilinear(), {"mesh": MESHES / "square_graded.msh"}),
    "linear disk": (linear(2), {"mesh": MESHES / "disk_quads.msh"}),
    "linear ball": (linear(3), {"mesh": MESHES / "ball.msh"}),
}
# Every exact solution, kind of cell and frame once; the other pairs of them are slow tests.
QUICK_MOMENTS = {
    "fixed": ("decay 1-D", "decay of a bump 2-D", "linear 2-D", "linear 3-D", "bilinear triangles"),
    "comoving": ("linear 1-D", "linear triangles", "bilinear", "bilinear graded", "linear disk"),
}


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        pytest.param(name, frame, marks=() if name in quick else pytest.mark.slow)
        for frame, quick in QUICK_MOMENTS.items()
        for name in MOMENT_CASES
    ],
)
def test_moments_and_risk_follow_their_equations(name: str, frame: str) -> None:
    """Means, covariances and risk at fixed steps, exact but for the time error of order 3."""
    case, mesh = MOMENT_CASES[name]
    density = Density(degree=2, frame=frame, radius=2.4 if frame == "fixed" else 6.0, **mesh)  # type: ignore[arg-type]
    found = run(case, density, Time(step=HORIZON / 160))
    assert np.abs(found.stop.mass - 1.0).max() < 1e-12  # rounding of some 600 right-hand sides, most in 3-D
    assert found.moment_error() < 4e-7  # the time error at this step; test_order_in_time has its slope


@pytest.mark.parametrize("case", [linear(1), bilinear()], ids=["linear", "bilinear"])
def test_order_in_time(case: Case) -> None:
    """The moments' error at fixed steps has slope 3."""
    density = Density(degree=2, cells=10, frame="comoving", radius=6.0)
    errors = [run(case, density, Time(step=HORIZON / n)).moment_error() for n in (10, 20)]
    assert 2.7 < np.log2(errors[0] / errors[1]) < 3.5


DENSITY_CASES = {"decay": decay(2), "linear": linear(2), "bilinear": bilinear()}
ORDERS = {
    (1, 1, "tensor"): 2.0, (2, 0, "tensor"): 3.0, (3, 0, "tensor"): 4.0, (2, 1, "tensor"): 3.0,
    (2, 0, "simplex"): 3.0, (3, 1, "simplex"): 4.0,
}  # fmt: skip
# Every space with the last of the exact solutions, whose moments are coupled, and each of the others once.
SPACES = [
    pytest.param(case, *space, id=f"{case}-{'-'.join(map(str, space))}", marks=() if quick else pytest.mark.slow)
    for case, chosen in (("decay", (2, 0, "simplex")), ("linear", (2, 1, "tensor")), ("bilinear", None))
    for space in ORDERS
    for quick in [chosen in (space, None)]
]


@pytest.mark.parametrize(("case", "degree", "extra", "cell_type"), SPACES)
def test_order_of_the_density(case: str, degree: int, extra: int, cell_type: str) -> None:
    """L² order p + 1 in a fixed frame: V is quadratic, and k ≥ 2."""
    errors = []
    coarse, fine = {1: (20, 30), 2: (16, 24), 3: (16, 24)}[degree]
    for cells in (coarse, fine):
        density = Density(
            degree=degree, potential_degree=degree + extra, cells=cells, cell_type=cell_type,  # type: ignore[arg-type]
            frame="fixed", radius=2.2,
        )  # fmt: skip
        errors.append(run(DENSITY_CASES[case], density, Time(step=HORIZON / 100)).density_error())
    assert np.log(errors[0] / errors[1]) / np.log(fine / coarse) > ORDERS[degree, extra, cell_type] - 0.4
