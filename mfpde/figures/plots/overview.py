"""All families and layers of a run at one τ as small multiples, and the same through τ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text
from numpy.typing import NDArray

from mfpde.figures import style
from mfpde.figures.blocks import Block, blocks_of, chosen, window
from mfpde.figures.panels import MomentOverlay, draw_density, in_plane, raster_of
from mfpde.figures.raster import midpoints, rasterise, union
from mfpde.figures.style import StyledFigure, add_title, print_style, symbol
from mfpde.output.fields.snapshot import Snapshot
from mfpde.output.reader import RunReader

Array = NDArray[np.float64]

SCALED = "each panel scaled to its own maximum"
_PLANE = (0, 1)
_MARGIN = (0.42, 0.05)  # inches, left and right of the panels
_GAP = 0.22  # inches between rows
_CURVE_PIXELS = 400  # for d = 1


@print_style
def densities_figure(run: RunReader, tau: float | None = None) -> StyledFigure:
    """Small multiples: a row a family, a column a layer; each panel scaled to its own largest density.

    d = 2 shows ρ, d = 3 its marginal in the first two coordinates, d = 1 the curve.

    Args:
        run: the run.
        tau: of a report; the last unless given.

    Raises:
        InputError: for a τ between reports, or a run without reports.
    """
    _, tau = chosen(run, None, tau)
    return SmallMultiples(run, [tau]).figure(tau)


class SmallMultiples:
    """The small multiples of a run, in windows of θ that are the same at all of the given τ."""

    def __init__(self, run: RunReader, taus: Sequence[float], families: Sequence[str] = ()) -> None:
        """Choose the windows.

        Args:
            run: the run.
            taus: the reports that will be shown.
            families: those that are drawn; all unless given.
        """
        self.families = tuple(families) or run.families
        self._run = run
        self._panels: dict[tuple[str, int], _ImagePanel | _CurvePanel] = {}
        self._title: Text | None = None

        # The first, the middle and the last report stand for all of them.
        self._windows: dict[str, Array] = {}
        self._blocks: dict[str, list[Block]] = {}
        self._coordinates: dict[str, tuple[str, ...]] = {}
        for family in self.families:
            boxes = []
            for tau in (taus[0], taus[len(taus) // 2], taus[-1]):
                snapshot = run.snapshot(tau=tau, family=family)
                self._blocks[family] = blocks_of(run, snapshot)
                self._coordinates[family] = snapshot.coordinates
                boxes.append(window(snapshot, [block.until(tau) for block in self._blocks[family]]))
            self._windows[family] = union(boxes)

        self._layers = max(len(blocks) for blocks in self._blocks.values())
        self._side = min(1.5, (style.WIDTH - sum(_MARGIN)) / self._layers)  # inches, the height of a panel

    def height(self) -> float:
        """Inches that the panels need."""
        return len(self.families) * (self._side + _GAP) + 0.75

    def figure(self, tau: float) -> StyledFigure:
        """A figure of its own, with τ in the title."""
        figure = StyledFigure(self.height())
        self.draw(figure, tau)
        self._title = add_title(figure, rf"densities at $\tau = {tau:.4g}$", note=SCALED)
        return figure

    def draw(self, figure: Figure | SubFigure, tau: float) -> None:
        """Draw all panels into a figure or a part of one."""
        height = self.height()
        grid = figure.add_gridspec(
            len(self.families), self._layers, left=_MARGIN[0] / style.WIDTH, right=1 - _MARGIN[1] / style.WIDTH,
            top=1 - 0.45 / height, bottom=0.38 / height, wspace=0.08, hspace=_GAP / self._side,
        )  # fmt: skip
        pixels = int(np.clip(150 * self._side, 64, 220))
        for row, family in enumerate(self.families):
            box, curve = self._windows[family], len(self._coordinates[family]) == 1
            for layer, block in enumerate(self._blocks[family]):
                axes = figure.add_subplot(grid[row, layer])
                panel = _CurvePanel(axes, box) if curve else _ImagePanel(axes, box, block, pixels)
                self._panels[family, layer] = panel
                self._name(axes, family, layer, row)

        self.move(tau)

    def move(self, tau: float) -> None:
        """Show another report in the panels that are there."""
        for family in self.families:
            snapshot = self._run.snapshot(tau=tau, family=family)
            for layer in range(snapshot.layers):
                self._panels[family, layer].show(snapshot, layer, tau)

        if self._title is not None:
            self._title.set_text(rf"densities at $\tau = {tau:.4g}$")

    def _name(self, axes: Axes, family: str, layer: int, row: int) -> None:
        """Names of layers above, of families and coordinates at the left, of the horizontal coordinate below."""
        lowest = row == len(self.families) - 1
        small = self._layers > 4 or len(self.families) > 4
        below = self.families[min(row + 1, len(self.families) - 1)]
        shared = not lowest and np.allclose(self._windows[family][0], self._windows[below][0])
        style.show_tick_labels(axes, x=lowest or not (shared or small), y=layer == 0 and not small)
        axes.tick_params(labelsize=6)

        across, *up = map(symbol, self._coordinates[family])
        if row == 0:
            axes.set_title(f"layer {layer}")
        if lowest or not small:
            axes.set_xlabel(across, labelpad=1)
        if layer == 0:
            name = up[0] if up else "density"
            axes.set_ylabel(f"{family}\n{name}" if len(self.families) > 1 else name, fontsize=7)


class _ImagePanel:
    """One family of two or three coordinates in one layer: its density in the first plane, and its moments."""

    def __init__(self, axes: Axes, box: Array, block: Block, pixels: int) -> None:
        self._box, self._block, self._pixels = box, block, pixels
        self._image = draw_density(axes, np.zeros((1, 1)), _PLANE, box, Normalize(0.0, 1.0))
        self._overlay = MomentOverlay(axes, block, _PLANE, width=0.7)

    def show(self, snapshot: Snapshot, layer: int, tau: float) -> None:
        """Put the values of a report into what is drawn."""
        values = in_plane(raster_of(snapshot, layer, self._box, self._pixels), _PLANE)
        self._image.set_data(values)
        self._image.set_clim(0.0, float(values.max()) or 1.0)
        self._overlay.move(self._block.until(tau))


class _CurvePanel:
    """One family of one coordinate in one layer: the curve of its density."""

    def __init__(self, axes: Axes, box: Array) -> None:
        self._axes, self._box = axes, box
        places = midpoints(box[0], _CURVE_PIXELS)
        (self._curve,) = axes.plot(places, np.zeros(_CURVE_PIXELS), color=style.BLUE, linewidth=1.0)
        axes.set(xlim=tuple(box[0]), yticks=[])

    def show(self, snapshot: Snapshot, layer: int, _tau: float) -> None:
        """Put the values of a report into what is drawn."""
        values = np.maximum(rasterise(snapshot, layer, self._box, _CURVE_PIXELS).density, 0.0)
        self._curve.set_ydata(values)
        self._axes.set_ylim(0.0, 1.08 * (float(values.max()) or 1.0))
