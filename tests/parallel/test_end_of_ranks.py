"""The end of a process under MPI, when PETSc frees what is left on all ranks together."""

from __future__ import annotations

from pathlib import Path

from support.launch import run

SCRIPT = """
from mfpde.parallel import mpi
world = mpi.start()
mpi.start_petsc()
from petsc4py import PETSc
vector = PETSc.Vec().createMPI((1, PETSc.DETERMINE), comm=world)
if world.rank > 0:
    vector.destroy()
"""


def test_an_object_that_one_rank_still_has_keeps_no_other_waiting(tmp_path: Path) -> None:
    """Python collects objects when it likes, on every rank at another time; PETSc's end is collective all the same."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run("script.py", ranks=2, directory=tmp_path, timeout=60.0)
    assert done.returncode == 0, done.stderr
