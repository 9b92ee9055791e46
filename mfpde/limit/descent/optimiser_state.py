"""The state of a method at every node, which optax makes and advances, for checkpoints on any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit.discretisation import AnyDiscretisation
from mfpde.output.checkpoint.state_dict import CellRows, StateDict, fitting

type OptimiserState = Any
"""A tree of optax's: per family arrays (L, n, d) of the nodes of this rank, and numbers."""
_NODES = 3  # axes of an array that has a number for every parameter of every node


def saved_optimiser(discretisations: Sequence[AnyDiscretisation], state: OptimiserState) -> StateDict:
    """The numbers of a method's state, as a checkpoint has them."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    owners = _owners(discretisations, leaves)
    return {
        str(place): leaf if owner is None else CellRows(owner.cell_order, np.moveaxis(leaf, 1, 0))
        for place, (leaf, owner) in enumerate(zip(leaves, owners, strict=True))
    }


def loaded_optimiser(
    comm: MPI.Intracomm, discretisations: Sequence[AnyDiscretisation], saved: StateDict, like: OptimiserState
) -> OptimiserState:
    """The state that `saved_optimiser` gave, of the shapes of `like`; collective.

    Raises:
        InputError: on every rank, where arrays are missing or of other shapes.
    """
    leaves, tree = jax.tree.flatten(like)
    arrays = [np.asarray(leaf) for leaf in leaves]
    found = []
    for place, (array, owner) in enumerate(zip(arrays, _owners(discretisations, arrays), strict=True)):
        if owner is None:
            found.append(fitting(f"optimiser/{place}", np.asarray(saved[str(place)]), array))
            continue
        rows = saved[str(place)].read(comm, owner.cell_order, np.moveaxis(array, 1, 0))
        found.append(np.ascontiguousarray(np.moveaxis(rows, 0, 1)))
    return jax.tree.unflatten(tree, found)


def _owners(
    discretisations: Sequence[AnyDiscretisation], leaves: Sequence[NDArray[Any]]
) -> list[AnyDiscretisation | None]:
    """Whose nodes each array belongs to; None for numbers that are the same on every rank.

    What optax keeps of the parameters is one array a family, in their order.
    """
    owners, count = list[AnyDiscretisation | None](), 0
    for leaf in leaves:
        of_nodes = leaf.ndim == _NODES
        owners.append(discretisations[count % len(discretisations)] if of_nodes else None)
        count += of_nodes
    return owners
