"""All families and layers of a run at one τ as small multiples, and the same through τ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.text import Text
from numpy.typing import NDArray

from mfpde.figures import style
from mfpde.figures.blocks import Block, block, chosen, window
from mfpde.figures.panels import Overlay, Plane, flat, image, overlay, raster_of
from mfpde.figures.raster import rasterise
from mfpde.figures.style import Page, entitle, quiet, styled, symbol
from mfpde.output.reader import RunReader

Array = NDArray[np.float64]

_PLANE = Plane(0, 1)
_MARGIN = (0.42, 0.05)  # inches, left and right of the panels


@styled
def densities_figure(run: RunReader, tau: float | None = None) -> Page:
    """Small multiples: a row a family, a column a layer; each panel scaled to its own largest density.

    d = 2 shows ρ, d = 3 its marginal in the first two coordinates, d = 1 the curve.

    Args:
        run: the run.
        tau: of a report; the last unless given.

    Raises:
        InputError: for a τ between reports, or a run without reports.
    """
    _, tau = chosen(run, None, tau)
    return Small(run, [tau]).page(tau)


@dataclass(eq=False)
class Small:
    """The small multiples of a run, in windows of θ that hold for all of the given τ.

    Attributes:
        run: the run.
        taus: the reports that will be shown.
        families: those that are drawn; all unless given.
    """

    run: RunReader
    taus: Sequence[float]
    families: Sequence[str] = ()
    _windows: dict[str, Array] = field(default_factory=dict, init=False)
    _blocks: dict[str, list[Block]] = field(default_factory=dict, init=False)
    _panels: dict[tuple[str, int], _Panel] = field(default_factory=dict, init=False)
    _title: Text | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.families = tuple(self.families) or self.run.families
        for family in self.families:
            boxes = []
            for tau in (self.taus[0], self.taus[len(self.taus) // 2], self.taus[-1]):
                snapshot = self.run.snapshot(tau=tau, family=family)
                self._blocks[family] = [
                    block(self.run, family, layer, snapshot.dim) for layer in range(snapshot.layers)
                ]
                boxes.append(window(snapshot, [one.until(tau) for one in self._blocks[family]]))
            stacked = np.stack(boxes)
            self._windows[family] = np.stack([stacked[..., 0].min(axis=0), stacked[..., 1].max(axis=0)], axis=-1)

    @property
    def layers(self) -> int:
        """The most layers that a family has."""
        return max(len(blocks) for blocks in self._blocks.values())

    def side(self, width: float) -> float:
        """Height of a panel, inches."""
        return min(1.5, (width - sum(_MARGIN)) / self.layers)

    def height(self, width: float = style.WIDTH) -> float:
        """Inches that the panels need."""
        return len(self.families) * (self.side(width) + 0.22) + 0.75

    def page(self, tau: float) -> Page:
        """A page of its own, with τ in the title."""
        page = Page(self.height())
        self.draw(page, tau)
        self._title = entitle(page, rf"densities at $\tau = {tau:.4g}$", note="each panel scaled to its own maximum")
        return page

    def draw(self, page: Figure | SubFigure, tau: float) -> None:
        """Draw all panels into a figure or a part of one."""
        height = self.height()
        grid = page.add_gridspec(
            len(self.families), self.layers, left=_MARGIN[0] / style.WIDTH, right=1 - _MARGIN[1] / style.WIDTH,
            top=1 - 0.45 / height, bottom=0.38 / height, wspace=0.08, hspace=0.22 / self.side(style.WIDTH),
        )  # fmt: skip
        for row, family in enumerate(self.families):
            for layer, moments in enumerate(self._blocks[family]):
                axes = page.add_subplot(grid[row, layer])
                self._panels[family, layer] = _Panel(axes, self._windows[family], moments)
                self._label(axes, family, layer, row)
        self.move(tau)

    def move(self, tau: float) -> None:
        """Show another report in the panels that are there."""
        pixels = int(np.clip(150 * self.side(style.WIDTH), 64, 220))
        for family in self.families:
            snapshot = self.run.snapshot(tau=tau, family=family)
            for layer in range(snapshot.layers):
                box = self._windows[family]
                if snapshot.dim == 1:
                    values = np.maximum(rasterise(snapshot, layer, box, 400).density, 0.0)
                else:
                    values = flat(raster_of(snapshot, layer, box, pixels), _PLANE)
                self._panels[family, layer].show(values, tau)
        if self._title is not None:
            self._title.set_text(rf"densities at $\tau = {tau:.4g}$")

    def _label(self, axes: Axes, family: str, layer: int, row: int) -> None:
        """Names of layers above, of families and coordinates at the left, of the horizontal coordinate below."""
        coordinates = self.run.snapshot(tau=self.taus[-1], family=family).coordinates
        if row == 0:
            axes.set_title(f"layer {layer}")
        last_alike = row == len(self.families) - 1 or not np.allclose(
            self._windows[family][0], self._windows[self.families[row + 1]][0]
        )
        small = self.layers > 4 or len(self.families) > 4
        quiet(axes, x=row == len(self.families) - 1 or (last_alike and not small), y=layer == 0 and not small)
        axes.tick_params(labelsize=6)
        if row == len(self.families) - 1 or not small:
            axes.set_xlabel(symbol(coordinates[0]), labelpad=1)
        if layer == 0:
            up = symbol(coordinates[1]) if len(coordinates) > 1 else "density"
            axes.set_ylabel(f"{family}\n{up}" if len(self.families) > 1 else up, fontsize=7)


class _Panel:
    """One family in one layer: an image or a curve, and its moments."""

    def __init__(self, axes: Axes, box: Array, moments: Block) -> None:
        self._axes, self._box, self._moments = axes, box, moments
        self._image: AxesImage | None = None
        self._curve: Line2D | None = None
        self._overlay: Overlay | None = None

    def show(self, values: Array, tau: float) -> None:
        """Draw, or put new values into what is drawn."""
        moments, top = self._moments.until(tau), float(values.max()) or 1.0
        if values.ndim == 1:
            self._show_curve(values, top)
            return
        if self._image is None or self._overlay is None:
            self._image = image(self._axes, values, _PLANE, self._box, Normalize(0.0, top))
            self._overlay = overlay(self._axes, moments, _PLANE, width=0.7)
            return
        self._image.set_data(values)
        self._image.set_clim(0.0, top)
        self._overlay.move(moments, _PLANE)

    def _show_curve(self, values: Array, top: float) -> None:
        if self._curve is None:
            places = self._box[0, 0] + np.ptp(self._box[0]) * (np.arange(len(values)) + 0.5) / len(values)
            (self._curve,) = self._axes.plot(places, values, color=style.BLUE, linewidth=1.0)
            self._axes.set_xlim(*self._box[0])
            self._axes.set_yticks([])
        self._curve.set_ydata(values)
        self._axes.set_ylim(0.0, 1.08 * top)
