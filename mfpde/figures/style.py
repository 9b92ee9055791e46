"""How every figure looks: sizes, fonts, colours and names, and how it is saved.

Made for a page 6.3 inches wide (A4 or letter with usual margins): text of 7 and 8 points, vectors, fonts embedded as
TrueType. Curves take the colours of Okabe and Ito (Color Universal Design, 2008), images the maps that Nuñez, Anderton
and Renslow (PLoS ONE 13, 2018) and van der Walt and Smith made, all told apart by colour-blind readers and in grey.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text

from mfpde.errors import ComputationError

WIDTH = 6.3  # inches, of a page's text
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000",
)  # fmt: skip
POTENTIAL_MAP = "cividis"
DPI = 220  # of images inside vector files and of .png

_RC: dict[str, object] = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "figure.titlesize": 9.0,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.use_mathtext": True,
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "image.interpolation": "nearest",
    "figure.dpi": 110.0,
}


def styled[**P, R](draw: Callable[P, R]) -> Callable[P, R]:
    """The function, with this module's defaults in force and the user's own untouched."""

    @wraps(draw)
    def drawn(*arguments: P.args, **named: P.kwargs) -> R:
        with mpl.rc_context(_RC):  # type: ignore[arg-type]
            return draw(*arguments, **named)

    return drawn


class Page(Figure):
    """A Matplotlib figure that notebooks show without pyplot, and that no pyplot window keeps alive."""

    def __init__(self, height: float, width: float = WIDTH) -> None:
        """An empty page, in inches."""
        super().__init__(figsize=(width, height))
        FigureCanvasAgg(self)

    @styled
    def draw(self, renderer: RendererBase) -> None:
        """As Matplotlib does, whose ticks and fonts take their sizes only now: `savefig` is the user's to call."""
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        return png(self)


@styled
def png(figure: Figure, dpi: float = 160.0) -> bytes:
    """The figure as a PNG, without a time stamp."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


@styled
def save(figure: Figure, stem: Path) -> list[Path]:
    """Write stem.pdf (vectors) and stem.png; without time stamps, so that equal figures are equal files.

    Raises:
        ComputationError: when the disk refuses.
    """
    written = [stem.with_name(f"{stem.name}.pdf"), stem.with_name(f"{stem.name}.png")]
    stamps: tuple[dict[str, None], ...] = ({"CreationDate": None, "ModDate": None}, {"Software": None})
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for path, stamp in zip(written, stamps, strict=True):
            figure.savefig(path, dpi=DPI, metadata=stamp)
    except OSError as error:
        raise ComputationError(f"{stem.parent} cannot be written: {error.strerror or error}") from error
    return written


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


def quiet(axes: Axes, *, x: bool = True, y: bool = True) -> None:
    """Keep tick labels along x and y, or leave them to a neighbour in the same column or row."""
    axes.tick_params(labelbottom=x, labelleft=y)


def entitle(page: Figure | SubFigure, title: str, note: str = "") -> Text:
    """A title at the top left of the page, which is returned, and a note in grey at its right."""
    top = 1.0 - 0.05 * page.dpi / page.bbox.height
    text = page.suptitle(title, x=0.01, y=top, ha="left", va="top")
    page.text(0.99, top, note, ha="right", va="top", fontsize=6.5, color="0.35")
    return text
