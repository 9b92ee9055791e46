"""Agreement between ranks: a rank that fails alone would leave the others waiting in the next collective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mpi4py import MPI

from mfpde.errors import ComputationError, InputError
from mfpde.inputs import short
from mfpde.parallel.reductions import reduce_over_ranks, sum_over_ranks

_COMMON = 30  # characters that a message shows of what two long values have in common


def agree[Result](work: Callable[[], Result]) -> Result:
    """Run rank-local `work` on every rank; an expected error on one becomes the same error on all. Collective.

    For example, a file may exist on one node and not on another.

    Args:
        work: a function that enters no collective.

    Raises:
        InputError: the message of the lowest rank that raised one.
        ComputationError: likewise.
    """
    from mpi4py import MPI  # noqa: PLC0415

    comm = MPI.COMM_WORLD
    result: Result | None = None
    failure: tuple[type[Exception], str] | None = None
    try:
        result = work()
    except (InputError, ComputationError) as error:
        failure = (type(error), str(error))

    first = int(reduce_over_ranks(comm, np.array([float(comm.rank if failure else comm.size)]), MPI.MIN)[0])
    if first < comm.size:
        kind, text = comm.bcast(failure, root=first)
        raise kind(text)
    return result  # type: ignore[return-value]


def from_first[Result](work: Callable[[], Result]) -> Result:
    """The result of rank-local `work` on rank 0, on every rank; if it fails there, it fails on all. Collective.

    Args:
        work: a function that enters no collective.

    Raises:
        InputError: as `agree`.
        ComputationError: likewise.
    """
    from mpi4py import MPI  # noqa: PLC0415

    comm = MPI.COMM_WORLD
    mine = agree(lambda: work() if comm.rank == 0 else None)
    return comm.bcast(mine, root=0)


def equal_on_ranks(comm: MPI.Intracomm, mine: NDArray[np.float64]) -> bool:
    """Does every rank have the numbers of rank 0, to nine digits? The same answer on all ranks; collective."""
    first = comm.bcast(mine, root=0)
    equal = mine.shape == first.shape and np.allclose(mine, first, rtol=1e-9, atol=0.0, equal_nan=True)
    return bool(sum_over_ranks(comm, np.array([0.0 if equal else 1.0]))[0] == 0.0)


def require_equal(settings: Mapping[str, object]) -> None:
    """Refuse settings that differ between ranks, before a collective that depends on one. Collective.

    Ranks differ where a script derives a value from the rank's number, where `mpirun` starts several command lines, and
    where the same path names different files on different machines.

    Args:
        settings: name → value; two values are equal if they are written alike.

    Raises:
        InputError: on every rank, naming the first that differs.
    """
    from mpi4py import MPI  # noqa: PLC0415

    comm = MPI.COMM_WORLD
    mine = {name: repr(str(value) if isinstance(value, Path) else value) for name, value in settings.items()}
    first = comm.bcast(mine, root=0)

    def compare() -> None:
        for key in (*first, *(n for n in mine if n not in first)):
            here, there = mine.get(key, "not given"), first.get(key, "not given")
            if here != there:
                raise InputError(
                    f"{key} is {_excerpt(there, here)} on rank 0 and {_excerpt(here, there)} on rank {comm.rank}; "
                    "it must be the same on every rank"
                )

    agree(compare)


def _excerpt(text: str, other: str) -> str:
    """A text as a message shows it, from shortly before the place where it differs from another one."""
    pairs = zip(text, other, strict=False)
    differ = next((k for k, (here, there) in enumerate(pairs) if here != there), min(len(text), len(other)))
    start = max(differ - _COMMON, 0)
    return "..." * (start > 0) + short(text[start:], 60)
