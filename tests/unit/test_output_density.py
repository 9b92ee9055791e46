"""Density files: VTK's point order and evaluation of the polynomials, ParaView's times, and what we read back."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import basix
import meshio
import numpy as np
import pytest
import pyvista as pv

from mfpde.errors import InputError
from mfpde.output.fields import lattice, vtk_xml, vtu_writer
from mfpde.output.fields.pvd import read_pvd, series_family, series_name
from mfpde.output.fields.series import DensitySeries
from mfpde.output.fields.snapshot import Piece
from mfpde.output.fields.vtu_reader import read_vtu
from mfpde.output.fields.vtu_writer import write_vtu
from support.launch import run
from support.snapshots import CELLS, DEGREES, make_snapshot, polynomial

ARRAYS = ("points", "density", "potential", "velocity")
TYPES = {  # in VTK, of degree 1, 2 and above
    "interval": (3, 21, 68), "triangle": (5, 22, 69), "quadrilateral": (9, 28, 70), "tetrahedron": (10, 71, 71),
    "hexahedron": (12, 29, 72),
}  # fmt: skip


def interior(cell, count, seed=0):
    """Random points (count, d) inside the reference cell."""
    corners = basix.geometry(basix.CellType[cell])
    return np.random.default_rng(seed).dirichlet(np.ones(len(corners)), count) @ corners


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("cell", CELLS)
def test_point_order_is_that_of_dolfinx(cell, degree):
    from dolfinx.cpp.io import perm_vtk
    from dolfinx.cpp.mesh import CellType

    order = lattice.vtk_order(cell, degree)
    assert order.tolist() == np.argsort(perm_vtk(getattr(CellType, cell), len(order))).tolist()


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("cell", CELLS)
def test_what_is_read_is_what_was_written(tmp_path, cell, degree):
    snapshot = make_snapshot(cell, degree, count=2)
    write_vtu(tmp_path / "a.vtu", snapshot)
    read = read_vtu(tmp_path / "a.vtu")
    for name in ARRAYS:
        assert np.array_equal(getattr(read, name), getattr(snapshot, name)), name
    assert (read.family, read.coordinates) == (snapshot.family, snapshot.coordinates)
    assert (read.cell, read.degree, read.layers, read.dim) == (cell, degree, snapshot.layers, snapshot.dim)


@pytest.mark.parametrize(
    ("cell", "degree"), [pair for pair in itertools.product(CELLS, DEGREES) if pair != ("hexahedron", 3)]
)
def test_meshio_reads_it(tmp_path, cell, degree):
    """It knows no strings in a file; nor, whatever is in it, the version in which VTK writes Lagrange hexahedra."""
    snapshot = make_snapshot(cell, degree, count=2)
    write_vtu(tmp_path / "a.vtu", snapshot)
    mesh, order = meshio.read(tmp_path / "a.vtu"), lattice.vtk_order(cell, degree)
    assert np.array_equal(mesh.point_data["density"], snapshot.density[:, :, order].ravel())
    assert bytes(mesh.field_data["family"]).decode() == f"{snapshot.family}\0"


def test_names_in_files_of_earlier_versions(tmp_path):
    """Family and coordinates were VTK's strings."""
    snapshot = make_snapshot("quadrilateral", 1, count=2)
    write_vtu(tmp_path / "a.vtu", snapshot)
    grid = pv.read(tmp_path / "a.vtu")
    for title, names in (("family", [snapshot.family]), ("coordinates", list(snapshot.coordinates))):
        grid.field_data[title] = names
    grid.save(tmp_path / "old.vtu")
    read = read_vtu(tmp_path / "old.vtu")
    assert (read.family, read.coordinates) == (snapshot.family, snapshot.coordinates)


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("piece", [None, Piece((0, 1), np.array([3, 1]))], ids=["whole", "piece"])
def test_files_of_earlier_versions_are_read(tmp_path, cell, degree, piece):
    """They have Lagrange cells of every degree, and the numbers of cells at the cells alone."""
    snapshot = make_snapshot(cell, degree, count=2).select(np.array([1, 0]), piece)
    write_vtu(tmp_path / "a.vtu", snapshot)
    new = pv.read(tmp_path / "a.vtu")
    old = pv.UnstructuredGrid(new.cells, np.full(new.n_cells, TYPES[cell][2], dtype=np.uint8), new.points)
    old.point_data.update({name: new.point_data[name] for name in ARRAYS[1:]})
    for name in ("layer", "cell"):
        if name in new.point_data:
            old.cell_data[name] = new.point_data[name].reshape(new.n_cells, -1)[:, 0]
    old.field_data.update({name: new.field_data[name] for name in ("family", "coordinates")})
    old.save(tmp_path / "b.vtu")
    read, again = read_vtu(tmp_path / "a.vtu"), read_vtu(tmp_path / "b.vtu")
    for name in ARRAYS:
        assert np.array_equal(getattr(again, name), getattr(read, name)), name
    assert (again.family, again.coordinates) == (read.family, read.coordinates)
    assert (again.cell, again.degree, again.layers) == (cell, degree, snapshot.layers)
    assert (again.piece is None) == (read.piece is None) == (piece is None)
    assert piece is None or again.piece.cells.tolist() == read.piece.cells.tolist() == [3, 1]


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("cell", CELLS)
def test_vtk_evaluates_the_same_polynomial(tmp_path, cell, degree):
    """A polynomial of θ, evaluated in every cell by VTK's own cells, at θ by VTK's own map."""
    dim = lattice.KINDS[cell].dim
    density = polynomial(dim, degree)
    snapshot = make_snapshot(cell, degree, count=2, density=density)
    write_vtu(tmp_path / "a.vtu", snapshot)
    grid = pv.read(tmp_path / "a.vtu")
    assert {*grid.celltypes} == {TYPES[cell][min(degree, 3) - 1]}
    values, (cells, size) = grid["density"], snapshot.points.shape[1:3]
    for number in range(grid.n_cells):
        layer = grid.point_data["layer"][number * size]
        assert layer == number // cells
        for x in interior(cell, 3, seed=number):
            place, weights = [0.0] * 3, [0.0] * size
            grid.GetCell(number).EvaluateLocation(pv._vtk.mutable(0), [*x, *[0.0] * (3 - dim)], place, weights)
            theta = np.array(place[:dim])
            straight = lattice.tabulate(cell, degree, x[None]) @ snapshot.points[layer, number % cells]
            assert np.allclose(theta, straight[0], rtol=0, atol=1e-12)
            if dim < 3:
                assert place[dim] == pytest.approx((layer + 0.5) / snapshot.layers, abs=1e-12)
            own = values[number * size : (number + 1) * size]
            assert np.dot(weights, own) == pytest.approx(density(theta), rel=1e-11)


@pytest.mark.parametrize("cell", ["triangle", "quadrilateral", "tetrahedron", "hexahedron"])
def test_pyvista_probes_the_polynomial(tmp_path, cell):
    degree, dim = 2, lattice.KINDS[cell].dim
    density = polynomial(dim, degree)
    snapshot = make_snapshot(cell, degree, count=2, density=density)
    write_vtu(tmp_path / "a.vtu", snapshot)
    grid = pv.read(tmp_path / "a.vtu")
    for layer in range(snapshot.layers):
        inside = grid.extract_cells(grid.cell_data["layer"] == layer)
        theta = snapshot.points[layer].mean(axis=1)  # midpoints of the cells
        height = np.full((len(theta), 3 - dim), (layer + 0.5) / snapshot.layers)
        probed = pv.PolyData(np.hstack([theta, height])).sample(inside)
        assert probed["vtkValidPointMask"].all()
        assert np.allclose(probed["density"], density(theta), rtol=1e-6)


def test_every_filter_keeps_the_layer(tmp_path):
    names = [f"{cell}-{degree}.vtu" for cell in CELLS for degree in DEGREES]
    for name in names:
        cell, degree = name.removesuffix(".vtu").split("-")
        write_vtu(tmp_path / name, make_snapshot(cell, int(degree), distortion=0.1, density=bump))
    ended = run(Path(__file__).parents[1] / "support" / "cuts.py", *names, directory=tmp_path)
    assert ended.stdout.splitlines() == [f"{name}: all keep the layer" for name in names]
    assert ended.returncode == 0, ended.stderr[-2000:]


def bump(theta):
    return np.exp(-(theta**2).sum(axis=-1))


def test_pyvista_hands_a_density_on_to_meshio(tmp_path):
    """Which by itself reads no file with texts among its field data."""
    snapshot = make_snapshot("quadrilateral", 2)
    write_vtu(tmp_path / "a.vtu", snapshot)
    mesh = pv.to_meshio(pv.read(tmp_path / "a.vtu"))
    assert [block.type for block in mesh.cells] == ["quad9"]
    order = lattice.vtk_order("quadrilateral", 2)
    assert np.array_equal(mesh.point_data["density"], snapshot.density[:, :, order].ravel())


def test_jumps_between_cells_are_kept(tmp_path):
    snapshot = make_snapshot("quadrilateral", 1, layers=1, count=2)
    write_vtu(tmp_path / "a.vtu", snapshot)
    grid = pv.read(tmp_path / "a.vtu")
    assert grid.n_points == 4 * 4
    assert len(np.unique(grid.points.round(9), axis=0)) == 9
    assert len(np.unique(grid["density"])) == 16


def test_pyvista_opens_the_series_with_its_times(tmp_path):
    taus, names = (0.0, 0.1, 1.0 / 3.0), ("attention", "a/b <ü> & 100%")
    for name in names:
        series = DensitySeries(tmp_path, name)
        shots = [make_snapshot("triangle", 2, family=name, seed=k) for k in range(len(taus))]
        for tau, shot in zip(taus, shots, strict=True):
            series.write(tau, shot)
        reader = pv.get_reader(series.path)
        assert tuple(reader.time_values) == taus
        for tau, shot in zip(taus, shots, strict=True):
            reader.set_active_time_value(tau)
            (block,) = reader.read()
            order = lattice.vtk_order("triangle", 2)
            assert np.array_equal(block["density"], shot.density[:, :, order].ravel())
            assert np.array_equal(block["potential"], shot.potential[:, :, order].ravel())
            assert np.array_equal(block["velocity"][:, :2], shot.velocity[:, :, order].reshape(-1, 2))
            assert not block["velocity"][:, 2].any()
            assert block.active_scalars_name == "density"
            assert bytes(block.field_data["coordinates"]).decode() == "q\0v\0"
    assert sorted(map(series_family, tmp_path.glob("*.pvd"))) == sorted(names)
    assert (tmp_path / "density_attention.pvd").is_file()


def test_the_series_can_be_moved_and_read_while_it_grows(tmp_path):
    (tmp_path / "old").mkdir()
    series = DensitySeries(tmp_path / "old", "heads")
    series.write(0.0, make_snapshot("interval", 1))
    assert [tau for tau, _ in read_pvd(series.path)] == [0.0]
    series.write(0.5, make_snapshot("interval", 1))
    moved = (tmp_path / "old").rename(tmp_path / "new")
    entries = read_pvd(moved / series_name("heads"))
    assert [tau for tau, _ in entries] == [0.0, 0.5]
    assert all(read_vtu(path).family == "heads" for _, path in entries)
    assert not list(moved.rglob("*.part"))
    assert str(tmp_path) not in (moved / series_name("heads")).read_text()


@pytest.mark.parametrize("keep", [0, 200, 0.5, 0.97])
def test_a_cut_file_is_refused_in_one_line(tmp_path, capfd, keep):
    path = tmp_path / "a.vtu"
    write_vtu(path, make_snapshot("quadrilateral", 2))
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(InputError, match=r"a\.vtu"):
        read_vtu(path)
    assert capfd.readouterr().err == ""


def test_a_damaged_file_is_refused(tmp_path, capfd):
    """Of its full length, with compressed numbers that are not the ones written."""
    path = tmp_path / "a.vtu"
    write_vtu(path, make_snapshot("quadrilateral", 2))
    content = bytearray(path.read_bytes())
    start = content.index(b"_", content.index(b"<AppendedData")) + 400
    content[start : start + 1500] = bytes(1500)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.vtu"):
        read_vtu(path)
    assert capfd.readouterr().err == ""


def test_files_of_other_programs_are_refused(tmp_path):
    pv.UnstructuredGrid({pv.CellType.TRIANGLE: np.array([[0, 1, 2]])}, np.eye(3)).save(tmp_path / "b.vtu")
    with pytest.raises(InputError, match=r"b\.vtu"):
        read_vtu(tmp_path / "b.vtu")
    with pytest.raises(InputError, match="does not exist"):
        read_vtu(tmp_path / "c.vtu")
    Path(tmp_path / "d.pvd").write_text("<VTKFile><DataSet/></VTKFile>")
    with pytest.raises(InputError, match=r"d\.pvd"):
        read_pvd(tmp_path / "d.pvd")


def test_numbers_of_points_and_cells_are_compressed_once(tmp_path, monkeypatch):
    """The same at every report; what changes is compressed anew, and a file does not depend on those before it."""
    given = []

    def compress(block, level):
        given.append(len(block))
        return zlib.compress(block, level)

    monkeypatch.setattr(vtk_xml, "zlib", SimpleNamespace(compress=compress))
    vtu_writer._layout_arrays.cache_clear()
    for seed, name in enumerate("aba"):
        given.append(0)
        write_vtu(tmp_path / f"{seed}.vtu", make_snapshot("quadrilateral", 1, seed=ord(name)))
    first, second, third = (sum(given[start:end]) for start, end in zip(*bounds(given), strict=True))
    assert second == third < 0.9 * first
    assert (tmp_path / "0.vtu").read_bytes() == (tmp_path / "2.vtu").read_bytes()


def bounds(given):
    starts = [place for place, size in enumerate(given) if size == 0]
    return starts, [*starts[1:], len(given)]


def test_digits_that_do_not_compress_are_stored(tmp_path):
    """Blocks of both kinds within one array, more than one of each."""
    snapshot = make_snapshot("quadrilateral", 1, layers=1, count=200)
    density = snapshot.density.copy()
    density[:, : density.shape[1] // 2] = 1.0
    write_vtu(tmp_path / "a.vtu", replace(snapshot, density=density))
    assert np.array_equal(read_vtu(tmp_path / "a.vtu").density, density)
    assert np.array_equal(meshio.read(tmp_path / "a.vtu").point_data["density"], density[:, :, [0, 1, 3, 2]].ravel())
    sizes = [len(vtk_xml._deflated(memoryview(part.tobytes()))) / part.nbytes for part in np.split(density.ravel(), 4)]
    assert min(sizes) < 0.1
    assert max(sizes) > 1.0


def test_writing_takes_no_vtk(tmp_path):
    """Nor does what a run is made of: VTK takes a third of a second to import."""
    check = (
        "import sys, mfpde.runs.limit_run; from pathlib import Path; from support.snapshots import make_snapshot;"
        "from mfpde.output.fields.vtu_writer import write_vtu;"
        "write_vtu(Path('a.vtu'), make_snapshot('quadrilateral', 1));"
        "print(sorted(name for name in sys.modules if name.startswith('vtk')))"
    )
    ended = run("-c", check, directory=tmp_path, changes={"PYTHONPATH": str(Path(__file__).parents[1])})
    assert ended.stdout == "[]\n", ended.stderr
