"""`open_run`: exact evaluation of the density in θ, finding the cell, tables, a running run, and refusals."""

from __future__ import annotations

import basix
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mfpde import open_run
from mfpde.errors import InputError
from mfpde.output.fields.lattice import KINDS, element, gradients, tabulate
from mfpde.output.fields.locate import Locator
from mfpde.output.writer import RunWriter
from support.snapshots import (
    CELLS,
    DEGREES,
    box,
    distort,
    exponents,
    frames,
    make_report,
    make_snapshot,
    place,
    polynomial,
)


def written(directory, *reports):
    with RunWriter(directory, run_text="", manifest={"ranks": 1}, unknowns=1) as writer:
        for report in reports:
            writer.report(report)
    return open_run(directory)


def interior(cell, count, seed=0):
    """Random points (count, d) well inside the reference cell."""
    corners = basix.geometry(basix.CellType[cell])
    return 0.98 * np.random.default_rng(seed).dirichlet(np.ones(len(corners)), count) @ corners + 0.004


def scale(cell, vertices):
    """det J at points of every cell, its corners among them."""
    gradient = gradients(cell, 1, element(cell, 3).points)
    return np.linalg.det(np.einsum("avn,cnd->cvda", gradient, vertices))


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("cell", CELLS)
def test_polynomials_of_theta_are_exact_inside_and_zero_outside(tmp_path, cell, degree):
    """In every layer's own frame; inside or outside is known from the frame alone."""
    dim, layers = KINDS[cell].dim, 3
    density = polynomial(dim, degree)
    snapshot = make_snapshot(cell, degree, layers=layers, count=4, density=density)
    run = written(tmp_path, make_report(0.5, [snapshot]))
    centre, matrix = frames(dim, layers)
    xi = np.random.default_rng(2).uniform(-1.2, 1.2, (3000, dim))
    inside = (np.abs(xi) <= 1.0).all(axis=1)
    assert 0.1 < inside.mean() < 0.9
    for layer in range(layers):
        theta = xi @ matrix[layer].T + centre[layer]
        found = run.density(tau=0.5, family="heads", layer=layer, theta=theta)
        assert np.allclose(found[inside], density(theta[inside]), rtol=1e-11, atol=0)
        assert not found[~inside].any()


@pytest.mark.parametrize("distortion", [0.0, 0.15])
@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("cell", CELLS)
def test_each_cell_answers_with_its_own_polynomial(tmp_path, cell, degree, distortion):
    """Another polynomial of the reference coordinates in every cell: the right cell, and its general map."""
    dim, layers, count = KINDS[cell].dim, 2, 3
    vertices = distort(box(cell, count), distortion)
    powers = np.array([e for e in exponents(dim, degree * dim) if e.max() <= degree])
    if not KINDS[cell].tensor:
        powers = powers[powers.sum(axis=1) <= degree]
    factors = np.random.default_rng(1).normal(size=(layers, len(vertices), len(powers)))

    def monomials(x):
        return np.prod(x[:, None] ** powers, axis=-1)

    snapshot = make_snapshot(cell, degree, layers=layers, count=count, distortion=distortion)
    density = np.einsum("nm,lcm->lcn", monomials(element(cell, degree).points), factors)
    snapshot = type(snapshot)(**(vars(snapshot) | {"density": density}))
    run = written(tmp_path, make_report(0.0, [snapshot]))
    centre, matrix = frames(dim, layers)
    for layer in range(layers):
        for number in range(len(vertices)):
            x = interior(cell, 20, seed=number)
            xi = tabulate(cell, 1, x) @ vertices[number]
            theta = xi @ matrix[layer].T + centre[layer]
            found = run.density(tau=0.0, family="heads", layer=layer, theta=theta)
            assert np.allclose(found, monomials(x) @ factors[layer, number], rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_points_on_boundaries_belong_to_a_cell_that_touches_them(cell):
    """Vertices and midpoints of facets, far from the origin and in a thin frame."""
    dim = KINDS[cell].dim
    matrix = np.tril(np.full((1, dim, dim), 1e-4)) + np.diag(np.geomspace(1e-4, 10.0, dim))
    points = place(cell, 2, box(cell, 4), np.full((1, dim), 7.0), matrix)[0]
    locator = Locator(cell, 2, points)
    theta = points.reshape(-1, dim)
    cells, x = locator.locate(theta)
    assert (cells >= 0).all()
    back = np.einsum("mn,mnd->md", tabulate(cell, 2, x), points[cells])
    assert np.allclose(back, theta, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("cell", CELLS)
def test_a_point_just_inside_a_cell_is_in_that_cell(cell):
    """Closer to a facet than the tolerance by which points outside are accepted."""
    dim, corners = KINDS[cell].dim, basix.geometry(basix.CellType[cell])
    points = place(cell, 1, box(cell, 3), np.full((1, dim), 0.1), np.eye(dim)[None])[0]
    for facet in basix.topology(basix.CellType[cell])[dim - 1]:
        x = (1.0 - 1e-10) * corners[facet].mean(axis=0) + 1e-10 * corners.mean(axis=0)
        cells, _ = Locator(cell, 1, points).locate(tabulate(cell, 1, x[None])[0] @ points)
        assert cells.tolist() == list(range(len(points)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), cell=st.sampled_from(CELLS), amount=st.floats(0.0, 0.24))
def test_every_point_of_the_box_is_found_in_any_mesh(seed, cell, amount):
    """Distorted, graded, sheared meshes tile the box: no point is lost, and none has two values for a smooth field."""
    dim = KINDS[cell].dim
    vertices = distort(box(cell, 4), amount if dim < 3 else 0.5 * amount, seed)
    vertices = np.sign(vertices) * np.abs(vertices) ** 1.5  # graded towards the middle
    assume((scale(cell, vertices) * scale(cell, box(cell, 4)) > 0.0).all())  # folded cells make no mesh
    centre, matrix = frames(dim, 2, seed)
    points = place(cell, 1, vertices, centre, matrix)
    xi = np.random.default_rng(seed).uniform(-1.0, 1.0, (400, dim))
    for layer in range(2):
        theta = xi @ matrix[layer].T + centre[layer]
        cells, x = Locator(cell, 1, points[layer]).locate(theta)
        assert (cells >= 0).all()
        back = np.einsum("mn,mnd->md", tabulate(cell, 1, x), points[layer][cells])
        assert np.allclose(back, theta, rtol=0, atol=1e-9)


def test_curved_cells_are_inverted_too():
    """Lagrange images of degree 2 of a square, mapped by a curved map."""
    straight = tabulate("quadrilateral", 1, element("quadrilateral", 2).points) @ box("quadrilateral", 6)
    points = straight + 0.1 * straight[..., ::-1] ** 2
    locator = Locator("quadrilateral", 2, points)
    theta = np.random.default_rng(0).uniform(-0.6, 0.6, (500, 2))
    cells, x = locator.locate(theta)
    assert (cells >= 0).all()
    back = np.einsum("mn,mnd->md", tabulate("quadrilateral", 2, x), points[cells])
    assert np.allclose(back, theta, rtol=0, atol=1e-9)


@pytest.mark.parametrize("cell", CELLS)
def test_moments_can_be_recomputed_from_a_snapshot(tmp_path, cell):
    """∫ρ = 1 and ∫ρθ by quadrature of what was read, for ρ linear in θ, against the integrals over the box."""
    dim, layers = KINDS[cell].dim, 2
    centre, matrix = frames(dim, layers)
    slope = np.linspace(0.3, 0.6, dim)
    snapshot = make_snapshot(cell, 1, layers=layers)
    xi = np.einsum("lij,lcnj->lcni", np.linalg.inv(matrix), snapshot.points - centre[:, None, None])
    volume = 2.0**dim * np.abs(np.linalg.det(matrix))
    density = (1.0 + xi @ slope) / volume[:, None, None]
    snapshot = type(snapshot)(**(vars(snapshot) | {"density": density}))
    read = written(tmp_path, make_report(0.0, [snapshot])).snapshot(tau=0.0, family="heads")
    x, weights = basix.make_quadrature(basix.CellType[cell], 4)
    gradient = element(cell, 1).tabulate(1, x)[1:, :, :, 0]
    scale = np.abs(np.linalg.det(np.einsum("aqn,lcnd->lcqda", gradient, read.points)))
    table = tabulate(cell, 1, x)
    rho = scale * weights * np.einsum("qn,lcn->lcq", table, read.density)
    theta = np.einsum("qn,lcnd->lcqd", table, read.points)
    assert np.allclose(rho.sum(axis=(1, 2)), 1.0, rtol=1e-13)
    mean = np.einsum("lcq,lcqd->ld", rho, theta)
    assert np.allclose(mean, centre + matrix @ (slope / 3.0), rtol=0, atol=1e-13)


def test_tables_and_files_of_a_run(tmp_path):
    shots = [make_snapshot("interval", 1, family="z"), make_snapshot("quadrilateral", 2, family="a")]
    run = written(tmp_path, make_report(0.0, shots), make_report(0.25, shots))
    assert run.taus.tolist() == [0.0, 0.25]
    assert run.families == ("z", "a")
    assert run.history["risk"].tolist() == [1 / 3, 1 / 3.25]
    assert run.moments["family"].tolist() == (["z"] * 3 + ["a"] * 3) * 2
    assert run.timings["wall"].tolist() == [2.5, 2.5]
    assert run.gap["gap"].tolist() == [0.0, 0.1, 0.2] * 4
    assert run.manifest == {"ranks": 1}
    assert run.summary["outcome"] == "done"
    assert np.array_equal(run.snapshot(tau=0.25, family="a").density, shots[1].density)


def test_a_running_run_is_read_as_far_as_it_is(tmp_path):
    writer = RunWriter(tmp_path, run_text="", manifest={}, unknowns=1)
    run = open_run(tmp_path)
    assert run.taus.size == 0
    assert run.families == ()
    assert run.summary is None
    with pytest.raises(InputError, match="none yet"):
        run.density(tau=0.0, family="heads", layer=0, theta=np.zeros((1, 1)))
    for k, tau in enumerate((0.0, 0.1, 0.2)):
        shot = make_snapshot("interval", 1, seed=k)
        writer.report(make_report(tau, [shot]))
        writer.wait()
        assert run.taus.tolist() == [0.0, 0.1, 0.2][: k + 1]
        theta = shot.points[1, 2].mean(axis=0, keepdims=True)
        value = run.density(tau=tau, family="heads", layer=1, theta=theta)
        assert value == pytest.approx([shot.density[1, 2].mean()], rel=1e-12)
    writer.close()


def test_an_earlier_tau_is_found_again_after_a_later_one(tmp_path):
    shots = [make_snapshot("interval", 1, seed=k) for k in range(3)]
    taus = [k * 0.1 for k in range(3)]
    run = written(tmp_path, *(make_report(tau, [shot]) for tau, shot in zip(taus, shots, strict=True)))
    for k in (2, 0, 1):
        theta = shots[k].points[0, 1].mean(axis=0, keepdims=True)
        value = run.density(tau=round(taus[k], 12), family="heads", layer=0, theta=theta)
        assert value == pytest.approx([shots[k].density[0, 1].mean()], rel=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tau": 0.3}, ["tau = 0.3", "nearest is 0.25"]),
        ({"tau": 0.250001}, ["tau = 0.250001", "nearest is 0.25"]),
        ({"tau": 99.0}, ["nearest is 0.5"]),
        ({"tau": float("nan")}, ["nearest is"]),
        ({"family": "tails"}, ["'tails'", "heads"]),
        ({"layer": 3}, ["layer = 3", "0 to 2"]),
        ({"layer": -1}, ["layer = -1", "0 to 2"]),
        ({"theta": np.zeros((4, 3))}, ["(…, 2)", "(4, 3)"]),
        ({"theta": np.zeros((2, 4, 1))}, ["(…, 2)", "(2, 4, 1)"]),
        ({"theta": 0.0}, ["(…, 2)", "()"]),
        ({"theta": np.full((1, 2), np.nan)}, ["finite"]),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(tmp_path, change, words):
    shots = [make_snapshot("quadrilateral", 1)]
    run = written(tmp_path, *(make_report(tau, shots) for tau in (0.0, 0.25, 0.5)))
    with pytest.raises(InputError) as caught:
        run.density(**({"tau": 0.25, "family": "heads", "layer": 0, "theta": np.zeros((1, 2))} | change))
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cell", ["interval", "quadrilateral", "tetrahedron"])
def test_a_lattice_of_points_gives_a_lattice_of_values(tmp_path, cell):
    """(…, d) -> (…): each value is that of its own point alone."""
    dim = KINDS[cell].dim
    shot = make_snapshot(cell, 2, count=12)
    run = written(tmp_path, make_report(0.0, [shot]))
    theta = shot.points[1, :12].mean(axis=1).reshape(3, 1, 4, dim)
    where = {"tau": 0.0, "family": "heads", "layer": 1}
    found = run.density(**where, theta=theta)
    assert found.shape == (3, 1, 4)
    assert len(np.unique(found)) == 12
    for entry in np.ndindex(3, 1, 4):
        alone = run.density(**where, theta=theta[entry])
        assert alone.shape == ()
        assert alone == pytest.approx(found[entry], rel=1e-12)


def test_no_points_give_no_values(tmp_path):
    run = written(tmp_path, make_report(0.0, [make_snapshot("triangle", 2)]))
    assert run.density(tau=0.0, family="heads", layer=0, theta=np.zeros((0, 2))).shape == (0,)
    assert run.density(tau=0.0, family="heads", layer=0, theta=np.zeros((4, 0, 2))).shape == (4, 0)


def test_directories_without_a_run(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no run"):
        open_run(str(tmp_path))
