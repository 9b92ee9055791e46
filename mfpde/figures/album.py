"""Everything that `mfpde plot` makes of a run directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfpde.errors import ComputationError
from mfpde.figures import movie, style, volume
from mfpde.figures.blocks import chosen
from mfpde.figures.density import density_figure
from mfpde.figures.history import history_figure
from mfpde.figures.overview import densities_figure
from mfpde.figures.page import write_report
from mfpde.figures.potential import potential_figure
from mfpde.output.reader import Run

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


def write_figures(run: Run, wishes: Wishes, tell: Callable[[str], None]) -> list[Path]:
    """Draw a run into DIR/figures/, each figure as .pdf and .png; old figures of the same names are replaced.

    Args:
        run: finished or running, with one report at least.
        wishes: what to draw.
        tell: is given a line for each thing that was left out, and why.

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
    written = style.save(history_figure(run), folder / "history")
    written += style.save(densities_figure(run, tau), folder / "densities")
    for family in families:
        written += style.save(density_figure(run, family, tau), folder / f"density_{family}")
        if dims[family] < 3:
            written += style.save(potential_figure(run, family, tau), folder / f"potential_{family}")
    written += _in_space(run, folder, [family for family in families if dims[family] == 3], tau, tell)
    if wishes.animation:
        written += _film(run, folder, tell)
    return [*written, write_report(run, written)]


def _in_space(run: Run, folder: Path, families: Sequence[str], tau: float, tell: Callable[[str], None]) -> list[Path]:
    reason = volume.obstacle() if families else ""
    if reason:
        tell(reason)
        return []
    return [path for family in families for path in volume.volume_pictures(run, folder, family, tau)]


def _film(run: Run, folder: Path, tell: Callable[[str], None]) -> list[Path]:
    written = movie.animate(run, folder)
    if not written:
        tell("one report is no film yet: no animation")
    elif len(written) == 1:
        tell(
            "no ffmpeg (Debian: apt install ffmpeg; or pip install imageio-ffmpeg): animation.gif without animation.mp4"
        )
    return written
