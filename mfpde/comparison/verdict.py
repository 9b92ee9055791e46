"""Does the PDE match? Every check with what it would have seen, and one word.

    mean        the mean over seeds, extrapolated in 1/M to ∞ (and in the learning rate to 0, where there are several),
                against the limit's risk at up to five τ and at every depth, inside one joint 95 % region (Bonferroni)
    grid        risk, and means per layer, of weighted grids of units, refined, against the PDE, refined (`grids`)
    refinement  the run against its own refinement: no further apart than a small change of λ or η would make it
    slope       the root mean square over seeds of the risk's error, and of the sliced Wasserstein distance, falls like
                M^(−1/2) (`exponents`)

A wrong PDE leaves an error that does not fall: each can fail. That none does says something only where it would have.
What is compared is within what is allowed of the truth (means with joint 95 % confidence), so that a true difference of
twice what is allowed cannot pass: this is what the check would have seen. In units of a parameter it is the relative
change that moves the risk of finite Transformers by as much (`effects`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mfpde.comparison.checks import CONFIDENCE, SURE, SYMBOLS, Check, judge, percent
from mfpde.comparison.evidence import Evidence, at, has
from mfpde.comparison.infinite_width import Limit, deviations, extrapolate

_MOST_SEEDS = 10_000  # above that many, seeds are no advice
_NO_EVIDENCE = (
    "no finite Transformers that decide: python -m mfpde.particles trains them, weighted ones (--initial grid, two "
    "sizes) or drawn ones (two sizes, three seeds at least)"
)


@dataclass(frozen=True)
class Verdict:
    """What all checks say together.

    Attributes:
        word: "matches", "differs" or "undecided".
        why: one line.
        seen: per parameter the smallest relative change that would have been seen at every depth; empty where nothing
            would.
    """

    word: str
    why: str
    seen: Mapping[str, float]

    @property
    def sentence(self) -> str:
        """As the end of "run: …"."""
        return "undecided whether the PDE matches" if self.word == "undecided" else f"the PDE {self.word}"


def decide(checks: Sequence[Check], change: float) -> Verdict:
    """The PDE differs where a check fails, and matches where none does though, at every depth, one would have.

    Args:
        checks: all of them.
        change: relative, of every parameter, that must have been seen.
    """
    depths: dict[int, list[Check]] = {}
    for check in checks:
        if check.seen_in:
            depths.setdefault(check.layers, []).append(check)
    power = {n: _least(mine) for n, mine in depths.items()}
    seen = {name: max(p[name] for p in power.values()) for name in next(iter(power.values()), {})}
    failed = [check for check in checks if check.passed is False]
    if failed:
        worst = max(failed, key=lambda c: abs(c.value - c.expected) / max(c.allowed, 1e-300))
        return Verdict("differs", f"{len(failed)} of {len(checks)} checks differ; the most, {_said(worst)}", seen)
    if not depths:
        return Verdict("undecided", _NO_EVIDENCE, seen)
    blind = [n for n, least in power.items() if max(least.values()) > change]
    if not blind:
        where = ", ".join(map(str, sorted(depths)))
        return Verdict("matches", f"a change {_changes(seen)} would have been seen (L = {where})", seen)
    layers = min(blind)
    best = min(depths[layers], key=lambda c: (not c.more, max(c.seen_in.values())))
    advice = f"; {best.more} ({best.name}, tau = {best.tau:g}) would decide" if best.more else ""
    why = f"at L = {layers} only a change {_changes(power[layers])} would have been seen, not {percent(change)}{advice}"
    return Verdict("undecided", why, seen)


def _least(checks: Sequence[Check]) -> dict[str, float]:
    """Per parameter the smallest relative change that one of these checks would have seen."""
    return {name: min(check.seen_in[name] for check in checks) for name in checks[0].seen_in}


def _changes(seen: Mapping[str, float]) -> str:
    return " or ".join(f"of {SYMBOLS[name]} by {percent(value)}" for name, value in seen.items())


def _said(check: Check) -> str:
    return (
        f"{check.name} at L = {check.layers}, tau = {check.tau:g}: {check.value:.6g} against {check.expected:.6g}, "
        f"{check.allowed:.2g} allowed"
    )


def mean_checks(evidence: Evidence) -> list[Check]:
    """Particle means, extrapolated to M = ∞, against the limit."""
    drawn = [*evidence.drawn, *(r for r in evidence.coarser if r.job.initial == "sampled")]
    places = [(n, tau) for n in sorted(evidence.limits) for tau in evidence.judged(n, drawn)]
    confidence = 1.0 - (1.0 - CONFIDENCE) / max(1, len(places))
    checks = []
    for layers, tau in places:
        mine = [r for r in drawn if r.job.layers == layers and has(r.columns, tau)]
        if not mine:
            continue
        controls = np.stack([deviations(r, evidence.models[layers]) for r in mine])
        risks = np.array([at(r.columns, "risk", tau) for r in mine])
        sizes, seeds = [r.job.size[0] for r in mine], [r.job.seed for r in mine]
        rates = [r.job.method.learning_rate or 0.0 for r in mine]
        found = extrapolate(sizes, seeds, risks, controls, confidence, rates)
        if found is not None:
            checks.append(_mean_check(evidence, layers, tau, found, sizes, rates))
    return checks


def _mean_check(
    evidence: Evidence, layers: int, tau: float, found: Limit, sizes: Sequence[int], rates: Sequence[float]
) -> Check:
    expected, error = at(evidence.limits[layers], "risk", tau), evidence.error(layers, tau)
    allowed = found.half_width + error
    note = f"{found.seeds} seeds, M = {', '.join(map(str, sorted(set(sizes))))}, {found.controls} control variates"
    if any(rates):
        note += f", learning rates {', '.join(f'{h:g}' for h in sorted(set(rates)))}"
    room = _room(evidence, layers, tau) - error
    check = Check("mean", layers, tau, found.value, expected, allowed, None, note)
    return judge(check, evidence.risk_effects(layers, tau), evidence.change, _seeds(found, room))


def _seeds(found: Limit, room: float) -> str:
    """How many would make the interval as narrow as there is room."""
    if room <= 0.0:
        return "smaller cells or a smaller time.tolerance, since the PDE's own error is too large,"
    ratio = (found.half_width / room) ** 2
    seeds = int(np.ceil(found.seeds * ratio))
    if seeds > _MOST_SEEDS:
        return "weighted units instead of drawn ones (--initial grid)"
    return f"about {seeds} seeds instead of {found.seeds}, or {ratio:.2g} times the units"


def refinement_checks(evidence: Evidence) -> list[Check]:
    """The run against its own refinement, where there is one: says whether it is resolved, and nothing of the limit."""
    checks = []
    note = f"the PDE as it was solved against a finer solve; what {percent(evidence.change)} of λ or η make is allowed"
    for layers, finer in sorted(evidence.finer.items()):
        effects = evidence.effects.get(layers, {}).values()
        taus = evidence.judged(layers, evidence.records)
        allowed = max((effect.of_risk(t) for effect in effects for t in taus), default=float("inf"))
        for tau in taus:
            value, expected = (at(table, "risk", tau) for table in (evidence.limits[layers], finer))
            passed = bool(abs(value - expected) <= allowed)
            checks.append(Check("refinement", layers, tau, value, expected, allowed, passed, note))
    return checks


def _room(evidence: Evidence, layers: int, tau: float) -> float:
    """What may be allowed so that a change of any parameter is seen: half of what the least of them makes."""
    return min(evidence.risk_effects(layers, tau).values(), default=float("inf")) / SURE
