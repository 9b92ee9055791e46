"""Errors of risk and density at long times: `uv run python docs/studies/density_error.py`, half an hour on one core.

`runs/in-context.toml` with λ = 0.02 and 0.05 and 16 cells to τ = 40, in all frames, against characteristics that share
no code with the package (`tests/exact/characteristics.py`). The density's error is W₁ of its projections onto 24 lines,
the largest of them and of all layers, over √tr Σ: of the nodes with their masses, and of the density in files. For
nodes without remap also the bound by the map that takes them to where the characteristics take them. What was measured
stands in density_error.json beside this file, row by row as it comes, and the tables are printed from it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from mpi4py import MPI

import conftest

conftest.start()  # MPI ahead of DOLFINx, as in the tests

from exact.characteristics import Flow, Seen, march, product_grid
from exact.wasserstein import atoms, coupled, sliced, spread
from mfpde.config import run_file
from mfpde.errors import ComputationError
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.limit.state import NodesPart
from mfpde.runs.problem_setup import problem_of

KEPT = Path(__file__).with_suffix(".json")
RUN = ROOT / "runs" / "in-context.toml"
TAUS = (5.0, 10.0, 20.0, 30.0, 40.0)
DECAYS = (0.02, 0.05)
FINE, COARSE, REACH = (256, 144), (192, 96), 6.5  # particles in q and v, to so many standard deviations
INTERVALS, TOLERANCE = 48, 1e-5
COLUMNS = {
    "risk_off": "risk",
    "nodes": "W₁ of nodes",
    "written": "W₁ of what is written",
    "bound": "bound",
    "min_density": "min ρ",
    "negative_mass": "negative mass",
    "dissipation": "dissipation",
}
type Atoms = list[tuple[np.ndarray, ...]]  # of every layer: points (n, 2) and masses (n,)
UNMAPPED = "lagrangian, no remap"
ROWS: dict[str, list[str]] = {
    "default": [],
    UNMAPPED: ["density.remap=false"],
    "comoving": ["density.frame=comoving"],
    "comoving, k = 3": ["density.frame=comoving", "density.potential_degree=3"],
    "fixed": ["density.frame=fixed"],
}


def problem(decay: float, settings: Sequence[str], samples: int = 128, cells: int = 16) -> Problem:
    """The run with another λ; densities are as they are solved for."""
    changed = [f"training.weight_decay={decay}", f"task.samples={samples}", f"density.cells={cells}"]
    longer = ["training.horizon=40.0", "density.positivity=off"]
    return problem_of(run_file.load(RUN, [*changed, *longer, *settings]), trial=True)


def particles(made: Problem, points: Sequence[int], nodes: np.ndarray) -> tuple[Flow, np.ndarray]:
    """Characteristics of the law, and of points (n, 2) without mass that go with them."""
    tokens, law = np.asarray(made.task.tokens), made.model.families[0].law(0)
    start, mass = product_grid(points, law.mean, law.std, REACH)
    x, y = (np.ascontiguousarray(tokens[..., channel]) for channel in (0, 1))
    flow = Flow(
        x=x,
        y=y,
        target=np.asarray(made.task.targets)[:, 0],
        decay=made.training.weight_decay,
        mass=np.concatenate([mass, np.zeros(len(nodes))]),
        layers=made.model.layers,
        panels=INTERVALS,
    )
    return flow, np.concatenate([start, nodes])


def solved(made: Problem, taus: Sequence[float]) -> Iterator[tuple[dict[str, float], dict[str, Atoms]]]:
    """What a run says at each τ, and its densities as atoms; nothing more once it has failed."""
    solver = Solver(MPI.COMM_SELF, made)
    start = time.process_time()
    try:
        for tau in taus:
            solver.stepper.advance(tau)
            report = solver.report(solver.stepper.state, certified=False)
            names = ("risk", "energy", "dissipation", "min_density", "negative_mass")
            said = {name: report.history[name] for name in names}
            part, snapshot = solver.stepper.state.parts[0], report.snapshots[0]
            found = {"written": [atoms(snapshot, layer) for layer in range(snapshot.layers)]}
            if isinstance(part, NodesPart):
                found["nodes"] = list(zip(part.position, part.mass, strict=True))
            yield {"tau": tau, **said, "seconds": round(time.process_time() - start, 1)}, found
    except ComputationError as error:
        sys.stdout.write(f"{error}\n")
    finally:
        solver.close()


def distances(found: Atoms, seen: Seen) -> list[float]:
    """The largest sliced W₁ of each layer, over the standard deviation."""
    made = []
    for (points, mass), position in zip(found, seen.position, strict=True):
        some = seen.mass > 0.0
        far = sliced(points, mass, position[some], seen.mass[some])
        made.append(float(far.max()) / spread(position[some], seen.mass[some]))
    return made


def compare(said: dict[str, float], found: dict[str, Atoms], seen: Seen) -> dict[str, Any]:
    """A run's own figures at τ with its errors against the characteristics."""
    far = {name: distances(each, seen) for name, each in found.items()}
    largest = {name: max(layers) for name, layers in far.items()}
    return {**said, "risk_off": float(said["risk"] / seen.risk - 1.0), **largest, "layers": far}


def bounded(found: Atoms, seen: Seen) -> float:
    """The largest over layers of Σ m_j |X_j − X(θ_j)|, over √tr Σ: the nodes are the last particles."""
    made, some = [], seen.mass > 0.0
    for (points, mass), position in zip(found, seen.position, strict=True):
        away = coupled(points, position[len(position) - len(points) :], mass)
        made.append(away / spread(position[some], seen.mass[some]))
    return max(made)


def initial(made: Problem) -> np.ndarray:
    """The nodes at τ = 0, (n, 2), the same in every layer."""
    solver = Solver(MPI.COMM_SELF, made)
    position = solver.stepper.state.parts[0].position
    solver.close()
    return np.asarray(position[0])


def characteristics(
    made: Problem, points: Sequence[int], nodes: np.ndarray, taus: Sequence[float], folder: Path | None
) -> list[Seen]:
    """The particles at every τ, from the folder if they are there."""
    name = f"{made.training.weight_decay:g}-{points[0]}-{len(nodes)}"
    kept = [folder / f"{name}-{tau:g}.npz" for tau in taus] if folder else []
    if kept and all(path.exists() for path in kept):
        return [Seen(**np.load(path)) for path in kept]

    found = list(march(*particles(made, points, nodes), taus, TOLERANCE))
    for path, seen in zip(kept, found, strict=bool(kept)):
        np.savez(path, **vars(seen))
    return found


def measure(
    decay: float, rows: Sequence[str], taus: Sequence[float], points: Sequence[int], folder: Path | None
) -> None:
    """Rows at one λ. Nodes without remap go with coarser characteristics, which say how good the finer ones are."""
    made = problem(decay, [])
    nodes = initial(made)
    fine = characteristics(made, points, nodes[:0], taus, folder)
    coarse = characteristics(made, COARSE, nodes, taus, folder) if UNMAPPED in rows else fine
    if coarse is not fine:
        keep(decay, "characteristics", [reference(*both) for both in zip(fine, coarse, strict=True)])

    for name in rows:
        row = []
        for seen, ahead, (said, found) in zip(fine, coarse, solved(problem(decay, ROWS[name]), taus), strict=False):
            row.append(compare(said, found, seen))
            if name == UNMAPPED:
                row[-1]["bound"] = bounded(found["nodes"], ahead)
            keep(decay, name, row)


def reference(fine: Seen, coarse: Seen) -> dict[str, Any]:
    """The risk of the finer characteristics, and how far the coarser ones are from them."""
    some = coarse.mass > 0.0
    found = {"nodes": [(position[some], coarse.mass[some]) for position in coarse.position]}
    said = {"tau": float(fine.tau), "risk": float(coarse.risk)}
    return {**compare(said, found, fine), "risk": float(fine.risk)}


def keep(decay: float, name: str, row: list[dict[str, Any]]) -> None:
    """Write a row, and show its last entry."""
    kept = load()
    kept.setdefault(f"{decay:g}", {})[name] = row
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{decay:g} {name} {json.dumps(row[-1])}\n")
    sys.stdout.flush()


def load() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What has been measured: λ, row, then one entry per τ."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}  # type: ignore[no-any-return]


def tables() -> str:
    """Markdown: errors of the risk, of the density, and signs, per λ."""
    lines = []
    for decay, rows in load().items():
        for key, title in COLUMNS.items():
            head = [f"λ = {decay}: {title}", *(f"τ = {tau:g}" for tau in TAUS)]
            lines += ["", *(f"| {' | '.join(words)} |" for words in (head, ["---"] * len(head)))]
            for name, row in rows.items():
                said = {each["tau"]: each[key] for each in row if key in each}
                cells = [f"{said[tau]:.1e}" if tau in said else "" for tau in TAUS]
                lines += [f"| {' | '.join([name, *cells])} |"] if said else []
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is wanted and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decay", type=float, nargs="*", default=list(DECAYS), help="λ; none: only print the tables")
    parser.add_argument(
        "--only", nargs="*", choices=list(ROWS), default=list(ROWS), metavar="ROW", help="; ".join(ROWS)
    )
    parser.add_argument("--until", type=float, default=TAUS[-1], help="latest τ")
    parser.add_argument("--folder", type=Path, help="where the characteristics are kept for another time")
    parser.add_argument("--points", default="x".join(map(str, FINE)), help="particles in q and v")
    given = parser.parse_args()
    points = [int(count) for count in given.points.split("x")]
    for decay in given.decay:
        measure(decay, given.only, [tau for tau in TAUS if tau <= given.until], points, given.folder)
    sys.stdout.write(tables())


if __name__ == "__main__":
    main()
