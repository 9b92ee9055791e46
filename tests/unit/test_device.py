"""Passes on a device other than the first CPU: JAX's second CPU device, by the code that would take a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.launch import run
from support.run_files import IN_CONTEXT

CASE = f"{IN_CONTEXT.replace('12', '70')}\nhorizon = 0.2\n[density]\ncells = 6\n[output]\nevery = 0.1\n"
TWO_DEVICES = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count=2"}

ELSEWHERE = """
import sys
import jax
import mfpde.device as device
device._gpus = lambda: jax.local_devices(backend="cpu")[1:]
"""

SOLVES = f"""{ELSEWHERE}
from mfpde.limit import backprop
from mfpde.solve import main

seen = []
called = backprop.Backprop.called
def watched(self, function, arguments, shares):
    results = called(self, function, arguments, shares)
    seen.extend(array.device.id for array in jax.tree.leaves((results, shares)))
    return results
backprop.Backprop.called = watched
code = main(sys.argv[1:])
print(code, set(seen), backprop.tile_size(70, False))
"""

TRAINS = f"""{ELSEWHERE}
from mfpde.finite import training
from mfpde.particles import main

seen = []
moments = training._moments
def watched(theta, weights):
    seen.extend((theta.device.id, weights.device.id))
    return moments(theta, weights)
training._moments = watched
code = main(sys.argv[1:])
print(code, set(seen))
"""


@pytest.fixture
def case(tmp_path: Path) -> Path:
    (tmp_path / "case.toml").write_text(CASE)
    (tmp_path / "solves.py").write_text(SOLVES)
    (tmp_path / "trains.py").write_text(TRAINS)
    return tmp_path


def last_risk(file: Path) -> float:
    names, *_, last = (line.split(",") for line in file.read_text().splitlines())
    return float(last[names.index("risk")])


def test_a_solve_has_all_its_passes_on_the_device_and_the_risk_of_the_cpu(case: Path) -> None:
    for device in ("gpu", "cpu"):
        changes = {**TWO_DEVICES, "MFPDE_DEVICE": device}
        ended = run("solves.py", "case.toml", "--directory", device, directory=case, changes=changes)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[-1] == f"0 {{{int(device == 'gpu')}}} 64", ended.stdout
    risks = [last_risk(case / device / "history.csv") for device in ("gpu", "cpu")]
    assert risks[0] == pytest.approx(risks[1], rel=1e-10)


def test_particles_are_all_on_the_device(case: Path) -> None:
    for device in ("auto", "cpu"):
        words = ["case.toml", "--units", "4", "--seeds", "1", "--directory", device]
        changes = {**TWO_DEVICES, "MFPDE_DEVICE": device}
        ended = run("trains.py", *words, directory=case, changes=changes)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[-1] == f"0 {{{int(device == 'auto')}}}", ended.stdout
    risks = [last_risk(case / device / "particles" / "history.csv") for device in ("auto", "cpu")]
    assert risks[0] == pytest.approx(risks[1], rel=1e-10)


def test_a_plugin_of_jax_without_its_device_leaves_the_cpu(case: Path) -> None:
    (case / "jax_plugins" / "none").mkdir(parents=True)
    changes = {"PYTHONPATH": str(case), "JAX_PLATFORMS": "cuda"}
    ended = run("-m", "mfpde.solve", "case.toml", directory=case, changes=changes)
    assert ended.returncode == 0, ended.stderr
    ended = run(
        "-m", "mfpde.solve", "case.toml", "--overwrite", directory=case, changes=changes | {"MFPDE_DEVICE": "gpu"}
    )
    assert ended.returncode == 2
    assert "JAX has no GPU here" in ended.stderr


@pytest.mark.parametrize("command", ["solve", "particles"])
@pytest.mark.parametrize(("device", "line"), [("gpu", "JAX has no GPU here"), ("tpu", "must be one of 'auto'")])
def test_a_device_that_is_not_there_is_refused_in_one_line(case: Path, command: str, device: str, line: str) -> None:
    changes = {"MFPDE_DEVICE": device, "JAX_PLATFORMS": "cpu"}
    words = ["--units", "4", "--seeds", "1"] if command == "particles" else []
    ended = run("-m", f"mfpde.{command}", "case.toml", *words, directory=case, changes=changes)
    assert ended.returncode == 2
    assert line in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (case / "case").exists()
    assert run("-m", "mfpde.info", changes=changes).returncode == 0
