"""A pass in double and in single precision: `NPROC=1 uv run python tests/benchmarks/bench_precision.py [--case NAME]`.

Risk and gradient at the initial state, the two precisions in turns; seconds of the processor, medians; and how far risk
and gradient are apart, relative to their sizes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from mfpde.parallel import mpi

mpi.start()
mpi.start_petsc()

import numpy as np  # noqa: E402
from mpi4py import MPI  # noqa: E402

from mfpde.config import run_file  # noqa: E402
from mfpde.limit.backprop import Backprop  # noqa: E402
from mfpde.limit.solver import Solver  # noqa: E402
from mfpde.runs.problem_setup import problem_of  # noqa: E402

RUNS = Path(__file__).resolve().parents[2] / "runs"
IN_CONTEXT = RUNS / "in-context.toml"
CASES = {  # run file, and what is different in it
    "in-context, 1,024 samples, context of 64": (IN_CONTEXT, ["task.samples=1024", "task.context=64"]),
    "in-context, 512 samples, co-moving, 96 cells": (
        IN_CONTEXT,
        ["task.samples=512", "density.frame='comoving'", "density.cells=96"],
    ),
    "in-context, 2,048 samples": (IN_CONTEXT, ["task.samples=2048"]),
    "digits": (RUNS / "digits.toml", []),
}
REPEATS = 9


def measure(file: Path, settings: list[str]) -> str:
    """A row of the table."""
    problem = problem_of(run_file.load(file, settings))
    solver = Solver(MPI.COMM_SELF, problem)
    moments = solver.flow.moments(solver.stepper.state)
    task = problem.task
    single = Backprop(MPI.COMM_SELF, problem.model, task.tokens, task.targets, single=True)

    both = {"double": solver.flow.backprop, "single": single}
    found = {name: each(*moments) for name, each in both.items()}
    seconds: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(REPEATS):
        for name, each in both.items():
            start = time.process_time()
            each(*moments)
            seconds[name].append(time.process_time() - start)
    solver.close()

    double, single_one = (statistics.median(seconds[name]) for name in both)
    risk = abs(found["single"].risk / found["double"].risk - 1.0)
    slopes = zip(found["single"].slopes, found["double"].slopes, strict=True)
    gradient = max(float(np.abs(mine - exact).max() / np.abs(exact).max()) for mine, exact in slopes)
    return (
        f"{1e3 * double:.0f} ms | {1e3 * single_one:.0f} ms | {double / single_one:.2f} | {risk:.0e} | {gradient:.0e}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), help="one of them only")
    given = parser.parse_args()
    sys.stdout.write("| | double | single | ratio | risk | gradient |\n|---|---|---|---|---|---|\n")
    for name in [given.case] if given.case else CASES:
        sys.stdout.write(f"| {name} | {measure(*CASES[name])} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
