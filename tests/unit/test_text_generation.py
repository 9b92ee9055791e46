"""Text written by the limit: what is likeliest, draws from a law, what cannot be written."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pytest

import mfpde
from mfpde.errors import InputError
from mfpde.generate import main
from mfpde.problem.datasets.characters import language
from mfpde.solve import main as solve

RUN = """
[task]
name = "text"
path = "abc.txt"
context = 3
samples = 0
test_samples = 0
width = 6
free = 6

[model]
name = "value-attention"
heads = 2
neurons = 4
layers = 1
loss = "bits"
spread = {spread}

[training]
method = "adamw"
learning_rate = 0.1
weight_decay = 0.001
steps = 60

[density]
nodes = {nodes}

[output]
every = 60
"""


@pytest.fixture(
    scope="module", params=[(0.0, 4), pytest.param((0.3, 32), marks=pytest.mark.slow)], ids=["one rule", "replicas"]
)
def trained(request, tmp_path_factory) -> Path:
    """A run that has learnt to go on with abcabc…; nodes of a midpoint rule, and eight replicas of random ones."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "abc.txt").write_text("abc" * 40)
    spread, nodes = request.param
    (folder / "abc.toml").write_text(RUN.format(spread=spread, nodes=nodes))
    assert solve([str(folder / "abc.toml")]) == 0
    return folder / "abc"


def test_the_likeliest_text_is_the_one_that_was_learnt(trained, capsys):
    assert main([str(trained), "--temperature", "0", "--length", "9", "--start", "ab"]) == 0
    assert capsys.readouterr().out == "abcabcabcab\n"
    assert mfpde.generate_text(trained, 4, temperature=0.0) == "abcabca"  # after the first of what was held out
    assert mfpde.generate_text(mfpde.open_run(trained), 4, temperature=0.0, start="a") == "abcab"


def test_draws_have_the_frequencies_of_the_law(trained):
    """At a high temperature all characters are as frequent; at one the text is hardly ever left."""
    hot = mfpde.generate_text(trained, 600, temperature=1e3, seed=1)[3:]
    assert [hot.count(kind) for kind in "abc"] == pytest.approx([200] * 3, abs=45)
    cold = mfpde.generate_text(trained, 200, seed=1)
    assert sum(a + b in ("ab", "bc", "ca") for a, b in pairwise(cold)) > 190
    assert cold == mfpde.generate_text(trained, 200, seed=1)
    assert hot[:50] != mfpde.generate_text(trained, 50, temperature=1e3, seed=2)[3:]


def test_the_law_is_that_of_the_runs_own_risk(trained):
    """Bits of the held-out part under the law that is written from, against the run's test risk."""
    from mfpde.config import run_file
    from mfpde.problem.transformer import residual_stream, sample_loss
    from mfpde.runs.text_generation import trained_units

    given = run_file.load(trained / "run.toml")
    model, units = trained_units(given, trained)
    characters, codes = language(trained.parent / "abc.txt", 3, 6, 6)
    assert characters.kinds == "abc"
    _, task = given.build()

    def bits(own, tokens, target):
        return sample_loss(model, model.readout(residual_stream(model, own, tokens)), target)

    each = jax.vmap(jax.vmap(bits, in_axes=(None, 0, 0)), in_axes=(0, None, None))
    found = np.asarray(each(units, task.test_tokens, task.test_targets)).mean()
    assert found == pytest.approx(mfpde.open_run(trained).history["test_risk"][-1], rel=1e-6)
    assert len(codes) == 120


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--length", "0"], "--length = 0: must be a whole number"),
        (["--length", "many"], "--length = 'many': must be a whole number"),
        (["--temperature", "-1"], "--temperature = -1.0: must be a finite number, at least 0"),
        (["--temperature", "hot"], "--temperature = 'hot': must be a finite number, at least 0"),
        (["--seed", "-1"], "--seed = -1: must be a whole number"),
        (["--start", "abd"], "start: the character 'd' is not in the text that was learnt: 'abc'"),
    ],
)
def test_what_cannot_be_written(trained, words, line, capsys):
    assert main([str(trained), *words]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1


def test_runs_that_write_no_text(trained, tmp_path, capsys):
    (tmp_path / "scalars.toml").write_text(
        '[task]\nname = "scalars"\n[model]\nname = "linear"\n[training]\nweight_decay = 0.1\nhorizon = 0.1\n'
    )
    assert solve([str(tmp_path / "scalars.toml")]) == 0
    capsys.readouterr()
    for folder, line in (
        (tmp_path / "scalars", "writes no text; needs the task 'text'"),
        (tmp_path / "none", "does not exist"),
        (tmp_path, "holds no run of mfpde"),
    ):
        assert main([str(folder)]) == 2
        assert line in capsys.readouterr().err
    with pytest.raises(InputError, match=r"^length = 0: must be"):
        mfpde.generate_text(trained, 0)
