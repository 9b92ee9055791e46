"""How every figure looks: colours, the curve of each quantity, and figures that keep to the style files beside this.

Figures of a run (print.mplstyle) are made for a page 6.3 inches wide (A4 or letter with usual margins): text of 7 and 8
points, vectors, fonts embedded as TrueType. Figures of a comparison (screen.mplstyle) are made for its HTML page and
are larger. Curves take the colours of Okabe and Ito (Color Universal Design, 2008), images the maps that Nuñez,
Anderton and Renslow (PLoS ONE 13, 2018) and van der Walt and Smith made: colour-blind readers can distinguish them, in
grey as well.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib import style as mpl_style
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text
from numpy.typing import ArrayLike, NDArray

from mfpde.output.files import failing_clearly, replacing

WIDTH = 6.3  # inches, of a page's text
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)  # of the curves of one quantity
POTENTIAL_MAP, LAYER_MAP, SIZE_MAP = "cividis", "viridis_r", "viridis"
NOTE_SIZE = 6.5  # points, of what is written beside a title or a colour bar
MARGIN_NOTE = "0.35"  # the grey of such a note
OUTLINE = 0.4  # line width around colour bars and of grids
FINITE_WIDTH = 1.2  # of lines of finite Transformers
NOTEBOOK_DPI = 160.0


@dataclass(frozen=True)
class Curve:
    """How a quantity is drawn, and named in legends, wherever it is drawn.

    Attributes:
        label: its name in a legend.
        colour: of line and mark.
        line: Matplotlib's line style; empty for marks alone.
        mark: Matplotlib's marker at every value; empty for none.
        width: of the line in points; the figure's own unless given.
    """

    label: str
    colour: str
    line: str = "-"
    mark: str = ""
    width: float | None = None

    def draw(self, axes: Axes, x: ArrayLike, y: ArrayLike, *, label: str = "", mark: str = "") -> None:
        """Draw values in the style of this curve; another label or mark may take the place of its own."""
        marker = mark or self.mark
        axes.plot(
            x, y, linestyle=self.line, color=self.colour, linewidth=self.width, label=label or self.label,
            marker=marker, clip_on=not marker,
        )  # fmt: skip


CURVES: Mapping[str, Curve] = {
    "energy": Curve("energy", BLACK, "--"),
    "risk": Curve("risk", BLUE),
    "test_risk": Curve("risk on test samples", SKY, ":"),
    "penalty": Curve("penalty", ORANGE, "-."),
    "risk_error": Curve("estimated error of the risk", BLUE),
    "dissipation": Curve(r"dissipation $-\partial_\tau$ energy", GREEN),
    "slope": Curve(r"mean $|\nabla V|^2$", GREEN),
    "gap": Curve("gap", RED),
    "block_gap": Curve("gap of each layer and family", PURPLE, "", "_"),
    "accuracy": Curve("on training samples", BLUE),
    "test_accuracy": Curve("on test samples", SKY, ":"),
    "entropy": Curve(r"$\frac{1}{L}\sum\int\rho\,\log\rho\;d\theta$", BLUE),
    "batch_risk": Curve("risk of the last batch", PURPLE, ":", "."),
    "learning_rate": Curve(r"learning rate $\varepsilon$", BLUE),
    "mass_error": Curve("mass error", BLACK),
    "boundary_mass": Curve("mass at the boundary", GREEN, "--"),
    "negative_mass": Curve("negative mass", RED, "-."),
    "energy_remainder": Curve("energy remainder", PURPLE, ":"),
    "limit": Curve("limit, M = ∞", "#111111", width=1.8),
    "theory": Curve("theory", BLACK, "--", width=0.9),
}

_FOLDER = Path(__file__).parent
print_style = mpl_style.context(_FOLDER / "print.mplstyle")
"""Decorates what draws a figure of a run: its rules hold there, and the user's own stay untouched."""

screen_style = mpl_style.context(_FOLDER / "screen.mplstyle")
"""The same for figures of a comparison."""


class StyledFigure(Figure):
    """A Matplotlib figure that notebooks show without pyplot, and that no pyplot window keeps alive."""

    def __init__(
        self, height: float, width: float = WIDTH, *, style: str = "print", layout: Literal["constrained"] | None = None
    ) -> None:
        """An empty figure.

        Args:
            height: in inches.
            width: in inches.
            style: name of a style file beside this module.
            layout: as Matplotlib has it.
        """
        super().__init__(figsize=(width, height), layout=layout)
        self._agg = FigureCanvasAgg(self)
        self._style = _FOLDER / f"{style}.mplstyle"

    def draw(self, renderer: RendererBase) -> None:
        """As Matplotlib does, whose ticks and fonts take their sizes only now: `savefig` is the user's to call."""
        with mpl_style.context(self._style):
            super().draw(renderer)

    def save(self, stem: Path) -> list[Path]:
        """Write stem.pdf (vectors) and stem.png; without time stamps, so that equal figures are equal files.

        Raises:
            ComputationError: when the disk refuses.
        """
        stamps = {"pdf": {"CreationDate": None, "ModDate": None}, "png": {"Software": None}}
        written = [stem.with_name(f"{stem.name}.{kind}") for kind in stamps]
        with failing_clearly(stem.parent), mpl_style.context(self._style):
            stem.parent.mkdir(parents=True, exist_ok=True)
            for path, (kind, stamp) in zip(written, stamps.items(), strict=True):
                with replacing(path) as part:
                    self.savefig(part, format=kind, metadata=stamp)

        return written

    def pixels(self) -> NDArray[np.uint8]:
        """RGB, (height, width, 3)."""
        self._agg.draw()
        return np.array(self._agg.buffer_rgba(), dtype=np.uint8)[..., :3]

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        with mpl_style.context(self._style):
            self.savefig(stream, format="png", dpi=NOTEBOOK_DPI, metadata={"Software": None})
        return stream.getvalue()


@cache
def density_map() -> LinearSegmentedColormap:
    """Matplotlib's magma from its light end, where zero is made white: ink shows mass."""
    place = np.linspace(0.0, 1.0, 256)
    colours = mpl.colormaps["magma_r"](place)[:, :3]
    white = np.clip(1.0 - place / 0.2, 0.0, 1.0)[:, None]
    return LinearSegmentedColormap.from_list("density", (1.0 - white) * colours + white, N=256)


def symbol(name: str) -> str:
    """A coordinate's name as on an axis: q in italics, theta_0 as θ with an index, words upright."""
    base, _, index = name.partition("_")
    greek = {"theta", "alpha", "beta", "gamma", "delta", "kappa", "mu", "nu", "sigma", "tau", "omega", "phi", "psi"}
    plain = name.replace("_", r"\_").replace("$", r"\$")
    if len(base) > 1 and base not in greek:
        return plain
    stem = rf"\{base}" if base in greek else base
    if not stem.removeprefix("\\").isalnum() or not all(part.isalnum() for part in index):
        return plain
    return f"${stem}_{{{index}}}$" if index else f"${stem}$"


def depth_colours(count: int) -> list[Any]:
    """From light to dark, one for each layer."""
    return list(mpl.colormaps[LAYER_MAP](np.linspace(1.0, 0.12, count)[::-1]))  # one alone is dark


def size_colours(count: int) -> list[Any]:
    """From light to dark, one for each M, L or τ."""
    return [tuple(mpl.colormaps[SIZE_MAP](x)) for x in np.linspace(0.85, 0.1, count)]


def show_tick_labels(axes: Axes, *, x: bool = True, y: bool = True) -> None:
    """Keep tick labels along x and y, or leave them to a neighbour in the same column or row."""
    axes.tick_params(labelbottom=x, labelleft=y)


def add_title(figure: Figure | SubFigure, title: str, note: str = "") -> Text:
    """A title at the top left of a figure, which is returned, and a note in grey at its right."""
    top = 1.0 - 0.05 * figure.dpi / figure.bbox.height
    text = figure.suptitle(title, x=0.01, y=top, ha="left", va="top")
    figure.text(0.99, top, note, ha="right", va="top", fontsize=NOTE_SIZE, color=MARGIN_NOTE)
    return text
