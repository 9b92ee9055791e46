"""CONTRIBUTING.md: the map of the package names what is there, and all of its folders."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_map_has_every_folder_and_no_other():
    tree = re.search(r"```text\nmfpde/\n(.*?)```", TEXT, re.DOTALL)
    assert tree is not None
    drawn, above = set(), ""
    for line in tree[1].splitlines():
        for name in re.findall(r"── (\w+)/", line):
            above = name if line.startswith(("├", "└")) else above
            drawn.add(name if name == above else f"{above}/{name}")
    packages = {p.parent.relative_to(ROOT / "mfpde").as_posix() for p in (ROOT / "mfpde").rglob("__init__.py")}
    assert drawn | {"figures/plots", "figures/pages"} == packages - {"."}


def test_every_place_where_something_is_added_is_there():
    table = TEXT[TEXT.index("| where do I add") : TEXT.index("A user's own file")]
    places = re.findall(r"`([\w/]+(?:\.py|/))`", table)
    assert len(places) > 8
    assert [place for place in places if not (ROOT / "mfpde" / place).exists() and place != "solve.py"] == []
