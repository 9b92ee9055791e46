"""Risks of the limit to eight digits, without its density: `python tests/exact/reference.py RUN.toml --tau 1,2,3,4,5`.

A tensor grid of weighted units over the initial laws is trained by the finite flow. Every rung of the ladder has a
finer and a wider grid than the one before; the digits that two rungs share are the ones that stand. Nothing of
mfpde.limit is used. The entry of RUN.toml is printed; with --write it also replaces the one in references.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mfpde.config import run_file
from mfpde.finite.flow import make_flow
from mfpde.finite.initial_units import tensor_units
from mfpde.finite.methods import runge_kutta

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
STORE = FOLDER / "references.json"
WANTED = 8  # digits


def ladder(start: list[int], growth: float, width: float) -> Iterator[tuple[list[int], float]]:
    """Points per coordinate and half-widths in standard deviations: widths grow by ½ up to 8 and spacings shrink."""
    factor = 1.0
    while True:
        yield [round(factor * n) for n in start], width
        width = min(width + 0.5, max(8.0, width))
        factor *= growth


def risks(
    run: run_file.RunFile, taus: list[float], points: list[int], half_width: float, tolerance: float
) -> list[float]:
    """R at each τ, from one grid of units; the last number of points goes for all further coordinates."""
    model, task = run.build()
    counts = {f.name: [points[min(k, len(points) - 1)] for k in range(f.dim)] for f in model.families}
    units = tensor_units("best", model, counts, half_width)
    flow = make_flow(model, task, run.training.weight_decay, units)
    found = []
    for snapshot in runge_kutta(flow, tolerance).snapshots(units, taus):
        sys.stderr.write(f"tau {snapshot.tau:g}: {snapshot.risk!r}, {snapshot.steps} steps\n")
        found.append(snapshot.risk)
    return found


def digits(risk: list[float], before: list[float]) -> list[int]:
    """How many significant digits two rungs share, at each τ."""
    difference = np.abs(np.subtract(risk, before)) / np.abs(risk)
    return [int(n) for n in np.floor(-np.log10(np.maximum(2.0 * difference, 1e-13)))]


def reference(run: run_file.RunFile, taus: list[float], given: argparse.Namespace) -> dict[str, Any]:
    """Climb until the wanted digits stand at every τ, or the largest grid is reached."""
    before: list[float] | None = None
    entry: dict[str, Any] = {}
    for points, width in ladder([int(n) for n in given.points.split("x")], given.growth, given.width):
        if max(points) > given.most:
            break
        began = time.perf_counter()
        found = risks(run, taus, points, width, given.tolerance)
        stood = digits(found, before) if before is not None else [0] * len(taus)
        seconds = round(time.perf_counter() - began, 1)
        sys.stderr.write(f"{points} points, half-width {width:g}, {seconds} s: {found}, digits {stood}\n")
        entry = {
            "tau": taus, "risk": found, "digits": stood, "points": points, "half_width": width,
            "tolerance": given.tolerance, "seconds": seconds,
        }  # fmt: skip
        if min(stood) >= WANTED:
            break
        before = found
    return entry


def name_of(path: Path) -> str:
    """The run file's place in the repository, or its name elsewhere."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def write(name: str, entry: dict[str, Any]) -> None:
    """Put an entry among those of references.json."""
    store = json.loads(STORE.read_text()) if STORE.exists() else {}
    store[name] = entry
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(store.items())]
    STORE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> int:
    """Entry point; 1 when fewer digits stand than wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN.toml")
    parser.add_argument("--tau", required=True, help="as 1,2,3")
    parser.add_argument("--points", default="16", help="in the first rung: per coordinate, or one by one as 96x36")
    parser.add_argument("--most", type=int, default=400, help="points per coordinate in the last rung")
    parser.add_argument("--growth", type=float, default=1.35, help="of the points, from rung to rung")
    parser.add_argument("--width", type=float, default=6.0, help="half-width in the first rung, standard deviations")
    parser.add_argument("--tolerance", type=float, default=1e-11, help="of a time step")
    parser.add_argument("--write", action="store_true", help="replace the entry in references.json")
    given = parser.parse_args()
    entry = reference(run_file.load(given.run), [float(t) for t in given.tau.split(",")], given)
    sys.stdout.write(json.dumps({name_of(given.run): entry}) + "\n")
    if given.write:
        write(name_of(given.run), entry)
    return 0 if entry and min(entry["digits"]) >= WANTED else 1


if __name__ == "__main__":
    raise SystemExit(main())
