"""What a comparison found, as its report and summary.json show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mfpde.comparison.checks import CHANGE, Check
from mfpde.comparison.depth_error import DepthRow
from mfpde.comparison.exponents import SlopeRow
from mfpde.comparison.slopes import Governed
from mfpde.comparison.verdict import Verdict, decide


@dataclass(frozen=True)
class Findings:
    """What a comparison found.

    Attributes:
        name: of the run.
        checks: all of them.
        slopes: exponents in M.
        governed: per τ, whether errors fall with M or with L·M.
        depth: errors of a finite number of layers.
        distances: rows of measures, as plain numbers.
        facts: what was compared: seeds, sizes, methods, hashes.
        change: relative, of every parameter, that must have been seen.
        judged: `Verdict.judged`.
    """

    name: str
    checks: Sequence[Check]
    slopes: Sequence[SlopeRow]
    governed: Mapping[float, Governed]
    depth: Sequence[DepthRow]
    distances: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    change: float = CHANGE
    judged: str = "the PDE"

    @property
    def verdict(self) -> Verdict:
        """The verdict of all checks together."""
        return replace(decide(self.checks, self.change), judged=self.judged)

    def plain(self) -> dict[str, Any]:
        """The content of summary.json."""
        verdict = self.verdict
        return {
            "verdict": verdict.word,
            "why": verdict.why,
            "seen": dict(verdict.seen),
            "change": self.change,
            "failed": [f"{c.name}, L = {c.layers}, tau = {c.tau:g}" for c in self.checks if c.passed is False],
            "checks": [asdict(check) for check in self.checks],
            "slopes": [asdict(row) for row in self.slopes],
            "width_or_depth": [{"tau": tau, **asdict(found)} for tau, found in self.governed.items()],
            "depth": [asdict(row) for row in self.depth],
            "distances": list(self.distances),
            **self.facts,
        }
