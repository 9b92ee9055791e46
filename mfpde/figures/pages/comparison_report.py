"""The report of a comparison: the verdict, every check behind it, slopes, and the figures, in one HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mfpde.comparison.checks import CONFIDENCE, SYMBOLS, Check, percent
from mfpde.comparison.depth_error import ORDER, ORDER_WITHIN, DepthRow
from mfpde.comparison.exponents import SlopeRow
from mfpde.comparison.slopes import Governed, Slope
from mfpde.figures.pages.renderer import inline_pictures, render

if TYPE_CHECKING:
    from mfpde.comparison.findings import Findings

_OUTCOMES = {True: "agrees", False: "differs", None: "undecided"}
type Row = Sequence[str]


def comparison_page(findings: Findings, pictures: Iterable[Path]) -> str:
    """The HTML text, with its pictures inside."""
    verdict = findings.verdict
    changed = {name for check in findings.checks for name in check.seen_in}
    parameters = [name for name in SYMBOLS if name in changed]

    content = {
        "name": findings.name,
        "sentence": verdict.sentence,
        "why": verdict.why,
        "change": percent(findings.change),
        "confidence": percent(CONFIDENCE),
        "power": [f"in {SYMBOLS[name]}" for name in parameters],
        "parameters": " or ".join(f"of {SYMBOLS[name]}" for name in parameters) or "of a parameter",
        "order": f"{ORDER:g} within {ORDER_WITHIN:g}",
        "checks": [_check(check, parameters) for check in findings.checks],
        "pictures": inline_pictures(pictures),
        "slopes": [_slope(row) for row in findings.slopes],
        "depth": [_depth(row) for row in findings.depth],
        "governed": [_governed(tau, found) for tau, found in findings.governed.items()],
        "facts": [(name, str(value)) for name, value in findings.facts.items()],
    }
    return render("comparison_report", content)


def _check(check: Check, parameters: Sequence[str]) -> Row:
    """A check's numbers, what it would have seen, and its outcome."""
    difference = abs(check.value - check.expected)
    numbers = [f"{check.value:.8g}", f"{check.expected:.8g}", f"{difference:.2g}", f"{check.allowed:.2g}"]
    shares = [percent(check.seen_in[name]) if name in check.seen_in else "–" for name in parameters]
    power = [f"{check.seen:.2g}" if np.isfinite(check.seen) else "–", *shares]
    return [check.name, str(check.layers), f"{check.tau:g}", *numbers, *power, check.note, _OUTCOMES[check.passed]]


def _slope(row: SlopeRow) -> Row:
    """A fitted exponent with its interval, and the errors behind it."""
    exponent = [f"{row.slope.value:.3f}", f"{row.slope.low:.3f} … {row.slope.high:.3f}", f"{row.wanted:g}"]
    errors = _listed(dict(zip(row.sizes, row.errors, strict=True)))
    return [row.of, str(row.layers), f"{row.tau:g}", *exponent, str(row.seeds), errors]


def _depth(row: DepthRow) -> Row:
    """The errors of finite depths at one τ."""
    errors = _listed(dict(zip(row.layers, row.errors, strict=True)))
    return [f"{row.tau:g}", f"{row.limit:.8g}", errors, f"{row.slope:.3f}", "yes" if row.of_order else "no"]


def _governed(tau: float, found: Governed) -> Row:
    """Both exponents at one τ."""

    def interval(slope: Slope) -> str:
        return f"{slope.value:.3f} ({slope.low:.3f} … {slope.high:.3f})"

    return [f"{tau:g}", interval(found.units), interval(found.layers), found.by]


def _listed(errors: Mapping[int, float]) -> str:
    return ", ".join(f"{size}: {error:.3g}" for size, error in errors.items())
