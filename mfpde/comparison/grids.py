"""Weighted grids of units, refined, against the PDE, refined: nothing is drawn, so that small differences count.

Compared are the risk and, since it hardly depends on which layer is which, the means E θ of every family and layer. The
difference must be no more than the target or what the two refinements leave, the largest of it up to τ: at a single
report two grids may cross by accident.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mfpde.comparison.checks import Check, judge
from mfpde.comparison.evidence import Course, Evidence, History, apart, course, value_at
from mfpde.finite.record_files import Record
from mfpde.problem.family import Family

Array = NDArray[np.float64]
TARGET = 1e-6  # relative; how closely refined grids and a refined PDE are to agree
_RESOLVED = 1e-3  # relative; a grid or a PDE whose refinement changes more says nothing
_SLACK = 2.0  # by which what refinements leave may be exceeded


@dataclass(frozen=True)
class _Quantity:
    """What is compared: its name, its course in both grids and both solves, and what it is measured by."""

    name: str
    grids: tuple[Course, Course]
    limits: tuple[Course, Course]
    size: float
    effects: Mapping[str, float]


def grid_checks(evidence: Evidence) -> list[Check]:
    """The finest two grids of every kind and depth, at up to five τ, where there is a finer PDE."""
    checks: list[Check] = []
    for layers, kind in product(sorted(evidence.finer), ("grid", "gauss")):
        mine = [r for r in evidence.weighted if r.job.layers == layers and r.job.initial == kind]
        mine.sort(key=lambda r: r.job.count(evidence.models[layers]))
        for tau in evidence.judged(layers, mine[-2:]):
            checks += [_check(evidence, layers, tau, each) for each in _quantities(evidence, layers, tau, mine[-2:])]
    return checks


def _quantities(evidence: Evidence, layers: int, tau: float, grids: Sequence[Record]) -> Iterator[_Quantity]:
    """The risk, and the means of every family."""
    coarse, fine = grids
    kind, effects = fine.job.initial, evidence.effects.get(layers, {})
    limit, finer = evidence.limits[layers], evidence.finer[layers]
    risks = (course(coarse.columns, "risk"), course(fine.columns, "risk"))
    expected = float(value_at(course(finer, "risk"), tau))
    solves = (course(limit, "risk"), course(finer, "risk"))
    yield _Quantity(kind, risks, solves, expected, evidence.risk_effects(layers, tau))
    if layers not in evidence.moments:
        return
    for family in evidence.models[layers].families:
        name, both = family.name, evidence.moments[layers]
        means = ((coarse.tau, coarse.means[name]), (fine.tau, fine.means[name]))
        spread = np.sqrt(np.trace(value_at((fine.tau, fine.covariances[name]), tau), axis1=1, axis2=2).max())
        moved = {p: effect.of_means(name, tau) for p, effect in effects.items()}
        laws = (means_of(both[0], family), means_of(both[1], family))
        yield _Quantity(f"{kind}, means of {name}", means, laws, float(spread), moved)


def means_of(table: History, family: Family) -> Course:
    """τ (t,) and E θ (t, L, d) of a family, from moments.csv: a row per report, family and layer."""
    mine = table["family"] == family.name
    taus = np.unique(table["tau"][mine])
    columns = [table[f"mean_{i}"][mine] for i in range(family.dim)]
    return taus, np.stack(columns, axis=-1).reshape(len(taus), -1, family.dim)


def _check(evidence: Evidence, layers: int, tau: float, quantity: _Quantity) -> Check:
    """The entry that is furthest off, against what refinements leave in any entry."""
    fine, finer = quantity.grids[1], quantity.limits[1]
    values, expected = np.ravel(value_at(fine, tau)), np.ravel(value_at(finer, tau))
    worst = int(np.abs(values - expected).argmax())
    left = (apart(*quantity.grids, tau), apart(*quantity.limits, tau))
    allowed = max(TARGET * quantity.size, _SLACK * max(left))
    off, grid, pde = (number / quantity.size for number in (abs(values[worst] - expected[worst]), *left))
    note = f"relative difference {off:.2g}; refining the grid changes {grid:.2g}, the PDE {pde:.2g}"
    more = "smaller cells or a smaller time.tolerance" if pde > grid else "finer grids"
    value, limit = float(values[worst]), float(expected[worst])
    check = Check(quantity.name, layers, tau, value, limit, allowed, None, note)
    return judge(check, quantity.effects, evidence.change, more, max(grid, pde) <= _RESOLVED)
