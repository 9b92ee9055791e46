"""The same numbers on any number of ranks, and a clear end on all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from launch import run

from mfpde.output.reader import open_run

RUN = """
name = "small"
[task]
name = "teacher"
samples = 20
tokens = 3
channels = 3
[model]
name = "attention-mlp"
channels = 3
layers = 2
[training]
weight_decay = 0.1
horizon = 0.5
[density]
degree = 2
cells = {cells}
cell_type = "{cell}"
frame = "{frame}"
{radius}
[time]
step = 0.05
[output]
every = 0.25
"""


def solve(folder: Path, text: str, ranks: int) -> Path:
    """Solve a run file on some ranks; returns the run directory."""
    file = folder / "small.toml"
    file.write_text(text)
    out = folder / f"ranks-{ranks}"
    done = run("-m", "mfpde.solve", str(file), "--directory", str(out), ranks=ranks, directory=folder)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize(
    ("cells", "cell", "frame"), [(6, "tensor", "fixed"), (5, "simplex", "comoving"), (2, "tensor", "comoving")]
)
def test_same_result_on_1_2_3_and_8_ranks(tmp_path: Path, cells: int, cell: str, frame: str) -> None:
    """Fixed steps, 1e-11 relative; with 2 × 2 cells and 20 samples some of 8 ranks own neither cells nor samples."""
    radius = "radius = 2.5" if frame == "fixed" else ""
    text = RUN.format(cells=cells, cell=cell, frame=frame, radius=radius)
    alone = open_run(solve(tmp_path, text, 1))
    for ranks in (2, 3, 8):
        other = open_run(solve(tmp_path, text, ranks))
        for table in ("history", "moments"):
            for column, values in getattr(alone, table).items():
                same = getattr(other, table)[column]
                if values.dtype.kind != "f":
                    assert (values == same).all()
                elif column in ("mass_error", "energy_remainder"):  # rounding itself, or a difference that cancels
                    assert np.abs(values - same).max() < 1e-12
                else:
                    scale = np.nanmax(np.abs(values), initial=0.0)
                    assert np.array_equal(np.isnan(values), np.isnan(same)), column
                    assert np.nanmax(np.abs(values - same), initial=0.0) <= 1e-11 * max(scale, 1e-6), column
        points = np.random.default_rng(0).uniform(-1, 1, size=(50, 2))
        densities = [r.density(tau=0.5, family="attention", layer=1, theta=points) for r in (alone, other)]
        assert np.abs(densities[0] - densities[1]).max() <= 1e-11 * np.abs(densities[0]).max()


def test_bad_input_on_one_rank_ends_all(tmp_path: Path) -> None:
    """A task that fails on rank 1 only: one line, exit code 2, nothing written."""
    (tmp_path / "user.py").write_text(
        "from mpi4py import MPI\n\ndef task():\n    if MPI.COMM_WORLD.rank == 1:\n        raise OSError('no such disk')\n"
        "    import mfpde, numpy as np\n    return mfpde.Task(np.ones((2, 3, 2)), np.ones((2, 1)))\n"
    )
    text = 'name = "x"\n[task]\npython = "user.py:task"\n[model]\nname = "attention"\n[training]\nweight_decay = 0.1\nhorizon = 1.0\n'
    (tmp_path / "x.toml").write_text(text)
    done = run("-m", "mfpde.solve", "x.toml", ranks=2, directory=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no such disk" in done.stderr
    assert not (tmp_path / "x").exists()


def test_an_unexpected_exception_ends_all_ranks_with_its_traceback(tmp_path: Path) -> None:
    """A bug on one rank while the other waits in a reduction."""
    (tmp_path / "bug.py").write_text(
        "from mfpde import parallel\ncomm = parallel.start()\nif comm.rank == 1:\n    raise KeyError('the culprit')\n"
        "comm.allreduce(1)\n"
    )
    done = run("bug.py", ranks=2, directory=tmp_path, timeout=30)
    assert done.returncode != 0
    assert "the culprit" in done.stderr
    assert "rank 1 of 2" in done.stderr
