"""What a right-hand side costs on P ranks: work, latency and bandwidth, for `bench_scaling.py`.

    T(P) = c + a U/P + b W/P + m (2 ⌈log₂ P⌉ α + 2 B/β) + 2d (α + H/β)

U are density unknowns; W units × samples, of which the busiest rank has s ⌈n/(sP)⌉ of n samples, s a tile; c what does
not shrink with P (Python, small arrays); m = 3 reductions of B bytes together, in the levels of exact sums; H the bytes
of the cells along one side of a rank's part, 2d neighbours. a, b, c are fitted to measurements of one rank; α and β are
those of the network. Reductions as by Rabenseifner, *ICCS* 2004: twice the tree's depth in messages, twice the data.

The samples could be shared by rows of R ranks that share the units of every layer, too. Then a rank has W R/P / R, in
tiles, and every one of L layers needs one reduction over its row in each direction, of s N D numbers in levels, which a
compiled pass has to call from within, at κ seconds a call:

    T_R(P) = c + a U/P + b W/P + m (…) + 2d (…) + 2L t (κ + 2 ⌈log₂ R⌉ α + 2 · 8 · 3 s N D/β),   t tiles a rank
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mfpde.limit.backprop import tile_size

REDUCTIONS, LEVELS = 3, 3


@dataclass(frozen=True)
class Size:
    """Of a problem on boxes.

    Attributes:
        unknowns: U, of the density.
        cells: of a mesh.
        dim: d.
        units: of all families and layers.
        samples: n.
        layers: L.
        numbers: N D, of a sample's tokens.
    """

    unknowns: int
    cells: int
    dim: int
    units: int
    samples: int
    layers: int = 1
    numbers: int = 1

    def tiles(self, ranks: int) -> int:
        """Tiles of samples of the rank that has most of them."""
        return int(np.ceil(self.samples / (tile_size(self.samples) * ranks)))

    def busiest(self, ranks: int, row: int = 1) -> tuple[float, float]:
        """Unknowns, and units × samples, of the rank that has most of them; `row` ranks share the units."""
        own = np.ceil(self.cells / ranks) * self.unknowns / self.cells
        samples = min(self.samples, tile_size(self.samples) * self.tiles(max(1, ranks // row)))
        return own, float(self.units / row * samples)

    def exchanged(self) -> float:
        """Bytes that a row of ranks sums in a layer of a tile, in one direction."""
        return 2.0 * 8.0 * LEVELS * tile_size(self.samples) * self.numbers

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
    call: float = 8e-5  # κ, of a function of the host from within a compiled pass


@dataclass(frozen=True)
class Model:
    """c in seconds, a in seconds per unknown, b in seconds per unit and sample."""

    fixed: float
    unknown: float
    pair: float

    def seconds(self, size: Size, ranks: int, network: Network, row: int = 1) -> float:
        """T(P), or T_R(P) where `row` ranks share the units."""
        unknowns, pairs = size.busiest(ranks, row)
        work = self.fixed + self.unknown * unknowns + self.pair * pairs
        if ranks == 1:
            return work
        tree = 2.0 * np.ceil(np.log2(ranks)) * network.latency * REDUCTIONS
        moved = 2.0 * size.reduced() / network.bandwidth
        exchange = 2 * size.dim * (network.latency + size.halo(ranks) / network.bandwidth)
        seconds = float(work + tree + moved + exchange)
        if row == 1:
            return seconds
        once = network.call + 2.0 * np.ceil(np.log2(row)) * network.latency + size.exchanged() / network.bandwidth
        return seconds + float(2 * size.layers * size.tiles(ranks // row) * once)


def fit(sizes: Sequence[Size], seconds: Sequence[float]) -> Model:
    """The least relative squares of measurements on one rank, none of the numbers negative."""
    from scipy.optimize import nnls

    rows = np.array([[1.0, *size.busiest(1)] for size in sizes])
    found, _ = nnls(rows / np.asarray(seconds)[:, None], np.ones(len(rows)))
    return Model(*(float(x) for x in found))
