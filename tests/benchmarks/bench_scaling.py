"""One and two ranks, and what more would do: `uv run python tests/benchmarks/bench_scaling.py --json FILE`.

Seconds of a right-hand side (sweep, moments, transport; medians; of the processor, which other jobs disturb less, of
the rank that needs most, and without its waiting) of `runs/in-context.toml` with other numbers of cells, layers and
samples, on meshes in co-moving frames, and of the quick start with other numbers of families:

- strong: one problem on one rank and on two; weak: twice the work on two;
- shared: two ranks against two processes side by side that have half the work each and nothing to say to each other:
  what the machine's shared bus and clock allow two ranks to be;
- slopes: unknowns, samples, layers and families each doubled, on one rank: log₂ of what the time grows by;
- model: `cost_model.py` fitted to one rank, and its table for 8 … 4,096 ranks, with the samples shared alone and with
  the units of a layer shared as well; check: one rank against two, in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from cost_model import Model, Network, Size, fit

from support.launch import run

ROOT = Path(__file__).resolve().parents[2]
IN_CONTEXT = str(ROOT / "runs" / "in-context.toml")
NETWORKS = (Network("2 µs, 10 GB/s", 2e-6, 10e9), Network("20 µs, 1 GB/s", 20e-6, 1e9))  # of a cluster; and a poor one
SHARED = Network("shared memory", 1e-6, 5e9)
RANKS = (8, 32, 64, 512, 4096)
REPEATS = 9
FRAME = "density.frame='comoving'"
CHOSEN = (
    (12, 2, 32),
    (24, 4, 128),
    (48, 12, 64),
    (48, 24, 256),
    (96, 12, 64),
    (96, 24, 128),
    (136, 24, 64),
)  # cells, layers, samples


def case(cells: int = 48, layers: int = 24, samples: int = 128) -> tuple[str, list[str]]:
    """In-context regression with so many blocks."""
    return IN_CONTEXT, [FRAME, f"density.cells={cells}", f"model.layers={layers}", f"task.samples={samples}"]


def families(heads: int, neurons: int) -> tuple[str, list[str]]:
    """The quick start with so many."""
    return "", [FRAME, f"model.heads={heads}", f"model.neurons={neurons}", "task.samples=64"]


def child(words: dict[str, Any]) -> None:
    """Seconds of a right-hand side on the ranks that this was started on, or on each alone; rank 0 prints."""
    from mfpde.parallel import mpi, reductions

    comm = mpi.start()
    mpi.start_petsc()
    from mpi4py import MPI

    from mfpde.config import run_file
    from mfpde.limit.solver import Solver
    from mfpde.runs.problem_setup import problem_of

    time.perf_counter = time.process_time  # also for the flow's own clock, which shows its parts
    reductions.oversubscribed = lambda _: True  # a rank that waits sleeps, and what it takes is its own work
    problem = problem_of(run_file.load(Path(words["run"]) if words["run"] else None, words["settings"]))
    solver = Solver(MPI.COMM_SELF if words["apart"] else comm, problem)
    flow, state = solver.flow, solver.stepper.state
    flow.rate(state)
    rows = []
    for _ in range(REPEATS):
        comm.Barrier()
        before, start = (flow.clock.sweep, flow.clock.transport), time.perf_counter()
        flow.rate(state)
        total = time.perf_counter() - start
        rows.append((total, flow.clock.sweep - before[0], flow.clock.transport - before[1]))
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    total, sweep, transport = (comm.allreduce(seconds, op=MPI.MAX) for seconds in medians)
    space = flow.discretisations[0].space
    units = sum(theta.shape[0] * theta.shape[1] for theta in flow.moments(state)[0])
    size = {
        "unknowns": solver.unknowns, "cells": space.global_cells, "dim": space.dim, "units": units,
        "samples": len(problem.task.tokens), "layers": problem.model.layers,
        "numbers": int(np.prod(problem.task.tokens.shape[1:])),
    }  # fmt: skip
    if comm.rank == 0:
        sys.stdout.write(json.dumps({"total": total, "sweep": sweep, "transport": transport, "size": size}))


def measure(given: tuple[str, list[str]], ranks: int = 1, apart: bool = False) -> dict[str, Any]:
    """What `child` prints."""
    words = json.dumps({"run": given[0], "settings": given[1], "apart": apart})
    done = run(Path(__file__), "--child", words, ranks=ranks, timeout=580)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def scaling() -> dict[str, Any]:
    """Strong, weak and shared."""
    one, two = (measure(case(96, 24, 128), ranks) for ranks in (1, 2))
    twice = measure(case(136, 24, 180), 2)
    halves = measure(case(68, 24, 90), 2, apart=True)
    found = {
        "strong, one": one, "strong, two": two, "weak, two": twice, "halves side by side": halves,
        "strong": one["total"] / (2.0 * two["total"]), "weak": one["total"] / twice["total"],
        "shared": halves["total"] / two["total"],
    }  # fmt: skip
    tell("| | unknowns | samples | right-hand side | sweep | transport |\n|---|---|---|---|---|---|")
    for name in ("strong, one", "strong, two", "weak, two", "halves side by side"):
        row = found[name]
        seconds = " | ".join(f"{1e3 * row[key]:.1f} ms" for key in ("total", "sweep", "transport"))
        tell(f"| {name} | {row['size']['unknowns']:,} | {row['size']['samples']} | {seconds} |")
    tell(f"\nefficiency: strong {found['strong']:.2f}, weak {found['weak']:.2f}; two ranks against two halves side by "
         f"side {found['shared']:.2f}\n")  # fmt: skip
    return found


def slopes() -> dict[str, float]:
    """log₂ of the growth of the time where one size is doubled."""
    base, small = measure(case(68, 12, 128)), measure(families(6, 2))
    doubled = {
        "unknowns": (base, measure(case(96, 12, 128))), "samples": (base, measure(case(68, 12, 256))),
        "layers": (base, measure(case(68, 24, 128))), "families": (small, measure(families(12, 4))),
    }  # fmt: skip
    tell("| doubled | right-hand side | slope | of the sweep | of the transport |\n|---|---|---|---|---|")
    found = {}
    for name, (before, after) in doubled.items():
        each = [np.log2(after[key] / before[key]) for key in ("total", "sweep", "transport")]
        found[name] = float(each[0])
        times = f"{1e3 * before['total']:.1f} → {1e3 * after['total']:.1f} ms"
        tell(f"| {name} | {times} | {each[0]:.2f} | {each[1]:.2f} | {each[2]:.2f} |")
    tell("")
    return found


def fitted(ones: Sequence[dict[str, Any]]) -> tuple[list[Size], Model]:
    """The sizes of the problems of CHOSEN, and the model, from what one rank takes."""
    sizes = [Size(**row["size"]) for row in ones]
    found = fit(sizes, [row["total"] for row in ones])
    tell(f"c = {1e3 * found.fixed:.2f} ms, a = {1e9 * found.unknown:.2f} ns per unknown, "
         f"b = {1e9 * found.pair:.2f} ns per unit and sample\n")  # fmt: skip
    return sizes, found


def model() -> dict[str, Any]:
    """Fit to one rank, and predict more."""
    ones = [measure(case(*chosen)) for chosen in CHOSEN]
    sizes, found = fitted(ones)
    compare(sizes, ones, found, 1)
    return {"model": vars(found), "one": ones, "table": table(found)}


def check() -> dict[str, Any]:
    """Two ranks against the model of one, on which the other core solves the same alone: they share cache and bus."""
    both = [(measure(case(*chosen), 2, apart=True), measure(case(*chosen), 2)) for chosen in CHOSEN]  # in turns
    ones, twos = ([pair[k] for pair in both] for k in (0, 1))
    sizes, found = fitted(ones)
    compare(sizes, ones, found, 1)
    compare(sizes, twos, found, 2)
    apart = [row["total"] / found.seconds(size, 2, SHARED) for size, row in zip(sizes, twos, strict=True)]
    tell(f"two ranks over the model: {min(apart):.2f} … {max(apart):.2f}, median {statistics.median(apart):.2f}")
    return {"one": ones, "two": twos, "model": vars(found), "table": table(found)}


def compare(sizes: Sequence[Size], rows: Sequence[dict[str, Any]], found: Model, ranks: int) -> None:
    """Measured beside foretold."""
    tell(f"| cells, layers, samples | {ranks} rank(s) | model |\n|---|---|---|")
    for name, size, row in zip(CHOSEN, sizes, rows, strict=True):
        tell(f"| {name} | {1e3 * row['total']:.1f} ms | {1e3 * found.seconds(size, ranks, SHARED):.1f} ms |")


def table(fitted: Model) -> list[dict[str, Any]]:
    """Predictions: in-context regression, d = 2, p = 2, k = 3, 24 layers."""
    rows = []
    tell("\n| cells | unknowns | samples | network | 1 rank | " + " | ".join(f"{ranks:,}" for ranks in RANKS) + " |")
    tell("|---|---|---|---|---|" + "---|" * len(RANKS))
    for cells, samples in ((96, 128), (96, 4096), (384, 4096), (384, 65536)):
        size = Size(9 * cells**2 * 24, cells**2, 2, 24 * (3 * cells + 1), samples, 24, 18)
        for network in NETWORKS:
            alone = fitted.seconds(size, 1, network)
            times = [fitted.seconds(size, ranks, network) for ranks in RANKS]
            own = [fitted.seconds(size, r, network, max(1, r // size.tiles(1))) for r in RANKS]  # units shared, too
            rows.append({"cells": cells, "samples": samples, "network": network.name, "one": alone, "more": times,
                         "units shared": own})  # fmt: skip
            about = f"| {cells}² | {size.unknowns:,} | {samples:,} | {network.name}"
            for shared, seconds in (("", times), (", units shared", own)):
                said = [f"{_time(t)} ({alone / (r * t):.0%})" for r, t in zip(RANKS, seconds, strict=True)]
                tell(f"{about}{shared} | {_time(alone)} | {' | '.join(said)} |")
    return rows


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1.0 else f"{1e3 * seconds:.3g} ms"


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["scaling", "slopes", "model", "check"], help="one of them only")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.child:
        child(json.loads(given.child))
        return
    parts = {"scaling": scaling, "slopes": slopes, "model": model, "check": check}
    found = {name: part() for name, part in parts.items() if given.part in (None, name)}
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
