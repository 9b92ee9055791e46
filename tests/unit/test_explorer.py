"""The interactive part of a report, in a real browser: what it shows is what the run's files hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mfpde.figures.pages.explorer import explorer_data
from mfpde.figures.pages.run_report import write_report
from support.browser import browse, needs_browser
from support.drawn import make_run

pytestmark = needs_browser

# Moves the slider to a report, chooses a layer, reads a value at a place of the picture, and answers in the page.
DRIVE = """
<script>
const wait = () => {
  const root = document.getElementById("explorer");
  if (root.dataset.ready !== "yes") return setTimeout(wait, 20);
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const enter = (name, value) => { part(name).value = value; part(name).dispatchEvent(new Event("input")); };
  const found = [];
  for (const [family, report, layer, fx, fy] of ASKED) {
    enter("family", family); enter("tau", report); enter("layer", layer);
    const svg = part("density"), flat = svg.querySelector("image") === null;
    const [x, y] = flat ? [62 + 500 * fx, 200] : [62 + 400 * fx, 80 + 320 * fy];
    const at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
    svg.dispatchEvent(new PointerEvent("pointermove", { clientX: at.x, clientY: at.y }));
    const reading = part("reading").dataset, cursor = part("curves").querySelector(".cursor").getAttribute("x1");
    found.push({ now: part("now").textContent, place: JSON.parse(reading.place), value: +reading.value, cursor });
  }
  const answer = document.createElement("pre");
  answer.id = "answer";
  answer.textContent = JSON.stringify(found);
  document.body.append(answer);
};
wait();
</script>
"""


def browsed(page: Path, folder: Path, *words: str) -> str:
    """The page as a browser has it in the end."""
    return browse(page.as_uri(), folder, "--virtual-time-budget=20000", *words, "--dump-dom")


def test_slider_and_values_are_those_of_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"attention": 2, "line": 1})
    asked = [[0, 0, 0, 0.5, 0.5], [0, 2, 1, 0.45, 0.6], [1, 1, 0, 0.5, 0.5], [1, 2, 1, 0.4, 0.5]]
    page = tmp_path / "driven.html"
    page.write_text(write_report(run, []).read_text() + DRIVE.replace("ASKED", json.dumps(asked)))
    match = re.search(r'<pre id="answer">(.*?)</pre>', browsed(page, tmp_path))
    assert match is not None
    found = json.loads(match[1])
    for (family, report, layer, *_), got in zip(asked, found, strict=True):
        tau, name = float(run.taus[report]), ("attention", "line")[family]
        assert float(re.findall(r"[\d.]+", got["now"])[0]) == pytest.approx(tau, rel=1e-3, abs=1e-9)
        exact = float(run.density(tau=tau, family=name, layer=layer, theta=np.array([got["place"]]))[0])
        largest = float(run.snapshot(tau=tau, family=name).density[layer].max())
        assert exact > 0.05 * largest
        assert got["value"] == pytest.approx(exact, abs=1e-3 * largest)
    cursors = [float(got["cursor"]) for got in found]
    assert cursors[0] < cursors[2] < cursors[1] == cursors[3]


@pytest.mark.parametrize("words", [("--window-size=390,844",), ("--window-size=1200,900", "--force-dark-mode")])
def test_no_script_fails_on_a_phone_or_in_the_dark(tmp_path: Path, words: tuple[str, ...]) -> None:
    run = make_run(tmp_path / "run", {"attention": 2})
    text = browsed(write_report(run, []), tmp_path, *words)
    assert 'data-ready="yes"' in text


def test_three_coordinates_are_marginals_and_reports_are_thinned(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"neuron": 3}, taus=(0.0, 0.5))
    assert len(explorer_data(run)) < 2_000_000
    text = browsed(write_report(run, []), tmp_path)
    assert text.count("<option") >= 5  # two layers and three planes
