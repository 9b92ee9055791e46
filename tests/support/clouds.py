"""Made-up clouds of nodes for the tests: `from support.clouds import make_nodes`."""

from __future__ import annotations

import numpy as np

from mfpde.output.clouds.nodes import Nodes


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
