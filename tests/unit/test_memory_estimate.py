"""The memory of a run, told before it starts."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import mfpde
from mfpde.config.settings import Density, Time, Training
from mfpde.limit.memory_estimate import LIBRARIES, estimate
from mfpde.limit.specification import Problem
from mfpde.parallel import memory
from mfpde.solve import main
from support.launch import run
from support.restarts import write

LAYERS = 4
TOO_MUCH = ("--set", "density.cells=500", "--set", "density.degree=3")  # some terabytes


def problem(cells: int, temperature: float = 0.0, **others: object) -> Problem:
    """Neurons in two dimensions, of which one is linear."""
    family = mfpde.Family(
        "neuron", 2, lambda tokens, theta: theta[0] * jnp.tanh(theta[1] * tokens), mfpde.Normal([0.0] * 2, [0.5] * 2),
        linear=(0,),
    )  # fmt: skip
    model = mfpde.Transformer([[family]], LAYERS, lambda tokens: tokens[-1, :1])
    task = mfpde.Task(np.ones((8, 3, 2)), np.ones((8, 1)))
    density = Density(**{"cells": cells, "degree": 2, "frame": "comoving", **others})
    training = Training(weight_decay=0.1, horizon=1.0, temperature=temperature)
    return Problem(model, task, training, {"neuron": density}, Time())


# Solved one after the other in one process: the peak of a tiny problem is what libraries take.
PEAK = f"""
import json, sys
from mpi4py import MPI
from mfpde.parallel import mpi
comm = mpi.start()
mpi.start_petsc()
import mfpde
sys.path += [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from test_memory_estimate import problem
peaks = []
for cells in (10, int(sys.argv[1])):
    p = problem(cells, **json.loads(sys.argv[2]))
    mfpde.solve_limit(p.model, p.task, weight_decay=0.1, horizon=1e-6, every=1e-6, density=p.densities["neuron"],
                      temperature=p.training.temperature, time=mfpde.Time(step=1e-6), directory=f"out{{cells}}")
    with open("/proc/self/status") as status:
        mine = 1024.0 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    peaks.append(comm.allreduce(mine))
if comm.rank == 0:
    json.dump(peaks, open("peaks.json", "w"))
"""


@pytest.mark.study
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read as Linux tells it")
@pytest.mark.parametrize(
    ("cells", "others", "ranks"),
    [
        (160, {}, 1),
        (160, {}, 2),
        (160, {"temperature": 0.05}, 1),
        (100, {"frame": "lagrangian"}, 1),
        (80, {"frame": "lagrangian"}, 2),
    ],
)
def test_estimate_is_within_thirty_per_cent_of_the_measured_peak(cells, others, ranks, tmp_path):
    (tmp_path / "peak.py").write_text(PEAK)
    on = None if ranks == 1 else ranks
    done = run("peak.py", str(cells), json.dumps(others), ranks=on, directory=tmp_path, timeout=3000)
    assert done.returncode == 0, done.stderr
    small, large = json.loads((tmp_path / "peaks.json").read_text())
    told = estimate([problem(cells, **others)], ranks).of(ranks, first=True)
    print(f"MiB: {small / 2**20:.0f} and {large / 2**20:.0f} measured, {told / 2**20:.0f} estimated")  # noqa: T201
    assert told == pytest.approx(large, rel=0.3)
    assert told - ranks * LIBRARIES == pytest.approx(large - small, rel=0.4)


def test_estimate_follows_the_sizes():
    """Copies are of cells, blocks and functions; ranks share them, and rank 0 has what is written besides."""
    grown = [estimate([problem(cells)], 1).of(1, first=True) - LIBRARIES for cells in (300, 600)]
    assert grown[1] / grown[0] == pytest.approx(4.0, rel=0.02)
    one, eight = (estimate([problem(600)], ranks) for ranks in (1, 8))
    assert (eight.rank - LIBRARIES) / (one.rank - LIBRARIES) == pytest.approx(1 / 8, rel=0.08)  # and ghosts
    assert eight.of(8, first=True) == pytest.approx(8 * eight.rank + eight.first)
    one, eight = (estimate([problem(800)], ranks) for ranks in (1, 8))  # a density above 1 GiB stays in pieces
    assert eight.first == 0.0 < one.first
    assert eight.rank - LIBRARIES == pytest.approx((one.rank + one.first - LIBRARIES) / 8, rel=0.05)
    assert estimate([problem(100, cell_type="simplex")], 1).rank > estimate([problem(100)], 1).rank
    one, two = (estimate([problem(600, frame="lagrangian")], ranks) for ranks in (1, 2))  # tables are on every rank
    assert (two.rank - LIBRARIES) / (one.rank + one.first - LIBRARIES) == pytest.approx(0.5, rel=0.05)


def in_three_dimensions(folder: Path) -> Path:
    """The run file of the restarts, with parameters of three coordinates."""
    path = write(folder)
    user = folder / "user.py"
    user.write_text(
        user.read_text().replace('"bump", 1,', '"bump", 3,').replace("[0.3], [0.5]", "[0.3] * 3, [0.5] * 3")
    )
    return path


def test_a_run_that_cannot_fit_is_refused_before_anything_is_made(tmp_path, capsys, monkeypatch):
    path = in_three_dimensions(tmp_path)
    assert main([str(path), *TOO_MUCH]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "density.cells = 500: about " in line
    assert "of memory are needed and" in line
    assert "fewer cells or a smaller density.degree need less" in line
    assert not (tmp_path / "tiny").exists()
    for what in ("available", "resident"):  # the second of this process, which other tests have made large
        monkeypatch.setattr(memory, what, lambda: 0.0)
    assert main([str(path)]) == 2
    assert "density.cells = 12: about " in capsys.readouterr().err


def test_two_ranks_refuse_alike(tmp_path):
    in_three_dimensions(tmp_path)
    done = run("-m", "mfpde.solve", "tiny.toml", *TOO_MUCH, ranks=2, directory=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "are needed by 2 ranks on this machine and" in done.stderr
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups_limit_what_is_there(version, tmp_path, monkeypatch):
    """The tightest of a group and those around it counts; idle pages of files are free."""
    root = tmp_path / "memory" if version == 1 else tmp_path
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    idle = "total_inactive_file" if version == 1 else "inactive_file"
    for folder, most, used in ((root / "job", 5000, 4000), (root / "job" / "step", 9000, 3000)):
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in (*zip(names, (most, used), strict=True), ("memory.stat", f"anon 1\n{idle} 250")):
            (folder / name).write_text(f"{value}\n")
    mine = tmp_path / "mine"
    mine.write_text("4:memory,cpu:/job/step\n" if version == 1 else "0::/job/step\n")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_MINE", mine)
    assert memory.available() == 5000 - 4000 + 250
    if version == 2:
        (root / "job" / "memory.max").write_text("max\n")
        assert memory.available() == 9000 - 3000 + 250
