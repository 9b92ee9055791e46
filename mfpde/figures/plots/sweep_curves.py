"""Risk, energy and gap of a family of runs against the key in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfpde.output.files import replacing

_SHOWN = ("risk", "energy", "gap")
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")  # Okabe & Ito
_DECADE = 8.0  # largest over smallest from which an axis is logarithmic


def draw(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], path: Path) -> None:
    """Write PATH.png and PATH.pdf.

    Args:
        rows: per run the values of the keys, and risk, energy and gap.
        keys: the first is the axis; the others make curves.
        path: without ending.
    """
    figure = Figure(figsize=(6.3, 2.3), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, len(_SHOWN))
    numeric = all(_is_number(row[keys[0]]) for row in rows)
    places = {} if numeric else {str(row[keys[0]]): None for row in rows}
    ticks = {word: place for place, word in enumerate(places)}
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        curves.setdefault(", ".join(f"{k.rpartition('.')[2]} = {row[k]}" for k in keys[1:]), []).append(row)
    for axis, name in zip(axes, _SHOWN, strict=True):
        seen: list[float] = []
        for colour, (label, members) in enumerate(curves.items()):
            points = sorted(
                (float(row[keys[0]]) if numeric else float(ticks[str(row[keys[0]])]), float(row.get(name, np.nan)))
                for row in members
            )
            kept = [(x, y) for x, y in points if np.isfinite(y)]
            seen += [y for _, y in kept]
            axis.plot(*zip(*kept, strict=True) if kept else ([], []), "o-", markersize=3, linewidth=1.1,
                      color=_COLOURS[colour % len(_COLOURS)], label=label)  # fmt: skip
        axis.set_title(name, fontsize=8)
        axis.set_xlabel(keys[0], fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        _scale(axis, [float(row[keys[0]]) for row in rows] if numeric else [], seen)
        axis.tick_params(labelsize=7, which="both")  # after the scale, which makes new ticks
        if not seen:
            axis.text(0.5, 0.5, "not finite", transform=axis.transAxes, ha="center", fontsize=7)
        if ticks:
            axis.set_xticks(list(ticks.values()), list(ticks), fontsize=7)
    if len(keys) > 1 and len(curves) > 1:
        axes[0].legend(fontsize=6, frameon=False)
    for ending in ("png", "pdf"):
        with replacing(path.with_suffix(f".{ending}")) as part:
            figure.savefig(part, format=ending, dpi=220)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scale(axis: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Logarithmic where all values are positive and span about a decade."""
    for values, set_scale in ((x, axis.set_xscale), (y, axis.set_yscale)):
        if values and min(values) > 0.0 and max(values) > _DECADE * min(values):
            set_scale("log")
