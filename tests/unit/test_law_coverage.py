"""How much of an initial law its mesh holds: little is bad input, some is a warning, and coarse cells are no cut."""

from __future__ import annotations

from math import erf, sqrt
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

import mfpde
from mfpde.config.settings import Density, Time, Training
from mfpde.errors import InputError
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem

FRAMES = ("fixed", "comoving", "lagrangian")
UNIT = [(0, 0), (1, 0), (1, 1), (0, 1)]


def solver(law: mfpde.Normal, density: Density) -> Solver:
    family = mfpde.Family("unit", law.dim, lambda tokens, theta: theta.sum() * tokens, law)
    task = mfpde.Task(np.ones((1, 1, 1)), np.zeros((1, 1)))
    problem = Problem(
        mfpde.Transformer([[family]], 2, lambda t: t[-1]), task, Training(0.1, 1.0), {"unit": density}, Time(step=0.1)
    )
    return Solver(MPI.COMM_SELF, problem)


def square(path: Path, corners: list[tuple[float, float]]) -> Path:
    """A mesh file of four triangles around the middle of a quadrilateral."""
    points = [*corners, tuple(np.mean(corners, axis=0))]
    nodes = "\n".join(f"{k} {x} {y} 0" for k, (x, y) in enumerate(points, 1))
    cells = "\n".join(f"{k} 2 2 1 1 {k} {k % 4 + 1} 5" for k in range(1, 5))
    path.write_text(
        f"$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$Nodes\n5\n{nodes}\n$EndNodes\n$Elements\n4\n{cells}\n$EndElements\n"
    )
    return path


def within(reach: float) -> float:
    """Mass of a normal law within so many standard deviations."""
    return erf(reach / sqrt(2.0))


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("dim", [1, 2])
def test_a_box_that_cuts_the_law(frame, dim):
    """Half-widths in standard deviations, which are 1 here: in θ they are the same."""
    law = mfpde.Normal([3.0] * dim, [1.0] * dim)
    for radius in (0.1, 1.0):
        with pytest.raises(InputError) as caught:
            solver(law, Density(degree=1, cells=8, frame=frame, radius=radius))
        line = str(caught.value)
        held = f"holds {100 * within(radius) ** dim:.3g} % of the initial law of family 'unit', layer 0"
        assert line.startswith(f"density.radius = {radius}: {held}; the box around the mean has this half-width")
    one = solver(law, Density(degree=1, cells=8, frame=frame, radius=2.5))
    (line,) = one.cautions
    assert f"density.radius = 2.5: holds {100 * within(2.5) ** dim:.4g} % of the initial law" in line
    one.close()
    one = solver(law, Density(degree=1, cells=8, frame=frame, radius=4.0))
    (line,) = one.cautions  # of the mass 6e-5 is missing, of the variance 1e-3
    assert "% of the initial law of family 'unit', layer 0, and 99.8" in line
    one.close()
    for radius in (5.0, None):
        one = solver(law, Density(degree=1, cells=8, frame=frame, radius=radius))
        assert one.cautions == []
        one.close()


def test_coarse_cells_are_no_cut():
    """Two cells of ten standard deviations: the projection's quadrature is off by a tenth, the law is whole."""
    for density in (
        Density(degree=0, cells=2, radius=10.0, frame="comoving"),
        Density(degree=1, cells=1, frame="comoving"),
        Density(degree=2, cells=2, frame="comoving"),
    ):
        for law in (mfpde.Normal([0.0, 0.0], [1.0, 1.0]), mfpde.Uniform([0.1, 0.2], [1.0, 1.0])):
            one = solver(law, density)
            assert one.cautions == []
            one.close()
    one = solver(mfpde.Laplace([0.1, 0.2], [1.0, 1.0]), Density(degree=0, cells=2, radius=12.0, frame="comoving"))
    assert one.cautions == []
    one.close()
    with pytest.raises(
        InputError, match=r"radius = 1000\.0: cells of 1e\+03 standard deviations cannot resolve the initial"
    ):
        solver(mfpde.Normal([0.0], [1.0]), Density(cells=2, radius=1000.0, frame="comoving"))


@pytest.mark.parametrize("law", [mfpde.Uniform, mfpde.Bump])
@pytest.mark.parametrize("frame", FRAMES)
def test_laws_of_bounded_support_are_whole(law, frame):
    radius = None if frame != "fixed" else 4.0
    one = solver(law([0.0, 0.0], [1.0, 1.0]), Density(degree=1, cells=6, frame=frame, radius=radius))
    assert one.cautions == []
    one.close()


def test_a_mesh_beside_the_law(tmp_path):
    """A unit square with the law's mean in its corner, one in other units, and one with a hole."""
    law, name = mfpde.Normal([0.5, 0.0], [0.5, 0.5]), tmp_path / "mesh.msh"
    for corners, held in ((UNIT, "holds 25 %"), ([(-1, -1), (0.1, -1), (0.1, 1), (-1, 1)], "holds 69.1 %")):
        with pytest.raises(InputError) as caught:
            solver(law, Density(degree=1, mesh=square(name, corners), radius=5.0, frame="comoving"))
        assert str(caught.value).startswith(f"density.mesh = {str(name)!r}: {held} of the initial law")
        assert "its vertices are multiples of density.radius around the mean" in str(caught.value)
    large = [(100.0 * x, 100.0 * y) for x, y in UNIT]
    with pytest.raises(InputError, match=r"cells of 500 standard deviations cannot resolve the initial law"):
        solver(law, Density(degree=1, mesh=square(name, large), radius=5.0, frame="comoving"))
    good = [(2.0 * x - 1.0, 2.0 * y - 1.0) for x, y in UNIT]
    one = solver(law, Density(degree=2, mesh=square(name, good), radius=5.0, frame="comoving"))
    assert one.cautions == []
    one.close()


def test_nothing_is_written_and_a_warning_is_kept(tmp_path):
    family = mfpde.Family("unit", 1, lambda tokens, theta: theta[0] * tokens, mfpde.Normal([0.0], [1.0]))
    model = mfpde.Transformer([[family]], 1, lambda t: t[-1])
    task = mfpde.Task(np.ones((1, 1, 1)), np.zeros((1, 1)))

    def solve(radius: float) -> mfpde.Run:
        return mfpde.solve_limit(
            model, task, weight_decay=0.1, horizon=0.1, directory=tmp_path / "run",
            density=Density(degree=1, cells=6, radius=radius, frame="comoving"),
        )  # fmt: skip

    with pytest.raises(InputError, match=r"density\.radius = 1\.0: holds 68\.3 %"):
        solve(1.0)
    assert list(tmp_path.iterdir()) == []
    assert solve(2.0).summary["warnings"][0].startswith("warning: density.radius = 2.0: holds 95.45 % of the initial")
