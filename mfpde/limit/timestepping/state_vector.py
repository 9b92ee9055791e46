"""One vector for all that time steps advance: the arrays on cells of this rank, then those common to all ranks.

The common arrays are advanced on every rank by the same sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.state import Part, State

Array = NDArray[np.float64]


@dataclass(frozen=True)
class StateVector:
    """Where everything stands in the vector.

    Attributes:
        like: parts of the same shapes, whose arrays that do not move are those of all states made here.
    """

    like: tuple[Part, ...]

    def state(self, tau: float, values: Array) -> State:
        """The state at τ with these values (views)."""
        taken = _cut(values, [array.shape for array in (*_cells(self.like), *_common(self.like))])
        own = [{name: next(taken) for name in _moving(part, part.cells())} for part in self.like]
        moving = [{name: next(taken) for name in _moving(part, part.common())} for part in self.like]
        parts = zip(self.like, own, moving, strict=True)
        return State(tau, tuple(part.with_arrays(mine | moved) for part, mine, moved in parts))


def vector_of(parts: Sequence[Part]) -> StateVector:
    """The vector of such parts; it keeps none of their densities in memory."""
    return StateVector(tuple(part.outline() for part in parts))


def packed(parts: Sequence[Part]) -> Array:
    """The vector of the parts of a state, or of its rate."""
    return _flat([*_cells(parts), *_common(parts)])


def cell_values(parts: Sequence[Part]) -> Array:
    """The vector's part on the cells of this rank."""
    return _flat(_cells(parts))


def common_values(parts: Sequence[Part]) -> Array:
    """The vector's part that is common to all ranks."""
    return _flat(_common(parts))


def _cells(parts: Sequence[Part]) -> list[Array]:
    return [array for part in parts for array in _moving(part, part.cells()).values()]


def _common(parts: Sequence[Part]) -> list[Array]:
    return [array for part in parts for array in _moving(part, part.common()).values()]


def _moving(part: Part, arrays: dict[str, Array]) -> dict[str, Array]:
    """Those of the arrays that time steps advance."""
    return {name: array for name, array in arrays.items() if name in part.moving}


def _flat(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.empty(0), *(array.ravel() for array in arrays)])


def _cut(values: Array, shapes: Sequence[tuple[int, ...]]) -> Iterator[Array]:
    at = 0
    for shape in shapes:
        size = int(np.prod(shape))
        yield values[at : at + size].reshape(shape)
        at += size
