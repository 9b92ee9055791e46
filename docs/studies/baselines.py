"""What else reads digits, signals and texts: `uv run python docs/studies/baselines.py`, two minutes.

For `digits.toml`, `digits-adamw.toml`, `mnist1d.toml` and `text.toml` in `runs/`, or for those that are named, a
table of the same samples by others. Pictures and signals: the most frequent class, the best linear readout of
the pixels or values (least squares on unit vectors, and logistic regression), and nearest neighbours, by scikit-learn
with its defaults. Texts: the frequencies of one to four characters, learnt from all of the text but the held-out tenth,
each with shorter ones where it knows less (Witten and Bell's interpolation), in bits per character of all of the tenth.

Where a run directory stands beside the run file, the limit's row comes from there, and from its folder `particles/`
those of finite Transformers of the same families, as after
`python -m mfpde.particles runs/mnist1d.toml --units 64 --seeds 1`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier

from mfpde import open_run
from mfpde.config import run_file
from mfpde.finite.record_files import load
from mfpde.problem.datasets import digits, mnist1d
from mfpde.problem.datasets.characters import language

RUNS = Path(__file__).parents[2] / "runs"
NAMES = ("digits", "digits-adamw", "mnist1d", "text")
MOST = 4  # characters of the longest frequencies
type Row = tuple[str, float, float]
type Values = NDArray[Any]


def main(words: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="What else reads digits, signals and texts.")
    parser.add_argument("runs", nargs="*", type=Path, help="run files; the shipped ones unless given")
    given = parser.parse_args(words)

    for path in given.runs or [RUNS / f"{name}.toml" for name in NAMES]:
        run = run_file.load(path)
        task = dict(run.content["task"])
        text = task.pop("name") == "text"
        unit = "bits per character" if text else "accuracy"
        sys.stdout.write(f"\n{path.name}\n\n| read by | {unit}, training | test |\n| --- | --- | --- |\n")
        others = of_text(task, run.base) if text else of_classes(run.content["task"])
        for name, training, test in [*others, *of_transformers(run.directory, text)]:
            shown = (f"{value:.3f}" if text else f"{100 * value:.1f} %" for value in (training, test))
            sys.stdout.write(f"| {name} | {' | '.join(shown)} |\n")
            sys.stdout.flush()
    return 0


def of_classes(task: Mapping[str, Any]) -> Iterator[Row]:
    """Accuracies of classifiers of scikit-learn."""
    x, labels, z, test = signals(task) if task["name"] == "mnist1d" else pixels(task)
    most = np.bincount(labels).argmax()
    yield "the most frequent class", float((labels == most).mean()), float((test == most).mean())

    for name, model in (
        ("least squares on unit vectors", RidgeClassifier(alpha=1e-3)),
        ("logistic regression", LogisticRegression(max_iter=5000)),
        ("five nearest neighbours", KNeighborsClassifier()),
    ):
        model.fit(x, labels)
        yield name, float(model.score(x, labels)), float(model.score(z, test))


def pixels(task: Mapping[str, Any]) -> tuple[Values, Values, Values, Values]:
    """All pixels of the images of `embedded-digits`, and their labels."""
    raw = digits(10, task["samples"], task["test_samples"], 1, centred=True, free=0, seed=task.get("seed", 0))
    assert raw.test_tokens is not None  # noqa: S101
    assert raw.test_targets is not None  # noqa: S101
    x, z = (tokens[:, :-1, 0] for tokens in (raw.tokens, raw.test_tokens))
    return x, raw.targets.argmax(axis=1), z, raw.test_targets.argmax(axis=1)


def signals(task: Mapping[str, Any]) -> tuple[Values, Values, Values, Values]:
    """All values of the signals, and their labels."""
    kept = {key: value for key, value in task.items() if key in ("samples", "test_samples", "seed")}
    raw = mnist1d(**kept, patch=40, stride=1, free=0)
    assert raw.test_tokens is not None  # noqa: S101
    assert raw.test_targets is not None  # noqa: S101
    return raw.tokens[:, 0], raw.targets.argmax(axis=1), raw.test_tokens[:, 0], raw.test_targets.argmax(axis=1)


def of_text(task: Mapping[str, Any], base: Path) -> Iterator[Row]:
    """Bits per character of frequencies of one to four characters."""
    path = task.get("path")
    characters, codes = language(None if path is None else base / path)
    cut = len(codes) - len(codes) // 10
    kinds = "".join(characters.kinds[code] for code in codes)
    learnt, held_out = kinds[:cut], kinds[cut:]

    tables = frequencies(learnt)
    for n, name in enumerate(("one character", "two characters", "three characters", "four characters"), start=1):
        yield f"frequencies of {name}", *(bits(tables, part, n, len(characters.kinds)) for part in (learnt, held_out))


def frequencies(text: str) -> dict[str, Counter[str]]:
    """How often each character stands behind each of up to three others."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for n in range(MOST):
        for place in range(n, len(text)):
            found[text[place - n : place]][text[place]] += 1
    return found


def bits(tables: Mapping[str, Counter[str]], text: str, most: int, kinds: int) -> float:
    """Mean of −log₂ P over a text, with frequencies of at most so many characters; its first ones know less."""
    known: dict[str, float] = {}
    total = 0.0
    for place in range(len(text)):
        seen = text[max(0, place - most + 1) : place + 1]
        if seen not in known:
            known[seen] = -math.log2(probability(tables, seen[:-1], seen[-1], kinds))
        total += known[seen]
    return total / len(text)


def probability(tables: Mapping[str, Counter[str]], before: str, character: str, kinds: int) -> float:
    """P(c|h) = (n(hc) + t(h) P(c|h′)) / (n(h) + t(h)): t(h) kinds were seen behind h, and h′ is h less its first."""
    shorter = probability(tables, before[1:], character, kinds) if before else 1.0 / kinds
    counts = tables.get(before)
    if not counts:
        return shorter
    return (counts[character] + len(counts) * shorter) / (counts.total() + len(counts))


def of_transformers(directory: Path, text: bool) -> Iterator[Row]:
    """The limit and the finite Transformers of a run directory, if there is one."""
    one, other = ("risk", "test_risk") if text else ("accuracy", "test_accuracy")
    for path in sorted((directory / "particles").glob("*.npz")):
        record = load(path)
        yield f"finite Transformer, {record.job.name}", record.columns[one][-1], record.columns[other][-1]

    if (directory / "history.csv").is_file():
        history = open_run(directory).history
        yield f"the limit, tau = {history['tau'][-1]:.3g}", float(history[one][-1]), float(history[other][-1])


if __name__ == "__main__":
    sys.exit(main())
