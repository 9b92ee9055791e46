"""A run in progress, in the terminal: how far it is, how long it will take, and the curve of the risk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from mfpde.output.reader import RunReader
from mfpde.output.records.threshold_warnings import THRESHOLDS

Array = NDArray[np.float64]

_BARS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-=+*#@"
_SHOWN = ("energy", "dissipation", "gap", "risk_error")
_HEIGHT = 5  # lines of the curve
_HOME = "\x1b[H\x1b[J"  # to the upper left, and clear what is below
_PAUSE = 1.0  # seconds between looks
_LATE = 10.0  # a report is overdue after so many usual pauses, each counted as so many seconds at least
_RECENT = 3  # reports from whose pace the time left is estimated


@dataclass(frozen=True, eq=False)
class View:
    """What is shown of a run at one moment.

    Attributes:
        name: of the run's directory.
        taus, risk, accuracy, wall: of the reports so far, wall in seconds; accuracy may be empty.
        last: columns of the last report that are shown as numbers, where they are known.
        horizon: final τ; nan where the run file has none.
        ranks: number of processes, 0 when unknown.
        outcome: how it ended, empty while it goes on.
        silence: seconds since the last report was written.
        warnings: indicators above their thresholds at the last report; at the end, all warnings that were issued.
    """

    name: str
    taus: Array
    risk: Array
    accuracy: Array
    wall: Array
    last: Mapping[str, float]
    horizon: float
    ranks: int
    outcome: str
    silence: float
    warnings: tuple[str, ...]

    def overdue(self) -> bool:
        """Is the next report much later than the last ones were? Then the run may have been killed."""
        usual = float(np.ptp(self.wall[-2:])) if len(self.wall) > 1 else 0.0
        return not self.outcome and self.silence > _LATE * max(usual, _LATE)

    def left(self) -> float:
        """Seconds to the horizon at the pace of the last reports; nan before there is a pace."""
        k = min(_RECENT, len(self.taus) - 1)
        if k < 1 or len(self.wall) < len(self.taus) or not self.taus[-1] > self.taus[-1 - k]:
            return float("nan")
        pace = (self.wall[-1] - self.wall[-1 - k]) / (self.taus[-1] - self.taus[-1 - k])
        return float(max(self.horizon - self.taus[-1], 0.0) * pace)


def read_view(run: RunReader) -> View:
    """The view of a run from what its files hold by now."""
    history, summary = run.history, run.summary
    training, ranks = run.run_file[1].get("training"), run.manifest.get("ranks")
    horizon = training.get("horizon") if isinstance(training, dict) else None
    last = {name: float(column[-1]) for name, column in history.items() if len(column)}

    # Only the summary, which is written at the end, lists the warnings of all reports.
    high = [(t, last[t.name]) for t in THRESHOLDS if last.get(t.name, 0) > t.most]
    current = [f"warning: {t.name} = {value:.3g}: {t.advice(value)}" for t, value in high]
    issued = (summary or {}).get("warnings")

    written = run.directory / "history.csv"

    def column(name: str) -> Array:
        return np.asarray(history.get(name, ()), dtype=np.float64)

    return View(
        name=run.directory.resolve().name,
        taus=run.taus,
        risk=column("risk"),
        accuracy=column("accuracy"),
        wall=np.asarray(run.timings.get("wall", ()), dtype=np.float64),
        last={name: last[name] for name in _SHOWN if np.isfinite(last.get(name, np.nan))},
        horizon=float(horizon) if isinstance(horizon, int | float) else float("nan"),
        ranks=ranks if isinstance(ranks, int) else 0,
        outcome="" if summary is None else str(summary.get("outcome", "done")),
        silence=time.time() - written.stat().st_mtime if written.is_file() else 0.0,
        warnings=tuple(map(str, issued)) if isinstance(issued, list) else tuple(current),
    )


def render(view: View, width: int = 80, *, ascii_only: bool = False) -> str:
    """The view as lines of text no wider than `width`."""
    if not len(view.taus):
        return f"{view.name}: no report yet; the first one waits for compilation\n"

    share = float(np.clip(view.taus[-1] / view.horizon, 0.0, 1.0)) if view.horizon > 0 else 0.0
    full, empty, marks = ("#", ".", _ASCII) if ascii_only else ("█", "░", _BARS)
    bar = round(share * (width - 34))
    state = view.outcome or f"running on {view.ranks or '?'} rank{'s' if view.ranks != 1 else ''}"
    lines = [
        f"{view.name}: {state}",
        f"tau {view.taus[-1]:.4g} of {view.horizon:.4g}  {full * bar}{empty * (width - 34 - bar)} {100 * share:3.0f} %",
        f"risk {view.risk[-1]:.6g}, from {view.risk[0]:.6g}",
        *("  " + line for line in curve(view.taus, view.risk, (width - 4, _HEIGHT), marks)),
        "  tau 0" + f"tau {view.taus[-1]:.4g}".rjust(width - 9),
    ]

    if view.last:
        lines.append("   ".join(f"{name} {value:.4g}" for name, value in view.last.items()))
    if len(view.accuracy):
        lines.append(f"accuracy {100 * view.accuracy[-1]:.1f} %")
    if len(view.wall):
        since = f"wall {_duration(view.wall[-1])} at the last report"
        lines.append(since if view.outcome else f"{since}, about {_duration(view.left())} left from there")
    if view.overdue():
        lines.append(f"no report for {_duration(view.silence)}: if it was killed, solve … --resume goes on")

    lines += view.warnings
    return "".join(line[:width].rstrip() + "\n" for line in lines)


def curve(x: Array, y: Array, size: tuple[int, int], marks: str = _BARS) -> list[str]:
    """A curve as bars in lines of text: the least value is the lowest mark, the largest fills all lines.

    Args:
        x: ascending, (n,).
        y: (n,), interpolated between the x.
        size: number of characters, each for an equal part of the range of x, and of lines.
        marks: characters from low to high.

    Returns:
        The lines from above; none where no value is finite.
    """
    kept = np.isfinite(y)
    if not kept.any():
        return []

    width, height = max(1, size[0]) if kept.sum() > 1 else 1, size[1]
    values = np.interp(np.linspace(x[kept][0], x[kept][-1], width), x[kept], y[kept])
    low, high = float(values.min()), float(values.max())
    place = (values - low) / (high - low) if high > low else np.zeros(width)

    # Each bar is a number of full characters and the mark on top of them.
    steps = np.minimum((place * height * len(marks)).astype(int), height * len(marks) - 1)
    filled = f" {marks}"
    return [
        "".join(filled[min(max(step + 1 - row * len(marks), 0), len(marks))] for step in steps)
        for row in reversed(range(height))
    ]


def watch(run: RunReader, stream: TextIO, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show the run until it has ended, or until Ctrl-C, which ends the view and not the run.

    A terminal shows one view that changes; anything else gets the view once more with every report.

    Args:
        run: the run.
        stream: where to write.
        sleep: waits some seconds between looks.
    """
    seen, live = -1, stream.isatty()
    plain = (stream.encoding or "ascii").lower().replace("-", "") not in ("utf8", "utf16")

    try:
        while True:
            view = read_view(run)
            news = len(view.taus) != seen or bool(view.outcome)
            if live or news:
                width = min(shutil.get_terminal_size().columns, 100) if live else 80
                stream.write((_HOME if live else "") + render(view, max(width, 50), ascii_only=plain))
                stream.flush()

            seen = len(view.taus)
            if view.outcome:
                return
            sleep(_PAUSE)
    except KeyboardInterrupt:
        stream.write("the view ends here; the run goes on\n")


def _duration(seconds: float) -> str:
    """42 s, 3 min 20 s or 2 h 05 min; a question mark for what is not known."""
    if not np.isfinite(seconds):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
