"""Agreement between ranks: a rank that fails alone would leave the others waiting in the next collective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from mpi4py import MPI
    from numpy.typing import NDArray

from mfpde.errors import ComputationError, InputError
from mfpde.inputs import short
from mfpde.parallel.working_ranks import communicator

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
    import numpy as np  # noqa: PLC0415  (a rank that sleeps needs none)
    from mpi4py import MPI  # noqa: PLC0415

    from mfpde.parallel.reductions import reduce_over_ranks  # noqa: PLC0415

    comm = communicator()
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
    comm = communicator()
    mine = agree(lambda: work() if comm.rank == 0 else None)
    return comm.bcast(mine, root=0)


def equal_on_ranks(comm: MPI.Intracomm, mine: NDArray[np.float64]) -> bool:
    """Does every rank have the numbers of rank 0, to nine digits? The same answer on all ranks; collective."""
    import numpy as np  # noqa: PLC0415

    from mfpde.parallel.reductions import sum_over_ranks  # noqa: PLC0415

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
    mine = {name: repr(str(value) if isinstance(value, Path) else value) for name, value in settings.items()}
    first, *others = communicator().allgather(mine)

    for rank, other in enumerate(others, start=1):
        for key in (*first, *(name for name in other if name not in first)):
            here, there = other.get(key, "not given"), first.get(key, "not given")
            if here != there:
                raise InputError(
                    f"{key} is {_excerpt(there, here)} on rank 0 and {_excerpt(here, there)} on rank {rank}; "
                    "it must be the same on every rank"
                )


def _excerpt(text: str, other: str) -> str:
    """A text as a message shows it, from shortly before the place where it differs from another one."""
    pairs = zip(text, other, strict=False)
    differ = next((k for k, (here, there) in enumerate(pairs) if here != there), min(len(text), len(other)))
    start = max(differ - _COMMON, 0)
    return "..." * (start > 0) + short(text[start:], 60)
