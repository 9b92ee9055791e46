"""Peak memory in copies of the density: `uv run python tests/benchmarks/bench_memory.py --json FILE`.

24 blocks in two dimensions, p = k = 2, as one family in 24 layers and as six in four, at two sizes; one rank, warm
caches. A process first does all of it at a tiny size: its peak is the constant, what libraries and compiled code take.
The rest, geometry and all, is divided by the size of a copy of the density's coefficients: for a run of some steps that
writes its reports (`run`), and for the same steps without reports (`steps`). Linux.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.launch import run

TINY = 8
SIZES = (100, 200)
FORMS = {"one family, 24 layers": (1, 24), "six families, 4 layers": (6, 4)}
STEP, END = 1e-6, 3e-6


def child(words: str) -> None:
    """Peak of the tiny problem and then of the other one, in bytes."""
    from mfpde.parallel import mpi

    comm = mpi.start()
    mpi.start_petsc()
    import jax.numpy as jnp
    import numpy as np

    import mfpde
    from mfpde.config.settings import Training
    from mfpde.limit.solver import Solver
    from mfpde.limit.specification import Problem

    cells, families, layers, written = json.loads(words)
    made = [
        mfpde.Family(
            f"neuron_{n}",
            2,
            lambda tokens, theta: theta[0] * jnp.tanh(theta[1] * tokens),
            mfpde.Normal([0.0] * 2, [0.5] * 2),
            linear=(0,),
        )
        for n in range(families)
    ]
    model = mfpde.Transformer([made], layers, lambda tokens: tokens[-1, :1])
    task = mfpde.Task(np.ones((8, 3, 2)), np.ones((8, 1)))
    peaks = []
    for size in (TINY, cells):
        density, steps = mfpde.Density(cells=size, degree=2, frame="comoving"), mfpde.Time(tolerance=1e-3)
        if written:
            mfpde.solve_limit(
                model, task, weight_decay=0.1, horizon=END, every=END, density=density, time=steps, directory=f"{size}"
            )
        else:
            training = Training(weight_decay=0.1, horizon=END)
            solver = Solver(comm, Problem(model, task, training, {f.name: density for f in made}, steps))
            for k in range(1, 6):  # the first steps do not extrapolate yet
                solver.stepper.advance(k * END / 5)
            solver.close()
            del solver
        with Path("/proc/self/status").open(encoding="ascii") as status:
            peaks.append(1024.0 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))
    sys.stdout.write(json.dumps(peaks))


def main() -> None:
    """Measure and print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child)
        return
    found = []
    sys.stdout.write("| | cells | a copy | constant | peak | copies above it |\n|---|---|---|---|---|---|\n")
    for name, (families, layers) in FORMS.items():
        for cells in SIZES:
            for kind, written in (("steps", False), ("run", True)):
                with tempfile.TemporaryDirectory() as folder:
                    words = json.dumps([cells, families, layers, written])
                    done = run(Path(__file__).resolve(), "--child", words, directory=Path(folder), timeout=550)
                if done.returncode:
                    raise RuntimeError(done.stderr)
                constant, peak = json.loads(done.stdout)
                copy = 8.0 * 9 * 24 * cells**2
                row = {"form": name, "kind": kind, "cells": cells, "copy": copy, "constant": constant, "peak": peak}
                found.append({**row, "copies": (peak - constant) / copy})
                mib = " | ".join(f"{size / 2**20:.0f} MiB" for size in (copy, constant, peak))
                sys.stdout.write(f"| {name}, {kind} | {cells}² | {mib} | {found[-1]['copies']:.1f} |\n")
                sys.stdout.flush()
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
