"""The tables of docs/choosing.md: `uv run python docs/studies/choosing.py`; some ten minutes on one core.

What the box, the cells, the degrees and the tolerance do to the risk, and what the indicators say meanwhile, on
`runs/in-context.toml`. The same reference as in docs/convergence.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from mpi4py import MPI

import conftest

conftest.start()  # MPI ahead of DOLFINx, as in the tests

from exact.test_reference_risks import IN_CONTEXT, REFERENCES, problem
from mfpde.limit.solver import Solver

REFERENCE = REFERENCES[IN_CONTEXT]
BEST = "density.potential_degree"


@dataclass(frozen=True)
class Found:
    """What one run says.

    Attributes:
        errors: |risk − reference| at the reference's τ.
        indicators: the worst over τ of boundary_mass, resolution and negative_mass, in this order.
        unknowns: of all layers.
        evaluations: right-hand sides of the transport.
    """

    errors: tuple[float, ...]
    indicators: tuple[float, ...]
    unknowns: int
    evaluations: int


def measure(settings: Iterable[str]) -> Found:
    """Solve the run file with some keys changed."""
    solver = Solver(MPI.COMM_SELF, problem(IN_CONTEXT, list(settings)))
    errors, worst = [], [0.0, 0.0, 0.0]
    for tau, risk in zip(REFERENCE["tau"], REFERENCE["risk"], strict=True):
        if not solver.stepper.advance(tau):
            sys.exit(f"{settings}: did not arrive at {tau}")
        report = solver.report(solver.stepper.state, certified=False)
        errors.append(abs(report.history["risk"] - risk))
        for b in report.indicators:
            worst = [max(a, c) for a, c in zip(worst, (b.boundary_mass, b.resolution, b.negative_mass), strict=True)]
    found = Found(tuple(errors), tuple(worst), solver.unknowns, solver.flow.clock.evaluations)
    solver.close()
    return found


def say(*cells: object) -> None:
    """A row."""
    sys.stdout.write(f"| {' | '.join(str(cell) for cell in cells)} |\n")
    sys.stdout.flush()


def head(*cells: str) -> None:
    """The first two rows of a table."""
    sys.stdout.write("\n")
    say(*cells)
    say(*["---"] * len(cells))


def main() -> None:
    """Print the tables."""
    measure(["density.cells=4", "training.horizon=5.0"])  # compiles
    head("radius in q, v", "cells a side", "largest error", "boundary mass")
    for radius in (2.5, 3, 4, 5, 6, 8):
        cells = round(24 * radius / 5)  # of one size
        found = measure([f"density.radius=[{radius}, {2 * radius}]", f"density.cells={cells}"])
        say(f"{radius:g}, {2 * radius:g}", cells, f"{max(found.errors):.1e}", f"{found.indicators[0]:.1e}")
    head(
        "p, k",
        "cells a side",
        "unknowns",
        "largest error",
        "resolution",
        "negative mass",
        "right-hand sides",
    )
    for degree, cells in ((1, 24), (1, 48), (2, 8), (2, 12), (2, 16), (2, 24), (2, 32), (3, 12), (3, 16), (3, 24)):
        found = measure([f"density.degree={degree}", f"{BEST}={degree + 1}", f"density.cells={cells}"])
        say(
            f"{degree}, {degree + 1}", cells, f"{found.unknowns:,}", f"{max(found.errors):.1e}",
            f"{found.indicators[1]:.2f}", f"{found.indicators[2]:.3f}", found.evaluations,
        )  # fmt: skip
    head("`time.tolerance`", "largest error", "right-hand sides")
    for tolerance in ("1e-2", "1e-3", "1e-4", "1e-5"):
        found = measure([f"time.tolerance={tolerance}", "density.cells=32"])
        say(tolerance, f"{max(found.errors):.1e}", found.evaluations)


if __name__ == "__main__":
    main()
