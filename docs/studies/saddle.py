"""Starts near a saddle, and smooth ones: `uv run python docs/studies/saddle.py`, some minutes on one core.

Two layers of f = θ T without weight decay. Their factors 1 + m/2, with the means m, are all that the risk depends on,
and obey ordinary differential equations; at m = −2 in both layers is a saddle, which runs leave as e^{cτ}, and the
error of a step grows as they do. Twenty starts at −2 + 1e-4 … −2 + 1e-1, and twenty drawn ones far from it, at two
tolerances: the true error of the risk at τ = 5, 6, 10, 18, the run's own `risk_error` (history.csv), and its warnings.

A start counts as *seen* where at every τ the true error is at most three times the reported one, or below the tolerance
relative to the risk, or where the run has warned. What was measured stands in saddle.json beside this file, and the
table is printed from there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mfpde.parallel import mpi

mpi.start()
mpi.start_petsc()

import numpy as np
from scipy.integrate import solve_ivp

from mfpde import Density, Run, Time, solve_limit
from mfpde.problem.family import Family
from mfpde.problem.laws import Law, Normal
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

KEPT = Path(__file__).with_suffix(".json")
X, Y = np.array([0.8, -0.5, 1.3, 0.4]), np.array([1.9, 0.6, 2.2, 1.1])
TAUS = (5.0, 6.0, 10.0, 18.0)
TOLERANCES = (1e-4, 1e-5)
STARTS = 20
FACTOR = 3.0
KINDS = {"saddle": "−2 + 1e-4 … −2 + 1e-1", "smooth": "drawn, standard deviation 0.7 around 0.5"}


def starts(kind: str, count: int) -> np.ndarray:
    """Means of the two layers, (count, 2)."""
    if kind == "saddle":
        return np.repeat(-2.0 + np.geomspace(1e-4, 1e-1, count)[:, None], 2, axis=1)
    return np.random.default_rng(0).normal(0.5, 0.7, size=(count, 2))


def exact(means: np.ndarray) -> np.ndarray:
    """The risk at every τ."""

    def slope(_: float, mean: np.ndarray) -> np.ndarray:
        factor = 1.0 + mean / 2.0
        return np.asarray(-np.mean((X * factor.prod() - Y) * X) * factor[::-1])

    found = solve_ivp(slope, (0.0, TAUS[-1]), means, "DOP853", t_eval=TAUS, rtol=1e-13, atol=1e-15)
    product = (1.0 + found.y / 2.0).prod(axis=0)
    return np.asarray(0.5 * ((X[:, None] * product - Y[:, None]) ** 2).mean(axis=0))


def solve(means: np.ndarray, tolerance: float, frame: str = "auto") -> Run:
    """With reports at every τ of the table."""
    laws: list[Law] = [Normal([mean], [0.3]) for mean in means]
    head = Family("scale", 1, lambda tokens, theta: theta[0] * tokens, laws.__getitem__, (0,))
    return solve_limit(
        Transformer([[head]], 2, lambda tokens: tokens[-1]),
        Task(X[:, None, None], Y[:, None]),
        weight_decay=0.0,
        horizon=TAUS[-1],
        density=Density(frame=frame),  # type: ignore[arg-type]
        time=Time(tolerance=tolerance),
        every=1.0,
    )


def measure(means: np.ndarray, tolerance: float) -> dict[str, Any]:
    """True and reported errors at every τ, and the warnings."""
    run = solve(means, tolerance)
    rows = [int(np.argmin(np.abs(run.history["tau"] - tau))) for tau in TAUS]
    risk = exact(means)
    return {
        "means": means.tolist(),
        "risk": risk.tolist(),
        "true": np.abs(run.history["risk"][rows] - risk).tolist(),
        "reported": [float(run.history["risk_error"][row]) for row in rows],
        "warnings": list((run.summary or {}).get("warnings", [])),
    }


def seen(found: dict[str, Any], tolerance: float) -> bool:
    """Is every true error at most three times the reported one, or below the tolerance, or has the run warned?"""
    most = np.maximum(FACTOR * np.nan_to_num(found["reported"]), tolerance * np.array(found["risk"]))
    return bool(found["warnings"]) or bool((np.array(found["true"]) <= most).all())


def table(kept: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: the largest relative errors over the starts, and how many were seen and have warned."""
    head = ["starts", "tolerance", *(f"τ = {tau:g}" for tau in TAUS), "reported at most", "seen", "warned"]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    for name, found in kept.items():
        kind, tolerance = name.split()
        true, reported = (np.array([each[key] for each in found]) for key in ("true", "reported"))
        risk = np.array([each["risk"] for each in found])
        worst = [f"{e:.1e}" for e in (true / risk).max(axis=0)]
        most = f"{(reported / risk).max():.1e}"
        counts = [sum(seen(each, float(tolerance)) for each in found), sum(bool(each["warnings"]) for each in found)]
        lines.append(f"| {' | '.join([KINDS[kind], tolerance, *worst, most, *map(str, counts)])} |")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=STARTS, help="of each kind")
    parser.add_argument("--print", action="store_true", help="only the table of what has been measured")
    given = parser.parse_args(words)
    kept: dict[str, list[dict[str, Any]]] = json.loads(KEPT.read_text()) if given.print else {}
    for kind in () if given.print else KINDS:
        for tolerance in TOLERANCES:
            kept[f"{kind} {tolerance:.0e}"] = [measure(means, tolerance) for means in starts(kind, given.starts)]
            KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            sys.stdout.write(f"{kind} {tolerance:.0e} done\n")
            sys.stdout.flush()
    sys.stdout.write(table(kept))


if __name__ == "__main__":
    main()
