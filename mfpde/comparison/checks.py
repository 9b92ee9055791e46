"""One check of two numbers, its outcome, and the smallest difference that it would have found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

CHANGE = 0.05  # relative, of every parameter: what a comparison must be able to find unless another change is given
CONFIDENCE = 0.95  # joint, of all checks of one kind
SURE = 2.0  # times what is allowed: a true difference that cannot pass
SYMBOLS = {"weight_decay": "λ", "step": "η", "learning_rate": "ε"}
"""Parameters in which power is stated, by their names in a run file."""


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
        passed: whether it does; None where the figures cannot decide.
        note: what the figures rest on.
        seen: the smallest true difference that the check would have found.
        seen_in: the same as a relative change of each parameter; empty where it is not translated.
        more: what would let an undecided check decide.
    """

    name: str
    layers: int
    tau: float
    value: float
    expected: float
    allowed: float
    passed: bool | None
    note: str
    seen: float = float("nan")
    seen_in: Mapping[str, float] = field(default_factory=dict)
    more: str = ""

    @property
    def difference(self) -> float:
        """|value − expected|."""
        return abs(self.value - self.expected)


def judge(check: Check, effects: Mapping[str, float], change: float, more: str, resolved: bool = True) -> Check:
    """The check with its outcome: a difference that is too large fails; none passes where a change would be found.

    Args:
        check: its numbers.
        effects: |Δ_p| of what it compares, per parameter p.
        change: c, that must be found in at least one of them.
        more: what would make it find smaller ones.
        resolved: whether it may be judged at all.
    """
    seen = SURE * check.allowed if resolved else math.inf
    seen_in = relative(seen, effects, change)

    passed: bool | None = True if min(seen_in.values(), default=math.inf) <= change else None
    if resolved and check.difference > check.allowed:
        passed = False

    blind = max(seen_in.values(), default=math.inf) > change
    return replace(check, passed=passed, seen=seen, seen_in=seen_in, more=more if blind else "")


def relative(seen: float, effects: Mapping[str, float], change: float) -> dict[str, float]:
    """A difference as relative changes of the parameters: c δ/|Δ_p|.

    Args:
        seen: δ.
        effects: |Δ_p| per parameter p, of the same quantity.
        change: c.
    """
    return {name: change * seen / effect if effect > 0.0 else math.inf for name, effect in effects.items()}


def percent(share: float) -> str:
    """A relative change to two digits; "no amount" where it is infinite."""
    return f"{float(f'{100.0 * share:.2g}'):g} %" if math.isfinite(share) else "no amount"
