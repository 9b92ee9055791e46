"""Environments, arguments and processes in which libraries cannot start: the run works, or one line says why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mfpde
from support.launch import environment, run
from support.run_files import IN_CONTEXT

MESH = Path(__file__).parents[2] / "meshes" / "disk.msh"
TINY = f"""
{IN_CONTEXT}
horizon = 0.1
[density]
frame = "comoving"
degree = 1
cells = 6
"""


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


def test_a_run_does_not_follow_what_jax_is_set_to(tiny):
    """Other platforms, and checks that JAX offers for a user's own code."""
    changes = {
        "JAX_PLATFORMS": "cuda",
        "JAX_PLATFORM_NAME": "gpu",
        "JAX_TRANSFER_GUARD": "disallow",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "NPROC": "2",  # in all threads
    }
    ended = run("-m", "mfpde.solve", "tiny.toml", directory=tiny, changes=changes)
    assert ended.returncode == 0, ended.stderr
    assert mfpde.open_run(tiny / "tiny").summary["outcome"] == "done"
    told = run("-m", "mfpde.info", changes=changes).stdout
    assert "cuda (not followed: MFPDE_DEVICE chooses)" in told
    assert "gpu (not followed: MFPDE_DEVICE chooses)" in told


def refused(folder, *words, changes=None):
    """The line of a solve that ends before anything is written."""
    before = sorted(folder.iterdir())
    ended = run("-m", "mfpde.solve", "tiny.toml", *words, directory=folder, changes=changes)
    assert ended.returncode == 2, ended.stderr
    assert sorted(folder.iterdir()) == before
    assert len(ended.stderr.splitlines()) == 1
    return ended.stderr


def test_a_terminal_without_greek_letters():
    shown = run("-m", "mfpde.plot", "--help", changes={"PYTHONIOENCODING": "ascii"})
    assert shown.returncode == 0, shown.stderr
    assert "--tau ?" in shown.stdout


def test_without_numbas_compiler(tiny):
    assert "NUMBA_DISABLE_JIT is set" in refused(tiny, changes={"NUMBA_DISABLE_JIT": "1"})
    assert run("-m", "mfpde.info", changes={"NUMBA_DISABLE_JIT": "1"}).returncode == 0


def test_a_missing_file_of_petscs_options(tiny):
    line = refused(tiny, "--", "-options_file", "none.txt")
    assert line == "mfpde: -options_file = 'none.txt': no such file\n"


def test_options_that_petsc_does_not_start_with(tiny):
    """PETSc says what is wrong, and mfpde ends with its line."""
    (tiny / "bad.txt").write_text("bad bad bad\n")
    ended = run("-m", "mfpde.solve", "tiny.toml", "--", "-options_file", "bad.txt", directory=tiny)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("mfpde: PETSc does not start with its options")
    assert "Traceback" not in ended.stderr
    assert not (tiny / "tiny").exists()


def test_an_argument_that_is_no_text(tiny):
    line = refused(tiny, "--directory", os.fsdecode(b"\xff"))
    assert line == "mfpde: argument '\\udcff': must be a text in UTF-8\n"


def test_a_working_directory_that_was_deleted(tiny):
    (tiny / "gone").mkdir()
    script = 'cd gone && rmdir ../gone && exec "$0" -m mfpde.solve ../tiny.toml'
    ended = subprocess.run(
        ["sh", "-c", script, sys.executable], cwd=tiny, env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("mfpde: the working directory: ")
    assert len(ended.stderr.splitlines()) == 1


FORK = """
import os, warnings
from mfpde import InputError
from mfpde.parallel import mpi
warnings.simplefilter("ignore")  # JAX, too, warns of forks
if not os.fork():
    mpi.start()  # before the parent has: a process like any other
    print("early", flush=True)
    os._exit(0)
os.wait()
mpi.start()
if not os.fork():
    try:
        mpi.start()
    except InputError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""


def test_a_process_that_was_forked_after_mpi_had_started(tmp_path):
    (tmp_path / "fork.py").write_text(FORK)
    ended = run("fork.py", directory=tmp_path)
    early, late = ended.stdout.splitlines()
    assert early == "early"
    assert late.startswith("this process was forked after MPI had started")
    assert "'spawn'" in late


COMMA = """
import locale, sys
from pathlib import Path
locale.setlocale(locale.LC_ALL, "")
from mfpde.parallel import mpi
comm = mpi.start()
mpi.start_petsc()
from mfpde.limit.fem import mesh
for made in (mesh.box(comm, 2, 4), mesh.box(comm, 1, 4), mesh.read(comm, Path(sys.argv[1]), 2)):
    assert made.topology.index_map(made.topology.dim).size_global >= 4
print(locale.localeconv()["decimal_point"], end="")
"""


def test_meshes_are_made_where_numbers_have_commas(tmp_path):
    """SCOTCH writes a strategy with points and reads it by the locale."""
    if shutil.which("localedef") is None:
        pytest.skip("needs localedef, which makes a locale")
    made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"], check=False)
    if made.returncode:
        pytest.skip("needs the sources of locales")
    (tmp_path / "comma.py").write_text(COMMA)
    changes = {"LOCPATH": str(tmp_path), "LC_ALL": "de_DE.UTF-8"}
    ended = run("comma.py", MESH, ranks=2, directory=tmp_path, changes=changes)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ",,"
