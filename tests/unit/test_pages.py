"""The HTML pages: one template, complete in one file, with every value escaped."""

from __future__ import annotations

import re

import pytest
from jinja2 import UndefinedError
from PIL import Image

from mfpde.comparison.checks import Check
from mfpde.comparison.exponents import SlopeRow
from mfpde.comparison.findings import Findings
from mfpde.comparison.slopes import Slope
from mfpde.figures.pages.comparison_report import comparison_page
from mfpde.figures.pages.renderer import render
from mfpde.figures.pages.run_report import write_report
from support.drawn import make_run

CHECKS = [
    Check("mean", 2, 1.0, 0.5, 0.51, 0.02, True, "<3 seeds>", 0.04, {"weight_decay": 0.03}),
    Check("grid", 2, 1.0, 0.5, 0.71, 0.02, False, "refined"),
    Check("slope of risk", 2, 1.0, -0.5, -0.45, 0.1, None, "wide"),
]
SLOPES = [SlopeRow("risk", 2, 1.0, [4, 8], [0.2, 0.1], 5, Slope(-0.5, -0.6, -0.4))]


def picture(path):
    Image.new("RGB", (4, 4)).save(path)
    return path


def test_a_comparison_shows_every_check_with_its_outcome(tmp_path):
    findings = Findings("a <run>", CHECKS, SLOPES, {}, [], facts={"loss": "squared"})
    page = comparison_page(findings, [picture(tmp_path / "risk.png"), tmp_path / "risk.pdf"])
    assert "<h1>a &lt;run&gt;: <em>the PDE differs</em></h1>" in page
    for outcome in ("agrees", "differs", "undecided"):
        assert page.count(f'<td class="{outcome}">{outcome}</td>') == 1
    assert "&lt;3 seeds&gt;" in page
    assert "<td>4: 0.2, 8: 0.1</td>" in page
    assert re.findall(r'(?:src|href)="([^"]{11})', page) == ["data:image/"]
    assert "<h2>Depth</h2>" not in page


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("stationarity", "a first-order quantity, and no bound"),
        ("best found", "if no potential is lower than the lowest found"),
        ("bound", "the energy is convex here, and at most this far above its minimum."),
    ],
)
def test_the_report_of_a_run_explains_its_gap(tmp_path, monkeypatch, kind, said):
    run = make_run(tmp_path / "run")
    monkeypatch.setattr(
        type(run), "summary", {"outcome": "done", "gap_is": kind, "gap_margin": 0.25, "warnings": ["a<b"]}
    )
    page = " ".join(write_report(run, [picture(tmp_path / "one_two_three.png")]).read_text(encoding="utf-8").split())
    assert "Gap 0.3 (energy 0.6) at τ = 1:" in page
    assert said in page
    assert ("only its vanishing means something" in page) == (kind != "bound")
    assert "it may be too small by 0.25" in page
    assert '<p class="warning">a&lt;b</p>' in page
    assert "<figcaption>one two_three</figcaption>" in page


def test_a_page_that_lacks_a_value_is_not_written():
    with pytest.raises(UndefinedError, match="name"):
        render("run_report", {})
