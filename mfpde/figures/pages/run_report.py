"""The report of a run: one HTML file that holds everything, for a colleague, or for oneself a year later."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mfpde.config.run_file import question
from mfpde.output.files import failing_clearly, write_text
from mfpde.output.reader import RunReader

_KINDS = {".png": "image/png", ".gif": "image/gif"}
_OPEN = 8  # figures that are shown at once; the others open on a click
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin-bottom:.2rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #ccc}
.question{font-size:1.15rem;font-style:italic;margin:.2rem 0 1rem}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.15rem .9rem .15rem 0;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}th{font-weight:600;border-bottom:1px solid #999}
img{max-width:100%;height:auto;display:block;margin:.4rem 0}figure{margin:1.2rem 0}
figcaption{color:#444;font-size:.9rem}
pre{background:#f5f5f2;padding:.8rem;overflow-x:auto;font-size:.85rem}
.warning{border-left:4px solid #d55e00;padding-left:.7rem}
summary{cursor:pointer;color:#0072b2}.quiet{color:#555}
@media print{body{max-width:none;margin:0}figure{break-inside:avoid}}
"""
_NUMBERS = (
    ("risk", "risk"),
    ("test_risk", "risk on test samples"),
    ("accuracy", "accuracy"),
    ("test_accuracy", "accuracy on test samples"),
    ("penalty", "penalty"),
    ("energy", "energy"),
    ("dissipation", "dissipation"),
    ("mass_error", "mass error"),
    ("negative_mass", "negative mass of the evolved density"),
    ("boundary_mass", "mass at the mesh's boundary"),
)
_STILL = 1e-3  # relative fall of the energy in as much time again
_KINDS_OF_GAP = {
    "bound": "the energy is convex here, and at most this far above its minimum",
    "best found": "the energy is convex here, and at most this far above its minimum if no potential is lower than the "
    "lowest found",
    "stationarity": "a first-order quantity, and no bound",
}
_TIMES = (("wall", "wall"), ("sweep", "sweep"), ("transport", "transport"), ("output", "output"))


def write_report(run: RunReader, pictures: Sequence[Path]) -> Path:
    """Write DIR/figures/report.html: question, run file, figures, certificate, error estimate, times, warnings.

    Nothing in it is loaded from elsewhere: pictures are inlined.

    Args:
        run: the run.
        pictures: the .png and .gif files to show, in this order; others are left out.

    Raises:
        ComputationError: when the disk refuses.
    """
    source, content = run.run_file
    name = str(content.get("name", run.directory.resolve().name))
    asked, summary = question(source), run.summary
    parts = [
        f"<h1>{_safe(name)}</h1>",
        f'<p class="question">{_safe(asked)}</p>' if asked else "",
        f"<p>{_state(run, summary)}</p>",
        *_warnings(summary),
        "<h2>Result</h2>",
        _results(run),
        "<h2>Is the risk right?</h2>",
        _error(run),
        "<h2>Is it stationary?</h2>",
        _certificate(run, summary),
        "<h2>Figures</h2>",
        *_figures([path for path in pictures if path.suffix in _KINDS]),
        "<h2>Time</h2>",
        _times(run),
        "<h2>Run file</h2>",
        f"<pre>{_safe(source)}</pre>",
        "<h2>Made with</h2>",
        _made_with(run.manifest),
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_safe(name)}: mfpde</title><style>{_STYLE}</style></head><body>"
    )
    folder = run.directory / "figures"
    with failing_clearly(folder):
        folder.mkdir(exist_ok=True)
        write_text(folder / "report.html", head + "\n".join(filter(None, parts)) + "</body></html>\n")
    return folder / "report.html"


def _state(run: RunReader, summary: Mapping[str, object] | None) -> str:
    """How the run ended, or how far it is, and its size."""
    tau = float(run.taus[-1])
    if summary is None:
        return f"This run has not ended; its last report is at τ = {tau:.6g}."
    end = str(summary.get("outcome", "done"))
    said = "The run ended" if end == "done" else f"The run ended early ({_safe(end)})"
    ranks = "rank" if summary.get("ranks") == 1 else "ranks"
    return (
        f"{said} at τ = {tau:.6g}: {_grouped(summary.get('unknowns'))} unknowns, "
        f"{_grouped(summary.get('steps'))} steps, {_grouped(summary.get('ranks'))} {ranks}."
    )


def _warnings(summary: Mapping[str, object] | None) -> list[str]:
    told = (summary or {}).get("warnings")
    return [f'<p class="warning">{_safe(str(line))}</p>' for line in told] if isinstance(told, list) else []


def _results(run: RunReader) -> str:
    """First and last report side by side."""
    history = run.history
    first, last = f"τ = {float(run.taus[0]):.4g}", f"τ = {float(run.taus[-1]):.4g}"
    rows = [
        (label, _number(history[name][0]), _number(history[name][-1]))
        for name, label in _NUMBERS
        if name in history and np.isfinite(float(history[name][-1]))
    ]
    return _table(("", first, last), rows)


def _error(run: RunReader) -> str:
    """The estimated error of the risk, or how to get one."""
    errors = np.asarray(run.history.get("risk_error", ()), dtype=np.float64)
    known = errors[np.isfinite(errors)]
    if not len(known):
        return (
            '<p class="quiet">Not estimated. <code>--estimate-error</code> solves a finer problem alongside and says '
            "how far the risk is from it.</p>"
        )
    risk = float(run.history["risk"][-1])
    return (
        f"<p>Estimated error of the risk, by a finer solve alongside: {_number(known[-1])} at the last report that has "
        f"one, {_number(known.max())} at most; the risk is {_number(risk)}.</p>"
    )


def _certificate(run: RunReader, summary: Mapping[str, object] | None) -> str:
    """Does the run still move? Then the gap, of the run and of each layer and family, at the last τ that has one."""
    table = run.gap
    if not len(table.get("tau", ())):
        return f'<p>{_still_moving(run)}</p><p class="quiet">The gap is computed at the end of a run.</p>'
    tau = float(table["tau"][-1])
    rows = np.flatnonzero(np.asarray(table["tau"]) == tau)
    families = list(dict.fromkeys(str(table["family"][k]) for k in rows))
    layers = sorted({int(table["layer"][k]) for k in rows})
    gaps = {(str(table["family"][k]), int(table["layer"][k])): float(table["gap"][k]) for k in rows}
    body = [(name, *(_number(gaps.get((name, layer), math.nan)) for layer in layers)) for name in families]
    kind = _safe(str((summary or {}).get("gap_is", "stationarity")))
    margin = float((summary or {}).get("gap_margin") or 0.0)  # type: ignore[arg-type]
    return (
        f"<p>{_still_moving(run)}</p>"
        f"<p>Gap {_number(run.history['gap'][-1])} at τ = {tau:.6g}: {_KINDS_OF_GAP.get(kind, kind)}. It is the "
        "linearised gain if all mass of every family jumped to the deepest point of its potential V, however far away; "
        "it can exceed the energy and is then no forecast. Only its vanishing means something."
        + (
            f" By the curvature between the points that were looked at it may be too small by {_number(margin)}."
            if margin > 0.0
            else ""
        )
        + "</p>"
        + _table(("family", *(f"layer {layer}" for layer in layers)), body)
    )


def _still_moving(run: RunReader) -> str:
    """Energy, dissipation, and what the two say of the time to come."""
    tau, energy, rate = (float(run.history[name][-1]) for name in ("tau", "energy", "dissipation"))
    ahead = rate * tau / abs(energy) if energy else math.inf
    moves = "The run still moves" if ahead > _STILL else "The run hardly moves"
    return (
        f"Energy {_number(energy)}, dissipation {_number(rate)} at τ = {tau:.6g}. {moves}: at this rate the energy "
        f"would fall by {100.0 * ahead:.3g} % in as much time again."
    )


def _figures(pictures: Sequence[Path]) -> Iterable[str]:
    for number, path in enumerate(pictures):
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        name = _safe(path.stem.replace("_", " ", 1))
        picture = f'<img alt="{name}" src="data:{_KINDS[path.suffix]};base64,{data}">'
        shown = f"<figure>{picture}<figcaption>{name}</figcaption></figure>"
        yield shown if number < _OPEN else f"<details><summary>{name}</summary>{shown}</details>"


def _times(run: RunReader) -> str:
    table = run.timings
    if not len(table.get("wall", ())):
        return '<p class="quiet">Not known yet.</p>'
    rows = [(label, f"{float(table[name][-1]):.1f} s") for name, label in _TIMES if name in table]
    return _table(("", "seconds of rank 0"), rows)


def _made_with(manifest: Mapping[str, object]) -> str:
    versions, host = manifest.get("versions"), manifest.get("host")
    rows = [(str(k), str(v)) for part in (versions, host) if isinstance(part, dict) for k, v in part.items() if v]
    rows.append(("revision", str(manifest.get("revision") or "not known")))
    return _table(("", ""), rows, numbers=False)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """An HTML table; all but the first column right-aligned if they are numbers."""
    kind = ' class="n"' if numbers else ""
    lines = ["".join(f"<th>{_safe(cell)}</th>" for cell in head)]
    lines += [
        f"<td>{_safe(row[0])}</td>" + "".join(f"<td{kind}>{_safe(cell)}</td>" for cell in row[1:]) for row in rows
    ]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _number(value: object) -> str:
    number = float(value)  # type: ignore[arg-type]
    return "—" if math.isnan(number) else "∞" if math.isinf(number) else f"{number:.6g}"


def _grouped(value: object) -> str:
    """A count, in groups of three digits."""
    return f"{int(value):,}" if isinstance(value, int | float) else "?"


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
