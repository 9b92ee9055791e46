"""`Run.to_xarray`: tables and densities with the names of the coordinates, the same numbers as the reader's."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import mfpde
from mfpde.output.writer import RunWriter
from support.drawn import make_run
from support.snapshots import make_report, make_snapshot

xarray = pytest.importorskip("xarray")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One, two and three coordinates; the gap is computed at some reports only."""
    made = make_run(tmp_path_factory.mktemp("labelled") / "run", {"head": 2, "neuron": 1, "wide": 3})
    lines = (made.directory / "gap.csv").read_text().splitlines(keepends=True)
    (made.directory / "gap.csv").write_text("".join(line for line in lines if not line.startswith("0.5,")))
    return made


@pytest.fixture(scope="module")
def dataset(run):
    return run.to_xarray(points=21)


def test_tables_have_the_numbers_of_the_reader(run, dataset):
    assert isinstance(dataset, xarray.Dataset)
    assert dataset.attrs == {"title": "made-up", "source": "mfpde"}
    assert np.array_equal(dataset["tau"], run.taus)
    for name, column in run.history.items():
        if name != "tau":
            assert dataset[name].dims == ("tau",)
            assert np.array_equal(dataset[name], column, equal_nan=True), name

    moments, gap = run.moments, run.gap
    for family in run.families:
        names = run.snapshot(tau=0.0, family=family).coordinates
        for layer in dataset["layer"].values:
            rows = (moments["family"] == family) & (moments["layer"] == layer)
            here = dataset.sel(layer=layer)
            assert np.array_equal(here[f"{family}_mass"], moments["mass"][rows])
            for i, one in enumerate(names):
                assert np.array_equal(here[f"{family}_mean_{one}"], moments[f"mean_{i}"][rows])
                for j, other in list(enumerate(names))[i:]:
                    assert np.array_equal(here[f"{family}_cov_{one}_{other}"], moments[f"cov_{i}{j}"][rows])
            at = (gap["family"] == family) & (gap["layer"] == layer)
            found = here[f"{family}_gap"]
            assert np.array_equal(found.sel(tau=gap["tau"][at]), gap["gap"][at])
            assert np.isnan(found.sel(tau=0.5))


def test_densities_are_those_of_the_reader_on_one_box(run, dataset):
    """Four standard deviations around every mean, with all of the mass."""
    rng = np.random.default_rng(0)
    for family in run.families:
        names = run.snapshot(tau=0.0, family=family).coordinates
        dims = [f"{family}_{name}" for name in names]
        density = dataset[f"{family}_density"]
        assert density.dims == ("tau", "layer", *dims)
        for _ in range(20):
            place = {dim: int(rng.integers(density.sizes[dim])) for dim in density.dims}
            one = density.isel(place)
            theta = [float(one[dim]) for dim in dims]
            expected = run.density(tau=float(one["tau"]), family=family, layer=int(one["layer"]), theta=theta)
            assert float(one) == pytest.approx(float(expected), rel=1e-12)

        for dim, name in zip(dims, names, strict=True):
            mean, deviation = dataset[f"{family}_mean_{name}"], np.sqrt(dataset[f"{family}_cov_{name}_{name}"])
            assert float(density[dim][0]) == pytest.approx(float((mean - 4.0 * deviation).min()), rel=1e-12)
            assert float(density[dim][-1]) == pytest.approx(float((mean + 4.0 * deviation).max()), rel=1e-12)
        if family != "wide":  # whose made-up cells are too coarse for a Gaussian
            assert abs(density.integrate(dims) - dataset[f"{family}_mass"]).max() < 0.05


def test_everything_has_a_name_for_axes_and_is_told_apart(dataset):
    names = {name: dataset[name].attrs["long_name"] for name in dataset.variables}
    assert names["head_mean_q"] == "mean of q of head"
    assert names["tau"] == "training time"
    assert len(set(names.values())) == len(names)
    assert {dataset[name].attrs["units"] for name in dataset.variables if name != "layer"} == {"1"}


def test_each_coordinate_has_its_own_axis(tmp_path):
    """Of a density that is not the same with q and v exchanged."""
    with RunWriter(tmp_path, run_text="", manifest={}, unknowns=1) as writer:
        writer.report(make_report(0.0, [make_snapshot("quadrilateral", 2)]))
    run = mfpde.open_run(tmp_path)
    centre = run.snapshot(tau=0.0, family="heads").points[1].mean(axis=(0, 1))
    box = [(centre[0] - 0.2, centre[0] + 0.1), (centre[1] - 0.1, centre[1] + 0.2)]
    density = run.to_xarray(points=4, box={"heads": box})["heads_density"].sel(tau=0.0, layer=1)
    for q in density["heads_q"].values:
        for v in density["heads_v"].values:
            expected = float(run.density(tau=0.0, family="heads", layer=1, theta=(q, v)))
            assert float(density.sel(heads_q=q, heads_v=v)) == pytest.approx(expected, rel=1e-9)


def test_a_box_and_a_number_of_points(run):
    family = run.families[0]
    dim = run.snapshot(tau=0.0, family=family).dim
    names = run.snapshot(tau=0.0, family=family).coordinates
    given = run.to_xarray(points=5, box={family: [(-1, 3 + k) for k in range(dim)]})
    for k, name in enumerate(names):
        assert given[f"{family}_{name}"].values.tolist() == np.linspace(-1, 3 + k, 5).tolist()
    without = run.to_xarray(points=0)
    assert not [name for name in without if name.endswith("_density")]
    assert set(without.sizes) == {"tau", "layer"}
    assert set(without) == {name for name in given if not name.endswith("_density")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"points": -1}, "points = -1: must be a whole number"),
        ({"points": 2.5}, "points = 2.5: must be a whole number"),
        ({"box": {"tails": [(0, 1)]}}, "box.tails: unknown key"),
        ({"box": {"head": [(0, 1)] * 7}}, "box.head = "),
        ({"box": {"head": "wide"}}, "box.head = 'wide': must be"),
        ({"box": {"head": [(1, 0), (0, 1)]}}, "box.head = "),
    ],
)
def test_mistakes_are_named(run, change, words):
    with pytest.raises(mfpde.InputError) as caught:
        run.to_xarray(**change)
    assert words in str(caught.value)


def test_a_run_before_its_first_report(tmp_path):
    RunWriter(tmp_path, run_text="", manifest={}, unknowns=1)
    with pytest.raises(mfpde.InputError, match="holds no report yet"):
        mfpde.open_run(tmp_path).to_xarray()


def test_without_xarray_one_line_says_what_to_install(run):
    """And nothing but this method looks for it."""
    code = (
        "import sys; sys.modules['xarray'] = None\n"
        f"import mfpde; run = mfpde.open_run({str(run.directory)!r}); run.history\n"
        "try:\n    run.to_xarray()\nexcept mfpde.InputError as error:\n    print(error)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout.strip().endswith("not installed: pip install 'mfpde[xarray]'"), ended.stderr
