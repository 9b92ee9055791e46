"""What a comparison found, as its report and summary.json show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mfpde.comparison.checks import CHANGE, Check
from mfpde.comparison.depth_error import DepthRow
from mfpde.comparison.exponents import SlopeRow
from mfpde.comparison.slopes import Governed
from mfpde.comparison.verdict import Verdict, decide
from mfpde.output.records.tables import Column

_OUTCOMES = {True: "passed", False: "failed", None: "undecided"}


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


@dataclass(frozen=True, eq=False)
class Comparison:
    """The limit of a run against its finite Transformers.

    Attributes:
        verdict: "matches", "differs" or "undecided".
        sentence: the same as the end of "run: …".
        why: what the verdict rests on, in one line.
        seen: per parameter ("weight_decay", "step", "learning_rate") the smallest relative change that the checks would
            have shown; empty where they would have shown none.
        checks: columns with a row a check: `name`, `layers`, `tau`; `value` of the finite Transformers, `expected` by
            the limit or by theory, the `difference` of the two and the largest `allowed`, for means the half width of
            simultaneous 95 % intervals and the error of the limit; the smallest difference that would have been `seen`;
            the `outcome`, "passed", "failed" or "undecided"; a `note` on what the numbers rest on.
        summary: the content of summary.json, with exponents, distances and errors of depth.
        directory: the folder `compare/` of the run.
    """

    verdict: str
    sentence: str
    why: str
    seen: Mapping[str, float]
    checks: Mapping[str, Column]
    summary: Mapping[str, Any]
    directory: Path

    @classmethod
    def of(cls, findings: Findings, directory: Path) -> Comparison:
        """What was found, as callers from Python get it."""
        verdict, checks = findings.verdict, findings.checks
        names = ("name", "layers", "tau", "value", "expected", "difference", "allowed", "seen", "note")
        columns = {name: np.array([getattr(check, name) for check in checks]) for name in names}
        outcomes = np.array([_OUTCOMES[check.passed] for check in checks], dtype=np.str_)
        return cls(
            verdict=verdict.word,
            sentence=verdict.sentence,
            why=verdict.why,
            seen=dict(verdict.seen),
            checks=columns | {"outcome": outcomes},
            summary=findings.plain(),
            directory=directory,
        )

    @property
    def report(self) -> Path:
        """The page with all of it."""
        return self.directory / "report.html"

    def __str__(self) -> str:
        return f"{self.sentence}: {self.why}"
