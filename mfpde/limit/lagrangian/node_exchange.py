"""Arrays over the nodes on their way between ranks: to where neighbours, or a whole layer, are needed, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.lagrangian.grid import LagrangianGrid
from mfpde.parallel.reductions import exchange

Array = NDArray[np.float64]


def assembled(grid: LagrangianGrid, own: Array, wanted: Sequence[slice]) -> Array:
    """The values (L, w, c) of the nodes that this rank wants, from those of each rank's own, (L, n, c); collective.

    Args:
        grid: of the nodes.
        own: values at this rank's nodes.
        wanted: the nodes that each rank wants.
    """
    rank, owners = grid.comm.rank, grid.owners
    here, mine = owners[rank].start, wanted[rank]
    given = []
    for want in wanted:
        both = _common(owners[rank], want)
        given.append(own[:, both.start - here : both.stop - here])

    layers, _, columns = own.shape
    counts = [_size(_common(owner, mine)) for owner in owners]
    found = exchange(grid.comm, given, [layers * count * columns for count in counts])
    return np.concatenate([each.reshape(layers, -1, columns) for each in found if each.size] or [own[:, :0]], axis=1)


def by_layers(grid: LagrangianGrid, own: Array, width: int, work: Callable[[int, Array], Array]) -> Array:
    """The results (L, n, width) of rank-local work on all nodes of a layer, from values (L, n, c); collective.

    Args:
        grid: of the nodes.
        own: values at this rank's nodes.
        width: numbers that the work makes of a node.
        work: makes (N, width) of a layer's number and its values (N, c) at all N nodes; layers are dealt out to the
            ranks.
    """
    ranks, rank, made = grid.comm.size, grid.comm.rank, []
    sizes = [_size(owner) for owner in grid.owners]
    for first in range(0, grid.layers, ranks):
        dealt = range(first, min(first + ranks, grid.layers))
        given = [own[layer] for layer in dealt] + [own[:0]] * (ranks - len(dealt))
        busy = first + rank in dealt
        found = exchange(grid.comm, given, [size * own.shape[2] * busy for size in sizes])

        results = np.empty((0, width))
        if busy:
            results = work(first + rank, np.concatenate(found).reshape(-1, own.shape[2]))
        back = [results[owner] for owner in grid.owners]
        found = exchange(grid.comm, back, [width * sizes[rank] * (r < len(dealt)) for r in range(ranks)])
        made += [each.reshape(-1, width) for each in found[: len(dealt)]]
    return np.stack(made)


def _common(one: slice, other: slice) -> slice:
    start = max(one.start, other.start)
    return slice(start, max(start, min(one.stop, other.stop)))


def _size(nodes: slice) -> int:
    return int(nodes.stop - nodes.start)
