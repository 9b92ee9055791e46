"""Reductions, exchanges and barriers that leave the cores to ranks that compute."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mpi4py import MPI

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
    if _oversubscribed(comm.size):
        _sleep_until_done(comm.Iallreduce(share, total, op=operation), _LONGEST_SLEEP)
    else:
        comm.Allreduce(share, total, op=operation)
    return total


def gather_on_all_ranks(comm: MPI.Intracomm, own: NDArray[np.float64], sizes: list[int]) -> list[NDArray[np.float64]]:
    """The flat arrays of all ranks, of these sizes, on every rank; an Allgatherv that yields the core."""
    whole = np.empty(sum(sizes))
    target = (whole, sizes)
    if _oversubscribed(comm.size):
        _sleep_until_done(comm.Iallgatherv(own, target), _LONGEST_SLEEP)
    else:
        comm.Allgatherv(own, target)
    return np.split(whole, np.cumsum(sizes)[:-1])


def barrier(comm: MPI.Intracomm) -> None:
    """Wait for all ranks without taking a core, for waits that may be long."""
    _sleep_until_done(comm.Ibarrier(), _LONGEST_SLEEP_AT_BARRIER)


def _sleep_until_done(request: MPI.Request, longest: float) -> None:
    """Sleep until a request is done, for longer intervals the longer it takes: testing costs, too."""
    begun = time.perf_counter()
    while not request.Test():
        waited = time.perf_counter() - begun
        time.sleep(min(max(_SHORTEST_SLEEP, _SLEPT_FRACTION * waited), longest))


@cache
def _oversubscribed(ranks: int) -> bool:
    """Are there more ranks than cores, if all of them run on machines like this one?"""
    return ranks > (os.process_cpu_count() or 1) if hasattr(os, "process_cpu_count") else ranks > (os.cpu_count() or 1)
