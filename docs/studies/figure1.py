"""Figure 1 of the paper with its limit: `uv run python docs/studies/figure1.py` makes docs/figure-1.md again.

It solves runs/figure-1.toml, trains finite Transformers of that run file and of runs/vision-transformer.toml, gathers
their curves in docs/figure-1.json, and writes the page and the picture from that. `--draw` does the last alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HEADS = (4, 10, 20, 40)
QUANTITIES = ("risk", "accuracy", "test_risk", "test_accuracy")
LOW, VISION = "figure-1", "vision-transformer"
TRAINING = {  # what follows `python -m mfpde.particles runs/NAME.toml`
    LOW: ["--seeds", "3", "--learning-rate", "0.02"],
    VISION: ["--seeds", "3", "--learning-rate", "0.05"],
}
type Curves = Mapping[str, Any]
"""`tau` (t,), and per quantity of QUANTITIES (t,) for the limit or (seeds, t) for a number of heads."""


def commands() -> list[list[str]]:
    """All that has to be run before there is something to draw."""
    units = ",".join(map(str, HEADS))
    trained = [
        ["-m", "mfpde.particles", f"runs/{name}.toml", "--units", units, *words] for name, words in TRAINING.items()
    ]
    return [["-m", "mfpde.solve", f"runs/{LOW}.toml", "--overwrite"], *trained]


def gather(runs: Path) -> dict[str, Any]:
    """The curves of run directories, and what no layer can do."""
    found: dict[str, Any] = {LOW: {}, VISION: {}}
    for name in found:
        for heads in HEADS:
            found[name][str(heads)] = _of_heads(runs / name / "particles" / "history.csv", heads)
    with (runs / LOW / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found[LOW]["limit"] = {key: [float(row[key]) for row in rows] for key in ("tau", *QUANTITIES)}
    summary = json.loads((runs / LOW / "summary.json").read_text(encoding="utf-8"))
    found["seconds"], found["ranks"] = float(rows and summary_seconds(summary)), summary.get("ranks")
    found["readouts"] = {name: readouts(name) for name in (LOW, VISION)}
    return found


def summary_seconds(summary: Mapping[str, Any]) -> float:
    """Wall seconds of a solve."""
    return float(summary["wall"])


def _of_heads(path: Path, heads: int) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["units"] == str(heads)]
    seeds = sorted({row["seed"] for row in rows})
    curves = {
        key: [[float(row[key]) for row in rows if row["seed"] == seed] for seed in seeds]
        for key in ("tau", *QUANTITIES)
    }
    return {**curves, "tau": curves["tau"][0]}


def readouts(name: str) -> dict[str, list[float]]:
    """Training and test accuracy of the model's own readout without layers, and of the best linear one, fitted."""
    import jax.numpy as jnp  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    from mfpde import config  # noqa: PLC0415

    model, task = config.load(ROOT / "runs" / f"{name}.toml").build(trial=False)
    assert task.test_tokens is not None
    assert task.test_targets is not None
    fitted = LogisticRegression(C=1e4, max_iter=2000)
    fitted.fit(task.tokens.reshape(task.samples, -1), task.targets.argmax(1))
    found: dict[str, list[float]] = {"zero layers": [], "best linear readout": []}
    for tokens, targets in ((task.tokens, task.targets), (task.test_tokens, task.test_targets)):
        own = [int(model.readout(jnp.asarray(sample)).argmax()) for sample in tokens]
        for kind, guessed in (("zero layers", own), ("best linear readout", fitted.predict(tokens.reshape(len(tokens), -1)))):
            found[kind].append(float(np.mean(np.asarray(guessed) == targets.argmax(1))))
    return found


def last(curves: Curves, quantity: str) -> tuple[float, float]:
    """Mean over seeds at the end, and its standard error."""
    ends = np.atleast_2d(curves[quantity])[:, -1]
    return float(ends.mean()), float(ends.std(ddof=1) / np.sqrt(len(ends))) if len(ends) > 1 else 0.0


def ordered(curves: Mapping[str, Curves], heads: Sequence[int] = HEADS) -> bool:
    """Does the mean final loss fall with every number of heads?"""
    ends = [last(curves[str(m)], "risk")[0] for m in heads]
    return all(more < fewer for fewer, more in zip(ends, ends[1:], strict=False))


def beyond(curves: Mapping[str, Curves], most: int = HEADS[-1]) -> bool:
    """Is the limit's loss below, and its accuracy above, that of the largest M, or within two standard errors?"""
    (risk, risk_error), (accuracy, accuracy_error) = (last(curves[str(most)], key) for key in ("risk", "accuracy"))
    limit = curves["limit"]
    return bool(
        limit["risk"][-1] <= risk + 2.0 * risk_error and limit["accuracy"][-1] >= accuracy - 2.0 * accuracy_error
    )


def figure(found: Mapping[str, Any]) -> None:
    """Loss and accuracy against τ: the low-dimensional Transformer with its limit, and the Vision Transformer."""
    canvas, axes = plt.subplots(2, 2, figsize=(9.2, 6.4), sharex="col", layout="constrained")
    colours = plt.get_cmap("viridis")(np.linspace(0.85, 0.15, len(HEADS)))
    titles = {LOW: "heads of 2 parameters, and their limit", VISION: "Vision Transformer"}
    for column, (name, title) in enumerate(titles.items()):
        for row, (key, label) in enumerate((("risk", "training loss"), ("accuracy", "training accuracy"))):
            panel = axes[row, column]
            for m, colour in zip(HEADS, colours, strict=True):
                curves = found[name][str(m)]
                values = np.asarray(curves[key])
                panel.plot(curves["tau"], values.mean(0), color=colour, label=f"M = {m}")
                panel.fill_between(curves["tau"], values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
            if "limit" in found[name]:
                limit = found[name]["limit"]
                panel.plot(limit["tau"], limit[key], color="black", linewidth=1.8, label="M = ∞ (PDE)")
            panel.set(ylabel=label)
            panel.grid(alpha=0.3)
            if key == "risk":
                panel.set(yscale="log", title=title)
        axes[1, column].set(xlabel="training time τ")
        axes[0, column].legend(frameon=False, fontsize=9)
    for ending in ("png", "pdf"):
        canvas.savefig(DOCS / "figures" / f"figure-1.{ending}", dpi=160, metadata={} if ending == "png" else {"CreationDate": None})
    plt.close(canvas)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def percent(value: float) -> str:
    """97.4 %."""
    return f"{100.0 * value:.1f} %"


def ends(curves: Mapping[str, Curves]) -> str:
    """A row per number of heads, and one for the limit."""
    rows = []
    for label in [*map(str, HEADS), *(["limit"] if "limit" in curves else [])]:
        risk, error = last(curves[label], "risk")
        spread = f" ± {error:.4f}" if label != "limit" else ""
        others = [percent(last(curves[label], key)[0]) for key in ("accuracy", "test_accuracy")]
        rows.append(["∞ (PDE)" if label == "limit" else label, f"{risk:.4f}{spread}", others[0], f"{last(curves[label], 'test_risk')[0]:.3f}", others[1]])
    return table(["M", "training loss", "training accuracy", "test loss", "test accuracy"], rows)
