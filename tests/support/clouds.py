"""Made-up clouds of nodes for the tests: `from support.clouds import make_nodes`."""

from __future__ import annotations

import dataclasses

import numpy as np

from mfpde import open_run
from mfpde.output.clouds.nodes import Nodes
from mfpde.output.writer import RunWriter
from support.snapshots import make_report, make_snapshot


def make_nodes(s=1, shape=(2, 3), *, layers=2, replicas=2, count=8, family="heads", decay=0.1, seed=0, v=None):
    """Nodes of s nonlinear coordinates that stand in front of v, (L, n, *shape) where it is given; (0,) is no v."""
    rng = np.random.default_rng(seed)
    n, m = replicas * count, int(np.prod(shape))
    mass = rng.uniform(0.5, 1.5, size=(layers, n))
    v = rng.normal(size=(layers, n, *shape)) if v is None else v
    force = rng.normal(size=(layers, n, *shape))
    return Nodes(
        family=family,
        coordinates=(*(f"u_{k}" for k in range(s)), *(f"v_{k}" for k in range(m))),
        linear=tuple(range(s, s + m)),
        mass=mass / mass.sum(axis=1, keepdims=True),
        u=rng.normal(size=(layers, n, s)),
        v=v,
        potential=rng.normal(size=(layers, n)),
        velocity_u=rng.normal(size=(layers, n, s)),
        velocity_v=-force - decay * v,
        replica=np.repeat(np.arange(replicas), count),
        weight_decay=decay,
    )


def make_cloud_run(directory, splits, *, taus=(0.0, 0.5), layers=2, **named):
    """Write a run of families "s1", "s2", …, by their numbers of nonlinear coordinates → shape of v, and open it."""
    directory.mkdir(parents=True, exist_ok=True)
    with RunWriter(directory, run_text="", manifest={"ranks": 1}, unknowns=1) as writer:
        for tau in taus:
            families = {f"s{s}": shape for s, shape in splits.items()}
            shots = [make_snapshot("interval", 1, layers=layers, family=name) for name in families]
            clouds = tuple(
                make_nodes(s, shape, layers=layers, family=f"s{s}", seed=round(10 * tau) + s, **named)
                for s, shape in splits.items()
            )
            writer.report(dataclasses.replace(make_report(tau, shots, dissipation=0.1), clouds=clouds))
    return open_run(directory)
