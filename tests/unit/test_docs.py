"""What the documents say is true: their code runs, their run files load, their files and commands exist."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest

import mfpde.__main__
from support.blocks import DOCUMENTS, FENCE, NAME, ROOT, blocks, commands, examples, furnish, lines, parsed
from support.launch import environment, run

PROGRAMS = {"uv", "bash", "pip", "python3", "docker", "docker/build.sh", "mkdir", "pvbatch", "xvfb-run", "apptainer",
            "srun", ".uv/bin/pip", ".uv/bin/uv", "for", "uvx", "done", "mpirun", "python", "git", "cd"}  # fmt: skip


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
    from mfpde.config import run_file

    for number, (_, code) in enumerate(blocks(path, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(code)
        assert run_file.load(file, [], None)


@pytest.mark.parametrize("path", having("sh"))
def test_commands_in_documents_are_understood(path):
    for words in lines(path):
        assert words[0] in PROGRAMS, words
        for file in re.findall(r"(?<!\S)(?:runs|docs|tests|docker)/\S+\.(?:toml|py|sh|def)", " ".join(words)):
            assert file == NAME or (ROOT / file).exists(), file
    for name, words in commands(path):
        assert parsed(name, words)


@pytest.mark.parametrize("name", mfpde.__main__.COMMANDS)
def test_help_has_examples_that_are_understood(name):
    shown = list(examples(name))
    assert len(shown) >= 2
    for words in shown:
        assert parsed(name, words)
        assert all((ROOT / word).exists() for word in words if word.endswith(".toml"))


def run_small(path, place):
    furnish(place)
    code = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    ended = run("-m", "support.blocks", path.relative_to(ROOT), directory=place, changes={"PYTHONPATH": code},
                timeout=1500)  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert ended.stdout.count("\n+ ") + 1 == len(list(commands(path)))


@pytest.mark.study
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=str(p.relative_to(ROOT))) for p in DOCUMENTS if p.stem != "docker" and list(commands(p))],
)
def test_commands_in_documents_run(path, tmp_path):
    run_small(path, tmp_path)


def test_every_block_is_of_a_kind_that_is_checked():
    """What a program prints has no language, and a drawing is text: all else is run, parsed or built above."""
    kinds = {"python", "toml", "sh", "bash", "text", "{eval-rst}", "{toctree}", ""}
    for path in DOCUMENTS:
        text = path.read_text()
        assert {m[2] for m in FENCE.finditer(text)} <= kinds, path
        outside = FENCE.sub("", text)
        assert not re.search(r"\n\n {4}\S", outside), f"{path}: a block that is indented is not checked"


@pytest.mark.parametrize("name", mfpde.__main__.COMMANDS)
def test_the_page_of_commands_shows_their_help(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"mfpde.{name}").main(["--help"])
    assert ended.value.code == 0
    shown = f"```text\n$ python -m mfpde.{name} --help\n{capsys.readouterr().out}```\n"
    assert shown in (ROOT / "docs" / "commands.md").read_text(), f"docs/commands.md should have\n{shown}"


@pytest.mark.slow
def test_the_job_script_is_stopped_and_put_back_into_the_queue(tmp_path):
    """As it stands, with a queue that is played: TERM comes, the run is saved, the second job goes on to the end."""
    ((_, script),) = blocks(ROOT / "docs" / "clusters.md", "bash")
    furnish(tmp_path)
    bin_, scratch = tmp_path / "bin", tmp_path / "scratch"
    bin_.mkdir()
    scratch.mkdir()
    longer = "--set training.horizon=1.0 --set time.step=0.005 --set output.every=0.25"
    played = {
        "srun": f'exec "$@" {longer}',
        "scontrol": f'echo "$@" >> {tmp_path}/queue',
        "python": f'exec {sys.executable} "$@"',
    }
    for name, text in played.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_ / name).chmod(0o755)
    (tmp_path / "job.sh").write_text(script)
    world = environment(
        PATH=f"{bin_}{os.pathsep}{os.environ['PATH']}", SCRATCH=str(scratch), SLURM_JOB_ID="7", PYTHONUNBUFFERED="1"
    )
    job = ["bash", str(tmp_path / "job.sh")]
    with subprocess.Popen(job, cwd=tmp_path, env=world, stdout=subprocess.PIPE, text=True) as first:
        for line in first.stdout:
            if line.startswith("tau 0.25"):
                first.send_signal(signal.SIGTERM)
                break
        assert first.wait(600) == 143
    assert (tmp_path / "queue").read_text() == "requeue 7\n"
    second = subprocess.run(job, cwd=tmp_path, env=world, capture_output=True, text=True, timeout=600, check=False)
    assert second.returncode == 0, second.stderr
    assert "resumed at tau 0." in second.stdout
    assert (tmp_path / "queue").read_text() == "requeue 7\n"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert re.match(r"https?:", target) or (path.parent / target).exists(), target


def test_the_readme_lists_every_run_file():
    listed = set(re.findall(r"^\| `(runs/[\w-]+\.toml)`", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert listed == {str(path.relative_to(ROOT)) for path in (ROOT / "runs").glob("*.toml")}


def test_contributing_lists_every_folder_of_tests():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    listed = re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)
    assert sorted(listed) == sorted({path.parent.name for path in (ROOT / "tests").glob("*/*.py")} - {"cases"})


def test_no_command_removes_an_environments_own_dolfinx():
    """uv takes away what its lock does not name, unless it is told `--inexact`."""
    text = "\n".join(path.read_text() for path in DOCUMENTS)
    for command in re.findall(r"uv sync[^`\n#]*--no-group dolfinx", text):
        assert "--inexact" in command


@pytest.mark.slow
@pytest.mark.skipif(
    not all(find_spec(name) for name in ("sphinx", "myst_parser", "furo")),
    reason="needs the dependency group docs: uv run --group docs pytest",
)
def test_the_site_is_built_without_warnings(tmp_path):
    ended = run("-m", "sphinx", "-W", "--keep-going", "-q", ROOT / "docs", tmp_path / "site", directory=ROOT)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "site" / "index.html").exists()
