"""Where compiled code is kept without a home, or where nothing but a temporary folder can be written."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from mfpde.parallel import caches
from support.launch import run

NOWHERE = "/proc/none"  # no user can make it, not even the superuser


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An environment in which nothing is set, and a folder for all that is temporary."""
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return os.environ


def home(environment):
    """As `Path.home` for a user whom the system does not know."""
    if "HOME" not in environment:
        raise RuntimeError("Could not determine home directory.")
    return Path(environment["HOME"])


def test_a_home_that_cannot_be_written(fresh, tmp_path):
    fresh["HOME"] = NOWHERE
    caches.prepare()
    mine = tmp_path / f"mfpde-cache-{os.getuid()}"
    assert caches.directory() == mine
    assert caches.is_temporary()
    assert fresh["JAX_COMPILATION_CACHE_DIR"] == f"{mine}/jax"
    assert fresh["MPLCONFIGDIR"] == f"{mine}/matplotlib"
    assert mine.stat().st_mode & 0o777 == 0o700


def test_no_home_at_all(fresh, tmp_path, monkeypatch):
    """DOLFINx asks for a home when it is imported."""
    monkeypatch.setattr(Path, "home", lambda: home(fresh))
    caches.prepare()
    assert Path.home() == caches.directory() == tmp_path / f"mfpde-cache-{os.getuid()}"
    assert caches.is_temporary()


@pytest.mark.parametrize("at_home", [True, False])
def test_a_folder_that_the_user_names_is_enough(at_home, fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: home(fresh))
    if at_home:
        fresh["HOME"] = NOWHERE
    fresh["MFPDE_CACHE"] = str(tmp_path / "mine")
    caches.prepare()
    assert caches.directory() == tmp_path / "mine"
    assert not caches.is_temporary()
    assert fresh["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "mine" / "jax")
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_can_be_written_stays_as_it_is(fresh, tmp_path):
    fresh |= {"HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": "own"}
    caches.prepare()
    assert caches.directory() == tmp_path / ".cache" / "mfpde"
    assert fresh["JAX_COMPILATION_CACHE_DIR"] == "own"
    assert not {"MPLCONFIGDIR", "MFPDE_CACHE"} & set(fresh)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "open to others"])
def test_a_folder_of_somebody_elses_is_not_taken(kind, fresh, tmp_path):
    """Who can write there could have their programs run."""
    fresh["HOME"] = NOWHERE
    name = tmp_path / f"mfpde-cache-{os.getuid()}"
    if kind == "link":
        (tmp_path / "theirs").mkdir()
        name.symlink_to("theirs")
    else:
        name.mkdir()
        name.chmod(0o777)
    caches.prepare()
    assert caches.directory() != name
    assert caches.is_temporary()
    assert caches.directory().parent == tmp_path


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """An installation in which numba can keep nothing: a file stands where its folder would be."""
    folder = tmp_path_factory.mktemp("sealed")
    shutil.copytree(Path(caches.__file__).parents[1], folder / "mfpde", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mfpde" / "parallel" / "__pycache__").touch()
    return folder


@pytest.mark.parametrize("ranks", [None, 2])
def test_a_command_without_a_home_says_one_line_and_where_the_caches_are(ranks, sealed, tmp_path):
    changes = {"PYTHONPATH": str(sealed), "HOME": NOWHERE, "TMPDIR": str(tmp_path)}
    ended = run("-m", "mfpde.info", ranks=ranks, directory=tmp_path, changes=changes | {"MFPDE_CACHE": ""})
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.startswith("mfpde: warning: compiled code goes to ")
    assert len(ended.stderr.splitlines()) == 1
    assert f"{tmp_path}/mfpde-cache-{os.getuid()}/numba/parallel_" in ended.stdout
    named = run("-m", "mfpde.info", directory=tmp_path, changes=changes | {"MFPDE_CACHE": str(tmp_path / "own")})
    assert (named.returncode, named.stderr) == (0, "")
    assert f"{tmp_path}/own/numba/parallel_" in named.stdout


@pytest.mark.parametrize(
    ("forbidden", "compiled", "kept"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_bytecode_is_kept_where_nobody_else_does(forbidden, compiled, kept, fresh, tmp_path, monkeypatch):
    fresh["MFPDE_CACHE"] = str(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", forbidden)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setattr(caches, "_has_bytecode", lambda _: compiled)
    caches.keep_bytecode()
    assert sys.pycache_prefix == (str(tmp_path / "bytecode") if kept else None)
    assert sys.dont_write_bytecode == (forbidden and not kept)
