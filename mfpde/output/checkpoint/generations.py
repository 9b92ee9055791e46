"""The two generations of checkpoints in a run directory: which files they are, and how one replaces the oldest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mfpde.output.checkpoint.checkpoint import DamagedError, read_facts
from mfpde.output.files import failing_clearly, naming, sync

CHECKPOINTS = "checkpoint"  # the folder
_NAME = re.compile(r"\.?[0-9]{8}\.npz(\.part)?")


class Generations:
    """The checkpoints of a run directory; on rank 0."""

    def __init__(self, directory: Path) -> None:
        """Nothing is touched before the first new checkpoint is complete."""
        self._directory = directory
        self._good: Path | None = None  # the newest that is known to be complete

    def newest(self) -> tuple[Path, dict[str, Any], list[str]]:
        """The newest file that is sound, its facts, and a line for every newer one that is not.

        Raises:
            LookupError: when there is none; its arguments are the lines.
        """
        lines: list[str] = []

        for path in reversed(present(self._directory)):
            try:
                facts = read_facts(path)
            except DamagedError as error:
                lines.append(f"checkpoint {path.name}: {error}")
            else:
                self._good = path
                return path, facts, lines

        raise LookupError(*lines)

    def new_name(self) -> Path:
        """The temporary name to write the next generation to.

        Raises:
            DiskError: when the disk refuses.
        """
        numbers = [int(path.stem) for path in present(self._directory)]
        folder = self._directory / CHECKPOINTS
        with failing_clearly(self._directory):
            folder.mkdir(exist_ok=True)
        return folder / f".{1 + max(numbers, default=0):08d}.npz.part"

    def accept(self, part: Path) -> None:
        """Give the file that was written to `new_name` its name, once it has reached the disk; drop the oldest.

        Raises:
            DiskError: when the disk refuses; the generations are then as they were.
        """
        path = part.with_name(part.name.removeprefix(".").removesuffix(".part"))
        with failing_clearly(self._directory), naming(path):
            sync(part)
            part.replace(path)
            sync(path.parent)

            kept, self._good = self._good, path
            for old in checkpoint_files(self._directory):
                if old not in (path, kept):
                    old.unlink(missing_ok=True)


def present(directory: Path) -> list[Path]:
    """The complete checkpoint files of a run directory, oldest first."""
    return [path for path in checkpoint_files(directory) if path.suffix == ".npz"]


def checkpoint_files(directory: Path) -> list[Path]:
    """The checkpoint files of a run directory, among them those that were cut off while they were written."""
    folder = directory / CHECKPOINTS
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name)) if folder.is_dir() else []
