"""The contract of every object that has state: `state_dict()` gives it, `load_state_dict` or `from_state` takes it.

A state dict is a nesting of mappings and lists; its leaves are plain values, arrays that are the same on every rank,
and `CellRows`. Whoever has state names its own entries; `checkpoint` alone knows how they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError

type StateDict = dict[str, Any]


@dataclass(frozen=True)
class CellRows:
    """A leaf of a state dict: this rank's rows of an array that is distributed by the cells of a mesh.

    Attributes:
        cells: number of this rank's cells in the mesh's own order, (owned,).
        rows: (owned, …).
    """

    cells: NDArray[np.int64]
    rows: NDArray


def mapped(value: Any, leaf: Callable[[str, Any], Any], name: str = "") -> Any:
    """The same nesting with `leaf(path, value)` in place of its leaves; paths are as in "density/0"."""
    if isinstance(value, Mapping):
        return {key: mapped(inner, leaf, f"{name}/{key}" if name else str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [mapped(inner, leaf, f"{name}/{place}") for place, inner in enumerate(value)]
    return leaf(name, value)


def fitting(name: str, array: NDArray, like: NDArray) -> NDArray:
    """An array of a checkpoint, if it has the shape and dtype that it must have; without cells it may be empty.

    Raises:
        InputError: if it has not.
    """
    if array.size and array.shape != like.shape:
        raise InputError(f"its array {name} has shape {array.shape}, not {like.shape}")
    if array.dtype != like.dtype:
        raise InputError(f"its array {name} is of type {array.dtype}, not {like.dtype}")
    return array.reshape(like.shape)


@contextmanager
def checkpoint_errors() -> Iterator[None]:
    """Turn whatever fails on the content of a checkpoint into one line; the content is the same on every rank.

    Raises:
        InputError: when the body raised one, or an exception that a value of another kind causes.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"--resume: the checkpoint cannot be used: {error}") from error
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise InputError(f"--resume: the checkpoint cannot be used ({reason})") from error
