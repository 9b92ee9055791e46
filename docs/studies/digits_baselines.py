"""What else reads the ten digits of `runs/digits.toml`: `uv run python docs/studies/digits_baselines.py`, a minute.

The same split of images, by scikit-learn with its defaults: the best linear readout of the pixels (least squares on
unit vectors, and logistic regression), and nearest neighbours; and the run's model without layers, whose readout of the
class token, which holds its place alone, is the same for all images. `--run DIR` adds the limit from a run directory.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier

from mfpde import open_run
from mfpde.config import run_file
from mfpde.problem.datasets import digits

RUN = Path(__file__).parents[2] / "runs" / "digits.toml"


def main(words: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="What else reads the ten digits.")
    parser.add_argument("--run", type=Path, help="a run directory, for the limit itself")
    given = parser.parse_args(words)
    sys.stdout.write("| read by | training | test |\n| --- | --- | --- |\n")
    for name, training, test in rows(given.run):
        sys.stdout.write(f"| {name} | {100 * training:.1f} % | {100 * test:.1f} % |\n")
    return 0


def rows(directory: Path | None) -> Iterator[tuple[str, float, float]]:
    """Name, training and test accuracy."""
    task = run_file.load(RUN).content["task"]
    raw = digits(10, task["samples"], task["test_samples"], patch=1, centred=True, free=0, seed=task.get("seed", 0))
    assert raw.test_tokens is not None  # noqa: S101
    assert raw.test_targets is not None  # noqa: S101
    x, z = (tokens[:, :-1, 0] for tokens in (raw.tokens, raw.test_tokens))
    labels, test = raw.targets.argmax(axis=1), raw.test_targets.argmax(axis=1)

    most = np.bincount(labels).argmax()
    yield "no layers", float((labels == most).mean()), float((test == most).mean())
    for name, model in (
        ("least squares on the pixels", RidgeClassifier(alpha=1e-3)),
        ("logistic regression", LogisticRegression(max_iter=5000)),
        ("five nearest neighbours", KNeighborsClassifier()),
    ):
        model.fit(x, labels)
        yield name, model.score(x, labels), model.score(z, test)

    if directory is not None:
        history = open_run(directory).history
        name = f"the limit, tau = {history['tau'][-1]:g}"
        yield name, float(history["accuracy"][-1]), float(history["test_accuracy"][-1])


if __name__ == "__main__":
    sys.exit(main())
