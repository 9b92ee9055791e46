"""The report of a run: one HTML file that holds everything, for a colleague, or for oneself a year later."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mfpde.config.run_file import question
from mfpde.figures.pages.explorer import explorer_data
from mfpde.figures.pages.renderer import inline_pictures, render, script
from mfpde.output.directory import FIGURES
from mfpde.output.files import failing_clearly, write_text
from mfpde.output.reader import RunReader
from mfpde.output.records.tables import Column

_OPEN = 8  # pictures that are shown at once; the others open on a click
_MOST_INLINED = 1_500_000  # bytes of pictures in a page
_ASKED = 3000  # milliseconds between looks for another report
_MOVING = 1e-3  # relative fall of the energy in as much time again, above which the run still moves
_RESULTS = {
    "risk": "risk",
    "test_risk": "risk on test samples",
    "accuracy": "accuracy",
    "test_accuracy": "accuracy on test samples",
    "penalty": "penalty",
    "energy": "energy",
    "dissipation": "dissipation",
    "mass_error": "mass error",
    "negative_mass": "negative mass of the evolved density",
    "boundary_mass": "mass at the mesh's boundary",
}
_TIMES = ("wall", "sweep", "transport", "output")


def write_report(run: RunReader, pictures: Sequence[Path]) -> Path:
    """Write DIR/figures/report.html: question, densities and curves to play with, certificate, figures, times.

    Nothing in it is loaded from elsewhere: pictures are inlined, as many as a page of some megabytes holds.

    Args:
        run: the run.
        pictures: the .png and .gif files to show or to name, in this order; others are left out.

    Raises:
        ComputationError: when the disk refuses.
    """
    folder = run.directory / FIGURES
    with failing_clearly(folder):
        folder.mkdir(exist_ok=True)
        write_text(folder / "report.html", report_page(run, pictures))
    return folder / "report.html"


def report_page(run: RunReader, pictures: Sequence[Path], *, live: bool = False) -> str:
    """The text of a report.

    Args:
        run: the run, of one report at least.
        pictures: see `write_report`.
        live: a page of a server, which is loaded again where the run has another report.
    """
    source, content = run.run_file
    shown = _inlined(pictures)
    summary, history = run.summary, run.history
    about = {
        "name": str(content.get("name", run.directory.resolve().name)),
        "question": question(source),
        "run_text": source,
        "ended": summary is not None,
        "live": {"reports": len(run.taus), "every": _ASKED} if live else None,
        "summary": {"unknowns": None, "steps": None, "ranks": None, **(summary or {})},
        "outcome": (summary or {}).get("outcome", "done"),
        "warnings": (summary or {}).get("warnings") or [],
        "pictures": inline_pictures(shown),
        "elsewhere": [path.name for path in pictures if path.suffix in (".png", ".gif") and path not in shown],
        "explorer": explorer_data(run),
        "script": script("explorer"),
        "open_pictures": _OPEN,
        "made_with": _versions(run.manifest),
    }
    return render("run_report", {**about, **_results(history), **_gaps(run.gap, summary or {}), **_times(run)})


def _inlined(pictures: Sequence[Path]) -> list[Path]:
    """The pictures that stand in the page: the first ones, as long as it stays small enough to be sent; no films."""
    shown, size = [], 0
    for path in pictures:
        if path.suffix == ".png" and size + path.stat().st_size <= _MOST_INLINED:
            shown.append(path)
            size += path.stat().st_size
    return shown


def _results(history: Mapping[str, Column]) -> dict[str, object]:
    """First and last report side by side, the estimated errors, and whether the energy still falls."""
    last = {name: float(column[-1]) for name, column in history.items()}
    rows = [
        (label, f"{float(history[name][0]):.6g}", f"{last[name]:.6g}")
        for name, label in _RESULTS.items()
        if np.isfinite(last.get(name, math.nan))
    ]
    errors = np.asarray(history.get("risk_error", ()), dtype=np.float64)
    fall = last["dissipation"] * last["tau"] / abs(last["energy"]) if last["energy"] else math.inf

    return {
        "first_tau": float(history["tau"][0]),
        "tau": last["tau"],
        "last": last,
        "results": rows,
        "risk_errors": errors[np.isfinite(errors)].tolist(),
        "fall": fall,
        "moving": fall > _MOVING,
        "by_steps": "step" in history,
    }


def _gaps(table: Mapping[str, Column], summary: Mapping[str, object]) -> dict[str, object]:
    """The gap of each layer and family at the last τ that has one, and what it is."""
    rows: list[list[str]] = []
    tau, layers = math.nan, []
    if len(table.get("tau", ())):
        tau = float(table["tau"][-1])
        here = np.flatnonzero(np.asarray(table["tau"]) == tau)
        gaps = {(str(table["family"][k]), int(table["layer"][k])): float(table["gap"][k]) for k in here}
        layers = sorted({layer for _, layer in gaps})
        for family in dict.fromkeys(family for family, _ in gaps):
            found = [gaps.get((family, layer), math.nan) for layer in layers]
            rows.append([family, *("—" if math.isnan(gap) else f"{gap:.6g}" for gap in found)])

    return {
        "gaps": rows,
        "gap_tau": tau,
        "gap_layers": [f"layer {layer}" for layer in layers],
        "gap_is": summary.get("gap_is", "stationarity"),
        "gap_margin": summary.get("gap_margin") or 0.0,
    }


def _times(run: RunReader) -> dict[str, object]:
    """Seconds so far."""
    table = run.timings
    if not len(table.get("wall", ())):
        return {"times": []}
    return {"times": [(name, f"{float(table[name][-1]):.1f} s") for name in _TIMES if name in table]}


def _versions(manifest: Mapping[str, object]) -> list[tuple[str, str]]:
    """Versions, host facts and revision."""
    parts = [part for name in ("versions", "host") if isinstance(part := manifest.get(name), dict)]
    rows = [(str(name), str(value)) for part in parts for name, value in part.items() if value]
    return [*rows, ("revision", str(manifest.get("revision") or "not known"))]
