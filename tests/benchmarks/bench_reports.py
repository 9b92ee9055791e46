"""What reports cost: `uv run python tests/benchmarks/bench_reports.py --json FILE`.

A tiny run with ever more reports, up to 10,000: processor seconds of the command, those of a report beyond the first
run's, and bytes written for one, which stay the same where the cost is linear. Then runs with 20 reports: the part of
their seconds that reports took, by `timings.csv`. All are warm runs: each command is run once before. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import mfpde
from support.launch import run

ROOT = Path(__file__).resolve().parents[2]
TINY = """
task = {name = "scalars", samples = 4, mean = 1.0, std = 0.5, target_mean = 2.0, target_std = 0.2, seed = 0}
model = {name = "bilinear", layers = 1}
training = {weight_decay = 0.05, horizon = 1.0}
density = {cells = 4}
initial.bilinear = {law = "normal", mean = [0.5, 0.4], std = [0.3, 0.3]}
"""
COUNTS = (100, 1000, 3000, 10_000)
TWENTY = {  # arguments of mfpde.solve with which a run has 20 reports after the one at 0
    "in-context": ["runs/in-context.toml"],
    "bilinear": ["runs/bilinear.toml"],
    "quick start": ["--set", "output.every=0.15"],
}


def solve(words: list[str], folder: Path) -> dict[str, float]:
    """Seconds of one command, wall and processor, and the bytes that it wrote."""
    start, before = time.perf_counter(), os.times()
    ended = run("-m", "mfpde.solve", *words, "--directory", folder / "run", "--overwrite", directory=ROOT, timeout=3600)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    size = sum(path.stat().st_size for path in (folder / "run").rglob("*") if path.is_file())
    return {"wall": time.perf_counter() - start, "processor": processor, "bytes": float(size)}


def tiny(folder: Path) -> list[dict[str, float]]:
    """The tiny run with each number of reports."""
    file = folder / "tiny.toml"
    file.write_text(TINY)
    solve([str(file), "--set", "output.every=0.1"], folder)

    rows: list[dict[str, float]] = []
    for count in COUNTS:
        row = {"reports": float(count), **solve([str(file), "--set", f"output.every={1.0 / count!r}"], folder)}
        last = rows[-1] if rows else None
        row["each"] = (
            float("nan") if last is None else (row["processor"] - last["processor"]) / (count - last["reports"])
        )
        row["bytes_each"] = row["bytes"] / count
        rows.append(row)
        shown = [f"{row['reports']:,.0f}", f"{row['processor']:.1f} s", f"{row['wall']:.1f} s"]
        show(*shown, f"{1e3 * row['each']:.2f} ms", f"{row['bytes_each']:,.0f}")
    return rows


def share(words: list[str], folder: Path) -> dict[str, float]:
    """The part of a run's seconds that its reports took, and how many seconds that is for one."""
    for _ in range(2):
        seconds = solve(words, folder)
    table = mfpde.open_run(folder / "run").timings
    output, wall, count = float(table["output"][-1]), float(table["wall"][-1]), len(table["tau"])
    return {**seconds, "reports": float(count), "output": output, "run": wall, "share": output / wall}


def show(*cells: str) -> None:
    """A row of a table in Markdown."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        show("reports", "processor", "wall", "one more", "bytes of one")
        show(*["---"] * 5)
        results: dict[str, object] = {"tiny": tiny(folder)}

        sys.stdout.write("\n")
        show("run", "reports", "processor", "run", "output", "share")
        show(*["---"] * 6)
        for name, words in TWENTY.items():
            row = results[name] = share(words, folder)
            shown = [f"{row['reports']:.0f}", f"{row['processor']:.1f} s", f"{row['run']:.1f} s"]
            show(name, *shown, f"{row['output']:.2f} s", f"{100.0 * row['share']:.1f} %")

    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
