"""Risk, energy and gap of the runs of a parameter sweep against the key in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mfpde.figures.style import CYCLE, StyledFigure, print_style

_SHOWN = ("risk", "energy", "gap")
_DECADE = 8.0  # largest over smallest from which an axis is logarithmic


@print_style
def draw_sweep(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], path: Path) -> None:
    """Write PATH.png and PATH.pdf.

    Args:
        rows: per run the values of the keys, and risk, energy and gap.
        keys: the first is the axis; the others make curves.
        path: without ending.
    """
    figure = StyledFigure(2.3, layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(_SHOWN))

    # Values that are no numbers stand side by side, in the order of the sweep.
    values = [row[keys[0]] for row in rows]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    words = [] if numeric else list(dict.fromkeys(map(str, values)))
    places = [float(value) if numeric else float(words.index(str(value))) for value in values]
    labels = [", ".join(f"{key.rpartition('.')[2]} = {row[key]}" for key in keys[1:]) for row in rows]

    for axes, name in zip(panels, _SHOWN, strict=True):
        curves: dict[str, list[tuple[float, float]]] = {label: [] for label in labels}
        for label, place, row in zip(labels, places, rows, strict=True):
            if np.isfinite(value := float(row.get(name, np.nan))):
                curves[label].append((place, value))
        _draw_panel(axes, curves)
        axes.set(title=name, xlabel=keys[0])
        _scale(axes, places if numeric else [], [y for points in curves.values() for _, y in points])
        if words:
            axes.set_xticks(range(len(words)), words)

    if len(set(labels)) > 1:
        panels[0].legend()
    figure.save(path)


def _draw_panel(axes: Axes, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """One quantity: points (x, y) by the label of their curve."""
    for number, (label, points) in enumerate(curves.items()):
        x, y = zip(*sorted(points), strict=True) if points else ((), ())
        axes.plot(x, y, "o-", color=CYCLE[number % len(CYCLE)], label=label)
    if not any(curves.values()):
        axes.text(0.5, 0.5, "not finite", transform=axes.transAxes, ha="center")


def _scale(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Logarithmic where all values are positive and span about a decade."""
    for values, set_scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
        if values and min(values) > 0.0 and max(values) > _DECADE * min(values):
            set_scale("log")
