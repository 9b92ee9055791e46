"""The checkpoint file: complete or absent, with a checksum over all of it, for any number of ranks.

The file of a state dict (`state_dict`) is a `.npz` that NumPy reads: `facts.npy` is the nesting as JSON, and each array
has a member named by its path in the nesting. An array that is distributed over the ranks by cells has its cells in any
order, and beside it `cells/…` with the number of each cell in the mesh's own order.

Rank 0 writes what it receives rank by rank, and reads and broadcasts in parts, so that it needs memory for one rank's
share. Zip keeps a CRC-32 of every array. HDF5 through PETSc has neither checksums nor a way to survive a full disk.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.errors import DiskError, InputError
from mfpde.output.checkpoint.state_dict import CellRows, StateDict, fitting, mapped
from mfpde.output.files import failing_clearly, naming
from mfpde.parallel.agreement import agree

FORMAT = 3
_FACTS = "facts"
_REPLICATED, _BY_CELLS = "<array>", "<array by cells>"  # what JSON has in place of an array
_CHUNK = 2**25  # bytes that are read and broadcast at once
_TAG = 77


class DamagedError(ValueError):
    """A file that is not, or no longer, a checkpoint."""


def write(comm: MPI.Intracomm, path: Path | None, solver: StateDict, facts: Mapping[str, Any]) -> None:
    """Write a checkpoint file; collective.

    Args:
        comm: communicator.
        path: the file, on rank 0.
        solver: the solver's state dict; plain values and replicated arrays are taken from rank 0.
        facts: further plain values, on rank 0; numbers survive bit for bit.

    Raises:
        DiskError: on every rank, when the disk refuses.
    """
    replicated: dict[str, NDArray] = {}
    distributed: dict[str, NDArray] = {}

    def leaf(name: str, value: Any) -> Any:
        if isinstance(value, CellRows):
            distributed.update({f"cells/{name}": value.cells, name: value.rows})
            return _BY_CELLS
        if isinstance(value, np.ndarray):
            replicated[name] = value
            return _REPLICATED
        return value

    plain = mapped(solver, leaf)
    counts = comm.gather([len(rows) for rows in distributed.values()], root=0)

    def send_or_write() -> None:
        if counts is None or path is None:
            for rows in distributed.values():
                if len(rows):
                    comm.Send(np.ascontiguousarray(rows), dest=0, tag=_TAG)
            return

        arrays = 1 + len(replicated) + len(distributed)
        text = json.dumps({**facts, "solver": plain, "format": FORMAT, "arrays": arrays})
        whole = {_FACTS: np.frombuffer(text.encode(), dtype=np.uint8), **replicated}
        parts = _parts_to_write(comm, whole, distributed, counts)
        try:
            with failing_clearly(path.parent), naming(path):
                _write_archive(path, parts)
        except DiskError:
            for _ in parts:  # the other ranks are still sending
                pass
            raise

    agree(send_or_write)


type _Member = tuple[str, tuple[int, ...], str]  # name, shape and dtype of an array


def _parts_to_write(
    comm: MPI.Intracomm,
    replicated: Mapping[str, NDArray],
    distributed: Mapping[str, NDArray],
    counts: Sequence[Sequence[int]],
) -> Iterator[tuple[_Member, NDArray]]:
    """Every array, and for distributed ones rank 0's rows and then those of the others as they come in."""
    for name, array in replicated.items():
        yield (name, array.shape, array.dtype.str), array

    for place, (name, rows) in enumerate(distributed.items()):
        sizes = [count[place] for count in counts]
        member = (name, (sum(sizes), *rows.shape[1:]), rows.dtype.str)
        yield member, rows
        for rank in range(1, comm.size):
            part = np.empty((sizes[rank], *rows.shape[1:]), dtype=rows.dtype)
            if sizes[rank]:
                comm.Recv(part, source=rank, tag=_TAG)
            yield member, part


def _write_archive(path: Path, parts: Iterator[tuple[_Member, NDArray]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for (name, shape, dtype), members in groupby(parts, key=lambda part: part[0]):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                header = {"descr": dtype, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for _, part in members:
                    file.write(np.ascontiguousarray(part).data)


def read_facts(path: Path) -> dict[str, Any]:
    """Read all of a file once, verify it, and return its JSON.

    Raises:
        DamagedError: when a byte is not what was written, or when another version wrote it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if bad := archive.testzip():
                raise DamagedError(f"{bad} is damaged")
            count = len(archive.namelist())
            with archive.open(f"{_FACTS}.npy") as file:
                facts = json.loads(np.lib.format.read_array(file).tobytes())
        number, expected = int(facts["format"]), int(facts["arrays"])
    except DamagedError:
        raise
    except Exception as error:  # a parser meets anything in a damaged file
        raise DamagedError(f"no checkpoint, or cut off ({type(error).__name__})") from error

    if number != FORMAT:
        raise DamagedError(f"of format {number!r}; this version reads {FORMAT}")
    if expected != count:
        raise DamagedError(f"{expected - count} arrays are missing")
    return dict(facts)


def read_state(path: Path, facts: Mapping[str, Any]) -> StateDict:
    """The solver's state dict in a file, with `StoredRows` in place of `CellRows`; on rank 0, to be broadcast.

    Args:
        path: the file.
        facts: from `read_facts`.

    Raises:
        InputError: when an array is not there, or its member holds none; other exceptions where `checkpoint_errors` is
            not.
    """

    def leaf(name: str, value: Any) -> Any:
        if value == _BY_CELLS:
            return StoredRows(path, name)
        if value != _REPLICATED:
            return value
        with _naming_array(name), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            return np.lib.format.read_array(file)

    return dict(mapped(facts["solver"], leaf))


@contextmanager
def _naming_array(name: str) -> Iterator[None]:
    """Name the array that cannot be read: a forged member may hold anything, and its checksum be right."""
    try:
        yield
    except Exception as error:
        raise InputError(f"its array {name} cannot be read ({type(error).__name__})") from error


@dataclass(frozen=True)
class StoredRows:
    """What `CellRows` becomes in a file: an array from which every rank can read the rows of its cells.

    Attributes:
        path: the file, which rank 0 alone opens.
        name: of the array.
    """

    path: Path
    name: str

    def read(self, comm: MPI.Intracomm, cells: NDArray[np.int64], like: NDArray) -> NDArray:
        """This rank's rows; collective.

        Args:
            comm: communicator.
            cells: number of this rank's cells in the mesh's own order, (owned,).
            like: an array of the shape and dtype that the rows must have.

        Raises:
            InputError: on every rank, when the array cannot be read, is of another shape, or of another mesh.
        """
        order = np.argsort(cells)
        known = np.append(cells[order], np.iinfo(np.int64).max)  # a last one that is no cell, to compare with
        rows: NDArray = np.empty(0)
        found = np.zeros(len(cells), dtype=bool)
        for numbers, part in self._broadcast(comm):
            if not found.any() and rows.shape[1:] != part.shape[1:]:
                rows = np.empty((len(cells), *part.shape[1:]), dtype=part.dtype)
            place = np.searchsorted(known, numbers)
            mine = known[place] == numbers
            rows[order[place[mine]]] = part[mine]
            found[order[place[mine]]] = True

        def complete() -> NDArray:
            if not found.all():
                raise InputError(f"its array {self.name} is not of this mesh")
            return fitting(self.name, rows, like)

        return agree(complete)

    def _broadcast(self, comm: MPI.Intracomm) -> Iterator[tuple[NDArray[np.int64], NDArray]]:
        """(numbers of cells, their rows), part by part, on every rank.

        Raises:
            InputError: on every rank, when rank 0 cannot read them.
        """
        parts = self._parts() if comm.rank == 0 else iter(())

        while True:
            got: Any = None
            try:
                got = next(parts, None)
            except InputError as error:
                got = error

            got = comm.bcast(got, root=0)
            if isinstance(got, InputError):
                raise got
            if got is None:
                return
            yield got

    def _parts(self) -> Iterator[tuple[NDArray[np.int64], NDArray]]:
        """The same, read from the file."""
        with (
            _naming_array(self.name),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"cells/{self.name}.npy") as cells,
            archive.open(f"{self.name}.npy") as data,
        ):
            shape, dtype = _header(data)
            if _header(cells) != (shape[:1], np.dtype(np.int64)):
                raise ValueError("no row for each cell")

            size = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
            count = max(1, _CHUNK // max(1, size))
            for first in range(0, shape[0], count):
                taken = min(count, shape[0] - first)
                rows = np.frombuffer(data.read(taken * size), dtype=dtype)
                yield np.frombuffer(cells.read(8 * taken), dtype=np.int64), rows.reshape(taken, *shape[1:])


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array whose file is then read from its first row."""
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype
