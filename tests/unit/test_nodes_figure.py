"""The figure of a cloud of nodes: points where the nodes are, every axis named, few layers and families of many."""

from __future__ import annotations

import numpy as np
import pytest

from mfpde import InputError
from mfpde.figures.pages import album
from support.clouds import make_cloud_run
from support.drawn import make_run

V, SIZE, GRADIENT, POTENTIAL, SLOPE = (
    r"$\langle v, e\rangle$", r"$\Vert v\Vert$", r"$\Vert G(u)\Vert$", "$V$", r"$\Vert\nabla V\Vert$",
)  # fmt: skip
AXES = {  # across, and the three up
    (1, (2, 3)): ("$u_{0}$", V, SIZE, GRADIENT),
    (2, (2, 3)): ("$u_{0}$", V, SIZE, GRADIENT),
    (4, (2,)): ("$u_{0}$", V, SIZE, GRADIENT),
    (0, (5,)): (V, POTENTIAL, SIZE, GRADIENT),
    (1, (0,)): ("$u_{0}$", POTENTIAL, "density", SLOPE),
    (3, (0,)): ("$u_{0}$", "$u_{1}$", POTENTIAL, SLOPE),
}


@pytest.mark.parametrize(("s", "shape"), list(AXES))
def test_every_axis_is_named(tmp_path, s, shape):
    figure = make_cloud_run(tmp_path, {s: shape}).plot_nodes(f"s{s}")
    figure.pixels()
    grid = np.array(figure.axes).reshape(2, 3)
    across, *up = AXES[s, shape]
    assert [[axes.get_ylabel() for axes in row] for row in grid] == [up, up]
    assert [axes.get_xlabel() for axes in grid[1]] == [across] * 3
    assert [axes.get_title(loc="left") for axes in grid[:, 0]] == ["layer 0", "layer 1"]


def test_points_stand_where_the_nodes_are(tmp_path):
    """In colour those of the last report, in grey those of the first in the same direction; areas are masses."""
    run = make_cloud_run(tmp_path, {1: (2, 3)}, taus=(0.0, 0.5, 1.0))
    last, first = (run.nodes(tau=tau, family="s1") for tau in (1.0, 0.0))
    grid = np.array(run.plot_nodes().axes).reshape(2, 3)
    for layer, row in enumerate(grid):
        direction = last.principal(layer)
        for nodes, place in ((first, 0), (last, 1)):
            ups = [
                nodes.column(layer, direction),
                np.linalg.norm(nodes.v[layer], axis=(1, 2)),
                nodes.gradient_norm[layer],
            ]
            for axes, up in zip(row, ups, strict=True):
                points = axes.collections[place]
                expected = np.stack([nodes.u[layer, :, 0], up], axis=1)
                assert np.allclose(points.get_offsets(), expected, rtol=0, atol=1e-14)
                areas = points.get_sizes() / nodes.mass[layer]
                assert np.allclose(areas, areas[0], rtol=1e-12)
    middle = run.plot_nodes(tau=0.5)
    assert r"$\tau = 0.5$" in middle.get_suptitle()


def test_the_curve_is_the_mean_of_v_at_each_u(tmp_path):
    run = make_cloud_run(tmp_path, {1: (2, 3)})
    nodes, axes = run.nodes(tau=0.5, family="s1"), run.plot_nodes().axes[1]
    (curve,) = axes.lines
    u, size = curve.get_data()
    assert np.allclose(size, nodes.moment_norm(0, u) / nodes.density(0, "u_0", u), rtol=1e-12)
    assert curve.get_label() == r"$\Vert\mathrm{E}[v\,|\,u]\Vert$"


def test_of_many_layers_six_are_drawn(tmp_path):
    figure = make_cloud_run(tmp_path, {1: (2,)}, layers=11).plot_nodes()
    assert [axes.get_title(loc="left") for axes in figure.axes[::3]] == [f"layer {k}" for k in (0, 2, 4, 6, 8, 10)]
    assert any("5 more layers" in text.get_text() for text in figure.texts)


def test_the_album_has_nodes_of_a_few_families(tmp_path, capsys):
    """Of all that are named; of eight, evenly chosen, where none is."""
    run = make_cloud_run(tmp_path, dict.fromkeys(range(1, 11), (2,)), layers=1)
    assert album._clouds(run, 0.5, []) == [f"s{s}" for s in (1, 2, 4, 5, 6, 7, 9, 10)]
    assert "nodes of 8 of 10 families: --family NAME draws those of another" in capsys.readouterr().out
    written = album.write_figures(run, album.FigureOptions(families=["s3"], animation=False))
    assert {path.name for path in written if path.name.startswith("nodes_")} == {"nodes_s3.png", "nodes_s3.pdf"}
    assert "nodes s3" in (tmp_path / "figures" / "report.html").read_text()


def test_a_run_that_an_earlier_version_began_has_nodes_of_its_later_reports(tmp_path):
    run = make_cloud_run(tmp_path, {1: (2,)}, taus=(0.0, 0.5, 1.0))
    file = tmp_path / "nodes_s1.pvd"
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if '"0.0"' not in line))
    assert run.nodes_taus("s1").tolist() == [0.5, 1.0]
    assert any(r"grey: at $\tau = 0.5$" in text.get_text() for text in run.plot_nodes().texts)
    assert (album._clouds(run, 0.0, []), album._clouds(run, 0.5, [])) == ([], ["s1"])


def test_a_run_without_clouds_has_none(tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(InputError, match="no family moves by a cloud of nodes"):
        run.plot_nodes()
    run = make_cloud_run(tmp_path / "cloud", {1: (2,)})
    with pytest.raises(InputError, match=r"family 's2': unknown; allowed: s1$"):
        run.plot_nodes("s2")
