"""Everything that `mfpde plot` makes of a run directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mfpde.errors import ComputationError
from mfpde.figures import style
from mfpde.figures.blocks import chosen
from mfpde.figures.pages.run_report import write_report
from mfpde.figures.plots import movie, volume
from mfpde.figures.plots.density import density_figure
from mfpde.figures.plots.history import history_figure
from mfpde.figures.plots.overview import densities_figure
from mfpde.figures.plots.potential import potential_figure
from mfpde.output.reader import RunReader
from mfpde.output.records.progress import Steps

FOLDER = "figures"


@dataclass(frozen=True)
class Wishes:
    """What to draw.

    Attributes:
        tau: the report that is shown; the last unless given.
        families: those with figures of their own; all unless given.
        animation: draw the film through τ, too?
    """

    tau: float | None = None
    families: Sequence[str] = ()
    animation: bool = True


type Drawing = tuple[str, Callable[[], list[Path]]]
"""What is drawn, in a word or two, and what draws it."""


def write_figures(
    run: RunReader, wishes: Wishes, tell: Callable[[str], None], steps: Steps | None = None
) -> list[Path]:
    """Draw a run into DIR/figures/, each figure as .pdf and .png; old figures of the same names are replaced.

    Args:
        run: finished or running, with one report at least.
        wishes: what to draw.
        tell: is given a line for each thing that was left out, and why.
        steps: shows how far it is; nothing does unless given.

    Returns:
        The files, the report last.

    Raises:
        InputError: for an unknown family, a τ between reports, or a run without reports; nothing was written.
        ComputationError: when the disk refuses.
    """
    _, tau = chosen(run, None, wishes.tau)
    families = tuple(wishes.families) or run.families
    dims = {family: run.snapshot(tau=chosen(run, family, tau)[1], family=family).dim for family in families}
    folder = run.directory / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ComputationError(f"{folder} cannot be made: {error.strerror or error}") from error
    drawings = list(_drawings(run, folder, tau, dims, tell))
    if wishes.animation:
        drawings.append(("animation", lambda: _film(run, folder, tell)))
    written: list[Path] = []
    drawings.append(("report", lambda: [write_report(run, written)]))
    for _, draw in drawings if steps is None else steps.each(drawings, lambda drawing: drawing[0]):
        written += draw()
    return written


def _drawings(
    run: RunReader, folder: Path, tau: float, dims: Mapping[str, int], tell: Callable[[str], None]
) -> Iterator[Drawing]:
    """All figures, in the order of the report; families by name → d."""
    yield "history", lambda: style.save(history_figure(run), folder / "history")
    yield "densities", lambda: style.save(densities_figure(run, tau), folder / "densities")
    for family, dim in dims.items():
        yield f"density of {family}", partial(_density, run, folder, family, tau)
        if dim < 3:
            yield f"potential of {family}", partial(_potential, run, folder, family, tau)
    spatial = [family for family, dim in dims.items() if dim == 3]
    if spatial and (reason := volume.obstacle()):
        tell(reason)
        return
    for family in spatial:
        yield f"{family} in space", partial(volume.volume_pictures, run, folder, family, tau)


def _density(run: RunReader, folder: Path, family: str, tau: float) -> list[Path]:
    return style.save(density_figure(run, family, tau), folder / f"density_{family}")


def _potential(run: RunReader, folder: Path, family: str, tau: float) -> list[Path]:
    return style.save(potential_figure(run, family, tau), folder / f"potential_{family}")


def _film(run: RunReader, folder: Path, tell: Callable[[str], None]) -> list[Path]:
    written = movie.animate(run, folder)
    if not written:
        tell("one report is no film yet: no animation")
    elif len(written) == 1:
        tell(
            "no ffmpeg (Debian: apt install ffmpeg; or pip install imageio-ffmpeg): animation.gif without animation.mp4"
        )
    return written
