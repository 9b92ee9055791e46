"""One vector for all that steps move: density coefficients of all groups, their frames, then carried nodes.

Densities belong to this rank's cells; the rest is the same on every rank, and advanced there by the same sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.fem.frame import Frame
from mfpde.limit.gradient_flow import Rate
from mfpde.limit.lagrangian.nodes import Carried
from mfpde.limit.state import Group, State

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """Where everything stands in the vector.

    Attributes:
        groups: whose densities and frames come first.
        carried: nodes like those that come last.
    """

    groups: Sequence[Group]
    carried: Sequence[Carried]

    def state(self, tau: float, values: Array) -> State:
        """The state at τ with these values (views)."""
        taken = iter(_cut(values, self._shapes()))
        density = tuple(next(taken) for _ in self.groups)
        frame = tuple(Frame(next(taken), next(taken)) for _ in self.groups)
        carried = tuple(replace(nodes, position=next(taken), log_density=next(taken)) for nodes in self.carried)
        return State(tau, density, frame, carried)

    def _shapes(self) -> list[tuple[int, ...]]:
        sizes = [(group.transport.blocks, group.space.dim) for group in self.groups]
        frames = [shape for blocks, dim in sizes for shape in ((blocks, dim), (blocks, dim, dim))]
        nodes = [array.shape for each in self.carried for array in (each.position, each.log_density)]
        return [*(group.shape for group in self.groups), *frames, *nodes]


def packed(parts: State | Rate) -> Array:
    """The vector of a state, or of its rate."""
    return np.concatenate([densities(parts), frames(parts.frame), nodes(parts.carried)])


def densities(parts: State | Rate) -> Array:
    """The densities' part of the vector."""
    return np.concatenate([np.empty(0), *(array.ravel() for array in parts.density)])


def frames(parts: Sequence[Frame]) -> Array:
    """The frames' part of the vector."""
    return np.concatenate([np.empty(0), *(array.ravel() for frame in parts for array in (frame.centre, frame.matrix))])


def nodes(parts: Sequence[Carried]) -> Array:
    """The carried nodes' part of the vector."""
    return np.concatenate([np.empty(0), *(a.ravel() for each in parts for a in (each.position, each.log_density))])


def _cut(values: Array, shapes: Sequence[tuple[int, ...]]) -> Iterator[Array]:
    at = 0
    for shape in shapes:
        size = int(np.prod(shape))
        yield values[at : at + size].reshape(shape)
        at += size
