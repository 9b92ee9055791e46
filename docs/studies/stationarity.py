"""The tables and the figure of docs/stationarity.md: `uv run python docs/studies/stationarity.py [PART …]`.

Each part takes minutes on one core; all of them unless given. Runs go to build/stationarity and are not solved twice;
numbers are kept in docs/studies/stationarity.json, and all that are kept are printed.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
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
LAWS = (CARRIED, "density.radius=3.0", "training.stationary=1e-8", "training.horizon=1000.0", "output.every=50.0")
DECAY = "training.weight_decay"
FAILED = 3  # exit code of a computation that fails; its rows are kept all the same
BORDER = 1.2  # |w| between the two clusters


def family(name: str, over: Sequence[str], *settings: str, into: str = "") -> tuple[Path, list[dict[str, str]]]:
    """Solve a family of runs of a case, those that are not there yet; its directory and the rows of its table."""
    directory = BUILD / (into or name)
    words = [sys.executable, "-m", "mfpde.sweep", str(CASES / f"{name}.toml"), "--overwrite"]
    for option, texts in (("--over", over), ("--set", settings)):
        words += [word for text in texts for word in (option, text)]
    code = subprocess.run([*words, "--directory", str(directory)], check=False, cwd=ROOT).returncode
    if code not in (0, FAILED):
        raise SystemExit(code)
    with (directory / "sweep.csv").open(encoding="utf-8") as file:
        return directory, list(csv.DictReader(file))


def programme(task: Task, decay: float) -> Programme:
    """The convex programme of a task of one token with one channel."""
    return Programme(INPUTS, np.asarray(task.targets)[:, 0], decay)


def numbers(row: dict[str, str], minimum: float) -> Row:
    """What all tables say of a run."""
    return {
        "weight_decay": float(row[DECAY]), "tau": float(row["tau"]), "energy": float(row["energy"]),
        "minimum": minimum, "excess": float(row["energy"]) - minimum, "risk": float(row["risk"]),
        "gap": float(row["gap"]), "ended": row["ended"],
    }  # fmt: skip


def slopes() -> list[Row]:
    """One slope, λ over two decades; the figure is the family's."""
    directory, rows = family("slopes", [f"{DECAY}=0.03,0.01,0.003,0.001,0.0003"], CARRIED, "output.every=5.0")
    shutil.copy(directory / "sweep.png", ROOT / "docs/figures/stationarity.png")
    targets = np.asarray(one_slope().targets)[:, 0]
    kept = []
    for row in rows:
        best, _ = slopes_minimum(INPUTS, targets, float(row[DECAY]))
        kept.append(numbers(row, best) | falling(directory / row["directory"]))
    return kept


def falling(directory: Path) -> Row:
    """The gap on the way: at the first report that has one, the start left out, and half way to the last."""
    history = open_run(directory).history
    told = np.flatnonzero(np.isfinite(history["gap"]))
    found: Row = {"steps": float(history["steps"][-1])}
    for when, k in (("early", told[1]), ("middle", told[len(told) // 2])):
        found |= {f"tau_{when}": float(history["tau"][k]), f"gap_{when}": float(history["gap"][k])}
    return found


def cluster() -> list[Row]:
    """Neurons in one basin, in both frames that move."""
    kept = []
    carried = (CARRIED, "density.radius=5.5", "density.cells=8", "training.stationary=1e-9")
    runs = {"comoving": ((), (0.1, 0.03)), "lagrangian": (carried, (0.1,))}
    for frame, (settings, decays) in runs.items():
        for decay in decays:
            directory, rows = family("cluster", [f"{DECAY}={decay}"], *settings, into=f"cluster-{frame}-{decay}")
            best = programme(one_slope(), decay).solve()
            run = open_run(directory / rows[0]["directory"])
            ends = {name: float(run.moments[name][-1]) for name in ("mass", "mean_0", "mean_1", "cov_00", "cov_11")}
            signs = {name: float(run.history[name][-1]) for name in ("negative_mass", "steps")}
            kept.append({"frame": frame} | numbers(rows[0], best.energy) | said(best, 0) | ends | signs)
    return kept


def mesh() -> list[Row]:
    """The convex energy from N(0, 1) on carried grids of 25, 49 and 97 nodes a side: how far above the minimum."""
    kept: list[Row] = []
    for case, task, cells in (("cluster", one_slope(), "6,12,24"), ("clusters", two_clusters(), "6,12,24")):
        best = programme(task, 0.03).solve()
        over, start = [f"{DECAY}=0.03", f"density.cells={cells}"], ("model.mean=0.0", "model.std=1.0")
        directory, rows = family(case, over, *LAWS, *start, into=f"mesh-{case}")
        for row in rows:
            history = open_run(directory / row["directory"]).history
            more: Row = {name: float(history[name][-1]) for name in ("dissipation", "steps")}
            place: Row = {"case": case, "cells": float(row["density.cells"])}
            kept.append(place | numbers(row, best.energy) | more)
    return kept


def said(best: Minimum, k: int) -> Row:
    """Place and mass of a cluster of the programme."""
    return {"best_a": float(best.a[k]), "best_w": float(best.w[k]), "best_mass": float(best.mass[k])}


def clusters() -> list[Row]:
    """Neurons of two kinds: masses and means on both sides of the border, with (−a, −w) counted as (a, w)."""
    directory, rows = family("clusters", [f"{DECAY}=0.03"], CARRIED, "density.cells=16")
    best = programme(two_clusters(), 0.03).solve()
    with np.load(max((directory / rows[0]["directory"] / "checkpoint").glob("*.npz"))) as kept:  # what the flow carries
        (a, w), mass = kept["carried/0/position"][0].T, kept["carried/0/mass"][0]
    return [numbers(rows[0], best.energy) | sides(a, w, mass)] + [said(best, k) for k in range(len(best.w))]


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
    directory, rows = family("teacher", [f"{DECAY}=0.1,0.03"], *settings)
    for row in rows:
        history = open_run(directory / row["directory"]).history
        for k in np.flatnonzero(np.isfinite(history["gap"])):
            names = ("tau", "risk", "energy", "dissipation", "gap", "negative_mass", "steps")
            values: Row = {name: float(history[name][k]) for name in names}
            kept.append({"weight_decay": row[DECAY], "ended": row["ended"]} | values)
    return kept


def longer() -> list[Row]:
    """Further than the other tables go: do steps shrink as the densities collapse?"""
    carried = (CARRIED, "density.cells=8", "training.stationary=1e-9", "training.horizon=1000.0", "output.every=10.0")
    finer = ("density.cells=16", "training.stationary=1e-7", "output.every=10.0")
    kept: list[Row] = []
    for case, frame, decay, settings in (("cluster", "comoving", 0.1, finer), ("teacher", "lagrangian", 0.03, carried)):
        directory, rows = family(case, [f"{DECAY}={decay}"], *settings, into=f"longer-{case}-{frame}")
        run = open_run(directory / rows[0]["directory"])
        told = np.flatnonzero(np.isfinite(run.history["gap"]))
        with (run.directory / "steps.csv").open(encoding="utf-8") as file:
            sizes = [float(row["step"]) for row in csv.DictReader(file) if row["accepted"] == "1"]
        ends: Row = {name: float(run.history[name][-1]) for name in ("tau", "energy", "dissipation", "steps")}
        ends |= {"gap": float(run.history["gap"][told[-1]]), "median_of_last_steps": float(np.median(sizes[-10:]))}
        kept.append({"case": case, "frame": frame, "weight_decay": decay, "ended": rows[0]["ended"]} | ends)
    return kept


def digits() -> list[Row]:
    """Cross-entropy on real images, λ over two decades."""
    kept: list[Row] = []
    settings = (CARRIED, "density.cells=8", "training.stationary=1e-6", "training.horizon=1e4")
    for decay in (0.3, 0.1, 0.03, 0.01, 0.003):
        every = f"output.every={0.2 / decay!r}"
        directory, rows = family("digits", [f"{DECAY}={decay}"], *settings, every, into=f"digits-{decay}")
        ends: Row = {name: float(rows[0][name]) for name in ("tau", "risk", "energy", "dissipation", "gap")}
        falls = falling(directory / rows[0]["directory"])
        kept.append({"weight_decay": decay, "ended": rows[0]["ended"]} | ends | falls)
    return kept


def starts() -> list[Row]:
    """The digits at λ = 0.1 from other starts, N(0, s²) for all families."""
    kept: list[Row] = []
    settings = (CARRIED, "density.cells=8", "training.stationary=1e-6", "training.horizon=1e3", "output.every=20.0")
    for std in (0.3, 2.0, 3.0):
        law = f"{{mean = [0.0, 0.0], std = [{std}, {std}]}}"
        families = [f"initial.{name}={law}" for name in ("head_0", "head_1", "neuron_0")]
        _, rows = family("digits", [f"{DECAY}=0.1"], *settings, *families, into=f"starts-{std:g}")
        ends: Row = {name: float(rows[0][name]) for name in ("tau", "risk", "energy", "dissipation", "gap")}
        kept.append({"std": std, "ended": rows[0]["ended"]} | ends)
    return kept


def laws() -> list[Row]:
    """Other initial laws N(m, s²) in both coordinates, for a target of one slope and for one of two clusters."""
    kept: list[Row] = []
    for case, task in (("cluster", one_slope()), ("clusters", two_clusters())):
        best = programme(task, 0.03).solve()
        for mean, widths in ((0.0, "0.1,0.3,1.0,2.0"), (1.0, "0.1,0.5")):
            over, settings = [f"{DECAY}=0.03", f"model.std={widths}"], (*LAWS, "density.cells=12", f"model.mean={mean}")
            directory, rows = family(case, over, *settings, into=f"laws-{case}-{mean:g}")
            for row in rows:
                run = open_run(directory / row["directory"])
                law: Row = {"case": case, "mean": mean, "std": float(row["model.std"])}
                more: Row = {name: float(run.history[name][-1]) for name in ("dissipation", "steps")}
                kept.append(law | numbers(row, best.energy) | more)
    return kept


PARTS: dict[str, Callable[[], list[Row]]] = {
    "cluster": cluster, "particles": particles, "teacher": teacher, "slopes": slopes, "clusters": clusters,
    "digits": digits, "starts": starts, "laws": laws, "mesh": mesh, "longer": longer,
}  # fmt: skip


def read() -> dict[str, list[Row]]:
    """All numbers that are kept."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}


def main(words: list[str]) -> int:
    """Measure the parts that are named, keep the numbers, print all that are kept."""
    unknown = [word for word in words if word not in PARTS]
    if unknown:
        sys.stderr.write(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}\n")
        return 2
    kept = read()
    for part in words or PARTS:
        rows = PARTS[part]()
        kept = read() | {part: rows}  # another part may have been measured meanwhile
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    for part, rows in kept.items():
        sys.stdout.write(f"\n## {part}\n\n{table(rows)}")
    return 0


def table(rows: Sequence[Row]) -> str:
    """Markdown; a column for every name in any of the rows."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names)]
    lines += [[f"{v:.6g}" if isinstance(v := row.get(n, ""), float) else v for n in names] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
