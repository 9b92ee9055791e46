"""Whole commands, as the README shows them: `uv run python tests/benchmarks/bench_runs.py --repeats 3 --json FILE`.

Prints a table in Markdown: seconds of the command and of its parts, unknowns and ranks, medians of warm runs; and what
the quick start's accuracies are to be held against. Nothing else should be running.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mfpde.config import run_file
from mfpde.parallel.working_ranks import VARIABLE
from support.launch import run

ROOT = Path(__file__).resolve().parents[2]
COMMANDS: dict[str, tuple[list[str], tuple[int | None, ...]]] = {  # name, arguments of mfpde.solve, ranks or no mpirun
    "quick start": ([], (None, 1, 2, 8)),
    "in-context": (["runs/in-context.toml"], (None, 2)),
    "bilinear": (["runs/bilinear.toml"], (None, 2)),
}
COLUMNS = ("command", "wall", "sweep", "transport", "output")


def measure(words: list[str], ranks: int | None, repeats: int) -> dict[str, float]:
    """Medians over warm runs: seconds of the command, and summary.json's."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats + 1):
            start = time.perf_counter()
            target = ["--directory", folder, "--overwrite"]
            usual = {VARIABLE: ""}  # as a user types it, and not as the tests do
            ended = run("-m", "mfpde.solve", *words, *target, ranks=ranks, directory=ROOT, changes=usual, timeout=1200)
            if ended.returncode:
                raise RuntimeError(ended.stderr)
            summary = json.loads((Path(folder) / "summary.json").read_text())
            rows.append({**summary, "command": time.perf_counter() - start})
    wanted = (*COLUMNS, "right_hand_sides", "unknowns", "risk")
    return {name: statistics.median(row[name] for row in rows[1:]) for name in wanted}


def baselines() -> dict[str, float]:
    """Accuracies on the quick start's images: its readout with no layers, and the best linear readout of the tokens."""
    model, task = run_file.load(None).build()
    found = {}
    flat = [np.asarray(t).reshape(len(t), -1) for t in (task.tokens, task.test_tokens)]
    labels = [np.asarray(t).argmax(axis=1) for t in (task.targets, task.test_targets)]
    fitted = LogisticRegression(C=100.0, max_iter=5000).fit(flat[0], labels[0])
    for split, tokens, features, truth in zip(
        ("training", "test"), (task.tokens, task.test_tokens), flat, labels, strict=True
    ):
        outputs = np.asarray(jax.vmap(model.readout)(jnp.asarray(tokens)))
        found[f"no layers, {split}"] = float((outputs.argmax(axis=1) == truth).mean())
        found[f"best linear readout, {split}"] = float(fitted.score(features, truth))
    return found


def machine() -> str:
    """What it was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({(names or [platform.machine()])[0]}), {memory:.0f} GiB, {platform.system()}"


def main() -> None:
    """Measure and print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="warm runs of each command")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    given = parser.parse_args()
    write = sys.stdout.write
    results: dict[str, object] = {"machine": machine(), "repeats": given.repeats}
    write(f"{machine()}; medians of {given.repeats} warm runs\n\n")
    write(f"| run | ranks | unknowns | right-hand sides | {' | '.join(COLUMNS)} |\n|{'---|' * (4 + len(COLUMNS))}\n")
    for name, (words, counts) in COMMANDS.items():
        for ranks in counts:
            row = measure(words, ranks, given.repeats)
            results[f"{name}, {ranks}"] = row
            seconds = " | ".join(f"{row[key]:.1f} s" for key in COLUMNS)
            size = f"{row['unknowns']:,.0f} | {row['right_hand_sides']:.0f}"
            write(f"| {name} | {ranks or 'no mpirun'} | {size} | {seconds} |\n")
            sys.stdout.flush()
    results["baselines"] = baselines()
    write(json.dumps(results["baselines"], indent=2) + "\n")
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
