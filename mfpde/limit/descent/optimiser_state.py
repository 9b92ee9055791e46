"""The state of a method at every node, which optax makes and advances, for checkpoints on any number of ranks.

optax sees the parameters of all nodes of a rank as one array (P,): its updates are the same for every number in it, and
a few large arrays take less time than many small ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit.discretisation import AnyDiscretisation
from mfpde.output.checkpoint.state_dict import CellRows, StateDict, fitting

Array = NDArray[np.float64]
type OptimiserState = Any
"""A tree of optax's: arrays (P,) of the nodes of this rank, and numbers."""
type Shapes = Sequence[tuple[int, ...]]
"""Of the nodes of each family on this rank, (L, n, d)."""


def flat(arrays: Sequence[Array]) -> Array:
    """One array (P,) of those of all families, (L, n, d)."""
    return np.concatenate([array.ravel() for array in arrays])


def by_family(values: Array, shapes: Shapes) -> list[Array]:
    """The arrays (L, n, d) of all families of which `flat` made one."""
    ends = np.cumsum([np.prod(shape, dtype=np.int64) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(values, ends), shapes, strict=True)]


def saved_optimiser(discretisations: Sequence[AnyDiscretisation], state: OptimiserState, shapes: Shapes) -> StateDict:
    """The numbers of a method's state, as a checkpoint has them."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    return {
        str(place): _rows(discretisations, leaf, shapes) if leaf.ndim else leaf for place, leaf in enumerate(leaves)
    }


def loaded_optimiser(
    comm: MPI.Intracomm,
    discretisations: Sequence[AnyDiscretisation],
    saved: StateDict,
    like: OptimiserState,
    shapes: Shapes,
) -> OptimiserState:
    """The state that `saved_optimiser` gave, of the shapes of `like`; collective.

    Raises:
        InputError: on every rank, where arrays are missing or of other shapes.
    """
    leaves, tree = jax.tree.flatten(like)
    found = []
    for place, leaf in enumerate(map(np.asarray, leaves)):
        given = saved[str(place)]
        if not leaf.ndim:
            found.append(fitting(f"optimiser/{place}", np.asarray(given), leaf))
            continue
        parts = zip(_rows(discretisations, leaf, shapes).items(), discretisations, strict=True)
        rows = [given[family].read(comm, each.cell_order, own.rows) for (family, own), each in parts]
        found.append(flat([np.moveaxis(part, 0, 1) for part in rows]))
    return jax.tree.unflatten(tree, found)


def _rows(discretisations: Sequence[AnyDiscretisation], values: Array, shapes: Shapes) -> dict[str, CellRows]:
    """Of each discretisation, which has one family, the numbers of its nodes."""
    parts = zip(discretisations, by_family(values, shapes), strict=True)
    return {str(k): CellRows(each.cell_order, np.moveaxis(part, 1, 0)) for k, (each, part) in enumerate(parts)}
