"""Densities in pieces: where a file would be too large every rank writes what it holds; readers see no difference."""

from __future__ import annotations

import numpy as np
import pytest
import pyvista as pv

from mfpde.errors import InputError
from mfpde.output.directory import prepare, run_files
from mfpde.output.fields import lattice
from mfpde.output.fields import snapshot as snapshots
from mfpde.output.fields.pvd import read_pvd
from mfpde.output.fields.series import DensitySeries, read_density, write_pieces
from mfpde.output.fields.snapshot import Piece
from mfpde.output.fields.vtu_writer import write_vtu
from mfpde.output.writer import RunWriter
from support.snapshots import CELLS, make_report, make_snapshot

ARRAYS = ("points", "density", "potential", "velocity")


def cut(snapshot, shares, seed=0):
    """The snapshot as ranks hold it: cells dealt out at random, `shares` of them to each, in any order."""
    numbers = np.random.default_rng(seed).permutation(snapshot.points.shape[1])
    parts = np.split(numbers, np.cumsum(shares)[:-1])
    ranks = tuple(rank for rank, part in enumerate(parts) if len(part))
    return [snapshot.select(part, Piece(ranks, part)) for part in parts]


def write(directory, tau, snapshot, shares):
    """Through a series, as rank 0 and the others do."""
    series = DensitySeries(directory, snapshot.family, len(read_pvd(path)) if (path := pvd(directory)).exists() else 0)
    pieces = cut(snapshot, shares)
    for rank, piece in enumerate(pieces):
        write_pieces(directory, [piece], {snapshot.family: series.count}, rank)
    return series.write(tau, pieces[0])


def pvd(directory):
    return directory / "density_heads.pvd"


@pytest.mark.parametrize("cell", CELLS)
def test_pieces_are_read_as_the_whole(tmp_path, cell):
    snapshot = make_snapshot(cell, 2, count=2, layers=2)
    cells = snapshot.points.shape[1]
    path = write(tmp_path, 0.5, snapshot, [1, 0, cells - 1])
    assert [file.name for file in sorted(path.parent.iterdir())] == [
        "density_heads_0000-p0000.vtu",
        *(["density_heads_0000-p0002.vtu"] if cells > 1 else []),
        "density_heads_0000.pvtu",
    ]
    read = read_density(path)
    for name in ARRAYS:
        assert np.array_equal(getattr(read, name), getattr(snapshot, name)), name
    assert (read.family, read.coordinates, read.cell, read.degree) == ("heads", snapshot.coordinates, cell, 2)
    assert read.piece is None


@pytest.mark.parametrize("cell", ["interval", "triangle", "hexahedron"])
def test_vtk_sees_the_same_cells(tmp_path, cell):
    """What ParaView opens: the collection, its times, all cells once, the same points, values and texts."""
    snapshot = make_snapshot(cell, 2, count=3, layers=2)
    count = snapshot.points.shape[1]
    write(tmp_path, 0.5, snapshot, [count // 2, count - count // 2])
    write_vtu(tmp_path / "whole.vtu", snapshot)
    whole = pv.read(tmp_path / "whole.vtu")
    reader = pv.get_reader(pvd(tmp_path))
    assert tuple(reader.time_values) == (0.5,)
    (grid,) = reader.read()
    assert (grid.n_cells, grid.n_points) == (whole.n_cells, whole.n_points)
    assert {*grid.celltypes} == {*whole.celltypes}
    order = np.lexsort((grid.cell_data["cell"], grid.cell_data["layer"]))
    size = len(lattice.vtk_order(cell, 2))
    points = (order[:, None] * size + np.arange(size)).ravel()
    assert np.array_equal(grid.points[points], whole.points)
    for name in ("density", "potential", "velocity"):
        assert np.array_equal(grid[name][points], whole[name]), name
    assert "vtkGhostType" not in grid.array_names
    assert bytes(grid.field_data["coordinates"]).decode().split("\0")[:-1] == list(snapshot.coordinates)
    assert grid.active_scalars_name == "density"


def test_a_series_goes_on_after_its_last_good_file(tmp_path):
    shots = [make_snapshot("triangle", 1, seed=k) for k in range(3)]
    for tau, shot in enumerate(shots):
        write(tmp_path, float(tau), shot, [5, 13])
    write_vtu(tmp_path / "density" / "density_heads_more_0007.vtu", shots[0])  # of a family `heads_more`
    series = DensitySeries(tmp_path, "heads", 1)
    series.cut()
    left = sorted(file.name for file in (tmp_path / "density").iterdir())
    assert left == [
        "density_heads_0000-p0000.vtu", "density_heads_0000-p0001.vtu", "density_heads_0000.pvtu",
        "density_heads_more_0007.vtu",
    ]  # fmt: skip
    assert series.write(1.0, shots[1]).suffix == ".vtu"  # whole, as one rank writes it
    (tmp_path / "density" / left[1]).unlink()
    with pytest.raises(InputError, match=r"density_heads_0000-p0001\.vtu: a density file is missing"):
        DensitySeries(tmp_path, "heads", 2)


def test_what_is_no_density_is_refused(tmp_path):
    snapshot = make_snapshot("interval", 1, count=4)
    path = write(tmp_path, 0.0, snapshot, [2, 2])
    part = path.with_name("density_heads_0000-p0001.vtu")
    write_vtu(part, snapshot)
    with pytest.raises(InputError, match=r"p0001\.vtu is not a piece"):
        read_density(path)
    part.unlink()
    with pytest.raises(InputError, match=r"p0001\.vtu does not exist"):
        read_density(path)
    for text in ("<VTKFile/>", "<VTK"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"0000\.pvtu is not a density file"):
            read_density(path)
    path.unlink()
    with pytest.raises(InputError, match=r"0000\.pvtu does not exist"):
        read_density(path)


def test_overwriting_a_run_takes_its_pieces_away(tmp_path):
    prepare(tmp_path, overwrite=False)
    pieces = cut(make_snapshot("triangle", 1), [9, 9])
    with RunWriter(tmp_path, run_text="", manifest={"ranks": 2}, unknowns=1) as writer:
        for tau in (0.0, 0.5, 0.5):
            report = make_report(tau, pieces[:1])
            numbers = writer.numbers(report)
            for rank, piece in enumerate(pieces):
                write_pieces(tmp_path, [piece], numbers, rank)
            writer.report(report)
        assert numbers == {}  # a report that is there is not written again
        assert writer.numbers(make_report(1.0, pieces[:1])) == {"heads": 2}
    assert sum(path.suffix == ".pvtu" for path in run_files(tmp_path)) == 2
    assert sum("-p" in path.name for path in run_files(tmp_path)) == 4
    prepare(tmp_path, overwrite=True)
    assert not list(tmp_path.iterdir())


def test_when_there_are_pieces(monkeypatch):
    most = snapshots.LARGEST_FILE / 72
    assert not snapshots.in_pieces(2, most)
    assert snapshots.in_pieces(2, most + 1)
    assert not snapshots.in_pieces(1, 10 * most)  # nothing would be gained
    monkeypatch.setattr(snapshots, "LARGEST_FILE", 72.0)
    assert snapshots.in_pieces(2, 2)


def test_the_stated_size_is_that_of_a_file(tmp_path):
    """Numbers that cannot be compressed make a file of the size that is compared with the limit, to a tenth."""
    snapshot = make_snapshot("triangle", 3, count=40, layers=2)
    write_vtu(tmp_path / "a.vtu", snapshot)
    estimated = 72 * snapshot.density.size
    assert 0.5 * estimated < (tmp_path / "a.vtu").stat().st_size < 1.1 * estimated
