"""The sweep against its own arithmetic: `uv run python tests/benchmarks/bench_sweep.py --json FILE`.

A sweep, value and gradient of the risk, cannot take less time than its exponentials (exp, tanh, …) and matrix products.
The program of the sweep is read for them: every such operation with its shapes, and how often it is done. Each is then
timed alone, at the same shapes and with nothing else in the loop, exp and tanh by XLA and by NumPy, of which the faster
counts. The share printed is the sum of these times over that of the sweep. In brackets, more severe, the products count
at the rate of one large product by BLAS instead, which such small ones do not reach. One rank; seconds of the
processor; medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfpde.parallel import mpi

mpi.start()
mpi.start_petsc()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from mpi4py import MPI  # noqa: E402

from mfpde.config import run_file  # noqa: E402
from mfpde.limit import backprop as sweeps  # noqa: E402
from mfpde.limit.solver import Solver  # noqa: E402
from mfpde.runs.problem_setup import problem_of  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CURVES = {"exp": (jnp.exp, np.exp), "tanh": (jnp.tanh, np.tanh), "log1p": (jnp.log1p, np.log1p)}
CASES = {  # run file, and what is different in it
    "in-context": (ROOT / "runs" / "in-context.toml", []),
    "in-context, 96 cells": (ROOT / "runs" / "in-context.toml", ["density.cells=96"]),
    "quick start": (None, []),
    "quick start, 48 cells": (None, ["density.cells=48"]),
}
LOOPS = 20


@dataclass(frozen=True)
class Operation:
    """One kind of work: exp and the like of a shape, or a product of two shapes along these axes."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    axes: object = None


def operations(jaxpr: Any, times: int = 1) -> Iterator[tuple[Operation, int]]:
    """All exponentials and products of a program, loops unrolled."""
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, times
        shapes = tuple(variable.aval.shape for variable in equation.invars if hasattr(variable.aval, "shape"))
        if name in CURVES:
            yield Operation(name, shapes), times
        elif name == "dot_general":
            yield Operation(name, shapes, equation.params["dimension_numbers"]), times
        elif name == "scan":
            inner = times * equation.params["length"]
        for parameter in equation.params.values():
            for each in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
                if hasattr(each, "jaxpr") or hasattr(each, "eqns"):
                    yield from operations(getattr(each, "jaxpr", each), inner)


def alone(operation: Operation) -> float:
    """Seconds of one, done many times in a row."""
    arrays = [jnp.asarray(np.random.default_rng(0).normal(size=shape)) for shape in operation.shapes]
    if operation.name == "dot_general":
        return _repeated(lambda a, b: (jax.lax.dot_general(a, b, operation.axes),), arrays)
    ours, theirs = CURVES[operation.name]
    out, numbers = np.empty(operation.shapes[0]), np.asarray(arrays[0])
    by_numpy = _median(lambda: [theirs(numbers, out=out) for _ in range(LOOPS)]) / LOOPS
    return min(_repeated(lambda a: (ours(a),), arrays), by_numpy)


def size(operation: Operation) -> float:
    """Numbers that a curve is taken of; floating-point operations of a product."""
    if operation.name in CURVES:
        return float(np.prod(operation.shapes[0]))
    left, right = operation.shapes
    (contracted, _), (batch, _) = operation.axes
    shared = float(np.prod([left[a] for a in (*contracted, *batch)]))
    return 2.0 * float(np.prod(left)) * float(np.prod(right)) / shared


def large_product(size: int = 1024) -> float:
    """Floating-point operations a second of one product of large matrices."""
    a = np.random.default_rng(0).normal(size=(size, size))
    return 2.0 * size**3 / _median(lambda: a @ a)


def _repeated(function: Callable[..., tuple[jax.Array]], arrays: list[jax.Array]) -> float:
    """Seconds of a compiled function within a compiled loop, whose turns nothing may merge."""

    @jax.jit
    def loop(*given: jax.Array) -> tuple[jax.Array, ...]:
        def turn(_: int, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            inner, _ = jax.lax.optimization_barrier(carry)
            return inner, jax.lax.optimization_barrier(function(*inner))

        return jax.lax.fori_loop(0, LOOPS, turn, (given, function(*given)))[1]

    return _median(lambda: jax.block_until_ready(loop(*arrays))) / LOOPS


def _median(call: Callable[[], object], repeats: int = 5) -> float:
    call()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return statistics.median(found)


def measure(run: Path | None, settings: list[str]) -> dict[str, Any]:
    """Seconds of a sweep and of its operations alone."""
    solver = Solver(MPI.COMM_SELF, problem_of(run_file.load(run, settings)))
    flow = solver.flow
    theta, weights, square = flow.moments(solver.stepper.state)
    seconds = _median(lambda: flow.backprop(theta, weights, square))
    units = tuple(zip(theta, flow.backprop.sum_over_ranks(weights), strict=True))
    program = jax.make_jaxpr(lambda u, t: sweeps._value_and_gradient(flow.model, False, u, t))(
        units, flow.backprop._tiles[0]
    )
    counts: Counter[Operation] = Counter()
    for operation, times in operations(program.jaxpr):
        counts[operation] += times
    parts, sizes = {"exponentials": 0.0, "products": 0.0}, {"exponentials": 0.0, "products": 0.0}
    for operation, times in counts.items():
        kind = "exponentials" if operation.name in CURVES else "products"
        parts[kind] += times * alone(operation)
        sizes[kind] += times * size(operation)
    solver.close()
    severe = parts["exponentials"] + sizes["products"] / large_product()
    return {
        "units": sum(t.shape[0] * t.shape[1] for t in theta), "sweep": seconds, **parts,
        "numbers": sizes["exponentials"], "operations": sizes["products"],
        "share": sum(parts.values()) / seconds, "severe": severe / seconds,
    }  # fmt: skip


def main() -> None:
    """Measure and print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), help="one of them only")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    given = parser.parse_args()
    found = {}
    sys.stdout.write("| case | units | exponentials | sweep | exponentials alone | products alone | share |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|\n")
    for name in [given.case] if given.case else CASES:
        row = found[name] = measure(*CASES[name])
        sys.stdout.write(
            f"| {name} | {row['units']:,} | {row['numbers']:.3g} | {1e3 * row['sweep']:.1f} ms "
            f"({1e9 * row['sweep'] / row['numbers']:.2f} ns each) | {1e3 * row['exponentials']:.1f} ms "
            f"| {1e3 * row['products']:.1f} ms | {row['share']:.0%} ({row['severe']:.0%}) |\n"
        )
        sys.stdout.flush()
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
