"""Files of nodes: what is read is what was written, bit for bit, by this reader and by VTK's own."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import pyvista as pv

from mfpde import InputError, open_run
from mfpde.output.clouds.nodes_series import NodesSeries
from mfpde.output.clouds.vtp_reader import read_vtp
from mfpde.output.clouds.vtp_writer import write_vtp
from mfpde.output.directory import prepare, run_files
from mfpde.output.writer import RunWriter
from support.clouds import make_nodes
from support.snapshots import make_report, make_snapshot

SPLITS = [(1, (2, 3)), (2, (4,)), (3, (2, 2)), (4, (1,)), (0, (5,)), (1, (0,)), (2, (0,)), (3, (0,))]
ARRAYS = ("mass", "u", "v", "potential", "velocity_u", "velocity_v", "replica")


def same(one, other):
    for field in dataclasses.fields(one):
        mine, others = getattr(one, field.name), getattr(other, field.name)
        if field.name in ARRAYS:
            assert mine.dtype == others.dtype, field.name
            assert mine.shape == others.shape, field.name
            assert mine.tobytes() == others.tobytes(), field.name
        else:
            assert mine == others, field.name


@pytest.mark.parametrize(("s", "shape"), SPLITS)
def test_what_is_read_is_what_was_written(tmp_path, s, shape):
    nodes = make_nodes(s, shape, layers=3)
    write_vtp(tmp_path / "a.vtp", nodes)
    same(nodes, read_vtp(tmp_path / "a.vtp"))


def test_linear_coordinates_among_the_others(tmp_path):
    """θ = (v_0, u, v_1): velocities are written in the order of θ."""
    nodes = dataclasses.replace(
        make_nodes(1, (2,)), coordinates=("a", "q", "b"), linear=(0, 2), rule=(1, 4), weight_decay=1 / 3
    )
    write_vtp(tmp_path / "a.vtp", nodes)
    same(nodes, read_vtp(tmp_path / "a.vtp"))
    velocity = pv.read(tmp_path / "a.vtp")["velocity"].reshape(2, -1, 3)
    assert np.array_equal(velocity[..., [0, 2]], nodes.velocity_v)
    assert np.array_equal(velocity[..., 1:2], nodes.velocity_u)


@pytest.mark.parametrize(("s", "shape"), SPLITS)
def test_what_vtk_shows(tmp_path, s, shape):
    """A vertex for every node, where the first coordinates, the principal direction and the depth have it."""
    nodes = make_nodes(s, shape, layers=2)
    write_vtp(tmp_path / "a.vtp", nodes)
    cloud = pv.read(tmp_path / "a.vtp")
    n = nodes.mass.shape[1]
    assert (cloud.n_points, cloud.n_verts, cloud.n_cells) == (2 * n, 2 * n, 2 * n)
    assert cloud.verts.reshape(-1, 2).tolist() == [[1, k] for k in range(2 * n)]
    assert cloud.active_scalars_name == "mass"
    assert np.allclose(np.bincount(cloud["layer"], cloud["mass"]), 1.0, rtol=0, atol=1e-14)
    assert cloud["layer"].tolist() == [0] * n + [1] * n
    assert cloud["replica"].tolist() == ([0] * (n // 2) + [1] * (n // 2)) * 2
    assert np.array_equal(cloud["potential"], nodes.potential.ravel())

    depth, columns = np.repeat([0.25, 0.75], n), list(nodes.u.reshape(2 * n, s).T)
    if nodes.linear:
        assert np.array_equal(cloud["v"].ravel(), nodes.v.ravel())
        assert np.array_equal(cloud["gradient"], nodes.gradient_norm.ravel())
        principal = np.concatenate([nodes.column(layer, "principal") for layer in range(2)])
        assert np.array_equal(cloud["principal"], principal)
        columns += [principal] if s < 2 else []
    else:
        assert not {"v", "gradient", "principal"} & set(cloud.point_data)
    assert ("u" in cloud.point_data) == (s > 0)
    places = np.stack([*columns, depth, np.zeros(2 * n), np.zeros(2 * n)][:3], axis=1)
    assert np.array_equal(cloud.points, places)


def test_what_is_no_file_of_nodes_is_refused(tmp_path):
    nodes, target = make_nodes(), tmp_path / "a.vtp"
    with pytest.raises(InputError, match="does not exist"):
        read_vtp(target)
    write_vtp(target, nodes)
    whole = target.read_bytes()
    cloud = pv.read(target)
    for spoil in (
        lambda: target.write_bytes(whole[: len(whole) // 2]),
        lambda: target.write_text("no XML"),
        lambda: pv.PolyData(cloud.points).save(target),
    ):
        spoil()
        with pytest.raises(InputError, match=r"a\.vtp is not a file of nodes"):
            read_vtp(target)


def report(tau):
    shot = make_snapshot("interval", 1, layers=2)
    return dataclasses.replace(make_report(tau, [shot]), clouds=(make_nodes(seed=round(10 * tau)),))


def test_a_run_hands_its_nodes_out(tmp_path):
    with RunWriter(tmp_path, run_text="", manifest={"ranks": 1}, unknowns=1) as writer:
        for tau in (0.0, 0.5):
            writer.report(report(tau))
    run = open_run(tmp_path)
    assert run.clouds == ("heads",)
    for tau in (0.5, 0.0):
        same(run.nodes(tau=tau, family="heads"), make_nodes(seed=round(10 * tau)))
    reader = pv.get_reader(tmp_path / "nodes_heads.pvd")
    assert tuple(reader.time_values) == (0.0, 0.5)
    with pytest.raises(InputError, match=r"tau = 0\.3: no report there; the nearest is 0\.5"):
        run.nodes(tau=0.3, family="heads")
    with pytest.raises(InputError, match=r"family 'tails': unknown; allowed: heads$"):
        run.nodes(tau=0.5, family="tails")


def test_a_family_without_nodes_is_refused(tmp_path):
    with RunWriter(tmp_path, run_text="", manifest={"ranks": 1}, unknowns=1) as writer:
        writer.report(make_report(0.0, [make_snapshot("interval", 1)]))
    run = open_run(tmp_path)
    assert run.clouds == ()
    assert not list(tmp_path.glob("nodes*"))
    with pytest.raises(InputError, match=r"family 'heads': moves by no cloud of nodes; allowed: none$"):
        run.nodes(tau=0.0, family="heads")


def test_files_later_than_a_checkpoint_are_cut(tmp_path):
    """As those of densities: what the checkpoint knows stays, and the next report takes the next number."""
    writer = RunWriter(tmp_path, run_text="", manifest={"ranks": 1}, unknowns=1)
    for tau in (0.0, 0.5):
        writer.report(report(tau))
    saved = json.loads(json.dumps(writer.state_dict()))
    assert saved["nodes"] == {"heads": 2}
    kept = {path.name: path.read_bytes() for path in (tmp_path / "nodes").iterdir()}
    for tau in (1.0, 1.5):
        writer.report(report(tau))
    writer.close("killed")
    assert len(list((tmp_path / "nodes").iterdir())) == 4

    with RunWriter(tmp_path, run_text="", manifest={"ranks": 1}, unknowns=1, saved=saved) as writer:
        assert {path.name: path.read_bytes() for path in (tmp_path / "nodes").iterdir()} == kept
        writer.report(report(2.0))
    assert sorted(path.name for path in (tmp_path / "nodes").iterdir()) == [f"nodes_heads_000{k}.vtp" for k in range(3)]
    run = open_run(tmp_path)
    same(run.nodes(tau=2.0, family="heads"), make_nodes(seed=20))
    with pytest.raises(InputError, match="no report there"):
        run.nodes(tau=1.5, family="heads")


def test_a_file_that_has_vanished_cannot_be_continued(tmp_path):
    series = NodesSeries(tmp_path, "heads")
    for tau in (0.0, 0.5):
        series.write(tau, make_nodes())
    (tmp_path / "nodes" / "nodes_heads_0001.vtp").unlink()
    NodesSeries(tmp_path, "heads", 1)
    with pytest.raises(InputError, match=r"nodes_heads_0001\.vtp: a file of nodes is missing; it cannot be continued"):
        NodesSeries(tmp_path, "heads", 2)


def test_overwriting_removes_them_and_no_others(tmp_path):
    with RunWriter(tmp_path, run_text="", manifest={"ranks": 1}, unknowns=1) as writer:
        writer.report(report(0.0))
    assert {path.name for path in run_files(tmp_path)} >= {"nodes_heads.pvd", "nodes_heads_0000.vtp"}
    (tmp_path / "nodes" / "mine.vtp").write_text("mine")
    (tmp_path / "nodes_mine.pvd").write_text("mine")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "nodes_heads.png").write_text("drawn")
    prepare(tmp_path, overwrite=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"nodes/mine.vtp", "nodes_mine.pvd"}
