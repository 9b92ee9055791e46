"""Does the limit match? All checks with what they would have found, and one word.

    mean        the mean over seeds, extrapolated in 1/M to ∞ (and in the learning rate to 0, where there are several),
                against the limit's risk at up to five τ and at every depth, inside one joint 95 % region (Bonferroni;
                `infinite_width`)
    grid        risk, and means per layer, of weighted grids of units, refined, against the limit, refined (`grids`)
    refinement  the run against its own refinement: no further apart than a small change of a parameter would make it
                (`grids`)
    slope       the root mean square over seeds of the risk's error, and of the sliced Wasserstein distance, falls like
                M^(−1/2) (`exponents`)

A wrong limit leaves an error that does not fall: each can fail. That none does means something only where one would.
The numbers are within what is allowed of the truth (means with joint 95 % confidence), so that a true difference of
twice what is allowed cannot pass: this is what the check would have found. In units of a parameter it is the relative
change that moves the risk of finite Transformers by as much (`effects`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mfpde.comparison.checks import SYMBOLS, Check, percent
from mfpde.comparison.evidence import Evidence
from mfpde.comparison.exponents import SlopeRow, slope_checks
from mfpde.comparison.grids import grid_checks, refinement_checks
from mfpde.comparison.infinite_width import mean_checks

_NO_EVIDENCE = (
    "no finite Transformers that decide: python -m mfpde.particles trains them, weighted ones (--initial grid, two "
    "sizes) or drawn ones (two sizes, three seeds at least)"
)


@dataclass(frozen=True)
class Verdict:
    """The outcome of all checks together.

    Attributes:
        word: "matches", "differs" or "undecided".
        why: one line.
        seen: per parameter the smallest relative change that would have been found at every depth; empty where nothing
            would.
        judged: what is: "the PDE" of the flow, "the limit" of training by steps, which obeys none.
    """

    word: str
    why: str
    seen: Mapping[str, float]
    judged: str = "the PDE"

    @property
    def sentence(self) -> str:
        """As the end of "run: …"."""
        return f"undecided whether {self.judged} matches" if self.word == "undecided" else f"{self.judged} {self.word}"


def all_checks(evidence: Evidence, slopes: Sequence[SlopeRow]) -> list[Check]:
    """The checks of all four kinds.

    Args:
        evidence: what is compared.
        slopes: exponents of errors and distances in M.
    """
    return [
        *mean_checks(evidence),
        *grid_checks(evidence),
        *refinement_checks(evidence),
        *slope_checks(slopes, evidence.change),
    ]


def decide(checks: Sequence[Check], change: float) -> Verdict:
    """The limit differs where a check fails, and matches where none does though, at every depth, one would have.

    Args:
        checks: all of them.
        change: relative, of every parameter, that must have been found.
    """
    depths: dict[int, list[Check]] = {}
    for check in checks:
        if check.seen_in:
            depths.setdefault(check.layers, []).append(check)
    power = {n: _least(mine) for n, mine in depths.items()}
    seen = {name: max(p[name] for p in power.values()) for name in next(iter(power.values()), {})}

    failed = [check for check in checks if check.passed is False]
    if failed:
        worst = max(failed, key=lambda c: c.difference / max(c.allowed, 1e-300))
        return Verdict("differs", f"{len(failed)} of {len(checks)} checks differ; the most, {_summary(worst)}", seen)
    if not depths:
        return Verdict("undecided", _NO_EVIDENCE, seen)

    blind = [n for n, least in power.items() if max(least.values()) > change]
    if not blind:
        where = ", ".join(map(str, sorted(depths)))
        return Verdict("matches", f"a change {_changes(seen)} would have been seen (L = {where})", seen)

    # The advice is that of the check which came nearest to a decision, among those that have some.
    layers = min(blind)
    best = min(depths[layers], key=lambda c: (not c.more, max(c.seen_in.values())))
    advice = f"; {best.more} ({best.name}, tau = {best.tau:g}) would decide" if best.more else ""
    why = f"at L = {layers} only a change {_changes(power[layers])} would have been seen, not {percent(change)}{advice}"
    return Verdict("undecided", why, seen)


def _least(checks: Sequence[Check]) -> dict[str, float]:
    """Per parameter the smallest relative change that one of these checks would have found."""
    return {name: min(check.seen_in[name] for check in checks) for name in checks[0].seen_in}


def _changes(seen: Mapping[str, float]) -> str:
    return " or ".join(f"of {SYMBOLS[name]} by {percent(value)}" for name, value in seen.items())


def _summary(check: Check) -> str:
    return (
        f"{check.name} at L = {check.layers}, tau = {check.tau:g}: {check.value:.6g} against {check.expected:.6g}, "
        f"{check.allowed:.2g} allowed"
    )
