"""`mfpde NAME`, `python -m mfpde` and `python -m mfpde.info`: what they print, from how many ranks, and their codes."""

from __future__ import annotations

import pytest

import mfpde.__main__
from support.launch import run


@pytest.mark.parametrize("ranks", [None, 2])
def test_unknown_command_is_one_line_and_code_2(ranks):
    ended = run("-m", "mfpde", "slove", ranks=ranks)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert (
        ended.stderr
        == "mfpde: 'slove' is no command; allowed: solve, particles, compare, sweep, plot, info; did you mean solve?\n"
    )


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_help_names_every_command(words):
    ended = run("-m", "mfpde", *words)
    assert ended.returncode == 0
    assert all(name in ended.stdout for name in mfpde.__main__.COMMANDS)


def test_the_console_script_is_the_module():
    direct, through = run("-m", "mfpde.solve", "--help"), run("-m", "mfpde", "solve", "--help")
    assert direct.returncode == through.returncode == 0
    assert direct.stdout == through.stdout
    bad = run("-m", "mfpde", "solve", "no-such-file.toml")
    assert bad.returncode == 2
    assert "no-such-file.toml" in bad.stderr


def test_info_prints_once_whatever_the_number_of_ranks():
    ended = run("-m", "mfpde.info", ranks=2)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("mpi4py") == 1
    for title in ("mfpde", "libraries", "MPI", "PETSc", "cores", "environment", "caches"):
        assert f"\n{title}\n" in "\n" + ended.stdout
    assert "2 on 1 host(s)" in ended.stdout


def test_info_refuses_arguments_in_one_line():
    ended = run("-m", "mfpde.info", "--all")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
