"""The table of docs/steps.md: `uv run python docs/studies/steps.py`; some minutes on one core.

How many sweeps and how much processor time a risk error costs, with a sweep in every stage of the transport's steps
(`limit.timestepping.stepper`) and with a forecast between them (`limit.timestepping.multirate`), with parabolas and
other polynomials, and without the correction.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

from mfpde.parallel import mpi

mpi.start()
mpi.start_petsc()

from mpi4py import MPI

from mfpde.config import run_file
from mfpde.config.settings import Time
from mfpde.limit.gradient_flow import Rate
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.limit.state import State
from mfpde.limit.timestepping import multirate
from mfpde.limit.timestepping.extrapolation import Extrapolation
from mfpde.limit.timestepping.multirate import MultirateStepper
from mfpde.limit.timestepping.stepper import Stepper
from mfpde.runs.problem_setup import problem_of

RUN = Path(__file__).parents[2] / "runs" / "in-context.toml"
SMALLER = ["task.samples=32", "density.cells=16", "density.frame=comoving"]
TIMES = (1.0, 2.0, 3.0, 4.0, 5.0)


def march(problem: Problem, kind: type[Stepper], tolerance: float) -> tuple[list[float], tuple[object, ...]]:
    """The risk at TIMES, and (sweeps, right-hand sides of the transport, seconds of the processor) on the way."""
    solver = Solver(MPI.COMM_WORLD, problem)
    stepper = kind(MPI.COMM_WORLD, solver.flow, solver.stepper.state, Time(tolerance=tolerance), TIMES[-1])
    sweeps, risks, seconds = 0, [], 0.0
    for tau in TIMES:
        start = time.process_time()
        before = solver.flow.clock.passes
        stepper.advance(tau)
        seconds += time.process_time() - start
        sweeps += solver.flow.clock.passes - before
        risks.append(solver.flow.potential(stepper.state).outcome.risk)
    found = (sweeps, solver.flow.clock.evaluations, f"{seconds:.1f}")
    stepper.close()
    solver.close()
    return risks, found


def rows(reference: list[float], name: str, run: Callable[[float], object]) -> None:
    """One line per tolerance: name, tolerance, sweeps, right-hand sides, seconds, largest relative error."""
    for tolerance in (1e-4, 1e-5, 1e-6):
        risks, found = run(tolerance)
        error = max(abs(risk / true - 1.0) for risk, true in zip(risks, reference, strict=True))
        cells = " | ".join(str(cell) for cell in (name, f"{tolerance:.0e}", *found, f"{error:.1e}"))
        sys.stdout.write(f"| {cells} |\n")
        sys.stdout.flush()


def main() -> None:
    """Print the rows."""
    problem = problem_of(run_file.load(RUN, SMALLER), trial=True)
    march(problem, MultirateStepper, 1e-3)  # compiles
    reference, _ = march(problem, Stepper, 1e-8)
    rows(reference, "a sweep in every stage", lambda tol: march(problem, Stepper, tol))
    rows(reference, "parabola, corrected", lambda tol: march(problem, MultirateStepper, tol))
    for points, name in ((2, "straight line, corrected"), (4, "cubic, corrected")):
        first = mock.patch.object(MultirateStepper, "_extrapolation", Extrapolation(points=points))
        with first, mock.patch.object(multirate, "Extrapolation", partial(Extrapolation, points=points)):
            rows(reference, name, lambda tol: march(problem, MultirateStepper, tol))
    with mock.patch.object(MultirateStepper, "_judged", uncorrected):
        rows(reference, "parabola, not corrected", lambda tol: march(problem, MultirateStepper, tol))


_judged = MultirateStepper._judged


def uncorrected(self: MultirateStepper, begin: State, rate: Rate, end: State, difference: State) -> tuple[State, float]:
    """A step that is estimated, but not corrected."""
    corrected, error = _judged(self, begin, rate, end, difference)
    return (corrected if error == float("inf") else end), error


if __name__ == "__main__":
    main()
