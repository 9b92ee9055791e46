"""What the documents say is true: their Python runs, their run files load, their files and commands exist."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from launch import run

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *(p for room in ("docs", "docker", "meshes", "runs") for p in (ROOT / room).rglob("*.md")),
    ]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language: number of lines before the code, and the code."""
    text = path.read_text()
    return [(text[: m.start(2)].count("\n"), m[2]) for m in FENCE.finditer(text) if m[1] == language]


def having(language: str) -> list[object]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in DOCUMENTS if blocks(path, language)]


@pytest.mark.slow
@pytest.mark.parametrize("path", having("python"))
def test_python_blocks_run(path, tmp_path):
    script = ""
    for before, code in blocks(path, "python"):  # one program per document, with the document's own line numbers
        script += "\n" * (before - script.count("\n")) + code
    (tmp_path / f"{path.stem}.py").write_text(script)
    ended = run(f"{path.stem}.py", directory=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout


@pytest.mark.parametrize("path", having("toml"))
def test_run_files_in_documents_load(path, tmp_path):
    from mfpde import config

    for number, (_, code) in enumerate(blocks(path, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(code)
        assert config.load(file, [], None)


@pytest.mark.parametrize("path", having("sh"))
def test_commands_in_documents_exist(path):
    for _, code in blocks(path, "sh"):
        for module in re.findall(r"python -m (mfpde[\w.]*)", code):
            assert find_spec(module), module
        for file in re.findall(r"\bruns/[\w-]+\.toml", code):
            assert file == "runs/NAME.toml" or (ROOT / file).exists(), file


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert re.match(r"https?:", target) or (path.parent / target).exists(), target


def test_the_readme_lists_every_run_file():
    listed = set(re.findall(r"^\| `(runs/[\w-]+\.toml)`", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert listed == {str(path.relative_to(ROOT)) for path in (ROOT / "runs").glob("*.toml")}


@pytest.mark.slow
@pytest.mark.skipif(
    not all(find_spec(name) for name in ("sphinx", "myst_parser", "furo")),
    reason="needs the dependency group docs: uv run --group docs pytest",
)
def test_the_site_is_built_without_warnings(tmp_path):
    ended = run("-m", "sphinx", "-W", "--keep-going", "-q", ROOT / "docs", tmp_path / "site", directory=ROOT)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "site" / "index.html").exists()
