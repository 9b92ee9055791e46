"""`mfpde plot`: what is drawn is what the files hold, named after the model's coordinates, and opens elsewhere."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import time

import numpy as np
import pytest
from PIL import Image

from mfpde import InputError
from mfpde.figures.blocks import Block, blocks_of
from mfpde.figures.minimisers import minimisers
from mfpde.figures.pages.live_view import curve, read_view, render, watch
from mfpde.figures.plots import movie, volume
from mfpde.figures.raster import mesh_box, rasterise
from mfpde.figures.style import symbol
from support.browser import browse, needs_browser
from support.drawn import make_run
from support.launch import run as launch
from support.snapshots import box, make_snapshot, place


def labels(figure):
    """All texts of the axes of a figure."""
    return {text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel(), axes.get_title())}


def test_nothing_is_imported_before_a_picture_is_asked_for():
    script = "import sys, mfpde; sys.exit(any(n in sys.modules for n in ('matplotlib', 'pyvista', 'PIL')))"
    assert launch("-c", script).returncode == 0


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_raster_is_the_density_that_the_reader_gives(tmp_path, dim):
    run = make_run(tmp_path, {"attention": dim})
    snapshot = run.snapshot(tau=1.0, family="attention")
    raster = rasterise(snapshot, 1, 1.5 * mesh_box(snapshot), 11)
    theta = np.stack(np.meshgrid(*raster.axes, indexing="ij"), axis=-1).reshape(-1, dim)
    expected = run.density(tau=1.0, family="attention", layer=1, theta=theta)
    assert np.array_equal(raster.density.ravel(), expected)
    outside = (np.abs(theta) > 3.0).any(axis=1)
    assert np.array_equal(np.isnan(raster.potential.ravel()), outside)
    assert 0 < outside.sum() < len(theta)


def test_marginals_of_an_affine_density_are_exact():
    """The midpoint rule integrates affine functions exactly, where pixels end at the mesh's boundary."""
    upright = place("quadrilateral", 1, box("quadrilateral", 3), np.array([[0.5, -0.2]]), np.diag([1.3, 0.7])[None])
    density = 1.0 + 0.2 * upright[..., 0] - 0.3 * upright[..., 1]
    snapshot = dataclasses.replace(make_snapshot("quadrilateral", 1, layers=1), points=upright, density=density)
    raster = rasterise(snapshot, 0, mesh_box(snapshot), 12)
    (x0, x1), (y0, y1) = mesh_box(snapshot)
    exact = (y1 - y0) * (1.0 + 0.2 * raster.axes[0] - 0.15 * (y0 + y1))
    assert np.allclose(raster.marginal(0), exact, rtol=1e-12)
    assert raster.marginal().item() == pytest.approx((x1 - x0) * exact.mean(), rel=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_minimiser_of_a_quadratic_potential(tmp_path, dim):
    found = minimisers(make_run(tmp_path, {"attention": dim}).snapshot(tau=0.0, family="attention"), 0)
    assert found.inside.tolist() == [True]
    assert np.abs(found.theta - 1.0).max() < 1e-5
    assert abs(found.value[0]) < 1e-9


def test_a_potential_that_falls_outwards_has_its_least_value_on_the_edge(tmp_path):
    snapshot = make_run(tmp_path, {"attention": 1}).snapshot(tau=0.0, family="attention")
    theta = snapshot.points[..., 0]
    tilted = dataclasses.replace(snapshot, potential=(theta - 1.0) ** 2 - 5.0 * np.maximum(-theta - 1.0, 0.0) ** 2)
    found = minimisers(tilted, 0)
    assert found.inside.tolist()[:2] == [False, True]
    assert found.theta[0, 0] == pytest.approx(-3.0)
    assert found.theta[1, 0] == pytest.approx(1.0, abs=1e-5)


def test_an_ellipse_is_at_its_distance_from_the_mean():
    root = np.random.default_rng(1).normal(size=(3, 3))
    covariance = root @ root.T
    one = Block(np.array([0.0]), np.array([[1.0, 2.0, 3.0]]), covariance[None])
    for plane in ((0, 1), (0, 2), (1, 2)):
        away = one.ellipse(2.0, plane) - one.mean[0, list(plane)]
        inverse = np.linalg.inv(covariance[np.ix_(plane, plane)])
        assert np.allclose(np.einsum("pi,ij,pj->p", away, inverse, away), 4.0, rtol=1e-9)


def test_moments_of_families_of_different_dimensions(tmp_path):
    run = make_run(tmp_path, {"attention": 2, "line": 1})
    one = blocks_of(run, run.snapshot(tau=1.0, family="line"))[1]
    assert one.mean.shape == (3, 1)
    assert one.mean[:, 0].tolist() == pytest.approx([0.4, 0.6, 0.8])
    assert one.until(0.5).tau.tolist() == [0.0, 0.5]


def test_names_on_axes():
    assert [symbol(name) for name in ("q", "theta_0", "beta", "slope", "w_in")] == [
        "$q$", r"$\theta_{0}$", r"$\beta$", "slope", "$w_{in}$",
    ]  # fmt: skip
    assert "$" not in symbol("50 $ each").replace(r"\$", "")


def test_axes_are_named_after_the_coordinates_and_negative_values_are_no_ink(tmp_path):
    run = make_run(tmp_path, negative=0.05)
    figure = run.plot_density()
    assert {"$q$", "$v$", "layer 0", "layer 1"} <= labels(figure)
    images = [image for axes in figure.axes for image in axes.get_images()]
    assert len(images) >= 4
    assert min(float(image.get_array().min()) for image in images[:2]) == 0.0
    notes = [text.get_text() for text in figure.texts]
    share = float(re.search(r"up to ([\d.]+) % of the mass", " ".join(notes))[1])
    assert 40 < share < 180  # 0.05 over a mesh of 36, less the bump
    assert {"$q$", "$v$"} <= labels(run.plot_potential())
    assert {"$q$", "$v$", r"training time $\tau$"} <= labels(run.plot())


def test_a_picture_of_another_tau_shows_that_tau(tmp_path):
    run = make_run(tmp_path)
    for figure in (run.plot_density(tau=0.5), run.plot_densities(0.5), run.plot_potential(tau=0.5)):
        assert r"\tau = 0.5$" in figure.get_suptitle()
    assert run.plot_density(tau=0.5)._repr_png_().startswith(b"\x89PNG")
    run.plot_history().savefig(tmp_path / "saved.png", dpi=160.0, metadata={"Software": None})  # as a user does
    assert (tmp_path / "saved.png").read_bytes() == run.plot_history()._repr_png_()
    with pytest.raises(InputError, match=r"the nearest is 0\.5"):
        run.plot_density(tau=0.6)
    with pytest.raises(InputError, match="allowed: attention"):
        run.plot_potential("atention")


@pytest.mark.parametrize("dims", [pytest.param({"line": 1}, marks=pytest.mark.slow), {"attention": 2, "line": 1}])
def test_everything_into_one_folder(tmp_path, dims):
    make_run(tmp_path / "run", dims)
    ended = launch("-m", "mfpde.plot", tmp_path / "run", "--family", "line")
    assert ended.returncode == 0, ended.stderr
    made = tmp_path / "run" / "figures"
    for name in ("history", "densities", "density_line", "potential_line"):
        pdf = (made / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        assert b"/FontType 3" not in pdf
        assert b"CreationDate" not in pdf
        with Image.open(made / f"{name}.png") as picture:
            assert picture.width > 1200  # 6.3 inches in print
    with Image.open(made / "animation.gif") as film:
        assert film.n_frames == 3
    assert ("no ffmpeg" in ended.stdout) == (movie.ffmpeg() is None)
    assert (made / "animation.mp4").exists() == (movie.ffmpeg() is not None)
    page = (made / "report.html").read_text(encoding="utf-8")
    assert "Does it draw?" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count("data:image/") == 4  # no film, which the slider takes the place of
    assert "animation.gif" in page
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"figures", "run.toml", "history.csv"}


@needs_browser
def test_the_report_in_a_browser(tmp_path):
    run = make_run(tmp_path / "run")
    from mfpde.figures.pages.album import FigureOptions, write_figures

    report = write_figures(run, FigureOptions(animation=False))[-1]
    shot = tmp_path / "shot.png"
    browse(report.as_uri(), tmp_path, "--window-size=1000,2400", f"--screenshot={shot}")
    with Image.open(shot) as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    assert picture.shape == (2400, 1000, 3)
    coloured = np.ptp(picture, axis=2) > 40
    assert coloured.mean() > 0.005  # curves and densities have been painted, not only text
    dumped = browse(report.as_uri(), tmp_path, "--dump-dom")
    assert dumped.count("<img") == 4
    assert "Is it stationary?" in dumped


@pytest.mark.skipif(bool(volume.obstacle()), reason=volume.obstacle() or "drawn")
def test_a_density_in_space(tmp_path):
    run = make_run(tmp_path, {"neuron": 3}, taus=(0.0,))
    plotter = run.plot_volume("neuron", layer=1)
    picture = plotter.screenshot(str(tmp_path / "a.png"), return_img=True)
    plotter.close()
    assert picture.std() > 10.0
    assert {"$q$", "$v$", "$b$", "layer 1"} <= labels(run.plot_density())
    with pytest.raises(InputError, match=r"layer = 2: unknown; allowed: 0 to 1"):
        run.plot_volume(layer=2)


def test_a_curve_falls_with_the_curve():
    x = np.linspace(0.0, 1.0, 50)
    assert curve(x, 1.0 - x, (8, 1)) == ["█▇▆▅▄▃▂▁"]
    assert curve(x, x, (4, 1), "ab") == ["aabb"]
    assert curve(x, x, (4, 2), "ab") == ["  ab", "abbb"]
    assert curve(x, np.full(50, np.nan), (8, 1)) == []
    assert curve(x[:1], x[:1], (8, 1)) == ["▁"]


class Screen(io.StringIO):
    encoding = "utf-8"


def test_the_live_view_of_a_run_that_goes_on_and_ends(tmp_path):
    run = make_run(tmp_path, taus=(0.0, 0.25, 0.5), ended=False)
    view = read_view(run)
    assert view.left() == pytest.approx(5.0)  # 10 s per unit of τ, half a unit left
    text = render(view)
    assert "running on 2 ranks" in text
    assert "about 5 s left" in text
    assert " 50 %" in text
    assert max(map(len, text.splitlines())) <= 80
    assert render(view, ascii_only=True).isascii()
    assert "no report for" not in text
    late = time.time() - 300.0
    os.utime(run.directory / "history.csv", (late, late))
    assert "no report for 5 min 00 s" in render(read_view(run))
    waits = []

    def end_it(seconds):
        waits.append(seconds)
        make_run(tmp_path)

    screen = Screen()
    watch(run, screen, end_it)
    assert len(waits) == 1
    assert ": done" in screen.getvalue()
    assert "risk 0.5, from 1" in screen.getvalue()


def test_the_user_may_leave_the_live_view(tmp_path):
    def leave(_seconds):
        raise KeyboardInterrupt

    screen = Screen()
    watch(make_run(tmp_path, ended=False), screen, leave)
    assert screen.getvalue().endswith("the run goes on\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "does not exist"),
        (("rum",), "does not exist; did you mean run?"),
        (("run/history.csv",), "is a file"),
        (("run", "--tau", "0.6"), "the nearest is 0.5"),
        (("run", "--tau", "soon"), "--tau = 'soon': must be a finite number"),
        (("run", "--family", "head"), "allowed: attention"),
        (("empty",), "no report yet"),
        ((), "see python -m mfpde.plot --help"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, monkeypatch, capfd, words, said):
    from mfpde import plot

    make_run(tmp_path / "run")
    make_run(tmp_path / "empty", taus=(), ended=False)
    monkeypatch.chdir(tmp_path)
    assert plot.main(list(words)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert said in err
    assert not list(tmp_path.rglob("figures"))


def test_the_question_of_a_run_file_goes_into_its_run_directory(tmp_path):
    from mfpde.config import run_file

    run = run_file.load(None, [], None)
    assert run.text().startswith("# Can densities of two-parameter heads and neurons learn")
    assert run_file.question(run.text()) == run.question
    assert run_file.question("\ufeff# Does it,\n# or not?\nname = 1\n# no\n") == "Does it, or not?"
    assert run_file.question('name = "a"\n') == ""
    (tmp_path / "again.toml").write_text(run.text())
    assert run_file.load(tmp_path / "again.toml", [], None).question == run.question
