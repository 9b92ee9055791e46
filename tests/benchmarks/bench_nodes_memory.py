"""Peak memory of a rank with Lagrangian nodes: `uv run python tests/benchmarks/bench_nodes_memory.py --json FILE`.

One family in two dimensions and one layer, of two million nodes unless `--cells` says otherwise, on one, two and three
ranks; warm caches. Each rank first solves a tiny problem: its peak is the constant, what libraries and compiled code
take. The rest is that of two time steps, of a remap after them, and of a report with its density file; the largest of
the ranks. Linux.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.launch import run

TINY, CELLS, RANKS = 8, 353, (1, 2, 3)
PHASES = ("steps", "remap", "report")
END = 1e-6


def child(cells: int) -> None:
    """Peaks of the tiny problem, and of the other one after each of `PHASES`, in bytes; the largest of all ranks."""
    from mfpde.parallel import mpi

    comm = mpi.start()
    mpi.start_petsc()
    import jax.numpy as jnp
    import numpy as np

    import mfpde
    from mfpde.config.settings import Training
    from mfpde.limit.lagrangian.remap import remap
    from mfpde.limit.solver import Solver
    from mfpde.limit.specification import Problem

    def peak() -> float:
        with Path("/proc/self/status").open(encoding="ascii") as status:
            return 1024.0 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

    law = mfpde.Normal([0.0] * 2, [0.5] * 2)
    family = mfpde.Family("neuron", 2, lambda tokens, theta: theta[0] * jnp.tanh(theta[1] * tokens), law, linear=(0,))
    model = mfpde.Transformer([[family]], 1, lambda tokens: tokens[-1, :1])
    task = mfpde.Task(np.ones((8, 3, 2)), np.ones((8, 1)))
    for size in (TINY, cells):
        constant, peaks = peak(), []
        density = {"neuron": mfpde.Density(cells=size, frame="lagrangian")}
        solver = Solver(comm, Problem(model, task, Training(0.1, END), density, mfpde.Time(tolerance=1e-3)))
        for part in (1, 2):
            solver.stepper.advance(part * END / 2)
        peaks.append(peak())
        remap(solver.flow.discretisations[0].grid, solver.stepper.state.parts[0])
        peaks.append(peak())
        solver.report(solver.stepper.state, certified=False)
        peaks.append(peak())
        solver.close()

    of_ranks = comm.gather([constant, *peaks], root=0)
    if of_ranks is not None:
        sys.stdout.write(json.dumps(np.max(of_ranks, axis=0).tolist()))


def main() -> None:
    """Measure and print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--cells", type=int, default=CELLS, help="per direction, of four intervals between nodes each")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.cells)
        return

    found = []
    sys.stdout.write("| ranks | nodes | constant | steps above it | remap | report |\n|---|---|---|---|---|---|\n")
    for ranks in RANKS:
        with tempfile.TemporaryDirectory() as folder:
            words = (Path(__file__).resolve(), "--child", "--cells", str(given.cells))
            done = run(*words, ranks=ranks, directory=Path(folder), timeout=3000)
        if done.returncode:
            raise RuntimeError(done.stderr)
        constant, *peaks = json.loads(done.stdout)
        row = {"ranks": ranks, "nodes": (4 * given.cells + 1) ** 2, "constant": constant}
        found.append(row | {name: size - constant for name, size in zip(PHASES, peaks, strict=True)})
        mib = " | ".join(f"{found[-1][name] / 2**20:.0f} MiB" for name in ("constant", *PHASES))
        sys.stdout.write(f"| {ranks} | {row['nodes']:,} | {mib} |\n")
        sys.stdout.flush()
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
