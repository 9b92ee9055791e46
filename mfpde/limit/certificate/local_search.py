"""A local search for low values of the reduced potential W, in more coordinates than boxes can cover.

From the lowest of the nodes W descends along its gradient, with steps by Barzilai and Borwein's rule that are halved
where W does not fall. What it ends at is a value that W takes: the least value may be lower, by an unknown amount.
Source: Barzilai & Borwein, *IMA J. Numer. Anal.* 8 (1988), 141–148.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.certificate.potential_probes import Jet, PotentialProbes

Array = NDArray[np.float64]
_STARTS, _STEPS = 4, 24
_FIRST = 0.1  # length of the first step, in that of the point


@dataclass
class LocalSearch:
    """The lowest nodes of one family in all layers, and the least W found.

    Attributes:
        points: q (L, s, m).
        best: the least W found (L,).
    """

    points: Array
    best: Array

    @classmethod
    def from_nodes(cls, points: Array, jet: Jet) -> LocalSearch:
        """From W at nodes q (L, u, m)."""
        lowest = np.argsort(jet.value, axis=1, kind="stable")[:, :_STARTS]
        return cls(np.take_along_axis(points, lowest[..., None], axis=1), jet.value.min(axis=1))

    @property
    def unbounded(self) -> NDArray[np.bool_]:
        """(L,): nowhere is W known to have no lower bound."""
        return np.zeros(len(self.best), dtype=bool)

    @property
    def margin(self) -> Array:
        """(L,): by how much W may be lower, nobody knows."""
        return np.full(len(self.best), np.nan)


def descend_locally(probes: PotentialProbes, searches: Sequence[LocalSearch]) -> None:
    """Lower the least W of each search; collective, with the same number of calls on every rank."""
    points = [search.points for search in searches]
    values, slopes = probes.slopes(points)
    lengths = [
        _FIRST * np.sqrt((q**2).sum(axis=2) / np.maximum((g**2).sum(axis=2), 1e-300))
        for q, g in zip(points, slopes, strict=True)
    ]

    for _ in range(_STEPS):
        tried = [q - step[..., None] * g for q, step, g in zip(points, lengths, slopes, strict=True)]
        found, ahead = probes.slopes(tried)
        for k in range(len(searches)):
            better = found[k] < values[k]
            moved, turned = tried[k] - points[k], ahead[k] - slopes[k]
            bent = (moved * turned).sum(axis=2)
            next_step = np.where(bent > 0.0, (moved**2).sum(axis=2) / np.where(bent > 0.0, bent, 1.0), 2.0 * lengths[k])
            lengths[k] = np.where(better, next_step, 0.5 * lengths[k])
            points[k] = np.where(better[..., None], tried[k], points[k])
            slopes[k] = np.where(better[..., None], ahead[k], slopes[k])
            values[k] = np.minimum(values[k], found[k])
    for search, value in zip(searches, values, strict=True):
        search.best = np.minimum(search.best, value.min(axis=1))
