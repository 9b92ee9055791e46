"""Does the PDE match? Every check, its figures, and one word.

    mean    the mean over seeds, extrapolated in 1/M to ∞ (and in the learning rate to 0, where there are several),
            against the limit's risk at up to five τ and at every depth, inside one joint 95 % region (Bonferroni)
    grid    weighted grids of units, refined, against the PDE, refined: nothing is drawn, so that the difference must be
            no more than the target or what the two refinements leave
    slope   the root mean square over seeds of the risk's error, and of the sliced Wasserstein distance, falls like
            M^(−1/2)

A wrong PDE leaves an error that does not fall: each of the three can fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.validation.evidence import Evidence, at, has, matrix
from mfpde.validation.extrapolation import deviations, extrapolate
from mfpde.validation.slopes import Governed, Slope, governed, slope

Array = NDArray[np.float64]
CONFIDENCE = 0.95
GRID_TARGET = 1e-6  # relative; how closely refined grids and a refined PDE are to agree
RATE, RATE_WITHIN = -0.5, 0.1
_RESOLVED = 1e-3  # relative; a grid or a PDE whose refinement changes the risk by more says nothing
_SLACK = 2.0  # by which what refinements leave may be exceeded
_SIZES, _SEEDS = 3, 8  # from which a slope is judged


@dataclass(frozen=True)
class Check:
    """One comparison of a number with what it should be.

    Attributes:
        name: "mean", "grid", "slope of the risk's error", …
        layers: L.
        tau: τ.
        value: from finite Transformers.
        expected: from the limit, or from theory.
        allowed: largest |value − expected| that passes.
        passed: whether it does; None where the figures cannot tell.
        note: what the figures are.
    """

    name: str
    layers: int
    tau: float
    value: float
    expected: float
    allowed: float
    passed: bool | None
    note: str


def word(checks: Sequence[Check]) -> str:
    """The word "matches" if checks passed and none failed, "does not match" if one failed, else "undecided"."""
    said = [check.passed for check in checks if check.passed is not None]
    if not said:
        return "undecided"
    return "matches" if all(said) else "does not match"


def mean_checks(evidence: Evidence) -> list[Check]:
    """Particle means carried on to M = ∞, against the limit."""
    places = [(n, tau) for n in sorted(evidence.limits) for tau in evidence.judged(n)]
    confidence = 1.0 - (1.0 - CONFIDENCE) / max(1, len(places))
    checks = []
    for layers, tau in places:
        drawn = [*evidence.drawn, *(r for r in evidence.coarser if r.job.initial == "sampled")]
        mine = [r for r in drawn if r.job.layers == layers and has(r.columns, tau)]
        if not mine:
            continue
        controls = np.stack([deviations(r, evidence.models[layers]) for r in mine])
        risks = np.array([at(r.columns, "risk", tau) for r in mine])
        sizes, seeds = [r.job.size[0] for r in mine], [r.job.seed for r in mine]
        rates = [r.job.method.learning_rate or 0.0 for r in mine]
        found = extrapolate(sizes, seeds, risks, controls, confidence, rates)
        if found is None:
            continue
        expected = at(evidence.limits[layers], "risk", tau)
        allowed = found.half_width + evidence.error(layers, tau)
        note = f"{found.seeds} seeds, M = {', '.join(map(str, sorted(set(sizes))))}, {found.controls} control variates"
        if any(rates):
            note += f", learning rates {', '.join(f'{h:g}' for h in sorted(set(rates)))}"
        inside = bool(abs(found.value - expected) <= allowed)
        checks.append(Check("mean", layers, tau, found.value, expected, allowed, inside, note))
    return checks


def grid_checks(evidence: Evidence) -> list[Check]:
    """Weighted units, refined, against the limit, refined."""
    checks = []
    for layers in sorted(evidence.limits):
        for kind in ("grid", "gauss"):
            mine = [r for r in evidence.weighted if r.job.layers == layers and r.job.initial == kind]
            mine.sort(key=lambda r: r.job.count(evidence.models[layers]))
            for tau in evidence.judged(layers) if len(mine) > 1 else ():
                both = [at(r.columns, "risk", tau) for r in mine[-2:] if has(r.columns, tau)]
                if len(both) == 2:
                    checks.append(_grid_check(evidence, layers, tau, both[0], both[1], kind))
    return checks


def _grid_check(evidence: Evidence, layers: int, tau: float, coarse: float, fine: float, kind: str) -> Check:
    limit = evidence.finer.get(layers, evidence.limits[layers])
    expected = at(limit, "risk", tau)
    left = (abs(fine - coarse), evidence.error(layers, tau))
    allowed = max(GRID_TARGET * expected, _SLACK * max(left))
    resolved = max(left) <= _RESOLVED * expected and layers in evidence.finer
    passed = bool(abs(fine - expected) <= allowed) if resolved else None
    note = (
        f"relative difference {abs(fine - expected) / expected:.2g}; refining the grid changes {left[0] / expected:.2g}"
        + (f", the PDE {left[1] / expected:.2g}" if layers in evidence.finer else ", no finer PDE")
    )
    return Check(kind, layers, tau, fine, expected, allowed, passed, note)


@dataclass(frozen=True)
class SlopeRow:
    """A fitted exponent, and the errors behind it.

    Attributes:
        of: what falls.
        layers: L.
        tau: τ.
        sizes: M.
        errors: root mean squares.
        seeds: how many.
        slope: the exponent.
        wanted: what it should be.
    """

    of: str
    layers: int
    tau: float
    sizes: list[int]
    errors: list[float]
    seeds: int
    slope: Slope
    wanted: float = RATE


def risk_slopes(evidence: Evidence) -> list[SlopeRow]:
    """Exponents of the RMS error of the risk in M, at every depth and judged τ with three sizes or more."""
    rows = []
    for layers in sorted(evidence.limits):
        mine = [r for r in evidence.drawn if r.job.layers == layers]
        for tau in evidence.judged(layers):
            sizes, seeds, risks = matrix(mine, tau)
            if len(sizes) < _SIZES or len(seeds) < 2:
                continue
            errors = risks - at(evidence.limits[layers], "risk", tau)
            rms = [float(e) for e in np.sqrt((errors**2).mean(axis=0))]
            rows.append(SlopeRow("risk", layers, tau, sizes, rms, len(seeds), slope(sizes, errors)))
    return rows


def slope_checks(rows: Sequence[SlopeRow]) -> list[Check]:
    """Of each kind and depth the row with most sizes, the last of those, judged by its interval."""
    checks = []
    for of, layers in dict.fromkeys((row.of, row.layers) for row in rows):
        mine = [row for row in rows if (row.of, row.layers) == (of, layers) and row.seeds >= _SEEDS]
        if not mine:
            continue
        row = max(mine, key=lambda r: (len(r.sizes), r.tau))
        passed = row.slope.meets(row.wanted, RATE_WITHIN)
        note = f"95 % interval {row.slope.low:.3f} … {row.slope.high:.3f}, {row.seeds} seeds, M = {row.sizes}"
        checks.append(
            Check(f"slope of {row.of}", layers, row.tau, row.slope.value, row.wanted, RATE_WITHIN, passed, note)
        )
    return checks


def width_or_depth(evidence: Evidence) -> dict[float, Governed]:
    """Per τ that all depths share: does the error fall with M or with L·M?"""
    depths = sorted({r.job.layers for r in evidence.drawn} & set(evidence.limits))
    found = {}
    for tau in evidence.judged(depths[0]) if len(depths) > 1 else ():
        errors: dict[tuple[int, int], Array] = {}
        for layers in depths:
            mine = [r for r in evidence.drawn if r.job.layers == layers]
            sizes, seeds, risks = matrix(mine, tau)
            if len(seeds) >= _SIZES and has(evidence.limits[layers], tau):
                left = risks - at(evidence.limits[layers], "risk", tau)
                errors |= {(m, layers): left[:, k] for k, m in enumerate(sizes)}
        if len({m for m, _ in errors}) > 1 and len({n for _, n in errors}) > 1:
            found[tau] = governed(errors)
    return found
