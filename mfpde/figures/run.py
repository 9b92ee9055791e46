"""`open_run`: a run directory with its tables, its densities, and its pictures.

Matplotlib and PyVista are slow to import and not every reader draws: a picture's module is imported when it is called.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mfpde.output.directory import PARTICLES
from mfpde.output.reader import RunReader

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from pyvista import Plotter
    from xarray import Dataset

    from mfpde.figures.style import StyledFigure
    from mfpde.finite.trained_particles import Particles


def open_run(directory: str | Path) -> Run:
    """Open a run directory for reading.

    Raises:
        InputError: when the directory does not exist or holds no run, or its manifest, run file or summary is damaged.
    """
    return Run(directory)


class Run(RunReader):
    """Tables and densities of a run, and pictures of them; every access reads what the files hold by then."""

    def __repr__(self) -> str:
        last = {name: float(column[-1]) for name, column in self.history.items() if len(column)}
        if not last:
            return f"Run({str(self.directory)!r}: no report yet)"
        ended = "running" if self.summary is None else str(self.summary["outcome"])
        return f"Run({str(self.directory)!r}: risk {last['risk']:.6g} at τ = {last['tau']:.6g}, {ended})"

    def _repr_html_(self) -> str:
        """In a notebook: the last report, and the run at a glance."""
        from mfpde.figures.pages.renderer import notebook_card

        return notebook_card(self)

    @property
    def particles(self) -> Particles:
        """The finite Transformers in the folder `particles/`, by whichever way they were trained; none before.

        Raises:
            InputError: for a damaged file.
        """
        from mfpde.finite.record_files import load_all
        from mfpde.finite.trained_particles import Particles

        folder = self.directory / PARTICLES
        return Particles(folder, tuple(load_all(folder)))

    def to_xarray(self, *, points: int | None = None, box: Mapping[str, ArrayLike] | None = None) -> Dataset:
        """The run as an `xarray.Dataset`, after `pip install mfpde[xarray]`.

        Over `tau` the columns of `history`; over `tau` and `layer`, of a family `head` with coordinates (q, v),
        `head_mass`, `head_mean_q`, …, `head_cov_q_v`, … and `head_gap`; and over `tau`, `layer`, `head_q` and `head_v`
        the density `head_density`, whose values are those of `density`. Every variable has a `long_name`.

        Args:
            points: of the lattice along each coordinate; 240, 72 or 28 for one, two or three coordinates unless given.
                With 0 no density is read.
            box: family → d intervals of the lattice, as in `{"head": [(-1, 2), (-1, 1)]}`. Unless given, the smallest
                box that holds four standard deviations around the mean of every layer at every report.

        Raises:
            InputError: where xarray is not installed, before the first report, and for a box of no family.
        """
        from mfpde.output.labelled_arrays import labelled

        return labelled(self, points, box)

    def write_figures(self, tau: float | None = None, *, animation: bool = True) -> list[Path]:
        """All that `python -m mfpde.plot` makes, into the folder figures/ of the run's; the report last.

        Args:
            tau: of the report to draw; the last unless given.
            animation: draw the film through τ, too; it takes the longest.
        """
        from mfpde.figures.pages.album import FigureOptions, write_figures

        return write_figures(self, FigureOptions(tau, animation=animation))

    def plot(self, tau: float | None = None) -> StyledFigure:
        """The run at a glance: energies and stationarity against τ, and the densities at τ; a Matplotlib figure."""
        from mfpde.figures.plots.glance import glance_figure

        return glance_figure(self, tau)

    def plot_history(self) -> StyledFigure:
        """Risk, penalty, energy, gap, accuracy and soundness against τ; see `figures.plots.history.history_figure`."""
        from mfpde.figures.plots.history import history_figure

        return history_figure(self)

    def plot_densities(self, tau: float | None = None) -> StyledFigure:
        """All families and layers as small multiples; see `figures.plots.overview.densities_figure`."""
        from mfpde.figures.plots.overview import densities_figure

        return densities_figure(self, tau)

    def plot_density(self, family: str | None = None, tau: float | None = None) -> StyledFigure:
        """One family in all layers, with marginals and moments; see `figures.plots.density.density_figure`."""
        from mfpde.figures.plots.density import density_figure

        return density_figure(self, family, tau)

    def plot_potential(self, family: str | None = None, tau: float | None = None) -> StyledFigure:
        """The potential of a family, its minimisers marked; see `figures.plots.potential.potential_figure`."""
        from mfpde.figures.plots.potential import potential_figure

        return potential_figure(self, family, tau)

    def plot_nodes(self, family: str | None = None, tau: float | None = None) -> StyledFigure:
        """The nodes of a family that moves by a cloud of them; see `figures.plots.nodes_figure.nodes_figure`."""
        from mfpde.figures.plots.nodes_figure import nodes_figure

        return nodes_figure(self, family, tau)

    def plot_volume(self, family: str | None = None, tau: float | None = None, layer: int = 0) -> Plotter:
        """A family of three coordinates in space, by PyVista; see `figures.plots.volume.volume_plotter`."""
        from mfpde.figures.plots.volume import volume_plotter

        return volume_plotter(self, family, tau, layer)
