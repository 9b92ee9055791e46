"""`mfpde NAME`, `python -m mfpde` and `python -m mfpde.info`: what they print, from how many ranks, and their codes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import mfpde.__main__
from mfpde import info
from support.launch import run


def test_unknown_command_is_one_line_and_code_2():
    ended = run("-m", "mfpde", "slove", ranks=2)
    assert ended.returncode == 2
    assert ended.stdout == ""
    known = "solve, particles, compare, sweep, plot, view, generate, info"
    assert ended.stderr == f"mfpde: 'slove' is no command; allowed: {known}; did you mean solve?\n"


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help_names_every_command(words, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["mfpde", *words])
    assert mfpde.__main__.main() == 0
    out = capsys.readouterr().out
    assert all(name in out for name in mfpde.__main__.COMMANDS)


def completed(script: Path, *words: str, folder: Path) -> list[str]:
    """What bash offers for the last word."""
    code = (
        f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        'COMP_LINE="${COMP_WORDS[*]}"; $(complete -p mfpde | sed "s/.*-F \\([^ ]*\\) .*/\\1/") mfpde; '
        'printf "%s\n" "${COMPREPLY[@]}"'
    )
    ended = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=folder, check=True)
    return ended.stdout.split()


def test_a_shell_completes_commands_options_and_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["mfpde", "--completion", "bash"])
    assert mfpde.__main__.main() == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "case.toml").touch()
    (tmp_path / "case-folder").mkdir()

    assert completed(script, "mfpde", "s", folder=tmp_path) == ["solve", "sweep"]
    assert set(completed(script, "mfpde", "''", folder=tmp_path)) >= set(mfpde.__main__.COMMANDS)
    assert completed(script, "mfpde", "solve", "--est", folder=tmp_path) == ["--estimate-error"]
    assert completed(script, "mfpde", "particles", "--le", folder=tmp_path) == ["--learning-rate"]
    assert "case.toml" in completed(script, "mfpde", "solve", "cas", folder=tmp_path)
    assert completed(script, "mfpde", "compare", "cas", folder=tmp_path) == ["case-folder"]


def test_completion_of_zsh_and_of_none(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["mfpde", "--completion", "zsh"])
    assert mfpde.__main__.main() == 0
    out = capsys.readouterr().out
    assert out.startswith("#compdef mfpde")
    assert "--estimate-error" in out
    for words, line in (([], "--completion: of which shell? give one of bash, zsh"), (["fish"], "'bash', 'zsh'")):
        monkeypatch.setattr("sys.argv", ["mfpde", "--completion", *words])
        assert mfpde.__main__.main() == 2
        assert line in capsys.readouterr().err


def test_the_console_script_is_the_module():
    direct, through = (run("-m", *words, "no-such-file.toml") for words in (["mfpde.solve"], ["mfpde", "solve"]))
    assert direct.returncode == through.returncode == 2
    assert direct.stdout == through.stdout == ""
    assert "no-such-file.toml" in direct.stderr
    assert direct.stderr == through.stderr


def test_info_prints_once_whatever_the_number_of_ranks():
    ended = run("-m", "mfpde.info", ranks=2)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("mpi4py") == 1
    for title in ("mfpde", "libraries", "MPI", "PETSc", "cores", "environment", "caches"):
        assert f"\n{title}\n" in "\n" + ended.stdout
    assert "2 on 1 host(s)" in ended.stdout


def test_info_refuses_arguments_in_one_line(capsys):
    assert info.main(["--all"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
