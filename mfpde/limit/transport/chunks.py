"""In which order cells are processed, and how long their results wait for those of their neighbours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.fem.space import Space

Index = NDArray[np.int32]


class Chunks(NamedTuple):
    """Which cells are processed together (n chunks), when, and where their results wait."""

    first: Index  # (n,) their first cell; chunks of owned cells, then chunks of ghosts
    cells: Index  # (n,) how many
    need: Index  # (owned chunks,) the last owned chunk whose first pass comes before the second of this one
    slot: Index  # (n,) where the results of the first pass wait
    blocks: int


def cut(space: Space, blocks: int, per: int) -> Chunks:
    """Cut owned cells and ghosts into chunks of `per`, and find out how long each chunk's results are waited for."""
    cells, owned = len(space.vertices), space.owned
    first = np.concatenate([np.arange(0, owned, per), np.arange(owned, cells, per)])
    count = np.diff(np.append(first, cells))
    chunk = np.repeat(np.arange(len(first)), count)
    mine = int(np.searchsorted(first, owned))
    across = np.where(space.facets.neighbour[:owned] < owned, space.facets.neighbour[:owned], -1)
    need = np.arange(mine)
    linked = np.where(across < 0, chunk[:owned, None], chunk[across])
    np.maximum.at(need, chunk[:owned], linked.max(axis=1, initial=0))
    oldest = np.arange(mine)  # results that the second passes from this chunk on still want
    np.minimum.at(oldest, chunk[:owned], linked.min(axis=1, initial=mine))
    oldest = np.minimum.accumulate(oldest[::-1])[::-1]
    need = np.maximum.accumulate(need)
    ring = int((need - oldest).max(initial=0)) + 1
    slot = np.concatenate([np.arange(mine) % ring, ring + np.arange(len(first) - mine)])
    return Chunks(
        first=first.astype(np.int32),
        cells=count.astype(np.int32),
        need=need.astype(np.int32),
        slot=slot.astype(np.int32),
        blocks=blocks,
    )
