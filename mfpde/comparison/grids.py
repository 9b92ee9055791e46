"""Weighted grids of units, refined, against the limit, refined: nothing is drawn, so that small differences count.

Compared are the risk and, since it hardly depends on the order of the layers, the means E θ of every family and layer.
The difference must be no more than the target or what the two refinements leave, the largest of it up to τ: at a single
report two grids may cross by accident. The run itself is compared with its refinement, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from mfpde.comparison.checks import SYMBOLS, Check, judge, percent
from mfpde.comparison.evidence import Course, Evidence, apart, at, course, means_of, value_at
from mfpde.finite.record_files import Record

TARGET = 1e-6  # relative; how closely refined grids and a refined limit are to agree
_RESOLVED = 1e-3  # relative; a grid or a limit whose refinement changes more is not judged
_SLACK = 2.0  # by which what refinements leave may be exceeded


@dataclass(frozen=True)
class _Quantity:
    """A quantity in both grids and both solves, its size, and how far a changed parameter moves it."""

    name: str
    grids: tuple[Course, Course]
    limits: tuple[Course, Course]
    size: float
    effects: Mapping[str, float]


def grid_checks(evidence: Evidence) -> list[Check]:
    """The finest two grids of every kind and depth, at up to five τ, where there is a finer solve."""
    checks: list[Check] = []
    for layers, kind in product(sorted(evidence.finer), ("grid", "gauss")):
        grids = sorted(evidence.of(layers, kind), key=lambda r: r.job.count(evidence.models[layers]))[-2:]
        for tau in evidence.judged(layers, grids):
            checks += [_check(evidence, layers, tau, each) for each in _quantities(evidence, layers, tau, grids)]
    return checks


def refinement_checks(evidence: Evidence) -> list[Check]:
    """The run against its own refinement, where there is one: whether it is resolved, not whether it is the limit."""
    checks = []
    for layers, finer in sorted(evidence.finer.items()):
        effects = evidence.effects.get(layers, {})
        taus = evidence.judged(layers, evidence.records)
        allowed = max((effect.of_risk(t) for effect in effects.values() for t in taus), default=float("inf"))

        changed = " or ".join(SYMBOLS[name] for name in effects) or "a parameter"
        change = f"{percent(evidence.change)} of {changed}"
        note = f"the limit as it was solved against a finer solve; what {change} make is allowed"
        for tau in taus:
            value, expected = (at(table, "risk", tau) for table in (evidence.limits[layers], finer))
            passed = bool(abs(value - expected) <= allowed)
            checks.append(Check("refinement", layers, tau, value, expected, allowed, passed, note))
    return checks


def _quantities(evidence: Evidence, layers: int, tau: float, grids: Sequence[Record]) -> Iterator[_Quantity]:
    """The risk, and the means of every family."""
    coarse, fine = grids
    kind, effects = fine.job.initial, evidence.effects.get(layers, {})
    risks = (course(coarse.columns, "risk"), course(fine.columns, "risk"))
    solves = (course(evidence.limits[layers], "risk"), course(evidence.finer[layers], "risk"))
    yield _Quantity(kind, risks, solves, float(value_at(solves[1], tau)), evidence.risk_effects(layers, tau))

    if layers not in evidence.moments:
        return
    for family in evidence.models[layers].families:
        name = family.name
        limit, finer = (means_of(table, name, len(family.shown)) for table in evidence.moments[layers])
        spread = np.sqrt(np.trace(value_at((fine.tau, fine.covariances[name]), tau), axis1=1, axis2=2).max())
        moved = {p: effect.of_means(name, tau) for p, effect in effects.items()}
        shown = list(family.shown)
        means = (coarse.tau, coarse.means[name][..., shown]), (fine.tau, fine.means[name][..., shown])
        yield _Quantity(f"{kind}, means of {name}", means, (limit, finer), float(spread), moved)


def _check(evidence: Evidence, layers: int, tau: float, quantity: _Quantity) -> Check:
    """The entry that is furthest off, against what refinements leave in any entry."""
    fine, finer = quantity.grids[1], quantity.limits[1]
    values, expected = np.ravel(value_at(fine, tau)), np.ravel(value_at(finer, tau))
    worst = int(np.abs(values - expected).argmax())
    left = (apart(*quantity.grids, tau), apart(*quantity.limits, tau))
    allowed = max(TARGET * quantity.size, _SLACK * max(left))

    off, grid, solve = (number / quantity.size for number in (abs(values[worst] - expected[worst]), *left))
    note = f"relative difference {off:.2g}; refining the grid changes {grid:.2g}, the limit {solve:.2g}"
    more = "smaller cells, more density.nodes or a smaller time.tolerance" if solve > grid else "finer grids"
    value, limit = float(values[worst]), float(expected[worst])
    check = Check(quantity.name, layers, tau, value, limit, allowed, None, note)
    return judge(check, quantity.effects, evidence.change, more, max(grid, solve) <= _RESOLVED)
