"""What docker/ promises and can be read off its files; docker/build.sh builds and runs the image for real."""

from __future__ import annotations

import re
import shlex
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
SCRIPT = ROOT / "docker" / "build.sh"
DEFINITION = (ROOT / "docker" / "mfpde.def").read_text()
PAGE = (ROOT / "docs" / "docker.md").read_text()


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


def stays_outside(path: str) -> bool:
    """Does `.dockerignore` keep a file out of the image? Docker drops a slash at the end; the last match counts."""
    parts, outside = path.split("/"), False
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!").rstrip("/").split("/")
        any_depth = pattern[0] == "**"
        pattern = pattern[any_depth:]
        starts = range(len(parts)) if any_depth else (0,)
        if any(
            len(parts) - start >= len(pattern)  # a folder above it is enough
            and all(map(fnmatchcase, parts[start:], pattern))
            for start in starts
        ):
            outside = not line.startswith("!")
    return outside


def test_the_image_gets_what_its_commands_need_and_no_results():
    run_files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "runs").glob("*.toml")]
    assert len(run_files) >= 8
    packages = ["pyproject.toml", "requirements.lock", "docs/requirements.lock", ".python-version"]
    files = [
        "README.md",
        "mfpde/quickstart.toml",
        "meshes/disk.msh",
        "tests/conftest.py",
        ".ci/lock.py",
        "docs/conf.py",
    ]
    assert [path for path in [*run_files, *packages, *files] if stays_outside(path)] == []
    results = ["runs/in-context/run.toml", "runs/in-context/density/density_attention_0000.vtu", "results/a/run.toml"]
    others = [".git/HEAD", ".venv/bin/python", "tests/unit/__pycache__/a.pyc", ".hypothesis/a", "site/index.html"]
    assert [path for path in [*results, *others, "docker/results/build1.log"] if not stays_outside(path)] == []


def test_the_commit_comes_in_as_an_argument_and_stands_in_the_environment_and_in_a_label():
    last = steps()[[name for name, _ in steps()].index("USER") :]
    given = [pair for pair in last if pair[1].split("=")[0] in ("REVISION", "MFPDE_REVISION") or pair[0] == "LABEL"]
    assert given == [
        ("ARG", 'REVISION=""'),
        ("ENV", "MFPDE_REVISION=${REVISION}"),
        ("LABEL", "org.opencontainers.image.revision=${REVISION}"),
    ]
    assert 'export MFPDE_REVISION="{{ REVISION }}"' in section("environment")
    assert "org.opencontainers.image.revision {{ REVISION }}" in section("labels")
    for command in ("docker build", "apptainer build"):
        assert f'{command} --build-arg REVISION="$(git rev-parse HEAD)"' in PAGE


@pytest.mark.parametrize("command", [
    "python -m mfpde.solve /mfpde/runs/in-context.toml --directory /results/in-context",
    "python -m mfpde.plot /results/in-context",
    "python -m pytest",
])  # fmt: skip
def test_what_the_page_tells_to_run_inside_is_run_by_the_script(command):
    assert f"{command}\n" in PAGE or f"{command}`" in PAGE
    assert command in SCRIPT.read_text()


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
    from mfpde.parallel.mpi import _THREADS

    variables = dict(pair.split("=", 1) for name, text in steps() if name == "ENV" for pair in shlex.split(text))
    threads = {name: value for name, value in variables.items() if name in _THREADS}
    assert threads == {name: _THREADS[name] for name in threads}
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"} <= set(threads)
    for name in ("OMP_NUM_THREADS=1", "MFPDE_CACHE=", "NUMBA_CACHE_DIR=", "MPLCONFIGDIR="):
        assert name in DEFINITION.split("%environment")[1], name
    for name in ("HOME", "MFPDE_CACHE", "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "PYTHONPYCACHEPREFIX", "XDG_CACHE_HOME",
                 "HYPOTHESIS_STORAGE_DIRECTORY"):  # fmt: skip
        assert variables[name].startswith("/cache"), name
    assert variables["PYTEST_ADDOPTS"] == "-p no:cacheprovider"  # it would write into /mfpde


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
    refused = build("--bass", "debian")
    assert (refused.returncode, refused.stderr) == (2, "build.sh: --bass is no option; --help lists them\n")
    unfinished = build("--base")
    assert (unfinished.returncode, unfinished.stderr) == (2, "build.sh: --base needs a value\n")
