"""The nodes of one family at one τ: where v points, how large v and its gradient G are, against u, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.figures import style
from mfpde.figures.blocks import evenly, no_report
from mfpde.figures.style import StyledFigure, add_title, print_style, symbol
from mfpde.output.clouds.nodes import PRINCIPAL, Column, Nodes
from mfpde.output.reader import RunReader

Array = NDArray[np.float64]

_MOST_LAYERS = 6  # rows
_ROW = 1.35  # inches
_AREAS = (1.5, 16.0)  # of a point, in square points: the least, and that of the heaviest of a few
_INK = 3000.0  # square points of all points together, where they are many
_MANY = 1000  # points that a PDF holds as an image
_PLACES, _FAINT = 400, 1e-3  # of the mean of v against u: places, and the least density, relative to the largest
_ROOM = 0.04  # below zero, of what is shown
_MEAN, _PRINCIPAL = r"$\Vert\mathrm{E}[v\,|\,u]\Vert$", r"$\langle v, e\rangle$"


@print_style
def nodes_figure(run: RunReader, family: str | None = None, tau: float | None = None) -> StyledFigure:
    """The cloud of a family in every layer, six of them at most: a row a layer, with three panels.

    At the left the place of every node along u (its first coordinate) and along the principal direction of v, in the
    middle the size of v, with that of its mean at each u where u is one number, at the right the size of G. The area of
    a point is its mass. In grey the nodes of the first report, along the same direction. A family in which nothing is
    linear shows its first two coordinates, V, and the size of its gradient.

    Args:
        run: the run.
        family: one that moves by a cloud of nodes; the first unless given.
        tau: of a report; the last unless given.

    Raises:
        InputError: for a family without nodes, a τ between reports, or a run without reports.
    """
    if not len(run.taus):
        raise no_report(run)
    if not run.clouds:
        raise InputError(f"run directory {run.directory}: no family moves by a cloud of nodes")
    name = run.clouds[0] if family is None else family
    tau = float(run.taus[-1]) if tau is None else float(tau)
    nodes = run.nodes(tau=tau, family=name)
    start = float(run.nodes_taus(name)[0])
    first = run.nodes(tau=start, family=name)

    layers = evenly(nodes.layers, _MOST_LAYERS)
    figure = StyledFigure(0.75 + _ROW * len(layers))
    grid = figure.subplots(len(layers), 3, sharex="col", squeeze=False)
    for row, layer in zip(grid, layers.tolist(), strict=True):
        for axes, panel, before in zip(row, _panels(nodes, layer), _panels(first, layer, nodes), strict=True):
            _draw(axes, panel, before)
            axes.set_xlabel(panel.across if axes in grid[-1] else "")
        row[0].set_title(f"layer {layer}", loc="left")

    figure.tight_layout(pad=0.4, w_pad=1.0, rect=(0, 0, 1, 1 - 0.27 / figure.get_figheight()))
    left_out = nodes.layers - len(layers)
    notes = [
        *(["$e$: principal direction of $v$"] if nodes.linear else []),
        "area: mass of a node",
        rf"grey: at $\tau = {start:.4g}$",
        *([f"{left_out} more layers"] if left_out else []),
    ]
    add_title(figure, rf"{name}: nodes at $\tau = {tau:.4g}$", note="; ".join(notes))
    return figure


@dataclass(frozen=True, eq=False)
class _Panel:
    """One quantity of every node against another, their names, and a curve through them (x, y) with its name."""

    across: str
    up: str
    x: Array
    y: Array
    mass: Array
    curve: tuple[Array, Array] | None = None
    curve_name: str = ""


def _panels(nodes: Nodes, layer: int, along: Nodes | None = None) -> list[_Panel]:
    """The three panels of a layer; with the principal direction of other nodes where they are given."""
    direction: Column = (along or nodes).principal(layer)
    if not np.any(direction):
        direction = PRINCIPAL  # of no length: all v are zero
    s, mass, potential = nodes.u.shape[2], nodes.mass[layer], nodes.potential[layer]
    slopes = np.concatenate([nodes.velocity_u[layer], nodes.velocity_v[layer].reshape(len(mass), -1)], axis=1)
    steepness = (r"$\Vert\nabla V\Vert$", np.linalg.norm(slopes, axis=1))

    along_v = (_PRINCIPAL, nodes.column(layer, direction)) if nodes.linear else None
    along_u = [(symbol(nodes.coordinates[axis]), nodes.u[layer, :, k]) for k, axis in enumerate(nodes.nonlinear)]
    across, *others = [*along_u[:1], *([along_v] if along_v else along_u[1:2]), ("$V$", potential)]
    if along_v is None:
        found = [others[0], ("$V$", potential) if s > 1 else ("density", _density(nodes, layer)), steepness]
    else:
        size = np.linalg.norm(nodes.v[layer].reshape(len(mass), -1), axis=1)
        found = [others[0], (r"$\Vert v\Vert$", size), (r"$\Vert G(u)\Vert$", nodes.gradient_norm[layer])]

    panels = [_Panel(across[0], up, across[1], y, mass) for up, y in found]
    if along_v is not None and s == 1:
        middle = panels[1]
        panels[1] = _Panel(middle.across, middle.up, middle.x, middle.y, mass, _mean_size(nodes, layer), _MEAN)
    return panels


def _density(nodes: Nodes, layer: int) -> Array:
    """Of the only coordinate, at the nodes."""
    return nodes.density(layer, nodes.coordinates[0], nodes.u[layer, :, 0])


def _mean_size(nodes: Nodes, layer: int) -> tuple[Array, Array]:
    """|E[v | u]| = |B(u)|/ρ(u) where there is mass."""
    u = np.linspace(nodes.u[layer].min(), nodes.u[layer].max(), _PLACES)
    density = nodes.density(layer, nodes.coordinates[nodes.nonlinear[0]], u)
    there = density > _FAINT * density.max()
    return u[there], nodes.moment_norm(layer, u[there]) / density[there]


def _draw(axes: Axes, panel: _Panel, before: _Panel) -> None:
    """The points, those of the first report behind them, and the curve."""
    flat = len(panel.x) > _MANY
    axes.scatter(before.x, before.y, s=_areas(before.mass), color="0.78", linewidths=0, rasterized=flat, zorder=1)
    axes.scatter(
        panel.x, panel.y, s=_areas(panel.mass), color=style.BLUE, alpha=0.6, linewidths=0, rasterized=flat, zorder=2
    )
    if panel.curve is not None:
        axes.plot(*panel.curve, color=style.ORANGE, linewidth=1.0, label=panel.curve_name, zorder=3)
        axes.legend(handlelength=1.2)
    axes.set_ylabel(panel.up)
    if min(panel.y.min(), before.y.min()) >= 0.0:
        axes.set_ylim(bottom=-_ROOM * axes.get_ylim()[1])


def _areas(mass: Array) -> Array:
    """Of points, in proportion to their masses as far as they can be seen."""
    least, most = _AREAS
    most = min(most, max(2.0 * least, _INK / len(mass)))
    return np.asarray(np.maximum(most * mass / mass.max(), least))
