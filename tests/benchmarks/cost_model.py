"""What a right-hand side costs on P ranks: work, latency and bandwidth, for `bench_scaling.py`.

    T(P) = c + a U/P + b W/P + m (2 ⌈log₂ P⌉ α + 2 B/β) + 2d (α + H/β)

U are density unknowns; W units × samples, of which the busiest rank has 8 ⌈n/(8P)⌉ of n samples; c what does not shrink
with P (Python, small arrays); m = 3 reductions of B bytes together, in the levels of exact sums; H the bytes of the
cells along one side of a rank's part, 2d neighbours. a, b, c are fitted to measurements of one rank; α and β are those
of the network. Reductions as by Rabenseifner, *ICCS* 2004: twice the tree's depth in messages, twice the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REDUCTIONS, LEVELS, TILE = 3, 3, 8


@dataclass(frozen=True)
class Size:
    """Of a problem on boxes.

    Attributes:
        unknowns: U, of the density.
        cells: of a mesh.
        dim: d.
        units: of all families and layers.
        samples: n.
    """

    unknowns: int
    cells: int
    dim: int
    units: int
    samples: int

    def busiest(self, ranks: int) -> tuple[float, float]:
        """Unknowns, and units × samples, of the rank that has most of them."""
        own = np.ceil(self.cells / ranks) * self.unknowns / self.cells
        return own, float(self.units * min(self.samples, TILE * np.ceil(self.samples / (TILE * ranks))))

    def reduced(self) -> float:
        """B: bytes of weights and gradients."""
        return 2.0 * 8.0 * LEVELS * self.units

    def halo(self, ranks: int) -> float:
        """H: bytes of one side of a rank's part."""
        return 8.0 * self.unknowns / self.cells * np.ceil(self.cells / ranks) ** ((self.dim - 1) / self.dim)


@dataclass(frozen=True)
class Network:
    """Seconds of a message, α, and bytes a second, β."""

    name: str
    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Model:
    """c in seconds, a in seconds per unknown, b in seconds per unit and sample."""

    fixed: float
    unknown: float
    pair: float

    def seconds(self, size: Size, ranks: int, network: Network) -> float:
        """T(P)."""
        unknowns, pairs = size.busiest(ranks)
        work = self.fixed + self.unknown * unknowns + self.pair * pairs
        if ranks == 1:
            return work
        tree = 2.0 * np.ceil(np.log2(ranks)) * network.latency * REDUCTIONS
        moved = 2.0 * size.reduced() / network.bandwidth
        exchange = 2 * size.dim * (network.latency + size.halo(ranks) / network.bandwidth)
        return float(work + tree + moved + exchange)


def fit(sizes: Sequence[Size], seconds: Sequence[float]) -> Model:
    """The least relative squares of measurements on one rank, none of the numbers negative."""
    from scipy.optimize import nnls

    rows = np.array([[1.0, *size.busiest(1)] for size in sizes])
    found, _ = nnls(rows / np.asarray(seconds)[:, None], np.ones(len(rows)))
    return Model(*(float(x) for x in found))
