"""The files of one family, one a report, and the growing .pvd that gives each its τ."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from mfpde.errors import InputError
from mfpde.output.fields.pvd import Collection, read_first, series_files, series_folder, series_name


class FileSeries:
    """A growing .pvd, and one file per report in a folder beside it; on rank 0.

    Attributes:
        kind: one of `pvd.KINDS`.
        what: one of its files is, in a message.
        path: of the .pvd.
        count: files so far.
    """

    kind: ClassVar[str]
    what: ClassVar[str]

    def __init__(self, directory: Path, family: str, count: int = 0) -> None:
        """Nothing is written before the first report.

        Args:
            directory: the run's.
            family: name of the family.
            count: of files to continue; `cut` removes the later ones.

        Raises:
            InputError: when they are not there.
        """
        self.path = directory / series_name(family, self.kind)
        self.count = count

        there = read_first(self.path, count) if count else []
        missing = [part for _, file in there for part in self.parts(file) if not part.is_file()]
        if missing or len(there) < count:
            where = missing[0] if missing else self.path
            raise InputError(f"{where}: {self.what} is missing; it cannot be continued")
        self._collection = Collection(self.path, [(tau, f"{self.kind}/{file.name}") for tau, file in there])

    @staticmethod
    def parts(path: Path) -> list[Path]:
        """The files of one report: itself, and what it names."""
        return [path]

    def cut(self) -> None:
        """Remove the files that are later than those to continue."""
        self._collection.write()
        for number, file in series_files(self.path):
            if number >= self.count:
                file.unlink()

    def _append(self, tau: float, target: Path) -> None:
        """Add a file that has been written to the collection."""
        self._collection.append(tau, f"{series_folder(self.path).name}/{target.name}")
        self.count += 1
