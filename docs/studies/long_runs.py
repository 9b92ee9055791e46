"""The shipped runs to ten times their horizon: `uv run python docs/studies/long_runs.py`.

    uv run python docs/studies/long_runs.py in-context bilinear
    uv run python docs/studies/long_runs.py digits --wall-time 20m
    uv run python docs/studies/long_runs.py digits --small

Each is solved as it is shipped but for `training.horizon` and twenty reports, into a temporary folder. How it ended,
the largest rise of its energy from one report to the next, the largest negative mass, the least density, warnings and
seconds stand in long_runs.json beside this file, and their table, of which docs/frames.md has a row, is printed from
there. A run that `--wall-time` ends has exit code 0 and has not come to its horizon.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfpde import Run, open_run

ROOT = Path(__file__).resolve().parents[2]
KEPT = Path(__file__).with_suffix(".json")
TIMES = 10.0
SMALL = {  # fewer samples, families and layers; all else as it is shipped
    "digits": ("task.samples=100", "task.test_samples=100", "model.heads=4", "model.neurons=2", "model.layers=3"),
}
UNSOLVED = ("vision-transformer",)  # for particles only
NAMES = sorted(path.stem for path in (ROOT / "runs").glob("*.toml") if path.stem not in UNSOLVED)


def horizon_of(name: str) -> float:
    """Ten times that of the run file."""
    return float(TIMES * tomllib.loads((ROOT / "runs" / f"{name}.toml").read_text())["training"]["horizon"])


def solve(name: str, directory: Path, wall_time: str | None, settings: Sequence[str]) -> tuple[int, Run]:
    """The exit code of the command, and what it has written."""
    horizon = horizon_of(name)
    words = ["--directory", str(directory), "--set", f"training.horizon={horizon}"]
    words += [word for each in settings for word in ("--set", each)]
    words += ["--set", f"output.every={horizon / 20.0}", *(["--wall-time", wall_time] if wall_time else [])]
    command = [sys.executable, "-m", "mfpde.solve", str(ROOT / "runs" / f"{name}.toml"), *words]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode, open_run(directory)


def signs(run: Run) -> dict[str, Any]:
    """Of a run that is sound: no rise of the energy beyond its remainder, no negative mass."""
    history = run.history
    rise = np.diff(history["energy"])
    left = np.abs(np.nan_to_num(history["energy_remainder"][1:])) * np.diff(history["tau"])
    return {
        "tau": float(history["tau"][-1]),
        "risk": float(history["risk"][-1]),
        "energy": float(history["energy"][-1]),
        "rise": float(rise.max(initial=-np.inf)),
        "unexplained": float((rise - left).max(initial=-np.inf)),
        "negative_mass": float(history["negative_mass"].max()),
        "min_density": float(history["min_density"].min()),
        "least_dissipation": float(history["dissipation"].min()),
        "steps": int(history["steps"][-1]),
    }


def measure(name: str, wall_time: str | None, settings: Sequence[str]) -> dict[str, Any]:
    """One run, in a folder that goes when it has been read."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        code, run = solve(name, Path(folder) / name, wall_time, settings)
        summary = run.summary or {}
        frames = sorted(set(summary.get("frames", {}).values()))
        found = {
            "exit": code,
            "horizon": horizon_of(name),
            "frames": frames,
            **signs(run),
            "warnings": summary.get("warnings", []),
        }
    return {**found, "seconds": round(time.perf_counter() - start)}


def table(kept: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    head = [
        "run",
        "frame",
        "τ",
        "exit code",
        "largest rise of the energy",
        "negative mass",
        "min ρ",
        "warnings",
        "seconds",
    ]
    lines = [head, ["---"] * len(head)]
    for name, found in sorted(kept.items()):
        signs = [f"{found[key]:.1e}" for key in ("rise", "negative_mass", "min_density")]
        last = [str(len(found["warnings"])), str(found["seconds"])]
        lines.append(
            [
                f"`{name}`",
                ", ".join(found["frames"]),
                f"{found['tau']:g} of {found['horizon']:g}",
                str(found["exit"]),
                *signs,
                *last,
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", choices=[*NAMES, []], metavar="RUN", help=f"{', '.join(NAMES)}; all if none")
    parser.add_argument("--wall-time", metavar="20m", help="of each run")
    parser.add_argument("--small", action="store_true", help=f"smaller, a row of its own: {', '.join(SMALL)}")
    parser.add_argument("--print", action="store_true", help="only the table of what has been measured")
    given = parser.parse_args()
    kept: dict[str, dict[str, Any]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name in () if given.print else given.runs or NAMES:
        row = f"{name}, small" if given.small else name
        kept[row] = measure(name, given.wall_time, SMALL.get(name, ()) if given.small else ())
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        sys.stdout.write(f"{row} {json.dumps(kept[row])}\n")
        sys.stdout.flush()
    sys.stdout.write(table(kept))


if __name__ == "__main__":
    main()
