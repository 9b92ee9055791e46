"""The shipped run files, small in CI and whole in a study: energy falls, files say what the solution is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import basix
import numpy as np
import pytest
import pyvista

from mfpde import Run, open_run
from mfpde.config import run_file
from mfpde.runs.limit_run import execute

RUNS = Path(__file__).parents[2] / "runs"
BY_STEPS = ("digits-adamw", "mnist1d", "text")  # along which the energy may rise; tests/exact/test_descent.py
NAMES = sorted(path.stem for path in RUNS.glob("*.toml") if path.stem not in BY_STEPS)
FEW = ["task.samples=40", "task.test_samples=20"]
SMALL = {
    "bilinear": ["density.cells=8", "training.horizon=2"],
    "digits": [
        "density.nodes=16",
        "training.horizon=0.2",
        "output.every=0.1",
        "model.heads=2",
        "model.neurons=2",
        "model.layers=2",
        *FEW,
    ],
    "langevin": ["training.horizon=1"],
    "figure-1": ["density.nodes=64", "training.horizon=0.3", "output.every=0.15", "model.layers=2", *FEW],
    "in-context": ["density.cells=10", "training.horizon=2", "task.samples=32"],
    "quickstart": ["density.cells=6", "training.horizon=1", *FEW],
    "self-attention": ["density.nodes=64", "training.horizon=0.3", "output.every=0.15", "model.layers=2", *FEW],
    "teacher": ["density.cells=10", "training.horizon=3"],
    "vision-transformer": ["density.nodes=32", "training.horizon=0.3", "output.every=0.15", "model.layers=2", *FEW],
}


def solve(name: str, folder: Path, settings: list[str]) -> Run:
    """Solve a shipped run file with overrides."""
    directory = folder / name
    execute(run_file.load(RUNS / f"{name}.toml", settings, str(directory)))
    return open_run(directory)


def check_energy(run: Run) -> None:
    """It never rises by more than the remainder of moving frames; the mass is one; risk and penalty add up."""
    history = run.history
    allowed = np.diff(history["tau"]) * np.maximum(np.abs(history["energy_remainder"][1:]), 1e-12)
    assert (np.diff(history["energy"]) <= allowed).all()
    assert history["mass_error"].max() < 1e-12
    temperature = tomllib.loads((run.directory / "run.toml").read_text())["training"]["temperature"]
    free = history["risk"] + history["penalty"] + temperature * np.nan_to_num(history["entropy"])  # clouds have none
    assert np.allclose(free, history["energy"], rtol=1e-15)


# The others are solved by `.ci/run`: what they go through, one of these does.
QUICK = ("in-context", "langevin")
MARKED = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]


@pytest.fixture(scope="module", params=MARKED)
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """As it is solved: the nonnegative copies that are written by default have other moments than the solution."""
    settings = ["density.positivity=off", *SMALL[request.param]]
    return solve(request.param, tmp_path_factory.mktemp("runs"), settings)


def test_energy_falls_at_every_report(small: Run) -> None:
    check_energy(small)


def test_moments_of_the_files_are_those_of_the_table(small: Run) -> None:
    """Integrals of the read-back density over its own cells agree with moments.csv: to 1e-8 for polynomials on meshes.

    Between moving nodes, whose moments are sums over them, files have multilinear interpolants. Of random nodes they
    have a density that a kernel has smoothed: mass and means are the same, and variances larger.
    """
    tau, moments = float(small.taus[-1]), small.moments
    on_nodes = small.summary["frames"][small.families[0]] == "lagrangian"
    near = 5e-2 if on_nodes else 1e-8  # a sixth of the square of their spacing, in variances
    for family in small.families:
        shot = small.snapshot(tau=tau, family=family)
        cell = getattr(basix.CellType, shot.cell)
        element = basix.create_element(basix.ElementFamily.P, cell, shot.degree, basix.LagrangeVariant.equispaced)
        points, weights = basix.make_quadrature(cell, 3 * shot.degree + 2)
        table = element.tabulate(1, points)[..., 0]
        for layer in range(shot.layers):
            theta = np.einsum("qn,cni->cqi", table[0], shot.points[layer])
            jacobian = np.einsum("aqn,cni->cqia", table[1:], shot.points[layer])
            measure = np.abs(np.linalg.det(jacobian)) * weights * np.einsum("qn,cn->cq", table[0], shot.density[layer])
            mean = np.einsum("cq,cqi->i", measure, theta) / measure.sum()
            centred = theta - mean
            covariance = np.einsum("cq,cqi,cqj->ij", measure, centred, centred) / measure.sum()
            row = (moments["family"] == family) & (moments["layer"] == layer) & (moments["tau"] == tau)
            assert abs(measure.sum() - moments["mass"][row][0]) < 1e-8
            if small.clouds:  # smoothed; linear between the nodes of a rule
                for i in range(shot.dim):
                    assert abs(mean[i] - moments[f"mean_{i}"][row][0]) < 1e-2
                    assert 1.0 < covariance[i, i] / moments[f"cov_{i}{i}"][row][0] < 2.0
                continue
            for i in range(shot.dim):
                assert abs(mean[i] - moments[f"mean_{i}"][row][0]) < near
                for j in range(i, shot.dim):
                    assert abs(covariance[i, j] - moments[f"cov_{i}{j}"][row][0]) < near


def test_the_collection_opens_in_pyvista_with_the_solutions_values(small: Run) -> None:
    """Times, layers as the last axis, and the density where VTK finds it, against `Run.density` at the same θ."""
    family = small.families[0]
    reader = pyvista.get_reader(str(small.directory / f"density_{family}.pvd"))
    assert np.allclose(reader.time_values, small.taus)
    reader.set_active_time_value(reader.time_values[-1])
    grid = reader.read()[0]
    layers = np.asarray(grid.cell_data["layer"])
    count, dim = int(layers.max()) + 1, small.snapshot(tau=float(small.taus[-1]), family=family).dim
    rng = np.random.default_rng(0)
    for layer in range(count):
        inside = grid.extract_cells(np.flatnonzero(layers == layer))
        assert np.allclose(inside.points[:, dim], (layer + 0.5) / count)
        scale = np.abs(np.asarray(inside.point_data["density"])).max()
        probe = inside.cell_centers().points[rng.choice(inside.n_cells, size=20, replace=False)]
        sampled = np.asarray(pyvista.PolyData(probe).sample(inside)["density"])
        if dim == 1:  # VTK samples no lines
            probe, sampled = inside.points[1:-1, :1], np.asarray(inside.point_data["density"])[1:-1]
        exact = small.density(tau=float(small.taus[-1]), family=family, layer=layer, theta=probe[:, :dim])
        assert np.abs(sampled - exact).max() <= 1e-8 * scale


@pytest.mark.study
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", NAMES)
def test_energy_falls_at_every_report_of_the_whole_run(name: str, tmp_path: Path) -> None:
    check_energy(solve(name, tmp_path, []))


LONG = ("bilinear", "digits", "figure-1", "in-context", "langevin", "quickstart", "self-attention", "teacher")


def check_long(run: Run, negative_mass: float) -> None:
    """At its horizon, with energies that rise by no more than the errors that the run reports, and a density."""
    history = run.history
    assert run.summary is not None
    assert run.summary["outcome"] == "done"
    remainder = np.diff(history["tau"]) * np.abs(history["energy_remainder"][1:])
    reported = np.nan_to_num(history["risk_error"])
    assert (np.diff(history["energy"]) <= 1e-12 + remainder + reported[1:] + reported[:-1]).all()
    assert history["negative_mass"].max() <= negative_mass


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_ten_times_the_horizon_in_small(name: str, tmp_path: Path) -> None:
    """Horizons are ten times those of the small runs; langevin's is on a mesh of sixteen cells, and may undershoot."""
    small = [each for each in SMALL[name] if not each.startswith("training.horizon")]
    horizon = next(float(each.partition("=")[2]) for each in SMALL[name] if each.startswith("training.horizon"))
    long = [f"training.horizon={10.0 * horizon}", f"output.every={horizon}"]
    check_long(solve(name, tmp_path, [*small, *long]), 1e-3)


@pytest.mark.study
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("name", NAMES)
def test_ten_times_the_horizon(name: str, tmp_path: Path) -> None:
    horizon = 10.0 * run_file.load(RUNS / f"{name}.toml").training.horizon
    long = [f"training.horizon={horizon}", f"output.every={horizon / 20.0}"]
    check_long(solve(name, tmp_path, long), 1e-3)
