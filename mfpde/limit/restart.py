"""The state as a state dict of a checkpoint, and back on any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from mfpde.errors import InputError
from mfpde.inputs import real
from mfpde.limit.discretisation import AnyDiscretisation
from mfpde.limit.state import State
from mfpde.output.checkpoint.state_dict import CellRows, StateDict, fitting


def saved_state(discretisations: Sequence[AnyDiscretisation], state: State) -> StateDict:
    """τ and all arrays of a state."""
    parts = [
        {name: CellRows(each.cell_order, np.moveaxis(array, part.axis, 0)) for name, array in part.cells().items()}
        | part.common()
        for each, part in zip(discretisations, state.parts, strict=True)
    ]
    return {"tau": state.tau, "parts": parts}


def loaded_state(
    comm: MPI.Intracomm, discretisations: Sequence[AnyDiscretisation], saved: StateDict, like: State
) -> State:
    """The state that `saved_state` gave, with parts of the shapes of `like`; collective.

    Raises:
        InputError: on every rank, when arrays are missing, of other shapes, or of frames or tables that cannot be.
    """
    parts = []
    for g, (each, part) in enumerate(zip(discretisations, like.parts, strict=True)):
        found = saved["parts"][g]
        arrays = {}
        for name, array in part.cells().items():
            rows = found[name].read(comm, each.cell_order, np.moveaxis(array, part.axis, 0))
            arrays[name] = np.ascontiguousarray(np.moveaxis(rows, 0, part.axis))
        for name, array in part.common().items():
            arrays[name] = fitting(f"parts/{g}/{name}", found[name], array)

        if "matrix" in arrays:
            size = np.abs(np.linalg.det(arrays["matrix"]))
            if not (np.isfinite(size) & (size > 0.0)).all():
                raise InputError(f"its frame {g} has no inverse")
        parts.append(part.with_arrays(arrays))
        each.check(parts[-1])
    return State(real("tau", saved["tau"], least=0.0), tuple(parts))
