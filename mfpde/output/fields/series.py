"""The density files of one family: a .vtu per report, or a .pvtu with a piece per rank where one would be too large.

Pieces are written by the ranks that hold them, all else by rank 0, and the collection last: all that it names while it
grows is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mfpde.errors import InputError
from mfpde.output.fields.file_series import FileSeries
from mfpde.output.fields.pvd import DENSITY, series_name
from mfpde.output.fields.pvtu import piece_name, read_pvtu, write_pvtu
from mfpde.output.fields.snapshot import Snapshot, merged
from mfpde.output.fields.vtu_writer import write_vtu
from mfpde.output.files import failing_clearly, sync


class DensitySeries(FileSeries):
    """The density files of one family: a growing .pvd, and one file per report in a folder beside it; on rank 0."""

    kind, what = DENSITY, "a density file"

    def write(self, tau: float, snapshot: Snapshot) -> Path:
        """Add a snapshot, or the names of its pieces, which are there already; returns the new file's path.

        Raises:
            OSError: when the disk refuses.
        """
        target = _target(self.path.parent, snapshot, self.count)
        target.parent.mkdir(exist_ok=True)
        if snapshot.piece is None:
            write_vtu(target, snapshot)
        else:
            write_pvtu(target, snapshot.piece.ranks, snapshot.degree)

        self._append(tau, target)
        return target

    @staticmethod
    def parts(path: Path) -> list[Path]:
        """The files of one density: itself, and its pieces if it has some.

        Raises:
            InputError: for a .pvtu that is none.
        """
        is_divided = path.suffix == ".pvtu" and path.is_file()
        return [path, *read_pvtu(path)] if is_divided else [path]


def _target(directory: Path, snapshot: Snapshot, number: int) -> Path:
    suffix = "vtu" if snapshot.piece is None else "pvtu"
    return directory / DENSITY / f"{Path(series_name(snapshot.family)).stem}_{number:04d}.{suffix}"


def write_pieces(directory: Path, snapshots: Iterable[Snapshot], numbers: Mapping[str, int], rank: int) -> None:
    """Write this rank's pieces to the disk; the ranks share the run directory.

    Args:
        directory: of the run.
        snapshots: whole ones are left to rank 0.
        numbers: of the next files, by family; a family that is not named is left out.
        rank: this one.

    Raises:
        DiskError: when the disk refuses.
    """
    with failing_clearly(directory):
        for snapshot in snapshots:
            if snapshot.piece is None or rank not in snapshot.piece.ranks or snapshot.family not in numbers:
                continue

            target = _target(directory, snapshot, numbers[snapshot.family])
            target.parent.mkdir(exist_ok=True)
            part = target.with_name(piece_name(target, rank))
            write_vtu(part, snapshot)
            sync(part)


def read_density(path: Path) -> Snapshot:
    """The snapshot of a .vtu, or of all pieces of a .pvtu: the same, however it was written.

    Raises:
        InputError: when a file is missing or not one of ours.
    """
    from mfpde.output.fields.vtu_reader import read_vtu  # noqa: PLC0415  (VTK, which a solve does without)

    if path.suffix == ".vtu":
        return read_vtu(path)
    pieces = {part: read_vtu(part) for part in read_pvtu(path)}
    for part, snapshot in pieces.items():
        if snapshot.piece is None:
            raise InputError(f"{part} is not a piece of a density file")
    return merged(list(pieces.values()))
