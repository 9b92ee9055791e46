"""The checkpoint file: complete or not there, with a checksum over all that is in it, for any number of ranks.

It is a `.npz` that NumPy reads: `facts.npy` is JSON, the other arrays are the solver's. Arrays that are distributed by
cells stand with their cells in any order, and beside them `cells/…`, the number of each cell in the mesh's own order.
Rank 0 writes what it receives rank by rank, and reads and passes on in parts, so that it needs memory for one rank's
share. Zip keeps a CRC-32 of every array. HDF5 through PETSc has neither checksums nor a way to survive a full disk.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.output.files import failing_clearly, naming
from mfpde.parallel.agreement import agree

FORMAT = 1
_FACTS = "facts"
_CHUNK = 2**25  # bytes that are read and passed on at once
_TAG = 77


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    Attributes:
        facts: anything JSON can say; numbers survive bit for bit.
        common: arrays that are the same on every rank.
        cells: per mesh the number of this rank's cells in the mesh's own order, (owned,).
        shares: per array the mesh it lives on, and this rank's rows (owned, …).
    """

    facts: Mapping[str, Any]
    common: Mapping[str, NDArray]
    cells: Mapping[str, NDArray[np.int64]]
    shares: Mapping[str, tuple[str, NDArray]]


class DamagedError(ValueError):
    """A file that is not, or no longer, a checkpoint."""


def write(comm: MPI.Intracomm, path: Path | None, contents: Contents) -> None:
    """Write a checkpoint file; collective.

    Args:
        comm: communicator.
        path: the file, on rank 0.
        contents: of this rank; facts and common arrays are taken from rank 0.

    Raises:
        ComputationError: on every rank, when the disk refuses.
    """
    arrays = {f"cells/{name}": cells for name, cells in contents.cells.items()}
    arrays |= {name: rows for name, (_, rows) in contents.shares.items()}
    counts = comm.gather([len(rows) for rows in arrays.values()], root=0)
    archive: _Archive | None = None
    if counts is None or path is None:
        for rows in arrays.values():
            if len(rows):
                comm.Send(np.ascontiguousarray(rows), dest=0, tag=_TAG)
    else:
        said = {**contents.facts, "format": FORMAT, "arrays": 1 + len(contents.common) + len(arrays)}
        archive = _Archive(path)
        text = np.frombuffer(json.dumps(said).encode(), dtype=np.uint8)
        for name, array in {_FACTS: text, **contents.common}.items():
            archive.add(name, array, len(array), [array])
        for k, (name, rows) in enumerate(arrays.items()):
            share = [count[k] for count in counts]
            archive.add(name, rows, sum(share), _in_turn(comm, rows, share))
        archive.close()
    agree(lambda: archive.complain() if archive else None)


def _in_turn(comm: MPI.Intracomm, rows: NDArray, counts: list[int]) -> Iterator[NDArray]:
    """Rank 0's rows, then those of every other rank as they come in."""
    yield rows
    for rank in range(1, comm.size):
        part = np.empty((counts[rank], *rows.shape[1:]), dtype=rows.dtype)
        if counts[rank]:
            comm.Recv(part, source=rank, tag=_TAG)
        yield part


class _Archive:
    """A file that is being written. Once the disk has refused, the rest is let pass: other ranks are still sending."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failure: OSError | None = None
        self._zip: zipfile.ZipFile | None = None
        try:
            self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        except OSError as error:
            self._failure = error

    def add(self, name: str, like: NDArray, count: int, parts: Iterable[NDArray]) -> None:
        """An array of `count` rows like those of `like`, part by part."""
        coming = iter(parts)
        if self._zip is not None and self._failure is None:
            about = {"descr": like.dtype.str, "fortran_order": False, "shape": (count, *like.shape[1:])}
            try:
                with self._zip.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array_header_1_0(file, about)
                    for part in coming:
                        file.write(np.ascontiguousarray(part).data)
            except OSError as error:
                self._failure = error
        for _ in coming:
            pass

    def close(self) -> None:
        if self._zip is None:
            return
        try:
            self._zip.close()
        except OSError as error:
            self._failure = self._failure or error
            if self._zip.fp is not None:  # else the file object tries to write once more when it is forgotten
                with suppress(OSError):
                    self._zip.fp.close()
                self._zip.fp = None

    def complain(self) -> None:
        """Raise what went wrong, as one line."""
        if self._failure is not None:
            with failing_clearly(self._path.parent), naming(self._path):
                raise self._failure


def read_facts(path: Path) -> dict[str, Any]:
    """Read all of a file once, and return what it says apart from the solver's arrays.

    Raises:
        DamagedError: when a byte is not what was written, or when another version wrote it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if bad := archive.testzip():
                raise DamagedError(f"{bad} is damaged")
            count = len(archive.namelist())
            with archive.open(f"{_FACTS}.npy") as file:
                said = json.loads(np.lib.format.read_array(file).tobytes())
        number, wanted = int(said["format"]), int(said["arrays"])
    except DamagedError:
        raise
    except Exception as error:  # a parser meets anything in a damaged file
        raise DamagedError(f"no checkpoint, or cut off ({type(error).__name__})") from error
    if number != FORMAT:
        raise DamagedError(f"of format {number!r}; this version reads {FORMAT}")
    if wanted != count:
        raise DamagedError(f"{wanted - count} arrays are missing")
    return dict(said)


def read_common(path: Path, names: Iterable[str]) -> dict[str, NDArray]:
    """Whole arrays by name, of a file that `read_facts` has read.

    Raises:
        InputError: for a name that is not there, or under which no array is.
    """
    found = {}
    for name in names:
        with _telling(name), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            found[name] = np.lib.format.read_array(file)
    return found


@contextmanager
def _telling(name: str) -> Iterator[None]:
    """Say which array cannot be read: what was put there by another hand may be anything, its checksum right."""
    try:
        yield
    except Exception as error:
        raise InputError(f"its array {name} cannot be read ({type(error).__name__})") from error


def read_rows(comm: MPI.Intracomm, path: Path | None, name: str, mesh: str, cells: NDArray[np.int64]) -> NDArray:
    """This rank's rows of a distributed array, read on rank 0 in parts; collective.

    Args:
        comm: communicator.
        path: the file, which `read_facts` has read, on rank 0.
        name: of the array.
        mesh: on which it lives.
        cells: number of this rank's cells in the mesh's own order, (owned,).

    Raises:
        InputError: on every rank, when the array cannot be read, or the cells there are not those of the mesh.
    """
    order = np.argsort(cells)
    known = np.append(cells[order], np.iinfo(np.int64).max)  # a last one that no cell is, to compare with
    rows: NDArray = np.empty(0)
    found = np.zeros(len(cells), dtype=bool)
    for numbers, part in _passed_on(comm, path, name, mesh):
        if not found.any() and rows.shape[1:] != part.shape[1:]:
            rows = np.empty((len(cells), *part.shape[1:]), dtype=part.dtype)
        place = np.searchsorted(known, numbers)
        mine = known[place] == numbers
        rows[order[place[mine]]] = part[mine]
        found[order[place[mine]]] = True

    def complete() -> None:
        if not found.all():
            raise InputError(f"its array {name} is not of this mesh")

    agree(complete)
    return rows


def _passed_on(
    comm: MPI.Intracomm, path: Path | None, name: str, mesh: str
) -> Iterator[tuple[NDArray[np.int64], NDArray]]:
    """(numbers of cells, their rows), part by part, on every rank.

    Raises:
        InputError: on every rank, when rank 0 cannot read them.
    """
    parts = None if path is None else _parts(path, name, mesh)
    while True:
        got: Any = None
        try:
            got = None if parts is None else next(parts, None)
        except InputError as error:
            got = error
        got = comm.bcast(got, root=0)
        if isinstance(got, InputError):
            raise got
        if got is None:
            return
        yield got


def _parts(path: Path, name: str, mesh: str) -> Iterator[tuple[NDArray[np.int64], NDArray]]:
    """The same, read from the file."""
    with (
        _telling(name),
        zipfile.ZipFile(path) as archive,
        _opened(archive, f"cells/{mesh}") as cells,
        _opened(archive, name) as data,
    ):
        if cells.dtype != np.int64 or cells.shape != data.shape[:1]:
            raise ValueError("no row for each cell")
        count = max(1, _CHUNK // max(1, data.bytes_of(1)))
        for first in range(0, data.shape[0], count):
            size = min(count, data.shape[0] - first)
            yield cells.take(size), data.take(size)


@dataclass(frozen=True)
class _Opened:
    """An array of the archive that is read from its beginning, some rows at a time."""

    file: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def bytes_of(self, count: int) -> int:
        return count * int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def take(self, count: int) -> NDArray:
        data = self.file.read(self.bytes_of(count))
        return np.frombuffer(data, dtype=self.dtype).reshape(count, *self.shape[1:])


@contextmanager
def _opened(archive: zipfile.ZipFile, name: str) -> Iterator[_Opened]:
    with archive.open(f"{name}.npy") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        yield _Opened(file, shape, dtype)
