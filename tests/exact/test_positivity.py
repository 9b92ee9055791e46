"""Densities made nonnegative: what `limit.limiter` and the documents say is guaranteed, and nothing less."""

from __future__ import annotations

from pathlib import Path

import basix
import numpy as np
import pytest
from mpi4py import MPI

from mfpde import config
from mfpde.limit import mesh as meshes
from mfpde.limit.limiter import lower_bound, nonnegative
from mfpde.limit.space import Space, build_space, density_element
from mfpde.output.reader import open_run
from mfpde.run import execute

ROOT = Path(__file__).parents[2]
MESHES = {
    "interval": (1, 6, False), "triangle": (2, 3, True), "quadrilateral": (2, 3, False), "tetrahedron": (3, 2, True),
    "hexahedron": (3, 2, False), "curved": (0, 0, False),
}  # fmt: skip


def space(kind: str, degree: int) -> Space:
    """A small mesh of one kind of cell; "curved" ones are quadrilaterals whose Jacobian varies."""
    if kind == "curved":
        return build_space(meshes.read(MPI.COMM_SELF, ROOT / "meshes" / "disk_quads.msh", 2), degree, max(degree, 1))
    dim, cells, simplex = MESHES[kind]
    return build_space(meshes.box(MPI.COMM_SELF, dim, cells, simplex), degree, max(degree, 1))


def oscillating(made: Space) -> np.ndarray:
    """Coefficients (c, i, 3) of mass one: mild undershoots, wild ones, and one cell in three of negative average."""
    rng = np.random.default_rng(made.size)
    density = rng.normal(size=(made.owned, made.size, 3)) * [0.1, 1.0, 1.0]
    density[:, 0] = np.abs(density[:, 0]) + 1.0
    density[::3, 0, 2] *= -0.5
    return density / masses(made, density).sum(axis=0)


def masses(made: Space, density: np.ndarray) -> np.ndarray:
    """∫_K ρ̂ (c, b), by a quadrature of its own."""
    points, weights = basix.make_quadrature(made.cell, made.degree + 2)
    return np.einsum("q,cq,qi,cib->cb", weights, made.scale_at(points), table(made, points), density)


def table(made: Space, points: np.ndarray) -> np.ndarray:
    return density_element(made.cell, made.degree).tabulate(0, points)[0, :, :, 0]


def everywhere(made: Space) -> np.ndarray:
    """Random points of the reference cell, and a lattice with its corners and edges."""
    corners = basix.geometry(made.cell)
    inside = np.random.default_rng(0).dirichlet(np.full(len(corners), 0.5), 400) @ corners
    return np.concatenate([inside, basix.create_lattice(made.cell, 8, basix.LatticeType.equispaced, True)])


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", MESHES)
def test_copies_are_nonnegative_everywhere_and_keep_the_mass(kind: str, degree: int) -> None:
    """At every point of every kind of cell; masses of blocks to 1e-12, of cells where no average was negative."""
    made = space(kind, degree)
    density = oscillating(made)
    copy = nonnegative(made, density)
    values = np.einsum("qi,cib->cqb", table(made, everywhere(made)), copy)
    assert values.min() >= 0.0
    before, after = masses(made, density), masses(made, copy)
    assert np.abs(after.sum(axis=0) - 1.0).max() < 1e-12
    assert np.abs(after - before)[:, :2].max() < 1e-12 * before.max()
    assert before[:, 2].min() < 0.0
    taken = after[before[:, 2] > 0.0, 2] / before[before[:, 2] > 0.0, 2]
    assert np.ptp(taken) < 1e-12
    if degree > 0:
        assert np.einsum("qi,cib->cqb", table(made, everywhere(made)), density).min() < 0.0


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("kind", MESHES)
def test_the_bound_is_below_and_close(kind: str, degree: int) -> None:
    """Below the smallest value; for noise by a part of its range, for linear and multilinear functions exactly."""
    made = space(kind, degree)
    density = oscillating(made)
    values = np.einsum("qi,cib->cqb", table(made, everywhere(made)), density)
    excess = (values.min(axis=1) - lower_bound(made, density)) / np.ptp(values, axis=1)
    assert excess.min() > -1e-13
    assert excess.max() < (1e-13 if degree == 1 else 0.35 if made.dim < 3 else 1.5)


def test_what_is_positive_stays_as_it_is() -> None:
    """A copy of a density that needs nothing is the density."""
    made = space("quadrilateral", 3)
    density = 0.01 * oscillating(made)
    density[:, 0] = 0.3
    assert np.abs(nonnegative(made, density) - density).max() < 1e-15


RUN = """
name = "steep"
[task]
name = "teacher"
samples = 20
[model]
name = "attention-mlp"
layers = 2
[training]
weight_decay = 0.1
horizon = 0.2
[density]
cells = 6
potential_degree = 3
{positivity}
[time]
step = 0.05
"""


@pytest.mark.parametrize("positivity", ["", 'positivity = "off"'])
def test_files_hold_copies_and_tables_the_evolved_density(tmp_path: Path, positivity: str) -> None:
    """What `Run.density` returns is nonnegative by default; min_density and negative_mass are of what was solved."""
    (tmp_path / "x.toml").write_text(RUN.format(positivity=positivity))
    execute(config.load(tmp_path / "x.toml", [], tmp_path / "x"), overwrite=False)
    run = open_run(tmp_path / "x")
    assert run.history["min_density"][-1] < -1e-3
    assert run.history["negative_mass"][-1] > 1e-4
    rng = np.random.default_rng(0)
    lowest = min(
        run.density(tau=0.2, family=family, layer=layer, theta=rng.uniform(-6.0, 6.0, size=(20000, 2))).min()
        for family in run.families
        for layer in range(2)
    )
    assert lowest < 0.0 if positivity else lowest == 0.0
    for family in run.families:
        shot = run.snapshot(tau=0.2, family=family)
        corner = shot.points[:, :, [0, 1, 2]]
        area = np.abs(np.linalg.det(corner[:, :, 1:] - corner[:, :, :1]))
        simpson = basix.make_quadrature(basix.CellType.quadrilateral, 4)
        element = basix.create_element(
            basix.ElementFamily.P, basix.CellType.quadrilateral, 2, basix.LagrangeVariant.equispaced
        )
        weights = simpson[1] @ element.tabulate(0, simpson[0])[0, :, :, 0]
        assert np.abs(np.einsum("lc,n,lcn->l", area, weights, shot.density) - 1.0).max() < 1e-12
