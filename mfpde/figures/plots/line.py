"""Densities of one coordinate: ρ over (θ, depth), and a curve a layer."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from mfpde.figures import style
from mfpde.figures.blocks import Block
from mfpde.figures.panels import log_norm
from mfpde.figures.raster import rasterise
from mfpde.figures.style import Page, symbol
from mfpde.output.fields.snapshot import Snapshot

Array = NDArray[np.float64]

_PIXELS = 1200


def line_page(snapshot: Snapshot, blocks: list[Block], box: Array) -> Page:
    """Linear and logarithmic colours over (θ, depth), each layer a band of depth 1/L, and the curves below each other.

    Args:
        snapshot: of a family with d = 1.
        blocks: the moments of its layers; the last mean and ± one standard deviation are marked.
        box: the window (1, 2) in θ.
    """
    page = Page(3.1)
    values = np.stack([rasterise(snapshot, layer, box, _PIXELS).density for layer in range(snapshot.layers)])
    shown, theta = np.maximum(values, 0.0), symbol(snapshot.coordinates[0])
    left, middle, right = page.subplots(1, 3, gridspec_kw={"width_ratios": (1.25, 1.25, 1.0)})
    top = float(shown.max())
    for axes, norm, label in ((left, Normalize(0.0, top), "density"), (middle, log_norm(top), "density, log")):
        drawn = axes.imshow(
            shown, origin="lower", extent=(*box[0], 0.0, 1.0), aspect="auto", cmap=style.density_map(), norm=norm
        )
        _moments(axes, blocks)
        axes.set(xlabel=theta, ylabel="depth", ylim=(0, 1))
        page.colorbar(drawn, ax=axes, label=label, pad=0.03, fraction=0.08).outline.set_linewidth(0.4)
    _curves(right, shown, box, theta)
    page.tight_layout(pad=0.4, rect=(0, 0, 1, 0.92))
    return page


def _moments(axes: Axes, blocks: list[Block]) -> None:
    """Mean and one standard deviation to each side, in the middle of each layer's band."""
    depth = (np.arange(len(blocks)) + 0.5) / len(blocks)
    mean = np.array([block.mean[-1, 0] for block in blocks])
    deviation = np.sqrt([max(block.covariance[-1, 0, 0], 0.0) for block in blocks])
    axes.errorbar(mean, depth, xerr=deviation, fmt="o", color=style.BLUE, markersize=3, elinewidth=0.9, capsize=2)


def _curves(axes: Axes, values: Array, box: Array, theta: str) -> None:
    """The densities of all layers, from light to dark with depth."""
    places = box[0, 0] + np.ptp(box[0]) * (np.arange(values.shape[1]) + 0.5) / values.shape[1]
    colours = style.mpl.colormaps["viridis_r"](np.linspace(1.0, 0.12, len(values))[::-1])  # one alone is dark
    for layer, (curve, colour) in enumerate(zip(values, colours, strict=True)):
        axes.plot(places, curve, color=colour, linewidth=1.0, label=f"layer {layer}")
    axes.set(xlabel=theta, ylabel="density", xlim=tuple(box[0]), ylim=(0, None))
    if len(values) <= 8:
        axes.legend()
