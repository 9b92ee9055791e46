"""How far the estimate that every run makes of its risk's error is from the true error: `uv run python FILE [NAME …]`.

Twenty runs with settings of their own: smooth laws and rough ones, clusters that form, stiff feedback, coarse grids,
loose steps, meshes. The truth is a solve on moving nodes with 32 cells and a tolerance of 1e-7; how far that is from an
independent reference, where there is one (tests/exact/references.json), and else its own estimate, is in the table.
Six more were chosen afterwards. Per run, over its twenty reports: the largest true error, the largest estimate, and
their ratio; which share of the processor time the estimate took; and whether a warning came.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mpi4py import MPI

from mfpde.config import run_file
from mfpde.limit.companion import Companion
from mfpde.limit.march import march
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem, coarsened

ROOT = Path(__file__).parents[2]
CASES = "tests/exact/cases/{}.toml"
REFERENCES = json.loads((ROOT / "tests" / "exact" / "references.json").read_text())
RESULT = Path(__file__).with_suffix(".json")
AUTO = "density.frame='auto'"
FINE = ("density.frame='lagrangian'", "density.cells=32", "time.tolerance=1e-7")
REPORTS = 20
WARNED = 1e-2  # estimate over the risk above which a run warns


@dataclass(frozen=True)
class Case:
    """One run: its file, its settings apart from those of the truth, those of its numerics, and its reports."""

    name: str
    file: str
    problem: tuple[str, ...]
    numerics: tuple[str, ...]
    horizon: float

    @property
    def taus(self) -> list[float]:
        """Of the reports."""
        return [self.horizon * (k + 1) / REPORTS for k in range(REPORTS)]


def cases() -> Iterator[Case]:
    """The twenty."""
    smooth = ("attention-bump", "attention-decay", "attention-layers", "bilinear", "digits", "linear", "neurons-2d")
    for name in (*smooth, "teacher", "two-families"):
        file = CASES.format(name)
        yield Case(name, file, (), (AUTO,), REFERENCES[file]["tau"][-1])

    def laws(family: str, law: str) -> tuple[str, ...]:
        return (f"initial.{family}.law='{law}'",)

    def coarse(cells: int, tolerance: str = "1e-4") -> tuple[str, ...]:
        return (AUTO, f"density.cells={cells}", f"time.tolerance={tolerance}")

    context, two, three = "runs/in-context.toml", 2.0, 3.0
    yield Case("uniform law", CASES.format("bilinear"), laws("bilinear", "uniform"), coarse(8), two)
    yield Case("Laplace's law", CASES.format("teacher"), laws("attention", "laplace"), coarse(8), three)
    student = (*laws("attention", "student"), "initial.attention.df=5")
    yield Case("Student's law", CASES.format("attention-decay"), student, coarse(8), three)
    yield Case("rough phase", context, ("training.horizon=1", *laws("attention", "uniform")), coarse(8), 1.0)
    yield Case("loose steps", CASES.format("linear"), (), coarse(24, "1e-2"), two)
    yield Case("few cells", context, ("training.horizon=2",), coarse(8), two)
    yield Case("one cluster", CASES.format("cluster"), (), coarse(12), 10.0)
    yield Case("two clusters", CASES.format("clusters"), (), coarse(12), 5.0)
    yield Case("strong data", context, ("model.step=10", "training.horizon=0.5"), coarse(8), 0.5)
    meshes = ("density.frame='comoving'", "density.cells=8")
    yield Case("bilinear, meshes", CASES.format("bilinear"), (), meshes, two)
    yield Case("neurons-2d, meshes", CASES.format("neurons-2d"), (), meshes, 3.0)


def fresh() -> Iterator[Case]:
    """Six more, chosen after the method was: of other kinds, and reported apart."""
    context, weak = "runs/in-context.toml", ("density.cells=16",)
    bump = ("initial.attention.law='bump'", "training.horizon=2")
    yield Case("bump law", context, bump, (AUTO, *weak), 2.0)
    yield Case("torn clusters", CASES.format("clusters"), ("model.step=10",), (AUTO,), 1.0)
    yield Case("strong layers", CASES.format("attention-layers"), ("model.step=4",), (AUTO, *weak), 2.0)
    yield Case("little decay", CASES.format("teacher"), ("training.weight_decay=1e-3",), (AUTO, *weak), 3.0)
    yield Case("loose families", CASES.format("two-families"), (), (AUTO, "time.tolerance=1e-3"), 2.0)
    yield Case("digits, meshes", CASES.format("digits"), (), ("density.frame='comoving'", "density.cells=12"),
               REFERENCES[CASES.format("digits")]["tau"][-1])  # fmt: skip


def problem(file: str, settings: Sequence[str]) -> Problem:
    """The problem of a run file."""
    run = run_file.load(ROOT / file, list(settings))
    model, task = run.build()
    return Problem(model, task, run.training, {f.name: run.densities(f.name) for f in model.families}, run.time)


def course(made: Problem, taus: Sequence[float]) -> tuple[np.ndarray, np.ndarray, float]:
    """Risks and their estimated errors at τ = 0 and the reports, and the estimate's share of the processor time."""
    found = coarsened(made)
    if found is None:
        raise SystemExit("no coarser problem")
    other = Solver(MPI.COMM_SELF, found.problem)
    solver = Solver(MPI.COMM_SELF, made, Companion(other, found.resolved, found.unresolved, needed=False))
    rows, seconds = [], np.zeros(2)
    try:
        for tau in taus:
            start = time.process_time()
            state = march(solver.stepper, tau)
            if state is None:
                raise SystemExit(f"no state at tau = {tau}")
            between = time.process_time()
            report = solver.report(state, certified=False).history
            rows.append((report["risk"], report["risk_error"]))
            seconds += (between - start, time.process_time() - between)
    finally:
        solver.close()
        other.close()
    risks, errors = np.array(rows).T
    return risks, errors, float(seconds[1] / seconds.sum())


def truth(case: Case) -> tuple[np.ndarray, float]:
    """The risks at the reports of a case, and how exact they are."""
    fine = problem(case.file, [*case.problem, *FINE])
    fine = replace(fine, training=replace(fine.training, stationary=None))
    risks, errors, _ = course(fine, case.taus)
    known = REFERENCES.get(case.file)
    if known is None or case.problem:
        return risks, float(np.max(errors))
    return risks, abs(known["risk"][-1] - float(risks[-1]))  # a reference's last τ is the horizon


def measured(case: Case) -> dict[str, object]:
    """The row of a case."""
    risks, errors, share = course(problem(case.file, [*case.problem, *case.numerics]), case.taus)
    exact, off = truth(case)
    true = np.abs(risks - exact)
    return {
        "case": case.name,
        "risk": float(exact[-1]),
        "true": float(true.max()),
        "estimate": float(errors.max()),
        "ratio": float(true.max() / errors.max()),
        "warned": bool((errors > WARNED * risks).any()),
        "truth_off": off,
        "share": share,
    }


def main() -> None:
    """Measure all cases, or those named, and write the table."""
    names = sys.argv[1:]
    rows = json.loads(RESULT.read_text()) if names and RESULT.exists() else []
    for case in (*cases(), *fresh()):
        if names and case.name not in names:
            continue
        rows = [*(row for row in rows if row["case"] != case.name), measured(case)]
        shown = [f"{name} {value:.2g}" if isinstance(value, float) else str(value) for name, value in rows[-1].items()]
        sys.stdout.write("  ".join(shown) + "\n")
        sys.stdout.flush()
        RESULT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
