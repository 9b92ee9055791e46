"""The mean over seeds, extrapolated to M = ∞, against the limit.

A risk of M drawn units is R_∞ + b/M + (1/M) Σ_j ψ(θ_j) + O(1/M): the drawn units' chance deviation from their law moves
it by a linear functional, whose mean is zero. Sample moments of the units at τ = 0, of which the expectations are
known, remove a large part of it: control variates (Owen, Monte Carlo theory, methods and examples, 2013, chapter 8).
Gradient descent with steps of h in the place of the flow, and Euler–Maruyama where there is noise, adds a h + O(h²) to
the mean (Talay and Tubaro, Stochastic Analysis and Applications 8, 1990); two sizes of h or more remove a h. The steps
of a method add nothing: the limit takes the same ones on the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mfpde.comparison.checks import CONFIDENCE, SURE, Check, judge
from mfpde.comparison.evidence import Evidence, at
from mfpde.finite.record_files import Record, has_time
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]
_DATA = 2.0  # risks for each number that is fitted, at least, for control variates to be used
_MOST_SEEDS = 10_000  # above that many, seeds are no advice


@dataclass(frozen=True)
class Limit:
    """An estimate of R_∞ with a two-sided confidence interval.

    Attributes:
        value: the estimate.
        half_width: of the interval.
        seeds: independent sets of units.
        controls: control variates used.
    """

    value: float
    half_width: float
    seeds: int
    controls: int


def mean_checks(evidence: Evidence) -> list[Check]:
    """Means over seeds of drawn units, extrapolated to M = ∞, against the limit."""
    coarser = [r for r in evidence.coarser if r.job.initial == "sampled"]
    places = []
    for layers in sorted(evidence.limits):
        mine = [*evidence.of(layers, "sampled"), *(r for r in coarser if r.job.layers == layers)]
        places += [(layers, tau, mine) for tau in evidence.judged(layers, mine)]

    confidence = 1.0 - (1.0 - CONFIDENCE) / max(1, len(places))
    checks = [_mean_check(evidence, layers, tau, mine, confidence) for layers, tau, mine in places]
    return [check for check in checks if check is not None]


def _mean_check(
    evidence: Evidence, layers: int, tau: float, records: Sequence[Record], confidence: float
) -> Check | None:
    """The check at one depth and τ; None where there is too little to extrapolate from."""
    mine = [r for r in records if has_time(r.tau, tau)]
    controls = np.stack([deviations(r, evidence.models[layers]) for r in mine])
    risks = np.array([at(r.columns, "risk", tau) for r in mine])
    sizes, seeds = [r.job.size[0] for r in mine], [r.job.seed for r in mine]
    rates = [r.job.method.learning_rate or 0.0 for r in mine]
    found = extrapolate(sizes, seeds, risks, controls, confidence, rates)
    if found is None:
        return None

    note = f"{found.seeds} seeds, M = {', '.join(map(str, sorted(set(sizes))))}, {found.controls} control variates"
    if any(rates):
        note += f", learning rates {', '.join(f'{h:g}' for h in sorted(set(rates)))}"
    expected, error = at(evidence.limits[layers], "risk", tau), evidence.error(layers, tau)
    check = Check("mean", layers, tau, found.value, expected, found.half_width + error, None, note)

    # What may be allowed so that a change of any parameter is found: half of what the least of them makes.
    effects = evidence.risk_effects(layers, tau)
    room = min(effects.values(), default=float("inf")) / SURE - error
    return judge(check, effects, evidence.change, _advice(found, room))


def _advice(found: Limit, room: float) -> str:
    """How many seeds or units would make the half-width as small as there is room."""
    if room <= 0.0:
        return (
            "smaller cells, more density.nodes or a smaller time.tolerance, since the limit's own error is too large,"
        )
    ratio = (found.half_width / room) ** 2
    seeds = int(np.ceil(found.seeds * ratio))
    if seeds > _MOST_SEEDS:
        return "weighted units instead of drawn ones (--initial grid)"
    return f"about {seeds} seeds instead of {found.seeds}, or {ratio:.2g} times the units"


def extrapolate(
    units: Sequence[int],
    seeds: Sequence[int],
    values: Array,
    controls: Array,
    confidence: float = 0.95,
    steps: Sequence[float] = (),
) -> Limit | None:
    """R_∞ from a weighted least-squares fit of R = R_∞ + b/M + a h + g·c, weights M.

    The standard error is that of the jackknife over seeds: all sizes of a seed are left out together, since smaller
    sets of units are the first of larger ones.

    Args:
        units: M (n,).
        seeds: (n,).
        values: R (n,).
        controls: c (n, k), of mean zero; left out where there are too few values for them.
        confidence: of the interval.
        steps: h (n,); without them, or with one h alone, a = 0.

    Returns:
        None with fewer than two sizes or three seeds.
    """
    size, seed = np.asarray(units, dtype=float), np.asarray(seeds)
    groups = np.unique(seed)
    if len(np.unique(size)) < 2 or len(groups) < 3:
        return None

    biases = [1.0 / size] + ([np.asarray(steps, dtype=float)] if len(set(steps)) > 1 else [])
    fitted = 1 + len(biases) + controls.shape[1]
    used = controls if len(values) >= _DATA * fitted and len(groups) > 3 else controls[:, :0]
    used = used / np.maximum(np.abs(used).max(axis=0, initial=0.0), 1e-300) if used.size else used
    design = np.column_stack([np.ones_like(size), *biases, used])
    root = np.sqrt(size)

    def fit(kept: NDArray[np.bool_]) -> float:
        weighted = root[kept, None] * design[kept], root[kept] * values[kept]
        return float(np.linalg.lstsq(*weighted, rcond=None)[0][0])

    best = fit(np.ones(len(size), dtype=bool))
    left = np.array([fit(seed != s) for s in groups])
    count = len(groups)
    error = np.sqrt((count - 1) / count * np.sum((left - left.mean()) ** 2))
    quantile = float(stats.t.ppf(0.5 + 0.5 * confidence, count - 1))
    return Limit(best, quantile * float(error), count, used.shape[1])


def deviations(record: Record, model: Transformer) -> Array:
    """Sample moments less expectations at τ = 0, first and second, means over layers: of mean zero, one row a record.

    Args:
        record: of drawn units.
        model: at the record's depth, for its initial laws.
    """
    found = []
    for family in model.families:
        laws = [family.law(layer) for layer in range(model.layers)]
        shift = record.means[family.name][0] - np.array([law.mean for law in laws])
        second = record.covariances[family.name][0] + np.einsum("li,lj->lij", shift, shift)
        second = second - np.stack([law.covariance for law in laws])

        found += [shift.mean(axis=0), second.mean(axis=0)[np.triu_indices(family.dim)]]
    return np.concatenate(found)
