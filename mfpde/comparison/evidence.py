"""What a comparison looks at: finite Transformers along their training, and the limit at the same depths and τ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mfpde.comparison.effects import CHANGE, Effect
from mfpde.finite.record_files import Record
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]
type Course = tuple[Array, Array]
"""τ (t,) and what is compared there (t, …)."""
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
        effects: per depth and parameter what `change` of it does to finite Transformers.
        change: relative, of a parameter.
        moments: per depth moments.csv of the limit and of the finer solve, where there is one.
    """

    records: Sequence[Record]
    limits: Mapping[int, History]
    finer: Mapping[int, History]
    models: Mapping[int, Transformer]
    coarser: Sequence[Record] = ()
    effects: Mapping[int, Mapping[str, Effect]] = field(default_factory=dict)
    change: float = CHANGE
    moments: Mapping[int, tuple[History, History]] = field(default_factory=dict)

    @property
    def drawn(self) -> list[Record]:
        """Records whose units were drawn."""
        return [r for r in self.records if r.job.initial == "sampled"]

    @property
    def weighted(self) -> list[Record]:
        """Records whose units are quadrature points of the initial laws."""
        return [r for r in self.records if r.job.initial != "sampled"]

    def judged(self, layers: int, records: Sequence[Record]) -> list[float]:
        """Up to five τ > 0, evenly spread over those at which the limit and at least two of the records have reports.

        Each kind of check has times of its own: grids may end earlier than drawn units.
        """
        limit = self.limits[layers]["tau"]
        mine = [r for r in records if r.job.layers == layers]
        common = [float(t) for t in limit if t > 0.0 and sum(has(r.columns, float(t)) for r in mine) > 1]
        if len(common) <= _JUDGED:
            return common
        places = np.rint(np.linspace(0, len(common) - 1, _JUDGED + 1)[1:]).astype(int)
        return [common[k] for k in places]

    def error(self, layers: int, tau: float) -> float:
        """The limit's own error: how far a finer solve is from it up to τ; without one the run's estimate, or 0."""
        limit = self.limits[layers]
        if layers in self.finer:
            return apart(course(self.finer[layers], "risk"), course(limit, "risk"), tau)
        estimated = at(limit, "risk_error", tau) if "risk_error" in limit else 0.0
        return estimated if np.isfinite(estimated) else 0.0

    def risk_effects(self, layers: int, tau: float) -> dict[str, float]:
        """|Δ_p| of the risk per parameter p; empty where it was not measured."""
        return {name: effect.of_risk(tau) for name, effect in self.effects.get(layers, {}).items()}


def has(table: History, tau: float) -> bool:
    """Is there a report at τ?"""
    return bool(np.isclose(table["tau"], tau, rtol=1e-9, atol=1e-12).any())


def at(table: History, column: str, tau: float) -> float:
    """A column at the report at τ, which exists."""
    return float(table[column][int(np.abs(table["tau"] - tau).argmin())])


def course(table: History, column: str) -> Course:
    """A column along training."""
    return table["tau"], table[column]


def value_at(values: Course, tau: float) -> Array:
    """What it is at the report at τ, which exists."""
    return np.asarray(values[1][int(np.abs(values[0] - tau).argmin())])


def apart(one: Course, other: Course, tau: float) -> float:
    """The largest difference of two courses, over all entries and all common reports up to τ."""
    common = [t for t in one[0] if t <= tau * (1.0 + 1e-9) and np.isclose(other[0], t, rtol=1e-9, atol=1e-12).any()]
    return max(float(np.abs(value_at(one, t) - value_at(other, t)).max()) for t in common)


def matrix(records: Iterable[Record], tau: float) -> tuple[list[int], list[int], Array]:
    """Sizes M (k,), seeds (s,) that all of them have, and risks (s, k) at τ of drawn units at one depth."""
    found = {(r.job.size[0], r.job.seed): at(r.columns, "risk", tau) for r in records if has(r.columns, tau)}
    sizes = sorted({m for m, _ in found})
    seeds = [s for s in sorted({s for _, s in found}) if all((m, s) in found for m in sizes)]
    values = np.array([[found[m, s] for m in sizes] for s in seeds]).reshape(len(seeds), len(sizes))
    return sizes, seeds, values
