"""Transport alone against other programs: `uv run python tests/benchmarks/bench_peers.py --python PYTHON --json FILE`.

PYTHON is that of an environment with the peers (`pip install clawpack py-pde fipy`; clawpack compiles Fortran). Those
that are not there are told and left out. Two Gaussians are moved in a fixed box (`gaussians.py`), and the table has the
seconds of the thread on the processor until a relative L² error of 1e-3 is reached: for every way the number of cells
is raised, guided by the order that is seen, until it is. What would take longer than `--longest` seconds is continued
from the last two sizes by their powers, and marked with ≈.

This project's transport is run as it is in a solve, with the pair SSP43(2) at its CFL bound, for one density and for
eight of them at once, as the layers of a Transformer are: then seconds are those for one of the eight. The trial of
`semi_lagrangian.py`, which is not in the package, goes from the start to the end in one step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mfpde.parallel import mpi

mpi.start()
mpi.start_petsc()

import numpy as np  # noqa: E402
from mpi4py import MPI  # noqa: E402

from mfpde.limit.fem import mesh as meshes  # noqa: E402
from mfpde.limit.fem.elements import tabulate  # noqa: E402
from mfpde.limit.fem.frame import Frame, Motion  # noqa: E402
from mfpde.limit.fem.space import Space, build_space  # noqa: E402
from mfpde.limit.gradient_flow import Rate  # noqa: E402
from mfpde.limit.state import FemPart, State  # noqa: E402
from mfpde.limit.timestepping.runge_kutta import ssp43_step, stable_step  # noqa: E402
from mfpde.limit.timestepping.state_vector import packed, vector_of  # noqa: E402
from mfpde.limit.transport.transport import Transport  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from gaussians import PROBLEMS, WANTED, Gaussian  # noqa: E402
from semi_lagrangian import solve  # noqa: E402

PEERS = Path(__file__).parent / "peers.py"
FIRST = {2: 128, 3: 16, 4: 12, 5: 48, 7: 48, 8: 8, 9: 48}  # cells that are tried first, by the order


@dataclass(frozen=True)
class Row:
    """What a way needs: cells a side, seconds, relative error; measured, or continued."""

    problem: str
    way: str
    cells: int
    seconds: float
    error: float
    measured: bool


def ours(degree: int, blocks: int, gaussian: Gaussian, cells: int) -> tuple[float, float]:
    """Seconds for one of the blocks, and its error: the L² norm of the polynomials' distance to the solution."""
    space = build_space(MPI.COMM_SELF, meshes.box(MPI.COMM_SELF, 2, cells), degree, 2)
    transport = Transport(space, blocks)
    potential, motion = _field(gaussian, space, blocks)
    frame = Frame(np.zeros((blocks, 2)), np.repeat(np.eye(2)[None], blocks, axis=0))
    still = Frame(np.zeros((blocks, 2)), np.zeros((blocks, 2, 2)))
    vector = vector_of([FemPart(_project(space, gaussian, blocks), frame)])

    def slope(state: State) -> Rate:
        rate, fastest = transport.rate(state.parts[0].density, potential, motion)
        return Rate((FemPart(rate, still),), float(fastest.max()), outcome=None)

    def values(state: State) -> np.ndarray:
        return packed(slope(state).parts)

    def march(horizon: float) -> State:
        state = State(0.0, (FemPart(_project(space, gaussian, blocks), frame),))
        while state.tau < horizon * (1.0 - 1e-12):
            rate = slope(state)
            left, first = horizon - state.tau, packed(rate.parts)
            step = left / np.ceil(left / stable_step(degree, rate.speed))
            end, _ = ssp43_step(vector, state.tau, packed(state.parts), step, first, values)
            state = vector.state(state.tau + step, end)
        return state

    march(1e-3)
    start = time.thread_time()
    state = march(gaussian.horizon)
    return (time.thread_time() - start) / blocks, _error(space, gaussian, state.parts[0].density[:, :, 0])


def _field(gaussian: Gaussian, space: Space, blocks: int) -> tuple[np.ndarray, Motion]:
    """u = B x as −∇V where it is a gradient, by the frame's motion where it is not."""
    b, c = gaussian.field
    nodes, eye = space.nodes, np.repeat(np.eye(2)[None], blocks, axis=0)
    potential = np.zeros((*nodes.shape[:2], blocks))
    stretch = np.zeros((blocks, 2, 2))
    if b == c:
        potential[:] = (-b * nodes[..., 0] * nodes[..., 1])[..., None]
    else:
        stretch[:] = -gaussian.matrix
    return potential, Motion(eye, np.zeros((blocks, 2)), stretch)


def _project(space: Space, gaussian: Gaussian, blocks: int) -> np.ndarray:
    """The law at τ = 0 in L², (c, i, b)."""
    tables = tabulate(space.cell, space.degree, 1, 2 * space.degree + 6)
    at = space.points(tables.vertex)
    values = gaussian.at(at[..., 0], at[..., 1], 0.0)
    load = np.einsum("q,qi,cq,cq->ci", tables.weights, tables.density, space.scale_at(tables.points), values)
    return np.ascontiguousarray(np.repeat(space.invert_mass(load[:, :, None]), blocks, axis=2))


def _error(space: Space, gaussian: Gaussian, density: np.ndarray) -> float:
    tables = tabulate(space.cell, space.degree, 1, 2 * space.degree + 6)
    at = space.points(tables.vertex)
    truth = gaussian.at(at[..., 0], at[..., 1], gaussian.horizon)
    weight = tables.weights * space.scale_at(tables.points)
    square = [(weight * each**2).sum() for each in (density @ tables.density.T - truth, truth)]
    return float(np.sqrt(square[0] / square[1]))


def refine(run: Callable[[int], tuple[float, float]], order: int, longest: float) -> tuple[int, float, float, bool]:
    """Cells, seconds and error of the cheapest size that is found to reach WANTED; measured or not."""
    tried: list[tuple[int, float, float]] = []
    cells = FIRST[order]
    while True:
        seconds, error = run(cells)
        tried.append((cells, seconds, error))
        if error <= WANTED:
            return cells, seconds, error, True
        slope = float(order)
        if len(tried) > 1:
            slope = np.log(tried[-2][2] / error) / np.log(cells / tried[-2][0])
        following = cells * float(np.clip(1.02 * (error / WANTED) ** (1.0 / max(slope, 0.5)), 1.08, 6.0))
        more = seconds * (following / cells) ** 3
        if len(tried) > 1 and more > longest:
            return int(following), more, WANTED, False
        cells = int(np.ceil(following)) if more <= longest else int(1.5 * cells)


def peer(python: str, name: str, problem: str) -> Callable[[int], tuple[float, float]]:
    """A run of a peer in its own environment."""

    def run(cells: int) -> tuple[float, float]:
        command = [python, str(PEERS), name, problem, str(cells)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1800)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        seconds, error = json.loads(done.stdout)
        return seconds, error

    return run


def ways(python: str | None, problem: str) -> Iterator[tuple[str, int, Callable[[int], tuple[float, float]]]]:
    """Name, order and run of everything that can be run here."""
    for degree in (2, 3):
        for blocks in (1, 8):
            name = f"mfpde, p = {degree}, " + ("one density" if blocks == 1 else f"one of {blocks} densities")
            yield name, degree + 1, lambda cells, p=degree, b=blocks: ours(p, b, PROBLEMS[problem], cells)
    angle = abs(PROBLEMS[problem].field[0]) * PROBLEMS[problem].horizon
    turns = int(np.ceil(6.0 * angle))  # Runge–Kutta steps along a characteristic: their error is far below
    yield "trial: semi-Lagrangian, p = 7", 8, lambda cells: solve(PROBLEMS[problem], 7, cells, 1, turns)[:2]
    if python is None:
        sys.stderr.write("no peers: --python is not given\n")
        return
    done = subprocess.run([python, str(PEERS)], check=True, capture_output=True, text=True)
    listed = json.loads(done.stdout)
    for module in listed["missing"]:
        sys.stderr.write(f"{module}: not installed there, left out\n")
    for name, order in listed["ways"].items():
        yield name, order, peer(python, name, problem)


def main() -> None:
    """Measure and print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="of the peers' environment")
    parser.add_argument("--problem", choices=list(PROBLEMS), help="one of them only")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds of a run")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    given = parser.parse_args()
    rows: list[Row] = []
    sys.stdout.write("| problem | way | cells a side | seconds | error |\n|---|---|---|---|---|\n")
    for problem in [given.problem] if given.problem else PROBLEMS:
        for name, order, run in ways(given.python, problem):
            try:
                row = Row(problem, name, *refine(run, order, given.longest))
            except RuntimeError as error:
                sys.stderr.write(f"{error}\n")
                continue
            rows.append(row)
            about = "" if row.measured else "≈ "
            sys.stdout.write(
                f"| {problem} | {name} | {about}{row.cells} | {about}{row.seconds:.3g} | {row.error:.1e} |\n"
            )
            sys.stdout.flush()
    if given.json is not None:
        given.json.write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
