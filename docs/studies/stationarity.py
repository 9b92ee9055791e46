"""The tables and the figure of docs/stationarity.md: `uv run python docs/studies/stationarity.py [PART …]`.

Parts: `teacher`, `cluster`, `particles` and `clusters` take minutes on one core, `slopes` an hour; all of them
unless given. Runs go to build/stationarity and are not solved twice; numbers are kept in docs/studies/stationarity.json
and all that are kept are printed.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CASES, BUILD = ROOT / "tests/exact/cases", ROOT / "build/stationarity"
KEPT = Path(__file__).with_suffix(".json")
sys.path[:0] = [str(ROOT / "tests"), str(CASES)]

from convex import INPUTS, one_slope, two_clusters

from exact.convex_programme import Minimum, Programme, slopes_minimum
from mfpde import Task, open_run

type Row = dict[str, float | str]
CARRIED = 'density.frame="lagrangian"'
BORDER = 1.2  # |w| between the two clusters


def family(name: str, over: str, *settings: str, into: str = "") -> tuple[Path, list[dict[str, str]]]:
    """Solve a family of runs of a case; its directory and the rows of its table."""
    directory = BUILD / (into or name)
    words = [sys.executable, "-m", "mfpde.sweep", str(CASES / f"{name}.toml"), "--over", over]
    for setting in settings:
        words += ["--set", setting]
    subprocess.run([*words, "--directory", str(directory)], check=True, cwd=ROOT)
    with (directory / "sweep.csv").open(encoding="utf-8") as file:
        return directory, list(csv.DictReader(file))


def programme(task: Task, decay: float) -> Programme:
    """The convex programme of a task of one token with one channel."""
    return Programme(INPUTS, np.asarray(task.targets)[:, 0], decay)


def numbers(row: dict[str, str], minimum: float) -> Row:
    """What all tables say of a run."""
    return {
        "weight_decay": float(row["training.weight_decay"]), "tau": float(row["tau"]), "energy": float(row["energy"]),
        "minimum": minimum, "excess": float(row["energy"]) - minimum, "risk": float(row["risk"]),
        "gap": float(row["gap"]), "ended": row["ended"],
    }  # fmt: skip


def slopes() -> list[Row]:
    """One slope, λ over two decades; the figure is the family's."""
    directory, rows = family("slopes", "training.weight_decay=0.03,0.01,0.003,0.001,0.0003")
    shutil.copy(directory / "sweep.png", ROOT / "docs/figures/stationarity.png")
    targets = np.asarray(one_slope().targets)[:, 0]
    return [numbers(r, slopes_minimum(INPUTS, targets, float(r["training.weight_decay"]))[0]) for r in rows]


def cluster() -> list[Row]:
    """Neurons in one basin, in both frames that move."""
    kept = []
    carried = (CARRIED, "density.radius=5.5", "density.cells=8", "training.stationary=1e-9")
    frames = {"comoving": (), "lagrangian": carried}
    for frame, settings in frames.items():
        for decay in (0.1,) if settings else (0.1, 0.03):
            over = f"training.weight_decay={decay}"
            directory, rows = family("cluster", over, *settings, into=f"cluster-{frame}-{decay}")
            best = programme(one_slope(), decay).solve()
            run = open_run(directory / rows[0]["directory"])
            ends = {name: float(run.moments[name][-1]) for name in ("mass", "mean_0", "mean_1", "cov_00", "cov_11")}
            signs = {name: float(run.history[name][-1]) for name in ("negative_mass", "steps")}
            kept.append({"frame": frame} | numbers(rows[0], best.energy) | said(best, 0) | ends | signs)
    return kept


def said(best: Minimum, k: int) -> Row:
    """Place and mass of a cluster of the programme."""
    return {"best_a": float(best.a[k]), "best_w": float(best.w[k]), "best_mass": float(best.mass[k])}


def clusters() -> list[Row]:
    """Neurons of two kinds: masses and means on both sides of the border, with (−a, −w) counted as (a, w)."""
    directory, rows = family("clusters", "training.weight_decay=0.03", CARRIED, "density.cells=16")
    best = programme(two_clusters(), 0.03).solve()
    run = open_run(directory / rows[0]["directory"])
    a, w = np.meshgrid(np.linspace(-7.0, 7.0, 1401), np.linspace(-6.0, 6.0, 1201), indexing="ij")
    points = np.stack([a.ravel(), w.ravel()], axis=1)
    density = run.density(tau=run.history["tau"][-1], family="neuron", layer=0, theta=points).reshape(a.shape)
    return [numbers(rows[0], best.energy) | sides(a, w, 1e-4 * density)] + [said(best, k) for k in range(len(best.w))]


def sides(a: np.ndarray, w: np.ndarray, mass: np.ndarray) -> Row:
    """Mass, and mean (a, w) up to their common sign, within and beyond the border."""
    found: Row = {}
    for name, there in (("within", np.abs(w) < BORDER), ("beyond", np.abs(w) >= BORDER)):
        part = mass * there
        total = part.sum()
        found |= {
            f"mass_{name}": float(total), f"a_{name}": float((part * a * np.sign(w)).sum() / total),
            f"w_{name}": float((part * np.abs(w)).sum() / total),
        }  # fmt: skip
    return found


def particles(count: int = 60, end: float = 250.0, step: float = 0.1) -> list[Row]:
    """The two clusters by another flow: weighted units from a uniform grid on three deviations, classical RK4."""
    decay, r = 0.03, np.asarray(two_clusters().targets)[:, 0] - INPUTS
    problem = programme(two_clusters(), decay)
    best = problem.solve()
    grid = (np.arange(count) + 0.5) / count * 6.0 - 3.0
    gauss = np.exp(-0.5 * grid**2)
    mass = np.outer(gauss, gauss).ravel() / gauss.sum() ** 2
    units = np.stack([m.ravel() for m in np.meshgrid(grid, grid, indexing="ij")])

    def velocity(place: np.ndarray) -> np.ndarray:
        a, w = place
        table = np.tanh(np.outer(INPUTS, w))
        pull = (table @ (mass * a) - r) / len(r)
        return -np.stack([pull @ table + decay * a, a * ((pull * INPUTS) @ (1.0 - table**2)) + decay * w])

    for _ in range(round(end / step)):
        k1 = velocity(units)
        k2 = velocity(units + 0.5 * step * k1)
        k3 = velocity(units + 0.5 * step * k2)
        units = units + step / 6.0 * (k1 + 2.0 * (k2 + k3) + velocity(units + step * k3))
    a, w = units
    alpha = (r - np.tanh(np.outer(INPUTS, w)) @ (mass * a)) / len(r)
    energy = 0.5 * len(r) * float(alpha @ alpha) + 0.5 * decay * float(mass @ (a**2 + w**2))
    potential = -a * (alpha @ np.tanh(np.outer(INPUTS, w))) + 0.5 * decay * (a**2 + w**2)
    gap = float(mass @ potential) - problem.least(alpha)[1]
    excess = energy - best.energy
    return [{"tau": end, "energy": energy, "minimum": best.energy, "excess": excess, "gap": gap, **sides(a, w, mass)}]


def teacher() -> list[Row]:
    """Heads and neurons in three layers: how risk, dissipation and gap fall until the run ends by itself."""
    kept: list[Row] = []
    settings = (CARRIED, "density.cells=8", "training.stationary=1e-6", "training.horizon=400.0", "output.every=2.0")
    directory, rows = family("teacher", "training.weight_decay=0.1,0.03", *settings)
    for row in rows:
        history = open_run(directory / row["directory"]).history
        for k in np.flatnonzero(np.isfinite(history["gap"])):
            names = ("tau", "risk", "energy", "dissipation", "gap", "negative_mass", "steps")
            values: Row = {name: float(history[name][k]) for name in names}
            kept.append({"weight_decay": row["training.weight_decay"], "ended": row["ended"]} | values)
    return kept


PARTS: dict[str, Callable[[], list[Row]]] = {
    "cluster": cluster, "particles": particles, "teacher": teacher, "slopes": slopes, "clusters": clusters
}  # fmt: skip


def main(words: list[str]) -> int:
    """Measure the parts that are named, keep the numbers, print all that are kept."""
    unknown = [word for word in words if word not in PARTS]
    if unknown:
        sys.stderr.write(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}\n")
        return 2
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    for part in words or PARTS:
        kept[part] = PARTS[part]()
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    for part, rows in kept.items():
        sys.stdout.write(f"\n## {part}\n\n")
        for row in rows:
            cells = (
                f"{name} {value:.7g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
            sys.stdout.write(f"| {' | '.join(cells)} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
