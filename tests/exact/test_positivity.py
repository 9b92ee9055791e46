"""Densities made nonnegative: what `positivity.bernstein` and the documents say is guaranteed, and nothing less."""

from __future__ import annotations

from pathlib import Path

import basix
import numpy as np
import pytest
from mpi4py import MPI
from scipy.optimize import minimize

from exact import test_prescribed_potential as prescribed
from exact import test_reference_risks as reference_risks
from mfpde import open_run
from mfpde.config import run_file
from mfpde.limit.fem import mesh as meshes
from mfpde.limit.fem.elements import density_element, potential_element
from mfpde.limit.fem.frame import Frame
from mfpde.limit.fem.space import Space, build_space
from mfpde.limit.positivity.bernstein import lower_bound, nonnegative
from mfpde.limit.positivity.limiter import Limiter, build_limiter, weights
from mfpde.limit.solver import Solver
from mfpde.runs.limit_run import execute

ROOT = Path(__file__).parents[2]
MESHES = {
    "interval": (1, 6, False), "triangle": (2, 3, True), "quadrilateral": (2, 3, False), "tetrahedron": (3, 2, True),
    "hexahedron": (3, 2, False), "curved": (0, 0, False),
}  # fmt: skip


def space(kind: str, degree: int, extra: int = 0) -> Space:
    """A small mesh of one kind of cell; "curved" ones are quadrilaterals whose Jacobian varies."""
    k = max(degree, 1) + extra
    if kind == "curved":
        return build_space(MPI.COMM_SELF, meshes.read(MPI.COMM_SELF, ROOT / "meshes" / "disk_quads.msh", 2), degree, k)
    dim, cells, simplex = MESHES[kind]
    return build_space(MPI.COMM_SELF, meshes.box(MPI.COMM_SELF, dim, cells, simplex), degree, k)


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
frame = "comoving"
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
    execute(run_file.load(tmp_path / "x.toml", [], tmp_path / "x"))
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


LOWER, UPPER = [[1.5, 0.0], [0.4, 0.7]], [[0.5, 0.3], [0.0, 2.0]]
FRAMES = Frame(np.array([[0.3, -0.2], [1.0, 0.5], [0.0, 2.0]]), np.array([LOWER, LOWER, UPPER]))
LINEAR = [(1,), (1,), (0,)]  # of the three blocks


def still(made: Space) -> Frame:
    return Frame(np.zeros((3, made.dim)), np.stack([np.eye(made.dim)] * 3))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", MESHES)
def test_the_scheme_is_nonnegative_at_its_points_and_keeps_the_mass(kind: str, degree: int) -> None:
    """Whatever the density was: no value below zero, not by rounding either; masses as for copies; no frame moves."""
    made = space(kind, degree)
    density, limiter = oscillating(made), build_limiter(made)
    kept, frame = limiter(density, still(made))
    assert np.einsum("gi,cib->cgb", table(made, limiter.points), kept).min() >= 0.0
    assert (frame.matrix == still(made).matrix).all()
    before, after = masses(made, density), masses(made, kept)
    assert np.abs(after.sum(axis=0) - 1.0).max() < 1e-12
    assert np.abs(after - before)[:, :2].max() < 1e-12 * before.max()
    assert np.abs(limiter(kept, frame)[0] - kept).max() < 1e-11 * np.abs(kept).max()
    if degree > 0:
        assert np.einsum("gi,cib->cgb", table(made, limiter.points), density).min() < 0.0


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("kind", MESHES)
def test_values_at_the_points_are_all_that_the_transformer_sees(kind: str, extra: int) -> None:
    """The moments ∫φ_j ρ̂ are Σ_g w_g |det J| φ_j(x_g) ρ̂(x_g), w_g > 0; (p + 1)^d Gauss points on products."""
    made = space(kind, 2, extra)
    density, points = oscillating(made), build_limiter(made).points
    weight = basix.make_quadrature(made.cell, 4 + extra + (0 if made.affine else 2))[1]
    assert weight.shape == points.shape[:1]
    assert weight.min() > 0.0
    if kind in ("interval", "quadrilateral", "hexahedron"):
        assert len(points) == 3**made.dim
    nodal = potential_element(made.cell, made.potential_degree).tabulate(0, points)[0, :, :, 0]
    seen = np.einsum("g,cg,gj,gi,cib->cjb", weight, made.scale_at(points), nodal, table(made, points), density)
    scale = made.scale[: made.owned, :1, None] if made.affine else 1.0
    exact = scale * np.einsum(
        "cji,cib->cjb", np.broadcast_to(made.moment, (made.owned, *made.moment.shape[1:])), density
    )
    assert np.abs(seen - exact).max() < 1e-12 * np.abs(exact).max()


@pytest.mark.parametrize("kind", ["interval", "triangle", "quadrilateral"])
def test_no_nonnegative_polynomial_is_nearer(kind: str) -> None:
    """Against a general optimiser, in the norm that holds on to the low moments."""
    made = space(kind, 2)
    density, limiter = oscillating(made), build_limiter(made)
    kept, omega = limiter(density, still(made))[0], weights(made)
    for cell in range(3):
        start, end = density[cell, :, 1], kept[cell, :, 1]

        def distance(c: np.ndarray, start: np.ndarray = start) -> float:
            return float(omega @ (c - start) ** 2)

        rules = [
            {"type": "ineq", "fun": lambda c: limiter.values @ c},
            {"type": "eq", "fun": lambda c, start=start: limiter.mean[0] @ (c - start)},
        ]
        best = minimize(distance, end, constraints=rules, method="SLSQP", options={"ftol": 1e-13})
        assert distance(end) <= best.fun * (1.0 + 1e-6) + 1e-14


def test_low_moments_are_kept() -> None:
    """Both moments pull a value below zero, and the second gives way: the first stays, to the ratio of the weights."""
    made = space("interval", 2)
    density = np.zeros((made.owned, 3, 3))
    density[:, 0], density[:, 1], density[:, 2] = 1.0, 0.9, 0.0  # 1 − 0.9 √3 (3/5)^½ < 0 at the first Gauss point
    kept = build_limiter(made)(density, still(made))[0]
    changed = np.abs(kept - density)
    assert changed[:, 2].min() > 1e-3
    assert changed[:, 1].max() < 0.05 * changed[:, 2].min()


def test_frames_take_up_what_mean_and_covariance_lost() -> None:
    """Means and covariances in θ to rounding; nonlinear coordinates of θ still do not depend on linear ones of ξ."""
    made = space("quadrilateral", 2)
    density, limiter = oscillating(made)[..., [1, 1, 1]], build_limiter(made)
    kept, frame = limiter(density, FRAMES, LINEAR)
    for b in range(3):
        assert np.abs(law(made, density, FRAMES, b) - law(made, kept, frame, b)).max() < 1e-13
        assert np.abs(law(made, density, FRAMES, b) - law(made, kept, FRAMES, b)).max() > 1e-3
    assert (frame.matrix[:2, 0, 1] == 0.0).all()
    assert frame.matrix[2, 1, 0] == 0.0


def law(made: Space, density: np.ndarray, frame: Frame, b: int) -> np.ndarray:
    """Mean and covariance in θ of block b, (3, 2)."""
    points, weight = basix.make_quadrature(made.cell, 6)
    xi = made.points(potential_element(made.cell, 1).tabulate(0, points)[0, :, :, 0])
    theta = frame.theta(xi)[..., b]
    mass = weight * made.scale_at(points) * np.einsum("qi,ci->cq", table(made, points), density[..., b])
    mean = np.einsum("cq,cqk->k", mass, theta)
    return np.vstack([mean, np.einsum("cq,cqk,cql->kl", mass, theta - mean, theta - mean)])


def risk_errors(cells: int, taus: int) -> list[tuple[float, float]]:
    """(without, with) the scheme at the first τ of the reference of in-context regression."""
    both = (
        reference_risks.errors(reference_risks.IN_CONTEXT, [f"density.cells={cells}", f"density.positivity='{kind}'"])
        for kind in ("off", "scheme")
    )
    return [(free[0], kept[0]) for free, kept, _ in zip(*both, range(taus), strict=False)]


def test_the_risk_of_the_scheme_is_as_good_as_without() -> None:
    """In-context regression, 12 cells a side, τ = 1: the error is at most twice the unlimited one."""
    for without, with_ in risk_errors(12, 1):
        assert with_ <= 2.0 * without


@pytest.mark.study
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("cells", "most"), [(24, 1.0), (32, 2.0)])
def test_the_risk_of_the_scheme_as_claimed(cells: int, most: float) -> None:
    """The largest error over τ = 1 … 5 against the largest without."""
    found = np.array(risk_errors(cells, 5))
    assert found[:, 1].max() <= most * found[:, 0].max()


@pytest.mark.parametrize("degree", [1, 2])
def test_the_order_of_the_scheme_is_that_of_the_unlimited(degree: int) -> None:
    """Transport by w₂ tanh w₁, k = p + 1: less 0.2, though the density is touched."""
    slopes = [prescribed.slope(degree, degree + 1, False, prescribed.TANH, positive) for positive in (0, 1)]
    assert slopes[1] >= slopes[0] - 0.2
    assert slopes[1] != slopes[0]


def test_a_run_of_the_scheme(tmp_path: Path) -> None:
    """At every report nonnegative at the points, masses to 1e-12, the energy falls; at the start as well."""
    (tmp_path / "x.toml").write_text(RUN.format(positivity='positivity = "scheme"'))
    run = run_file.load(tmp_path / "x.toml", [])
    model, task = run.build()
    problem = reference_risks.Problem(
        model, task, run.training, {f.name: run.densities(f.name) for f in model.families}, run.time
    )
    solver, energies = Solver(MPI.COMM_SELF, problem), []
    for tau in (0.0, 0.1, 0.2):
        assert solver.stepper.advance(tau)
        state = solver.stepper.state
        for group, density in zip(solver.flow.discretisations, [part.density for part in state.parts], strict=True):
            assert isinstance(group.limiter, Limiter)
            assert np.einsum("gi,cib->cgb", group.limiter.values, density).min() >= 0.0
            assert np.abs(masses(group.space, density).sum(axis=0) - 1.0).max() < 1e-12
        energies.append(solver.flow.potential(state).energy)
    solver.close()
    assert (np.diff(energies) < 0.0).all()
