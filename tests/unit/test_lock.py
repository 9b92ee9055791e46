"""Both locks, the pins in pyproject.toml and the environment that runs these tests say the same."""

from __future__ import annotations

import re
import runpy
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
DOCS_LOCK = ROOT / "docs" / "requirements.lock"  # what the group `docs` adds


def locked(*locks: Path) -> list[tuple[Requirement, set[str]]]:
    """The requirements of these locks (of both, when none is given), each with the hashes of its files."""
    whole_lines = "".join(lock.read_text() for lock in locks or (LOCK, DOCS_LOCK)).replace("\\\n", " ").splitlines()
    parts = [re.split(r"\s+--hash=", line.strip()) for line in whole_lines if line and not line.startswith("#")]
    return [(Requirement(first), set(hashes)) for first, *hashes in parts]


def made_by_uv() -> bool:
    settings = Path(sys.prefix) / "pyvenv.cfg"
    return settings.exists() and re.search(r"^uv = ", settings.read_text(), re.MULTILINE) is not None


def test_the_lock_holds_exact_versions_hashes_and_no_address():
    assert "//" not in LOCK.read_text() + DOCS_LOCK.read_text()
    for requirement, hashes in locked():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert requirement.url is None
        assert hashes, requirement


def test_the_docs_lock_adds_and_repeats_nothing():
    assert not {r.name for r, _ in locked(LOCK)} & {r.name for r, _ in locked(DOCS_LOCK)}


def test_pyproject_pins_what_the_locks_say():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = runpy.run_path(str(ROOT / ".ci" / "lock.py"))["pins"](LOCK.read_text() + DOCS_LOCK.read_text())
    assert project["tool"]["uv"]["constraint-dependencies"] == [line.strip(' ",') for line in lines]


def test_every_direct_dependency_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    unasked = [*project["project"]["dependencies"], *groups["dolfinx"], *groups["dev"]]
    for texts, locks in ((unasked, [LOCK]), (groups["docs"], [LOCK, DOCS_LOCK])):
        versions = {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r, _ in locked(*locks)}
        for requirement in map(Requirement, texts):
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)], prereleases=True)


@pytest.mark.skipif(not made_by_uv(), reason="an environment that uv did not make is free in its versions")
def test_the_environment_is_the_lock():
    # Not sys.path: setuptools, which compiles DOLFINx's forms, adds a folder of packages that it brings.
    folders = sorted({sysconfig.get_path(kind) for kind in ("purelib", "platlib")})
    present = {canonicalize_name(d.name): d.version for d in metadata.distributions(path=folders)}
    del present["mfpde"]
    with_docs = "sphinx" in present  # uv run --group docs
    wanted = {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement, _ in locked(*([LOCK, DOCS_LOCK] if with_docs else [LOCK]))
        if requirement.marker is None or requirement.marker.evaluate()
    }
    assert present == wanted


@pytest.mark.skipif(not (ROOT / "uv.lock").exists(), reason="nothing was resolved here")
def test_the_registry_still_offers_the_files_of_the_lock():
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    resolved = {(package["name"], package.get("version")): package for package in packages}
    for requirement, hashes in locked():
        version = str(requirement.specifier).removeprefix("==")
        assert (requirement.name, version) in resolved, f"{requirement}: another version was resolved"
        package = resolved[requirement.name, version]
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert hashes <= {file["hash"] for file in files}, f"{requirement.name}: files of this version have changed"
