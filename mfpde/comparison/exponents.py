"""Exponents in M of finite Transformers' errors, and whether M or L·M governs them.

An exponent is judged by an equivalence test (Wellek, Testing statistical hypotheses of equivalence and noninferiority,
2010): it passes where its whole interval lies in [−0.6, −0.4], fails where the interval lies outside, and is undecided
where only a part of it lies inside. All intervals hold together with 95 % confidence (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mfpde.comparison.checks import CONFIDENCE, Check, relative
from mfpde.comparison.evidence import Errors, Evidence, risk_errors
from mfpde.comparison.slopes import Governed, Slope, floor, governed, slope
from mfpde.finite.record_files import has_time

Array = NDArray[np.float64]
RATE, RATE_WITHIN = -0.5, 0.1
_SIZES, _SEEDS = 3, 8  # from which a slope is judged


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
        effects: by how much, at least, a changed parameter moves what falls; per parameter.
    """

    of: str
    layers: int
    tau: float
    sizes: list[int]
    errors: list[float]
    seeds: int
    slope: Slope
    wanted: float = RATE
    effects: Mapping[str, float] = field(default_factory=dict)


def risk_slopes(evidence: Evidence) -> list[SlopeRow]:
    """Exponents of the RMS error of the risk in M, at every depth and judged τ with three sizes or more."""
    rows = []
    for layers in sorted(evidence.limits):
        for tau in evidence.judged(layers, evidence.of(layers, "sampled")):
            found = risk_errors(evidence, layers, tau)
            rows.append(slope_row("risk", layers, tau, found, evidence.risk_effects(layers, tau)))
    return [row for row in rows if row is not None]


def slope_row(
    of: str, layers: int, tau: float, found: Errors, effects: Mapping[str, float], scale: Array | None = None
) -> SlopeRow | None:
    """The exponent of errors in M, or in a scale (k,) that should be their rate.

    Returns:
        None with fewer than three sizes or two seeds.
    """
    sizes, errors = found
    if len(sizes) < _SIZES or len(errors) < 2:
        return None

    rms = [float(e) for e in np.sqrt((errors**2).mean(axis=0))]
    theory = RATE if scale is None else 1.0
    return SlopeRow(of, layers, tau, sizes, rms, len(errors), slope(sizes, errors, scale), theory, effects)


def slope_checks(rows: Sequence[SlopeRow], change: float) -> list[Check]:
    """Of each kind and depth the row with most sizes, the last of those, judged by its interval.

    What a check would have found is an exponent so far off that an interval of this width lies outside the tolerance;
    in units of the parameters, the error that does not fall with M and flattens the line by as much.

    Args:
        rows: of which those are judged whose theory is M^(−1/2).
        change: c, of the rows' effects.
    """
    best: dict[tuple[str, int], SlopeRow] = {}
    judged = [row for row in rows if row.seeds >= _SEEDS and row.wanted == RATE]
    for row in sorted(judged, key=lambda r: (len(r.sizes), r.tau)):
        best[row.of, row.layers] = row

    confidence = 1.0 - (1.0 - CONFIDENCE) / max(1, len(best))
    return [_slope_check(row, row.slope.interval(row.seeds, confidence), change) for row in best.values()]


def _slope_check(row: SlopeRow, found: Slope, change: float) -> Check:
    """One row by its joint interval."""
    seen, passed = RATE_WITHIN + found.high - found.low, found.within(row.wanted, RATE_WITHIN)
    power = relative(floor(row.sizes, row.errors, seen), row.effects, change)
    note = f"joint 95 % interval {found.low:.3f} … {found.high:.3f}, {row.seeds} seeds, M = {row.sizes}"

    # More seeds narrow the interval, and help only where the exponent itself is within the tolerance.
    room = RATE_WITHIN - abs(found.value - row.wanted)
    if passed is None and room > 0.0:
        reach = max(found.high - found.value, found.value - found.low)
        note += f"; about {int(np.ceil(row.seeds * (reach / room) ** 2))} seeds would decide, if the exponent stays"

    name = f"slope of {row.of}"
    return Check(name, row.layers, row.tau, found.value, row.wanted, RATE_WITHIN, passed, note, seen, power)


def width_or_depth(evidence: Evidence) -> dict[float, Governed]:
    """Per τ that all depths share: does the error fall with M or with L·M?"""
    depths = [n for n in sorted(evidence.limits) if evidence.of(n, "sampled")]
    found = {}
    for tau in evidence.judged(depths[0], evidence.of(depths[0], "sampled")) if len(depths) > 1 else ():
        errors: dict[tuple[int, int], Array] = {}
        for layers in depths:
            sizes, left = risk_errors(evidence, layers, tau)
            if len(left) >= _SIZES and has_time(evidence.limits[layers]["tau"], tau):
                errors |= {(m, layers): left[:, k] for k, m in enumerate(sizes)}
        if len({m for m, _ in errors}) > 1 and len({n for _, n in errors}) > 1:
            found[tau] = governed(errors)
    return found
