"""What a comparison looks at: finite Transformers along their training, and the limit at the same depths and τ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.finite.records import Record
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]
type History = Mapping[str, NDArray]
"""Column → values, one a report; history.csv."""
_JUDGED = 5


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that a verdict rests on.

    Attributes:
        records: finite Transformers of one problem, at any sizes, depths and seeds.
        limits: per depth L the limit's history.
        finer: per depth L that of a finer solve, where there is one; it tells the error of the first.
        models: per depth the Transformer.
        coarser: records of larger learning rates than those of `records`; they tell what a step's length does.
    """

    records: Sequence[Record]
    limits: Mapping[int, History]
    finer: Mapping[int, History]
    models: Mapping[int, Transformer]
    coarser: Sequence[Record] = ()

    @property
    def drawn(self) -> list[Record]:
        """Records whose units were drawn."""
        return [r for r in self.records if r.job.initial == "sampled"]

    @property
    def weighted(self) -> list[Record]:
        """Records whose units are quadrature points of the initial laws."""
        return [r for r in self.records if r.job.initial != "sampled"]

    def judged(self, layers: int) -> list[float]:
        """Up to five τ > 0, evenly spread over those at which both sides have reports."""
        limit = self.limits[layers]["tau"]
        mine = [r for r in self.records if r.job.layers == layers]
        common = [float(t) for t in limit if t > 0.0 and sum(has(r.columns, float(t)) for r in mine) > 1]
        if len(common) <= _JUDGED:
            return common
        places = np.rint(np.linspace(0, len(common) - 1, _JUDGED + 1)[1:]).astype(int)
        return [common[k] for k in places]

    def error(self, layers: int, tau: float) -> float:
        """How far the finer solve's risk is from the first one's; 0 where there is none."""
        if layers not in self.finer:
            return 0.0
        return abs(at(self.finer[layers], "risk", tau) - at(self.limits[layers], "risk", tau))


def has(table: History, tau: float) -> bool:
    """Is there a report at τ?"""
    return bool(np.isclose(table["tau"], tau, rtol=1e-9, atol=1e-12).any())


def at(table: History, column: str, tau: float) -> float:
    """A column at the report at τ, which exists."""
    return float(table[column][int(np.abs(table["tau"] - tau).argmin())])


def matrix(records: Iterable[Record], tau: float) -> tuple[list[int], list[int], Array]:
    """Sizes M (k,), seeds (s,) that all of them have, and risks (s, k) at τ of drawn units at one depth."""
    found = {(r.job.size[0], r.job.seed): at(r.columns, "risk", tau) for r in records if has(r.columns, tau)}
    sizes = sorted({m for m, _ in found})
    seeds = [s for s in sorted({s for _, s in found}) if all((m, s) in found for m in sizes)]
    values = np.array([[found[m, s] for m in sizes] for s in seeds]).reshape(len(seeds), len(sizes))
    return sizes, seeds, values
