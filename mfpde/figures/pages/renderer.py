"""HTML pages from the templates beside this module, each complete in one file: pictures are inlined."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

if TYPE_CHECKING:
    from mfpde.figures.run import Run

_MEDIA_TYPES = {".png": "image/png", ".gif": "image/gif"}


def render(template: str, content: Mapping[str, object]) -> str:
    """The text of a page; every value is escaped.

    Args:
        template: name of a file in templates/, without its ending.
        content: the values of the template's names; a missing one is an error.
    """
    return _environment().get_template(f"{template}.html.jinja").render(content)


def notebook_card(run: Run) -> str:
    """A small table of the last report of a run, and a picture."""
    names = ("tau", "risk", "risk_error", "test_risk", "energy", "accuracy", "test_accuracy")
    last = {name: float(run.history[name][-1]) for name in names if len(run.history.get(name, ()))}
    picture = ""
    if last:
        picture = f"data:image/png;base64,{base64.b64encode(run.plot()._repr_png_()).decode('ascii')}"
    rows = [(name, _number(value)) for name, value in last.items() if math.isfinite(value)]
    return render("card", {"title": repr(run), "rows": rows, "picture": picture})


def script(name: str) -> str:
    """The text of a script in templates/, to stand in a page as it is."""
    return resources.files("mfpde.figures.pages").joinpath("templates", f"{name}.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class InlinePicture:
    """A picture as a page shows it.

    Attributes:
        name: its caption.
        source: a data URL.
    """

    name: str
    source: str


def inline_pictures(paths: Iterable[Path]) -> list[InlinePicture]:
    """The .png and .gif files among these, in this order."""
    pictures = []
    for path in paths:
        if media := _MEDIA_TYPES.get(path.suffix):
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            pictures.append(InlinePicture(path.stem.replace("_", " ", 1), f"data:{media};base64,{data}"))

    return pictures


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mfpde.figures.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "grouped": _grouped}
    return environment


def _number(value: float, digits: int = 6) -> str:
    """A number to so many digits."""
    return "—" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.{digits}g}"


def _grouped(value: object) -> str:
    """A count, in groups of three digits."""
    return f"{int(value):,}" if isinstance(value, int | float) else "?"
