"""The run directory: which files `solve` writes there, and when it may."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mfpde.errors import InputError
from mfpde.output.checkpoint.generations import CHECKPOINTS, checkpoint_files, present
from mfpde.output.fields.pvd import KINDS, read_pvd, series_files, series_folder
from mfpde.output.files import refusing
from mfpde.output.records.tables import TABLES

MANIFEST = "manifest.json"
RUN_FILE = "run.toml"
SUMMARY = "summary.json"
FIGURES = "figures"
PARTICLES = "particles"
COMPARE = "compare"
_DRAWN = (
    "history.pdf", "history.png", "densities.pdf", "densities.png", "density_*.pdf", "density_*.png",
    "potential_*.pdf", "potential_*.png", "nodes_*.pdf", "nodes_*.png", "volume_*.png", "animation.gif",
    "animation.mp4", "report.html",
)  # fmt: skip
_COMPARED = (
    "report.html", "summary.json", "risk.pdf", "risk.png", "accuracy.pdf", "accuracy.png", "sizes.pdf", "sizes.png",
    "width.pdf", "width.png", "depth.pdf", "depth.png",
)  # fmt: skip


def check_writable(directory: Path) -> None:
    """Refuse a path that is no directory or cannot be written to; it need not exist yet.

    Raises:
        InputError: naming it, and the folder above it that is the reason.
    """
    existing = next((path for path in (directory, *directory.absolute().parents) if path.exists()), Path())
    if not existing.is_dir():
        raise InputError(f"directory {directory}: {existing} is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"directory {directory}: {existing} cannot be written")


def check(directory: Path, overwrite: bool) -> None:
    """Refuse a directory that a new run may not use; nothing is written or removed.

    Raises:
        InputError: when the path is a file, cannot be written, holds a run and `overwrite` is false, or holds a file
            under a name that the run needs which mfpde did not write.
    """
    check_writable(directory)
    present = list(run_files(directory))
    if present and not (directory / MANIFEST).is_file():
        raise InputError(
            f"directory {directory}: holds {present[0].name} but no run of mfpde (no {MANIFEST}); choose another"
        )

    if present and not overwrite:
        raise InputError(f"directory {directory}: holds a run; --overwrite replaces it, --directory chooses another")


def check_resumable(directory: Path) -> None:
    """Refuse a directory in which no run can be continued; nothing is written or removed.

    Raises:
        InputError: when it holds no run, no checkpoint, or cannot be written.
    """
    with refusing(f"directory {directory}"):
        if not (directory / MANIFEST).is_file():
            raise InputError(f"--resume: directory {directory} holds no run; start one without --resume")
        if not present(directory):
            raise InputError(
                f"--resume: directory {directory} holds no checkpoint; start again without --resume, with --overwrite"
            )

        for folder in (directory, directory / CHECKPOINTS, *(directory / kind for kind in KINDS)):
            if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
                raise InputError(f"directory {folder}: cannot be written")


def prepare(directory: Path, overwrite: bool) -> None:
    """Check the directory, create it, or remove the run that it holds.

    The files of a solve are removed (`run_files`), and what `plot` and `compare` have made of them. Finite Transformers
    stay, which may belong to the next run as well, and so do the depths that a comparison solved, which it knows again,
    and the user's files.

    Raises:
        InputError: as `check`, and when the file system refuses.
    """
    with refusing(f"directory {directory}"):
        check(directory, overwrite)
        directory.mkdir(parents=True, exist_ok=True)

        figures = (path for pattern in _DRAWN for path in (directory / FIGURES).glob(pattern))
        compared = (path for name in _COMPARED if (path := directory / COMPARE / name).is_file())
        for path in [*run_files(directory), *figures, *compared]:
            path.unlink()
        folders = (
            *(directory / kind for kind in KINDS),
            directory / CHECKPOINTS,
            directory / FIGURES,
            directory / COMPARE,
        )
        for folder in folders:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def run_files(directory: Path) -> Iterator[Path]:
    """The files of a solve that are there; the manifest last: while it is there, the rest is known to be a run."""
    yield from checkpoint_files(directory)
    for series in (path for kind in KINDS for path in sorted(directory.glob(f"{kind}_*.pvd"))):
        if _is_ours(series):
            yield from (file for _, file in series_files(series))
            yield series
    for name in (*TABLES, SUMMARY, RUN_FILE, MANIFEST):
        if (directory / name).exists():
            yield directory / name


def _is_ours(series: Path) -> bool:
    """Do all its entries point at files of its own name?"""
    try:
        entries = read_pvd(series)
    except InputError:
        return False
    own = (series_folder(series), series.stem)
    return all((path.parent, path.stem.rpartition("_")[0]) == own for _, path in entries)
