"""Everything that `mfpde plot` makes of a run directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mfpde.figures.blocks import chosen, evenly
from mfpde.figures.pages.run_report import write_report
from mfpde.figures.plots import movie, volume
from mfpde.figures.plots.density import density_figure
from mfpde.figures.plots.history import history_figure
from mfpde.figures.plots.nodes_figure import nodes_figure
from mfpde.figures.plots.overview import densities_figure
from mfpde.figures.plots.potential import potential_figure
from mfpde.figures.style import StyledFigure
from mfpde.output.directory import FIGURES
from mfpde.output.files import failing_clearly
from mfpde.output.reader import RunReader
from mfpde.output.records.progress import Steps
from mfpde.parallel import mpi

_MOST_CLOUDS = 8  # families whose nodes are drawn where none is named

type Drawing = tuple[str, Callable[[], list[Path]]]
"""What is drawn, in a word or two, and the function that draws it."""


@dataclass(frozen=True)
class FigureOptions:
    """What to draw.

    Attributes:
        tau: the report that is shown; the last unless given.
        families: those with figures of their own; all unless given.
        animation: draw the film through τ, too?
    """

    tau: float | None = None
    families: Sequence[str] = ()
    animation: bool = True


def write_figures(run: RunReader, options: FigureOptions) -> list[Path]:
    """Draw a run into DIR/figures/, each figure as .pdf and .png; old figures of the same names are replaced.

    On a terminal a bar shows the time left. A line on standard output names whatever was left out, and why.

    Args:
        run: finished or running, with one report at least.
        options: what to draw.

    Returns:
        The files, the report last.

    Raises:
        InputError: for an unknown family, a τ between reports, or a run without reports; nothing was written.
        ComputationError: when the disk refuses.
    """
    _, tau = chosen(run, None, options.tau)
    families = tuple(options.families) or run.families
    dims = {family: run.snapshot(tau=chosen(run, family, tau)[1], family=family).dim for family in families}
    folder = run.directory / FIGURES
    with failing_clearly(folder):
        folder.mkdir(exist_ok=True)

    drawings = list(_drawings(run, folder, tau, dims, _clouds(run, tau, options.families)))
    if options.animation:
        drawings.append(("animation", partial(_film, run, folder)))
    written: list[Path] = []
    drawings.append(("report", lambda: [write_report(run, written)]))
    for _, draw in Steps("drawing").each(drawings, lambda drawing: drawing[0]):
        written += draw()

    return written


def _drawings(
    run: RunReader, folder: Path, tau: float, dims: Mapping[str, int], clouds: Sequence[str]
) -> Iterator[Drawing]:
    """All figures, in the order of the report.

    Args:
        run: the run.
        folder: of the figures.
        tau: of the report that is shown.
        dims: families by name → d of their densities.
        clouds: families whose nodes are drawn.
    """

    def saved(stem: str, draw: Callable[[], StyledFigure]) -> Callable[[], list[Path]]:
        return lambda: draw().save(folder / stem)

    yield "history", saved("history", partial(history_figure, run))
    yield "densities", saved("densities", partial(densities_figure, run, tau))
    for family in clouds:
        yield f"nodes of {family}", saved(f"nodes_{family}", partial(nodes_figure, run, family, tau))
    for family, dim in dims.items():
        yield f"density of {family}", saved(f"density_{family}", partial(density_figure, run, family, tau))
        if dim < 3:
            yield f"potential of {family}", saved(f"potential_{family}", partial(potential_figure, run, family, tau))

    spatial = [family for family, dim in dims.items() if dim == 3]
    if spatial and (reason := volume.obstacle()):
        mpi.say(reason)
        return
    for family in spatial:
        yield f"{family} in space", partial(volume.volume_pictures, run, folder, family, tau)


def _clouds(run: RunReader, tau: float, families: Sequence[str]) -> list[str]:
    """Whose nodes are drawn: those of these families that have some at τ; where none is given of all, or of eight."""
    named = [family for family in run.clouds if not families or family in families]
    found = [family for family in named if np.isclose(run.nodes_taus(family), tau, rtol=1e-9, atol=1e-12).any()]
    if families or len(found) <= _MOST_CLOUDS:
        return found
    mpi.say(f"nodes of {_MOST_CLOUDS} of {len(found)} families: --family NAME draws those of another")
    return [found[place] for place in evenly(len(found), _MOST_CLOUDS)]


def _film(run: RunReader, folder: Path) -> list[Path]:
    written = movie.animate(run, folder)
    if not written:
        mpi.say("only one report so far: no animation")
    elif len(written) == 1:
        install = "Debian: apt install ffmpeg; or pip install imageio-ffmpeg"
        mpi.say(f"no ffmpeg ({install}): animation.gif without animation.mp4")
    return written
