"""The positivity study: `uv run python docs/studies/positivity.py` makes docs/positivity.md and its figure again.

It takes some twenty minutes on one core. Candidates take the place of `Group.limiter`; everything else is the solver.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from mpi4py import MPI

import conftest

conftest.start()  # MPI ahead of DOLFINx, as in the tests

from exact import test_prescribed_potential as prescribed
from exact import test_reference_risks as reference_risks
from mfpde.limit.fem.frame import Frame
from mfpde.limit.fem.space import Space
from mfpde.limit.positivity.bernstein import nonnegative
from mfpde.limit.positivity.limiter import build_limiter
from mfpde.limit.solver import Solver

Array = NDArray[np.float64]
Candidate = Callable[[Array, Frame, Sequence[tuple[int, ...]] | None], tuple[Array, Frame]]
TEXT = (ROOT / "docs" / "studies" / "positivity.txt").read_text


def timed(candidate: Candidate, spent: list[float]) -> Candidate:
    """The candidate, which adds the seconds that it takes to `spent`."""

    def call(density: Array, frame: Frame, linear: Sequence[tuple[int, ...]] | None) -> tuple[Array, Frame]:
        start = time.perf_counter()
        out = candidate(density, frame, linear)
        spent.append(time.perf_counter() - start)
        return out

    return call


def candidates(space: Space) -> dict[str, Candidate | None]:
    """By the name in the table; None: no limiter."""
    alike, steep = build_limiter(space, 1.0), build_limiter(space)
    return {
        "unlimited": None,
        "scaling, everywhere": lambda d, f, _: (nonnegative(space, d), f),
        "scaling, frame": lambda d, f, axes: steep.restore(d, nonnegative(space, d), f, axes),
        "nearest, all degrees alike": lambda d, f, _: alike(d, f),
        "nearest, low degrees first": lambda d, f, _: steep(d, f),
        "`scheme`: the same, frame": steep,
    }


def measure(name: str, cells: int) -> tuple[list[float], list[str]]:
    """Errors of the risk at τ = 1 … 5, and a row of the table."""
    run = reference_risks.IN_CONTEXT
    made = reference_risks.problem(
        run, [f"density.cells={cells}", "density.potential_degree=3", "density.positivity='off'"]
    )
    solver = Solver(MPI.COMM_SELF, made)
    group = solver.groups[0]
    chosen = candidates(group.space)[name]
    spent: list[float] = []
    limiter = None if chosen is None else timed(chosen, spent)
    solver.flow.groups = (dataclasses.replace(group, limiter=limiter),)  # type: ignore[arg-type]
    errors, history = [], {}
    start = time.perf_counter()
    for tau, risk in zip(reference_risks.REFERENCES[run]["tau"], reference_risks.REFERENCES[run]["risk"], strict=True):
        for part in (0.75, 0.5, 0.25, 0.0):
            solver.stepper.advance(tau - part)
        errors.append(abs(solver.flow.potential(solver.stepper.state).outcome.risk - risk))
        history = solver.report(solver.stepper.state, certified=False).history
    share = sum(spent) / (time.perf_counter() - start)
    density = solver.stepper.state.density[0]
    at_points = np.einsum("gi,cib->cgb", build_limiter(group.space).values, density).min()
    solver.close()
    numbers = [f"{e:.1e}" for e in errors]
    signs = [f"{at_points:.2g}", f"{history['negative_mass']:.1e}"]
    return errors, [str(cells), name, *numbers, *signs, f"{share:.0%}"]


def order() -> list[list[str]]:
    """Slopes of the density's error on smooth data, w₂ tanh w₁, with and without."""
    rows = []
    for p in (1, 2, 3):
        slopes = [prescribed.slope(p, p + 1, False, prescribed.TANH, positive) for positive in (False, True)]
        rows.append([str(p), *(f"{s:.2f}" for s in slopes)])
    return rows


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)) + "\n"


def figure(found: dict[tuple[int, str], list[float]]) -> None:
    """Error of the risk against τ at 24 cells."""
    canvas, axes = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    drawn = [(name, errors) for (cells, name), errors in found.items() if cells == 24]
    for (name, errors), marker in zip(drawn, "osv^xD", strict=False):
        axes.semilogy(range(1, 6), errors, marker=marker, label=name.replace("`", ""))
    axes.set(xlabel="τ", ylabel="error of the risk, 24 cells a side", xticks=range(1, 6))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    canvas.savefig(ROOT / "docs" / "figures" / "positivity.png", dpi=160)
    plt.close(canvas)


def write(rows: list[list[str]], slopes: list[list[str]]) -> None:
    """The page, from the measured tables and the text beside this file."""
    signs = ["at the points", "negative mass", "time"]
    head = ["cells", "candidate", *(f"τ = {t}" for t in range(1, 6)), *signs]
    page = TEXT(encoding="utf-8").replace("TABLE\n", table(head, rows))
    page = page.replace("ORDERS\n", table(["p", "unlimited", "`scheme`"], slopes))
    (ROOT / "docs" / "positivity.md").write_text(page, encoding="utf-8")


def main() -> None:
    """Measure, and write the page."""
    slopes, rows, found = order(), [], {}
    names = list(
        candidates(prescribed.build_space(MPI.COMM_SELF, prescribed.meshes.box(MPI.COMM_SELF, 2, 1, False), 1, 1))
    )
    for cells in (24, 32):
        for name in sorted(names, key=lambda n: n not in ("unlimited", "`scheme`: the same, frame")):
            found[cells, name], row = measure(name, cells)
            rows.append(row)
            sys.stdout.write(" | ".join(row) + "\n")
            sys.stdout.flush()
            rows.sort(key=lambda r: (int(r[0]), names.index(r[1])))
            write(rows, slopes)
        if cells == 24:
            figure(found)


if __name__ == "__main__":
    main()
