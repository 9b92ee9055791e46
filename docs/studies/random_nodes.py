"""How good random nodes are: spreads of heads whose query, key and value matrices all move, and what intervals cover.

    uv run python docs/studies/random_nodes.py --part heads       # Sobol points against drawn ones, 32 flows a size
    uv run python docs/studies/random_nodes.py --part intervals   # of eight replicas, in 512 trials
    uv run python docs/studies/random_nodes.py --part widths      # 4 × 4 value matrices against M = 64, 256, 1,024

Flows are replicas of one solve, as in a run, only more of them. Heads that are drawn are finite Transformers, from two
sizes of which the risk at M = ∞ follows by R(M) = R + b/M; in the last part from Transformers and their own quarters,
whose difference has no chance of first order.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from scipy import stats

from mfpde.config.settings import Density, Time, Training
from mfpde.finite.jobs import Method
from mfpde.finite.training import TrainerCache
from mfpde.limit import specification
from mfpde.limit.sampled import cloud
from mfpde.limit.sampled.sequences import law_points
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.problem.datasets import in_context_regression
from mfpde.problem.family import Family
from mfpde.problem.laws import Normal
from mfpde.problem.models.value_matrices import value_head
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

sys.path.insert(0, str(Path(__file__).parent))
from quarters import extrapolated
from training_by_steps import Block

Array = NDArray[np.float64]
GROUP = 8  # replicas of a run


def main(words: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Random nodes: spreads and intervals.")
    parser.add_argument("--part", choices=["heads", "intervals", "widths"], required=True)
    parser.add_argument("--sizes", default="64,128,256,512,1024", help="nodes a flow")
    given = parser.parse_args(words)
    sizes = [int(size) for size in given.sizes.split(",")]
    parts = {"heads": lambda: heads(sizes), "intervals": lambda: intervals(sizes), "widths": widths}
    for row in parts[given.part]():
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
    return 0


def heads(sizes: Sequence[int], flows: int = 32) -> Iterator[dict[str, object]]:
    """In-context regression by heads with Q, K, V and O of shape (2, 2): twelve nonlinear coordinates, four linear.

    Tokens are not normalised: of two channels a norm leaves the sign of their difference, which jumps.
    """
    task = in_context_regression(samples=64)

    def update(tokens: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
        query, key, value = u.reshape(3, 2, 2)
        weights = jax.nn.softmax((tokens @ query) @ (tokens @ key).T / math.sqrt(2.0), axis=-1)
        return weights @ tokens @ value @ v

    laws = Normal([0.0] * 12, [0.7] * 12), Normal([0.0] * 4, [0.5] * 4)
    head = Family("head", nonlinear=12, linear_shape=(2, 2), update=update, initial=laws)
    model = Transformer([[head]], 2, lambda tokens: tokens[-1, 1:], step=2.0)
    for kind in ("drawn", "sobol"):
        spreads, means = [], {}
        for size in sizes:
            with replicas(flows, kind):
                risks = ends(Problem(
                    model, task, Training(0.05, 1.0), {"head": Density(nodes=flows * size)}, Time(tolerance=1e-4)
                ))  # fmt: skip
            spreads.append(risks.std(ddof=1))
            means[size] = float(risks.mean()), float(risks.std(ddof=1) / np.sqrt(flows))
            yield {"kind": kind, "nodes": size, "risk": risks.mean(), "error": risks.std(ddof=1) / np.sqrt(flows),
                   "spread": spreads[-1]}  # fmt: skip
        slope = np.polyfit(np.log(sizes), np.log(spreads), 1)[0]
        reach = stats.t.ppf(0.975, flows - 1)
        (half, its_error), (value, error) = (means[size] for size in sizes[-2:])
        infinite = {"risk": 2.0 * value - half, "half": reach * np.hypot(2.0 * error, its_error)}
        yield {"kind": kind, "slope": float(slope), "at infinity": {name: float(v) for name, v in infinite.items()}}


def widths(most: int = 1024, seeds: int = 32) -> Iterator[dict[str, object]]:
    """Heads with one number u and a value matrix of sixteen: Transformers of 64 … 1,024 heads, and nodes."""
    rng = np.random.default_rng(3)
    tokens = rng.normal(size=(32, 5, 4))
    task = Task(tokens, np.tanh(tokens[:, 0, :1] * tokens[:, -1, 1:2]))
    head = value_head("head", rng.normal(size=(1, 4, 4)) / 2.0, (Normal([0.5], [0.5]), Normal([0.0], [0.5])))
    model, training = Transformer([[head]], 2, lambda t: t[-1, :1], step=2.0), Training(0.05, 1.0)

    cache, risks = TrainerCache.of(model, task, training), {}
    for count in (most // 16, most // 4, most):
        jobs = [
            Block("sampled", (count,), 2, s, Method(), k, most) for s in range(seeds) for k in range(0, most, count)
        ]
        found = [cache.train(job, [0.0, 1.0], [1.0]).columns["risk"][-1] for job in jobs]
        risks[count] = np.reshape(found, (seeds, -1)).mean(axis=1)
        yield {"units": count, "risk": float(risks[count].mean())}

    for whole in (most // 4, most):
        value, half = extrapolated(risks[whole], risks[whole // 4])
        yield {"extrapolated from": whole, "risk": value, "half": half}
    for nodes in (2048, 4096, 8192):
        found = ends(Problem(model, task, training, {"head": Density(nodes=nodes)}, Time(tolerance=1e-5)))
        half = stats.t.ppf(0.975, GROUP - 1) * found.std(ddof=1) / np.sqrt(GROUP)
        yield {"nodes": nodes, "risk": float(found.mean()), "half": float(half)}


def intervals(sizes: Sequence[int], trials: int = 512) -> Iterator[dict[str, object]]:
    """tanh neurons with output vectors of six numbers: how often Student's 95 % intervals cover the risk at τ = 0.5."""
    for mean in (0.3, 0.0):
        with replicas(256, "sobol"):
            truth = float(ends(neurons(mean, 256 * 1024)).mean())
        for size in sizes:
            with replicas(GROUP * trials, "sobol"):
                risks = ends(neurons(mean, GROUP * trials * size)).reshape(trials, GROUP)
            half = stats.t.ppf(0.975, GROUP - 1) * risks.std(axis=1, ddof=1) / np.sqrt(GROUP)
            covered = np.abs(risks.mean(axis=1) - truth) <= half
            shown = {"bias": risks.mean() - truth, "half": np.median(half), "covers": covered.mean()}
            yield {"mean of v": mean, "nodes": size, **{name: float(value) for name, value in shown.items()}}


def neurons(mean: float, nodes: int) -> Problem:
    """f(T, (u, v)) = tanh(u T_1) v on one token of six channels, in one layer."""
    rng = np.random.default_rng(8)
    family = Family(
        "neurons", nonlinear=1, linear_shape=(6,), initial=(Normal([0.3], [0.7]), Normal([mean], [0.5])),
        update=lambda tokens, u, v: jnp.tanh(u[0] * tokens[:, :1]) * v,
    )  # fmt: skip
    task = Task(rng.normal(size=(5, 1, 6)), rng.normal(size=(5, 6)))
    model = Transformer([[family]], 1, lambda tokens: tokens[-1])
    return Problem(model, task, Training(0.1, 0.5), {"neurons": Density(nodes=nodes)}, Time(tolerance=1e-4))


@contextmanager
def replicas(count: int, kind: str) -> Iterator[None]:
    """So many replicas in the place of eight, of points of a kind."""
    points: Callable[..., Array] = partial(law_points, kind=kind) if kind == "sobol" else drawn
    with patch.object(specification, "REPLICAS", count), patch.object(cloud, "law_points", points):
        yield


def drawn(law: object, count: int, linear: Sequence[int], rng: np.random.Generator) -> Array:
    """Independent draws, as finite Transformers start with."""
    return law_points(law, count, linear, rng, "drawn", paired=False, matched=False)  # type: ignore[arg-type]


def ends(problem: Problem) -> Array:
    """R of each replica at the horizon."""
    solver = Solver(MPI.COMM_SELF, dataclasses.replace(problem))
    try:
        solver.stepper.advance(problem.training.horizon)
        return solver.flow.potential(solver.stepper.state).outcome.risks
    finally:
        solver.close()


if __name__ == "__main__":
    sys.exit(main())
