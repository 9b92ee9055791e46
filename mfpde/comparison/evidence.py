"""The evidence of a comparison: finite Transformers along their training, and the limit at the same depths and τ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from mfpde.comparison.checks import CHANGE
from mfpde.finite.record_files import Record, has_time
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]
type Course = tuple[Array, Array]
"""τ (t,) and what is compared there (t, …)."""
type History = Mapping[str, NDArray]
"""Column → values, one a report; history.csv."""
type Errors = tuple[list[int], Array]
"""Sizes M (k,), and errors (s, k) of the seeds that have all sizes."""
_JUDGED = 5


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that a verdict rests on.

    Attributes:
        records: finite Transformers of one problem, at any sizes, depths and seeds.
        limits: per depth L the limit's history.
        finer: per depth L that of a finer solve, where there is one, from which the error of the first is estimated.
        models: per depth the Transformer.
        coarser: records of larger learning rates than those of `records`, to extrapolate to steps of length zero;
            none in training by steps, which the limit has as well.
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

    def of(self, layers: int, initial: str) -> list[Record]:
        """Records of one depth whose units were drawn ("sampled") or are quadrature points ("grid", "gauss")."""
        return [r for r in self.records if (r.job.layers, r.job.initial) == (layers, initial)]

    def judged(self, layers: int, records: Sequence[Record]) -> list[float]:
        """Up to five τ > 0, evenly spread over those at which the limit and at least two of the records have reports.

        Each kind of check has times of its own: grids may end earlier than drawn units.
        """
        mine = [r for r in records if r.job.layers == layers]
        times = [float(t) for t in self.limits[layers]["tau"] if t > 0.0]
        common = [t for t in times if sum(has_time(r.tau, t) for r in mine) > 1]
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


@dataclass(frozen=True, eq=False)
class Effect:
    """The change along training when p (1 + c) takes the place of a parameter p (measured in `effects`).

    Attributes:
        tau: τ (t,).
        risk: Δ_p (t,).
        means: per family the change of E θ (t, L, d).
    """

    tau: Array
    risk: Array
    means: Mapping[str, Array]

    def of_risk(self, tau: float) -> float:
        """|Δ_p| at the report nearest to τ."""
        return float(abs(self.risk[self._at(tau)]))

    def of_means(self, family: str, tau: float) -> float:
        """The largest change of a mean, over layers and coordinates."""
        return float(np.abs(self.means[family][self._at(tau)]).max())

    def of_distance(self, family: str, tau: float) -> float:
        """A lower bound of the sliced W₁ by which a family's density moves, root mean square over layers.

        W₁ between two laws on a line is at least the difference of their means (Kantorovich and Rubinstein); over the
        directions e of a sliced distance that is |E θ' − E θ| E|e₁|, E|e₁| = Γ(d/2)/(√π Γ((d+1)/2)).
        """
        moved = self.means[family][self._at(tau)]
        dim = moved.shape[-1]
        share = np.exp(gammaln(0.5 * dim) - gammaln(0.5 * (dim + 1.0))) / np.sqrt(np.pi)
        return float(share * np.sqrt(np.mean(np.sum(moved**2, axis=-1))))

    def _at(self, tau: float) -> int:
        return int(np.abs(self.tau - tau).argmin())


def course(table: History, column: str) -> Course:
    """A column along training."""
    return table["tau"], table[column]


def value_at(values: Course, tau: float) -> Array:
    """The value at the report at τ, which exists."""
    return np.asarray(values[1][int(np.abs(values[0] - tau).argmin())])


def at(table: History, column: str, tau: float) -> float:
    """A column at the report at τ, which exists."""
    return float(value_at(course(table, column), tau))


def apart(one: Course, other: Course, tau: float) -> float:
    """The largest difference of two courses, over all entries and all common reports up to τ."""
    common = [t for t in one[0] if t <= tau * (1.0 + 1e-9) and has_time(other[0], t)]
    return max(float(np.abs(value_at(one, t) - value_at(other, t)).max()) for t in common)


def means_of(table: History, family: str, dim: int) -> Course:
    """E θ (t, L, d) of a family, from moments.csv."""
    return _by_layer(table, family, [f"mean_{i}" for i in range(dim)])


def covariances_of(table: History, family: str, dim: int) -> Course:
    """Cov θ (t, L, d, d) of a family, from moments.csv, which holds the upper triangle."""
    pairs = product(range(dim), repeat=2)
    taus, values = _by_layer(table, family, [f"cov_{min(pair)}{max(pair)}" for pair in pairs])
    return taus, values.reshape(*values.shape[:2], dim, dim)


def _by_layer(table: History, family: str, columns: Sequence[str]) -> Course:
    """Columns of moments.csv, which has a row per report, family and layer, as (t, L, k)."""
    mine = table["family"] == family
    taus = np.unique(table["tau"][mine])
    values = np.stack([table[name][mine] for name in columns], axis=-1)
    return taus, values.reshape(len(taus), -1, len(columns))


def by_size(found: Mapping[tuple[int, int], float]) -> Errors:
    """From errors by size and seed; seeds that lack a size are left out."""
    sizes = sorted({size for size, _ in found})
    seeds = [s for s in sorted({seed for _, seed in found}) if all((size, s) in found for size in sizes)]
    values = np.array([[found[size, s] for size in sizes] for s in seeds])
    return sizes, values.reshape(len(seeds), len(sizes))


def risk_errors(evidence: Evidence, layers: int, tau: float) -> Errors:
    """Risks of drawn units less the limit's, at a report at τ."""
    limit = at(evidence.limits[layers], "risk", tau)
    mine = [r for r in evidence.of(layers, "sampled") if has_time(r.tau, tau)]
    return by_size({(r.job.size[0], r.job.seed): at(r.columns, "risk", tau) - limit for r in mine})
