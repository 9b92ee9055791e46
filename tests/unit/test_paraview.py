"""The real ParaView, where it is: the script of the documents makes a still of runs in one, two and three coordinates.

`tests/unit/test_output_density.py` checks the same files with VTK and PyVista, which every environment has.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import pyvista as pv
from PIL import Image

from mfpde.output.fields.pvd import series_name
from mfpde.output.fields.series import DensitySeries, write_pieces
from mfpde.output.fields.snapshot import Piece
from support.blocks import DOCUMENTS
from support.clouds import make_cloud_run
from support.drawn import make_run

SCRIPT = Path(__file__).parents[2] / "docs" / "paraview" / "standard_view.py"
MISSING = [name for name in ("pvbatch", "xvfb-run") if shutil.which(name) is None]


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)} (Debian: apt install paraview xvfb xauth)")
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_still_from_paraview(tmp_path, dim):
    make_run(tmp_path / "run", {"attention": dim}, taus=(0.0, 1.0))
    assert (np.ptp(still(tmp_path, dim), axis=2) > 40).mean() > 0.01  # the density is there, in colours


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)} (Debian: apt install paraview xvfb xauth)")
def test_paraview_shows_pieces_as_the_whole(tmp_path):
    run = make_run(tmp_path / "run", {"attention": 2}, taus=(0.0,))
    whole = still(tmp_path, 2)
    snapshot = run.snapshot(tau=0.0, family="attention")
    parts = np.array_split(np.random.default_rng(0).permutation(snapshot.points.shape[1]), 3)
    pieces = [snapshot.select(part, Piece((0, 1, 2), part)) for part in parts]
    for rank, piece in enumerate(pieces):
        write_pieces(run.directory, [piece], {"attention": 0}, rank)
    assert DensitySeries(run.directory, "attention").write(0.0, pieces[0]).suffix == ".pvtu"
    differing = np.ptp(still(tmp_path, 2) - whole, axis=2) > 20
    assert differing.mean() < 2e-3  # where two cells meet, one is drawn after the other


CLOUD = """
import json, sys
from paraview import simple
from paraview.servermanager import Fetch
from vtkmodules.util.numpy_support import vtk_to_numpy
source = simple.PVDReader(FileName=sys.argv[1])
source.UpdatePipeline(source.TimestepValues[-1])
heavy = simple.Threshold(Input=source, Scalars=["POINTS", "layer"], LowerThreshold=1.0, UpperThreshold=1.0)
heavy.UpdatePipeline(source.TimestepValues[-1])
data, left = Fetch(source), Fetch(heavy)
data = data.GetBlock(0) if data.IsA("vtkMultiBlockDataSet") else data
arrays = data.GetPointData()
every = [arrays.GetArray(k) for k in range(arrays.GetNumberOfArrays())]
print(json.dumps({
    "times": list(source.TimestepValues), "points": data.GetNumberOfPoints(), "left": left.GetNumberOfPoints(),
    "sizes": {each.GetName(): each.GetNumberOfComponents() for each in every},
    "v": vtk_to_numpy(arrays.GetArray("v")).ravel().tolist(),
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pvpython") is None, reason="needs pvpython (Debian: apt install paraview)")
def test_paraview_opens_nodes(tmp_path):
    """The collection with its times, every array bit by bit, and a layer by a threshold."""
    nodes = make_cloud_run(tmp_path, {1: (2, 3)}).nodes(tau=0.5, family="s1")
    (tmp_path / "look.py").write_text(CLOUD)
    command = ["pvpython", "--force-offscreen-rendering", str(tmp_path / "look.py"), str(tmp_path / "nodes_s1.pvd")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert (found["times"], found["points"], found["left"]) == ([0.0, 0.5], 32, 16)
    assert found["sizes"] == {
        "mass": 1, "layer": 1, "replica": 1, "u": 1, "v": 6, "potential": 1, "velocity": 7, "gradient": 1,
        "principal": 1,
    }  # fmt: skip
    assert found["v"] == nodes.v.ravel().tolist()


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)} (Debian: apt install paraview xvfb xauth)")
@pytest.mark.parametrize(("words", "line"), [
    (["--layer", "2"], "--layer 2: there is no such layer; allowed: 0 to 1"),
    (["--layer", "-1"], "--layer -1: there is no such layer; allowed: 0 to 1"),
    (["--family", "head"], "--family head: there is no such family; allowed: attention"),
])  # fmt: skip
def test_what_is_not_there_is_refused_in_one_line(tmp_path, words, line):
    make_run(tmp_path / "run", {"attention": 2}, taus=(0.0,))
    ended = view(tmp_path, *words)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"standard_view.py: {line}\n")
    assert not (tmp_path / "run" / "figures").exists()


@pytest.mark.parametrize("path", [*DOCUMENTS, SCRIPT], ids=lambda path: path.name)
def test_the_virtual_screen_is_never_reset(path):
    """Its server may start again as soon as nobody is connected, and ParaView connects twice."""
    found = re.findall(r"xvfb-run (?:(?!pvbatch).)*pvbatch", path.read_text())
    assert [command for command in found if command != " ".join([*SCREEN, "pvbatch"])] == []


SCREEN = ("xvfb-run", "-a", "-s", '"-screen 0 1280x1024x24 -noreset"')


def view(tmp_path, *words):
    """What became of the script on the run there."""
    screen = [word.strip('"') for word in SCREEN]
    command = [*screen, "pvbatch", str(SCRIPT), str(tmp_path / "run"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def still(tmp_path, dim):
    """The picture (300, 400, 3) that the script makes of the run there, at τ = 0."""
    ended = view(tmp_path, "--tau", "0", "--size", "400", "300")
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert f"tau = 0, coordinates {', '.join(('q', 'v', 'b')[:dim])}" in ended.stdout
    with Image.open(tmp_path / "run" / "figures" / "paraview.png") as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    assert picture.shape == (300, 400, 3)
    return picture


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_what_paraview_shows_without_a_filter(tmp_path, dim):
    run = make_run(tmp_path, {"attention": dim})
    reader = pv.get_reader(tmp_path / series_name("attention"))
    assert tuple(reader.time_values) == (0.0, 0.5, 1.0)
    (grid,) = reader.read()
    assert {"density", "potential", "velocity"} <= set(grid.point_data)
    assert set(np.unique(grid.cell_data["layer"])) == set(np.unique(grid.point_data["layer"])) == {0, 1}
    size = np.prod(run.snapshot(tau=0.0, family="attention").points.shape[1:3])
    assert grid.n_points == 2 * size  # no point is shared: jumps are kept
    if dim < 3:
        assert np.unique(grid.points[:, dim]).tolist() == [0.25, 0.75]  # depth is the next axis
    else:
        layer = grid.extract_cells(np.flatnonzero(grid.cell_data["layer"] == 1))
        assert layer.n_cells * 2 == grid.n_cells
