"""The peers of `bench_peers.py`, run by a Python that has them.

`PYTHON peers.py WAY PROBLEM CELLS` prints seconds and error. The seconds are of the steps alone: grids are made and
code is compiled before. `PYTHON peers.py` lists the ways that can be run, each with its order in space, and what is
missing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from gaussians import PROBLEMS, Gaussian, relative

type Way = Callable[[Gaussian, int, float], tuple[float, float]]
"""From a problem, cells a side and the horizon to seconds and error."""


def classic(limiter: int, split: bool) -> Way:
    """PyClaw's wave propagation, of second order."""

    def way(gaussian: Gaussian, cells: int, horizon: float) -> tuple[float, float]:
        from clawpack import pyclaw, riemann

        solver = pyclaw.ClawSolver2D(riemann.vc_advection_2D)
        solver.dimensional_split = split
        solver.transverse_waves = 0 if split else 2
        solver.limiters = [limiter]
        solver.order, solver.cfl_max, solver.cfl_desired = 2, 1.0, 0.95
        return _clawed(solver, gaussian, cells, horizon, gaussian.averages)

    return way


def sharp(order: int) -> Way:
    """PyClaw's SharpClaw: WENO in space, SSP(10,4) in time.

    Values are those at centres: line by line the velocity is constant, and reconstruction is exact to all orders.
    """

    def way(gaussian: Gaussian, cells: int, horizon: float) -> tuple[float, float]:
        from clawpack import pyclaw, riemann

        solver = pyclaw.SharpClawSolver2D(riemann.vc_advection_2D)
        solver.weno_order, solver.num_ghost = order, (order + 1) // 2
        solver.time_integrator, solver.cfl_max, solver.cfl_desired = "SSP104", 2.5, 2.4
        return _clawed(solver, gaussian, cells, horizon, gaussian.centres)

    return way


def _clawed(solver, gaussian: Gaussian, cells: int, horizon: float, values: Callable) -> tuple[float, float]:
    from clawpack import pyclaw

    solver.bc_lower = solver.bc_upper = solver.aux_bc_lower = solver.aux_bc_upper = [pyclaw.BC.extrap] * 2
    solver.max_steps, solver.dt_initial = 10**7, 0.1 / cells
    domain = pyclaw.Domain([-1.0, -1.0], [1.0, 1.0], [cells, cells])
    state = pyclaw.State(domain, 1, num_aux=2)
    line = (np.arange(cells) + 0.5) * 2.0 / cells - 1.0
    state.aux[0], state.aux[1] = gaussian.field[0] * line[None, :], gaussian.field[1] * line[:, None]
    state.q[0] = values(cells, 0.0)
    solution = pyclaw.Solution(state, domain)
    solver.setup(solution)
    start = time.thread_time()
    solver.evolve_to_time(solution, horizon)
    return time.thread_time() - start, relative(solution.state.q[0], values(cells, horizon))


def differences(gaussian: Gaussian, cells: int, horizon: float) -> tuple[float, float]:
    """py-pde: central differences of second order, explicit Runge–Kutta, steps by its own error estimate."""
    import pde

    grid = pde.CartesianGrid([[-1.0, 1.0]] * 2, cells, periodic=True)
    b, c = gaussian.field
    equation = pde.PDE({"c": f"-({b} * y) * d_dx(c) - ({c} * x) * d_dy(c)"})
    field = pde.ScalarField(grid, gaussian.centres(cells, 0.0))
    step = 0.5 * (2.0 / cells) / max(abs(b), abs(c)) / np.sqrt(2.0)
    steps = int(np.ceil(horizon / step))
    seconds = []
    for span in (horizon / steps, horizon):  # the first compiles
        start = time.thread_time()
        solved = equation.solve(field, t_range=span, dt=horizon / steps, solver="runge-kutta", tracker=None)
        seconds.append(time.thread_time() - start)
    return max(seconds[1], 0.0), relative(solved.data, gaussian.centres(cells, horizon))


def volumes(gaussian: Gaussian, cells: int, horizon: float) -> tuple[float, float]:
    """FiPy: central differences of second order in space, Crank–Nicolson in time."""
    import fipy

    mesh = fipy.Grid2D(nx=cells, ny=cells, dx=2.0 / cells, dy=2.0 / cells) - 1.0
    x, y = mesh.faceCenters
    velocity = fipy.FaceVariable(mesh=mesh, rank=1, value=[gaussian.field[0] * y, gaussian.field[1] * x])
    rho = fipy.CellVariable(mesh=mesh, value=gaussian.averages(cells, 0.0).T.ravel(), hasOld=True)
    half = fipy.CentralDifferenceConvectionTerm(coeff=0.5 * velocity)
    equation = fipy.TransientTerm() + half + 0.5 * (rho.old.arithmeticFaceValue * velocity).divergence == 0
    steps = int(np.ceil(horizon * cells / 2.0))  # twice a cell's width in a step: the errors in space and time balance
    solver = fipy.LinearGMRESSolver(tolerance=1e-7)
    start = time.thread_time()
    for _ in range(steps):
        rho.updateOld()
        equation.solve(rho, dt=horizon / steps, solver=solver)
    seconds = time.thread_time() - start
    return seconds, relative(rho.value.reshape(cells, cells).T, gaussian.averages(cells, horizon))


WAYS: dict[str, tuple[str, int, Way]] = {  # module that is needed, order, way
    "PyClaw classic, no limiter": ("clawpack", 2, classic(0, True)),
    "PyClaw classic, no limiter, unsplit": ("clawpack", 2, classic(0, False)),
    "PyClaw classic, MC limiter": ("clawpack", 2, classic(4, True)),
    "SharpClaw, WENO 5": ("clawpack", 5, sharp(5)),
    "SharpClaw, WENO 7": ("clawpack", 7, sharp(7)),
    "SharpClaw, WENO 9": ("clawpack", 9, sharp(9)),
    "py-pde": ("pde", 2, differences),
    "FiPy": ("fipy", 2, volumes),
}


def main() -> None:
    """List the ways, or run one."""
    if len(sys.argv) == 1:
        found = {name: order for name, (module, order, _) in WAYS.items() if importlib.util.find_spec(module)}
        missing = sorted({module for module, _, _ in WAYS.values() if not importlib.util.find_spec(module)})
        sys.stdout.write(json.dumps({"ways": found, "missing": missing}))
        return
    name, problem, cells = sys.argv[1:]
    gaussian, way = PROBLEMS[problem], WAYS[name][2]
    os.chdir(tempfile.mkdtemp())  # where PyClaw leaves its log
    with contextlib.redirect_stdout(io.StringIO()):
        way(gaussian, 16, 1e-2)  # compiles, loads
        found = way(gaussian, int(cells), gaussian.horizon)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
