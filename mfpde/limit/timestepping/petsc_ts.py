"""The PETSc TS of type python that drives a stepper: its monitors, tolerance and limits act on the steps."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI
from petsc4py import PETSc

from mfpde.errors import InputError

MOST_STEPS = 2**31 - 1
_MOST_REJECTIONS = 60


def create_ts(
    comm: MPI.Intracomm, context: Any, vector: PETSc.Vec, start: float, horizon: float, tolerance: float
) -> PETSc.TS:
    """A TS whose steps are taken by `context.solveStep` and `context.adaptStep`; collective.

    Args:
        comm: communicator.
        context: the stepper, with the name of its method.
        vector: of the solution.
        start: τ.
        horizon: of the first proposed step.
        tolerance: relative, unless the PETSc options have another.

    Raises:
        InputError: on every rank, for PETSc options that cannot be.
    """
    kind = PETSc.Options().getString("ts_type", "python")
    if kind != "python":
        raise InputError(f"-ts_type {kind}: not supported; the step is the pair {context.name}, of type 'python'")

    ts = PETSc.TS().create(comm=comm)
    ts.setType(PETSc.TS.Type.PYTHON)
    ts.setPythonContext(context)
    ts.setProblemType(PETSc.TS.ProblemType.NONLINEAR)
    ts.setMaxSteps(MOST_STEPS)
    ts.setMaxStepRejections(_MOST_REJECTIONS)
    ts.setErrorIfStepFails(False)  # `Stepper.advance` raises the reason
    ts.setTolerances(rtol=tolerance)
    ts.setTime(start)
    ts.setTimeStep(horizon)
    ts.setExactFinalTime(PETSc.TS.ExactFinalTime.STEPOVER)
    ts.setSolution(vector)

    try:
        ts.setFromOptions()
    except PETSc.Error as error:  # PETSc's own text is many lines, of which some name its sources
        ts.destroy()
        raise InputError(f"PETSc options: one of those for the TS has a value that cannot be ({error.ierr})") from error
    return ts
