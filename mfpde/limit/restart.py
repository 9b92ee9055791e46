"""What of a solver determines the future, as arrays and plain values, and a solver's state from them again.

`State` is taken apart by its fields, so that one that is added there is saved too: numbers are plain values; of the
entries per group, arrays belong to the group's cells, and what is a dataclass of arrays (`Frame`) is the same on every
rank.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import real
from mfpde.limit.state import Group, State
from mfpde.output.checkpoint.checkpoint import Contents, read_common, read_rows
from mfpde.parallel.agreement import agree, from_first

_MESH = "{0}mesh{1}"


@dataclass(frozen=True)
class Saved:
    """A solver's part of a checkpoint.

    Attributes:
        path: the file, on rank 0.
        memory: the facts of `Solver.contents`, on every rank.
        prefix: before the names of arrays.
    """

    path: Path | None
    memory: Mapping[str, Any]
    prefix: str = ""

    @property
    def finer(self) -> Saved:
        """The part of the finer solver."""
        return Saved(self.path, self.memory["finer"], f"{self.prefix}finer/")

    def arrays(self) -> dict[str, NDArray]:
        """Arrays of the stepper, the same on every rank, by their names without the prefix; collective.

        Raises:
            InputError: on every rank, when one of them is not there.
        """
        path, names = self.path, {str(name): f"{self.prefix}{name}" for name in self.memory["arrays"]}
        found = from_first(lambda: read_common(path, names.values()) if path is not None else {})
        return {name: found[full] for name, full in names.items()}

    def state(self, comm: MPI.Intracomm, groups: Sequence[Group], like: State) -> State:
        """The state; collective. See `restore`."""
        return restore(comm, self.path, self.prefix, groups, like, self.memory["state"])


@contextmanager
def understood() -> Iterator[None]:
    """What a checkpoint says is of the kinds that this version writes; it is the same on every rank.

    Raises:
        InputError: when it is not.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"--resume: the checkpoint cannot be used: {error}") from error
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise InputError(f"--resume: the checkpoint cannot be used ({reason})") from error


def dismantle(prefix: str, groups: Sequence[Group], state: State) -> Contents:
    """A state as named arrays; `facts` has its numbers.

    Args:
        prefix: before all names.
        groups: of the state.
        state: the state.
    """
    facts: dict[str, Any] = {}
    common: dict[str, NDArray] = {}
    shares: dict[str, tuple[str, NDArray]] = {}
    for field, value in _fields(state):
        if not isinstance(value, tuple):
            facts[field] = value
            continue
        for g, part in enumerate(value):
            name = f"{prefix}{field}/{g}"
            if isinstance(part, np.ndarray):
                shares[name] = (_MESH.format(prefix, g), part)
            else:
                common |= {f"{name}/{inner}": array for inner, array in _fields(part)}
    cells = {_MESH.format(prefix, g): group.space.cell_order for g, group in enumerate(groups)}
    return Contents(facts, common, cells, shares)


def restore(
    comm: MPI.Intracomm, path: Path | None, prefix: str, groups: Sequence[Group], like: State, facts: Mapping[str, Any]
) -> State:
    """The state that `dismantle` took apart, on any number of ranks; collective.

    Args:
        comm: communicator.
        path: the checkpoint file, on rank 0.
        prefix: before all names.
        groups: of the state.
        like: a state of the same groups, for the shapes.
        facts: the numbers.

    Raises:
        InputError: on every rank, when the file holds a state of another shape.
    """
    names = [
        f"{prefix}{field}/{g}/{inner}"
        for field, value in _fields(like)
        if isinstance(value, tuple)
        for g, part in enumerate(value)
        if not isinstance(part, np.ndarray)
        for inner, _ in _fields(part)
    ]
    common = from_first(lambda: read_common(path, names) if path is not None else {})

    def entry(field: str, g: int, part: Any) -> Any:
        name = f"{prefix}{field}/{g}"
        if isinstance(part, np.ndarray):
            rows = read_rows(comm, path, name, _MESH.format(prefix, g), groups[g].space.cell_order)
            return agree(lambda: _checked(name, rows, part))
        inner = {key: _checked(f"{name}/{key}", common[f"{name}/{key}"], array) for key, array in _fields(part)}
        return dataclasses.replace(part, **inner)

    changes: dict[str, Any] = {}
    for field, value in _fields(like):
        if isinstance(value, tuple):
            changes[field] = tuple(entry(field, g, part) for g, part in enumerate(value))
        else:
            changes[field] = real(field, facts[field], least=0.0)  # tau
    state = dataclasses.replace(like, **changes)
    for g, frame in enumerate(state.frame):
        size = frame.determinant
        if not (np.isfinite(size) & (size > 0.0)).all():
            raise InputError(f"its frame {g} has no inverse")
    return state


def _checked(name: str, array: NDArray, like: NDArray) -> NDArray:
    """An array of the shape that it must have; of ranks without cells it is empty."""
    if array.size and array.shape != like.shape:
        raise InputError(f"its array {name} has shape {array.shape}, not {like.shape}")
    if array.dtype != like.dtype:
        raise InputError(f"its array {name} is of type {array.dtype}, not {like.dtype}")
    return array.reshape(like.shape)


def _fields(parts: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(parts, field.name)) for field in dataclasses.fields(parts)]
