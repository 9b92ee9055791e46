"""Warnings: an indicator that crosses its threshold is told once, with where and when, and what helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mfpde.output.report import BlockIndicators, Report


@dataclass(frozen=True)
class Threshold:
    """A bound on one indicator.

    Attributes:
        name: the indicator, a column of indicators.csv.
        most: largest value that needs no word.
        remedy: what to do, after the name of the family.
    """

    name: str
    most: float
    remedy: str

    def value(self, block: BlockIndicators) -> float:
        """The block's indicator."""
        return float(getattr(block, self.name))


THRESHOLDS = (
    Threshold("mass_error", 1e-10, "the step is unstable: lower time.step, or give time.tolerance instead"),
    Threshold("boundary_mass", 1e-3, "the density leaves its mesh: raise density.radius"),
    Threshold("resolution", 0.5, "the density is narrower than a cell: raise density.cells or density.degree"),
    Threshold(
        "negative_mass",
        0.05,
        "the density oscillates, and pictures of it mislead; the risk may still be right, --estimate-error tells; "
        "more density.cells help",
    ),
)


class Alarms:
    """Watches the reports of a run."""

    def __init__(self, tell: Callable[[str], None], written: Mapping[str, Sequence[str]] | None = None) -> None:
        """No alarm has gone off but those that `written` names.

        Args:
            tell: what shows a line to the user.
            written: what `written` gave, of a run to continue.
        """
        self.told = list(written["told"]) if written else []
        self._tell = tell
        self._quiet = [t for t in THRESHOLDS if written is None or t.name in written["quiet"]]

    @property
    def written(self) -> dict[str, list[str]]:
        """What a checkpoint must know: the lines told, and the alarms that have not gone off."""
        return {"told": list(self.told), "quiet": [t.name for t in self._quiet]}

    def report(self, report: Report) -> None:
        """Tell of thresholds that this report is the first to cross, each with its worst block."""
        for threshold in [t for t in self._quiet if any(t.value(b) > t.most for b in report.indicators)]:
            self._quiet.remove(threshold)
            line = _line(threshold, report)
            self.told.append(line)
            self._tell(line)


def _line(threshold: Threshold, report: Report) -> str:
    worst = max(report.indicators, key=threshold.value)
    where = f"tau = {report.tau:.6g}, family {worst.family!r}, layer {worst.layer}"
    return (
        f"warning: {threshold.name} = {threshold.value(worst):.3g} (above {threshold.most:g}) at {where}: "
        f"{threshold.remedy}"
    )
