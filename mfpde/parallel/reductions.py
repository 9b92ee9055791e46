"""Reductions, exchanges and barriers that leave the cores to ranks that compute."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mpi4py import MPI

from mfpde.parallel.working_ranks import oversubscribed

_SHORTEST_SLEEP = 1e-4  # seconds; a shorter sleep costs more than it saves
_LONGEST_SLEEP = 2e-3  # in a reduction, of which a step has several
_LONGEST_SLEEP_AT_BARRIER = 0.05  # where other ranks may be compiling
_SLEPT_FRACTION = 0.1  # of the time waited so far, until the request is tested again


def sum_over_ranks(comm: MPI.Intracomm, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of an array over all ranks; one reduction."""
    from mpi4py import MPI  # noqa: PLC0415

    return reduce_over_ranks(comm, share, MPI.SUM)


def reduce_over_ranks(comm: MPI.Intracomm, share: NDArray[np.float64], operation: MPI.Op) -> NDArray[np.float64]:
    """An Allreduce that yields the core.

    A rank that waits in a blocking reduction spins. Where there are more ranks than cores that takes the core from
    the rank that is being waited for, so there a waiting rank sleeps between tests.
    """
    total = np.empty_like(share)
    if oversubscribed(comm.size):
        _sleep_until_done(comm.Iallreduce(share, total, op=operation), _LONGEST_SLEEP)
    else:
        comm.Allreduce(share, total, op=operation)
    return total


def exchange(
    comm: MPI.Intracomm, given: Sequence[NDArray[np.float64]], sizes: Sequence[int]
) -> list[NDArray[np.float64]]:
    """What every rank has for this one, flat; an Alltoallv that yields the core.

    Args:
        comm: communicator.
        given: an array for each rank.
        sizes: of what comes from each rank.
    """
    if comm.size == 1:
        return [np.ravel(given[0])]

    sent = np.concatenate([np.ravel(each) for each in given])
    found = np.empty(sum(sizes))
    ends = (sent, [each.size for each in given]), (found, list(sizes))
    if oversubscribed(comm.size):
        _sleep_until_done(comm.Ialltoallv(*ends), _LONGEST_SLEEP)
    else:
        comm.Alltoallv(*ends)
    return np.split(found, np.cumsum(sizes)[:-1])


def barrier(comm: MPI.Intracomm) -> None:
    """Wait for all ranks without taking a core, for waits that may be long."""
    _sleep_until_done(comm.Ibarrier(), _LONGEST_SLEEP_AT_BARRIER)


def _sleep_until_done(request: MPI.Request, longest: float) -> None:
    """Sleep until a request is done, for longer intervals the longer it takes: testing costs, too."""
    begun = time.perf_counter()
    while not request.Test():
        waited = time.perf_counter() - begun
        time.sleep(min(max(_SHORTEST_SLEEP, _SLEPT_FRACTION * waited), longest))
