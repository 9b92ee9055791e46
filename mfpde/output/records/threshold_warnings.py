"""Warnings: issued when an indicator crosses its threshold, and again at every tenfold, with place and remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mfpde.output.checkpoint.state_dict import StateDict
from mfpde.output.records.report import BlockIndicators, Report


@dataclass(frozen=True)
class Threshold:
    """A bound on one indicator.

    Attributes:
        name: the indicator, a column of indicators.csv.
        most: largest value without a warning.
        remedy: what to do, after the name of the family.
        severe: the same for ten times the bound and more; `remedy` unless given.
    """

    name: str
    most: float
    remedy: str
    severe: str = ""

    def value(self, block: BlockIndicators) -> float:
        """The block's indicator."""
        return float(getattr(block, self.name))

    def level(self, value: float) -> int:
        """See `level_above`."""
        return level_above(value, self.most)

    def advice(self, value: float) -> str:
        """What to do about a value above the bound."""
        return self.severe if self.severe and self.level(value) > 1 else self.remedy


_LARGEST = 1e300  # an indicator that overflows is as large
_RISK_ERROR = 1e-2  # estimated error of the risk without a warning, relative to the risk
_NEGLIGIBLE = 1e-4  # of the largest risk so far: a smaller risk counts as that much
_FINER = "lower time.tolerance and raise density.cells, or density.nodes of random nodes"
_FINER_STEPS = "raise density.nodes, or let the learning rate fall (training.schedule)"  # of training by steps
_GROWN = 1.5  # energy without a warning, relative to that at the start; along the flow it falls
THRESHOLDS = (
    Threshold("mass_error", 1e-10, "the step is unstable: lower time.step, or give time.tolerance instead"),
    Threshold("boundary_mass", 1e-3, "the density leaves its mesh: raise density.radius"),
    Threshold("resolution", 0.5, "the density is narrower than a cell: raise density.cells or density.degree"),
    Threshold(
        "negative_mass",
        0.05,
        "the density oscillates, and pictures of it mislead; the risk may still be right, which --estimate-error "
        "checks; more density.cells help",
        "the density oscillates, and the risk can be wrong by several per cent: check it with --estimate-error, raise "
        "density.cells or density.degree, or take density.frame = 'lagrangian'",
    ),
)


_NAMES = (*(each.name for each in THRESHOLDS), "risk_error", "energy")


def level_above(value: float, most: float) -> int:
    """By how many factors of ten a value is above a bound, plus one; 0 up to the bound, and where it is no number."""
    return 1 + int(math.log10(min(value / most, _LARGEST))) if value > most else 0


class ThresholdWarnings:
    """Compares the reports of a run with the thresholds.

    Attributes:
        issued: the lines so far.
    """

    def __init__(self, show: Callable[[str], None], saved: StateDict | None = None) -> None:
        """No threshold has been crossed but those in `saved`.

        Args:
            show: shows a line to the user.
            saved: what `state_dict` gave, of a run to continue.
        """
        self.issued: list[str] = list(saved["issued"]) if saved else []
        self._show = show
        self._levels: dict[str, int] = dict(saved["levels"]) if saved else dict.fromkeys(_NAMES, 0)
        self._largest_risk = float(saved["largest_risk"]) if saved else 0.0
        self._first_energy = float(saved.get("first_energy", math.nan)) if saved else math.nan

    def state_dict(self) -> StateDict:
        """The lines issued, and how far each indicator has come."""
        return {
            "issued": list(self.issued),
            "levels": dict(self._levels),
            "largest_risk": self._largest_risk,
            "first_energy": self._first_energy,
        }

    def issue(self, line: str) -> None:
        """Issue a warning that comes from no threshold."""
        self.issued.append(line)
        self._show(line)

    def report(self, report: Report) -> None:
        """Warn of thresholds, and of tens of them, that this report is the first to cross, with the worst block."""
        for threshold in THRESHOLDS:
            level = max((threshold.level(threshold.value(b)) for b in report.indicators), default=0)
            if self._rises(threshold.name, level):
                self.issue(_line(threshold, report))

        risk, error = report.history["risk"], report.history["risk_error"]
        self._largest_risk = max(self._largest_risk, risk)
        relative = error / max(risk, _NEGLIGIBLE * self._largest_risk) if error > 0.0 else 0.0
        if self._rises("risk_error", level_above(relative, _RISK_ERROR)):
            self.issue(
                f"warning: risk_error = {error:.3g}, {100 * relative:.2g} % of the risk, at tau = {report.tau:.6g}: "
                f"{_FINER_STEPS if 'step' in report.history else _FINER}; --estimate-error compares with a finer solve"
            )

        self._judge_energy(report)

    def _judge_energy(self, report: Report) -> None:
        """Warn where the energy has grown since the first report."""
        energy, first = report.history["energy"], self._first_energy
        if math.isnan(first):
            self._first_energy = energy
        elif first > 0.0 and self._rises("energy", level_above(energy / first, _GROWN)):
            steps = "training.learning_rate, or give training.clip" if "step" in report.history else "time.tolerance"
            self.issue(
                f"warning: the energy is {energy:.3g} at tau = {report.tau:.6g}, and was {first:.3g} at the start: "
                f"steps are too long; lower {steps}"
            )

    def _rises(self, name: str, level: int) -> bool:
        """Is a level the highest so far? It is then kept."""
        if level <= self._levels.get(name, 0):
            return False
        self._levels[name] = level
        return True


def _line(threshold: Threshold, report: Report) -> str:
    worst = max(report.indicators, key=threshold.value)
    value = threshold.value(worst)
    where = f"tau = {report.tau:.6g}, family {worst.family!r}, layer {worst.layer}"
    return f"warning: {threshold.name} = {value:.3g} (above {threshold.most:g}) at {where}: {threshold.advice(value)}"
