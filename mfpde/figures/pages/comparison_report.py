"""One self-contained page: the verdict, every check behind it, slopes, and the figures."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mfpde.comparison.checks import CONFIDENCE, SYMBOLS, Check, percent
from mfpde.comparison.depth_error import ORDER, ORDER_WITHIN, DepthRow
from mfpde.comparison.effects import CHANGE
from mfpde.comparison.exponents import SlopeRow
from mfpde.comparison.slopes import Governed
from mfpde.comparison.verdict import Verdict, decide

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 64em; margin: 2em auto; padding: 0 1em; color: #111 }
table { border-collapse: collapse; margin: 1em 0; font-size: 13px }
td, th { padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
.no { color: #b00020; font-weight: bold } .yes { color: #1b6e20 } .open { color: #777 }
img { max-width: 100% }
"""
_MARKS = {True: ("yes", "agrees"), False: ("no", "differs"), None: ("open", "undecided")}


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
        change: relative, of λ and of η, that must have been seen.
    """

    name: str
    checks: Sequence[Check]
    slopes: Sequence[SlopeRow]
    governed: Mapping[float, Governed]
    depth: Sequence[DepthRow]
    distances: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    change: float = CHANGE

    @property
    def verdict(self) -> Verdict:
        """What all checks say together."""
        return decide(self.checks, self.change)

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


def page(findings: Findings, images: Mapping[str, bytes]) -> str:
    """The HTML text, with its pictures inside."""
    verdict = findings.verdict
    parts = [
        f"<h1>{html.escape(findings.name)}: <em>{verdict.sentence}</em></h1>",
        f"<p>{html.escape(verdict.why)}.</p><p>{html.escape(_rule(findings.change))}</p>",
        _checks(findings.checks),
        *(_picture(name, image) for name, image in images.items()),
        _slopes(findings.slopes),
        _depth(findings.depth),
        _governed(findings.governed),
        "<h2>What was compared</h2>",
        _table(["", ""], ([str(k), str(v)] for k, v in findings.facts.items())),
    ]
    title = html.escape(f"{findings.name}: {verdict.sentence}")
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _rule(change: float) -> str:
    """What `verdict` and `exponents` do, in words."""
    share, sure = percent(change), percent(CONFIDENCE)
    return (
        "Finite Transformers against their limit. A check differs where its two numbers are further apart than is "
        f"allowed: for a mean, half the width of its interval (all of them hold with {sure} confidence) and the PDE's "
        "own error; for a grid, twice what refining the grid or the PDE changes; for the refinement of the PDE, what "
        f"{share} of λ or η make. Where it does not differ it agrees if it would have seen a change of λ or of η by "
        f"{share}, and is undecided otherwise. What it would have seen is a difference of twice what is allowed, and "
        "nothing where refinement still changes a thousandth of the risk. A slope agrees where its whole interval "
        f"({sure}, all slopes together) is within what is allowed of theory, differs where all of it is beyond, and is "
        "undecided where only a part of it is within. The PDE differs where a check does; it matches where none "
        "does and, at every depth, some check would have seen the change of λ and some check that of η."
    )


def _checks(checks: Sequence[Check]) -> str:
    rows = []
    for c in checks:
        mark, said = _MARKS[c.passed]
        numbers = [f"{c.value:.8g}", f"{c.expected:.8g}", f"{abs(c.value - c.expected):.2g}", f"{c.allowed:.2g}"]
        power = [f"{c.seen:.2g}" if np.isfinite(c.seen) else "–", *(_share(c.seen_in.get(p)) for p in SYMBOLS)]
        cells = [c.name, str(c.layers), f"{c.tau:g}", *numbers, *power, c.note]
        rows.append(f'<tr>{_cells(cells)}<td class="{mark}">{said}</td></tr>')
    numbers = ["finite", "limit or theory", "difference", "allowed"]
    power = ["would have seen", *(f"in {symbol}" for symbol in SYMBOLS.values())]
    head = _heads(["check", "L", "τ", *numbers, *power, "by", "outcome"])
    return f"<h2>Checks</h2><table>{head}{''.join(rows)}</table>" if checks else ""


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _slopes(rows: Sequence[SlopeRow]) -> str:
    body = (
        [r.of, str(r.layers), f"{r.tau:g}", f"{r.slope.value:.3f}", f"{r.slope.low:.3f} … {r.slope.high:.3f}",
         f"{r.wanted:g}", str(r.seeds), ", ".join(f"{m}: {e:.3g}" for m, e in zip(r.sizes, r.errors, strict=True))]
        for r in rows
    )  # fmt: skip
    heads = ["of", "L", "τ", "exponent", "95 %", "theory", "seeds", "M: root mean square"]
    return f"<h2>Exponents in M</h2>{_table(heads, body)}" if rows else ""


def _depth(rows: Sequence[DepthRow]) -> str:
    body = (
        [f"{r.tau:g}", f"{r.limit:.8g}", ", ".join(f"{n}: {e:.3g}" for n, e in zip(r.layers, r.errors, strict=True)),
         f"{r.slope:.3f}", "yes" if r.of_order else "no"]
        for r in rows
    )  # fmt: skip
    heads = ["τ", "risk at L = ∞", "L: |risk − its limit|", "exponent", f"{ORDER:g} within {ORDER_WITHIN:g}"]
    about = "<p>Both sides are solves of the PDE: how it converges with L, and no verdict on it.</p>"
    return f"<h2>Depth</h2>{about}{_table(heads, body)}" if rows else ""


def _governed(found: Mapping[float, Governed]) -> str:
    body = (
        [f"{tau:g}", *(f"{s.value:.3f} ({s.low:.3f} … {s.high:.3f})" for s in (g.units, g.layers)), g.by]
        for tau, g in found.items()
    )
    heads = ["τ", "a", "b", "governed by"]
    return f"<h2>Error ~ M<sup>a</sup> L<sup>b</sup></h2>{_table(heads, body)}" if found else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return f"<table>{_heads(heads)}{''.join(f'<tr>{_cells(row)}</tr>' for row in rows)}</table>"


def _heads(names: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in names) + "</tr>"


def _cells(texts: Sequence[str]) -> str:
    return "".join(f"<td>{html.escape(text)}</td>" for text in texts)


def _picture(name: str, image: bytes) -> str:
    data = base64.b64encode(image).decode("ascii")
    return f'<p><img alt="{html.escape(name)}" src="data:image/png;base64,{data}"></p>'
