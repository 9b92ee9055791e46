"""What docker/ promises and can be read off its files; docker/build.sh builds and runs the image for real."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
SCRIPT = ROOT / "docker" / "build.sh"
DEFINITION = (ROOT / "docker" / "mfpde.def").read_text()


def steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, comments gone and continued lines joined."""
    code = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in code.splitlines() if line]


def build(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", SCRIPT, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_base_and_uv_are_arguments_with_exact_defaults():
    defaults = dict(text.split("=", 1) for name, text in steps() if name == "ARG")
    assert re.fullmatch(r"debian:trixie-\d{8}-slim", defaults["BASE"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", defaults["UV"])
    assert [text for name, text in steps() if name == "FROM"] == ["${BASE} AS system", "system AS packages", "system"]
    assert f"From: {defaults['BASE']}" in DEFINITION
    assert f"uv=={defaults['UV']}" in DEFINITION


def section(name: str) -> str:
    """The lines of a section of the Apptainer definition."""
    return DEFINITION.split(f"\n%{name}\n")[1].split("\n%")[0]


def test_the_apptainer_definition_installs_what_the_dockerfile_does():
    wanted = set(re.search(r"recommends (ca-cert[^\\]*)\\", DOCKERFILE)[1].split())
    assert set(re.search(r"recommends (.*)", section("post"))[1].split()) == wanted | {"python3-venv"}
    for name in ("post", "environment", "runscript", "test"):
        ended = subprocess.run(["sh", "-n"], input=section(name), capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
    for line in section("files").splitlines():
        source, target = line.split()
        assert target == f"/mfpde/{source}"
        assert (ROOT / source).exists(), source
    assert "strip --strip-debug --preserve-dates" in section("post")


def test_packages_are_those_of_the_lock_by_hash():
    for text in (DOCKERFILE, DEFINITION):
        assert "uv pip install --require-hashes --requirement requirements.lock" in text
        installs = re.findall(r"pip install ([^\n&]*)", text)
        assert all("==" in i or "--require-hashes" in i or "--no-deps" in i for i in installs), installs


def test_nobody_is_root_once_everything_is_installed():
    names = [name for name, _ in steps()]
    users = [text for name, text in steps() if name == "USER"]
    assert users == ["mfpde"]
    after = [text for name, text in steps()[names.index("USER") :] if name == "RUN"]
    assert len(after) == 1
    assert not re.search(r"\binstall\b|apt|useradd", after[0])
    assert "chmod --recursive a+rwX /cache /results" in after[0]


def test_one_thread_per_rank_and_caches_that_anyone_can_write():
    from mfpde.parallel import _THREADS

    variables = dict(pair.split("=", 1) for name, text in steps() if name == "ENV" for pair in text.split())
    threads = {name: value for name, value in variables.items() if name in _THREADS}
    assert threads == {name: _THREADS[name] for name in threads}
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"} <= set(threads)
    for name in ("OMP_NUM_THREADS=1", "MFPDE_CACHE=", "NUMBA_CACHE_DIR=", "MPLCONFIGDIR="):
        assert name in DEFINITION.split("%environment")[1], name
    for name in ("HOME", "MFPDE_CACHE", "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "PYTHONPYCACHEPREFIX", "XDG_CACHE_HOME"):
        assert variables[name].startswith("/cache"), name


@pytest.mark.parametrize(
    "path", [p for p in sorted((ROOT / "docker").iterdir()) if p.is_file()], ids=lambda path: path.name
)
def test_no_address_and_no_folder_of_a_machine(path):
    assert not re.search(r"https?:|/work/|/root/|/home/", path.read_text())


def test_the_script_says_what_it_does_and_refuses_the_rest():
    helped = build("--help")
    assert helped.returncode == 0
    for option in set(re.findall(r"--[a-z]+(?= \||\))", SCRIPT.read_text().split("case $1 in")[1].split("esac")[0])):
        assert option in helped.stdout, option
    tests = re.search(r'^tests="(.*)"$', SCRIPT.read_text(), re.MULTILINE)
    assert tests is not None
    assert all((ROOT / test).exists() for test in tests[1].split())
    refused = build("--bass", "debian")
    assert (refused.returncode, refused.stderr) == (2, "build.sh: --bass is no option; --help lists them\n")
    unfinished = build("--base")
    assert (unfinished.returncode, unfinished.stderr) == (2, "build.sh: --base needs a value\n")
