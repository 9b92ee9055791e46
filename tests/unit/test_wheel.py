"""What is built and installed: all files of the package, and an import that needs nothing of the checkout."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import mfpde

ROOT = Path(__file__).parents[2]
BUILT = ("pyproject.toml", "README.md", "LICENSE", "LICENSE.GPL", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff",
         "requirements.lock", "mfpde", "meshes", "runs", "tests", "docker", ".ci")  # fmt: skip


def files_of_the_package() -> set[str]:
    """Of the checkout, without what Python leaves there."""
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mfpde").rglob("*") if path.is_file()}
    return {name for name in found if "__pycache__" not in name}


def uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".uv" / "bin"))
    if found is None:
        pytest.skip("needs uv")
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A wheel and a source distribution, built from a copy: nothing is written into the checkout."""
    command = [uv(), "build", "--quiet", "--out-dir"]
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "dist"))
    for name in BUILT:
        here, there = ROOT / name, source / name
        if here.is_dir():
            shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__", ".*cache"))
        else:
            shutil.copy(here, there)
    ended = subprocess.run([*command, str(out), str(source)], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    return out


def test_the_wheel_has_every_file_of_the_package_and_no_other(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if "licenses/" in name]
    assert names == files_of_the_package()
    assert {"mfpde/quickstart.toml", "mfpde/py.typed", "mfpde/problem/datasets/genesis.txt"} <= names
    assert any(name.endswith(".jinja") for name in names)
    assert len(licences) == 2


def test_the_source_has_the_package_and_what_runs_and_tests_need(built):
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files_of_the_package() <= names
    assert {f"runs/{path.name}" for path in (ROOT / "runs").glob("*.toml")} <= names
    assert {f"meshes/{path.name}" for path in (ROOT / "meshes").glob("*.msh")} <= names
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")} <= names


def test_an_installed_wheel_is_imported_from_anywhere_with_nothing_else(built, tmp_path):
    """What a command needs besides is imported when it is asked for; bad input is told before that."""
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "env", symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [uv(), "pip", "install", "--quiet", "--no-deps", "--offline", "--python", str(python), str(wheel)]
    subprocess.run(install, check=True, timeout=300)
    assert (python.parent / "mfpde").is_file()

    code = "import mfpde; print(mfpde.__version__, mfpde.__file__); mfpde.InputError, dir(mfpde)"
    ended = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr
    version, _, place = ended.stdout.strip().partition(" ")
    assert version == mfpde.__version__
    assert Path(place).is_relative_to(tmp_path / "env")
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([python, "-I", "-c", "import numpy"], capture_output=True, check=True)


def test_the_version_stands_in_one_way_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["version"] == mfpde.__version__
    assert f"version: {mfpde.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_extras_are_the_groups_of_the_same_packages():
    """`pip install mfpde[solver]` and the default of uv take the same wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    assert extras["solver"] == groups["dolfinx"]
    assert {*extras["signals"], *extras["xarray"]} <= set(groups["dev"])
