"""Sums over ranks that do not depend on the number of ranks, bit by bit.

Floating-point addition is not associative: what 2 and 3 ranks add up differs by rounding. Here every term is cut into
three parts that are whole multiples of the quanta 2⁻²⁰, 2⁻⁵⁰ and 2⁻⁸⁰. Multiples of one quantum add without any
rounding, in any order and grouping, as long as their sum stays below 2⁵³ quanta; so each level is summed exactly and
the levels are added at the very end, once, in a fixed order. What is dropped of a term is below 2⁻⁸¹. Sums beyond 2³³,
or of more than 2²⁴ terms, are as accurate as ordinary ones but may again depend on the order.
Source: Demmel & Nguyen, *Fast reproducible floating-point summation*, ARITH 2013 (pre-rounding).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mfpde.parallel.compilation import kernel

Array = NDArray[np.float64]
LEVELS = 3
ANCHORS = tuple(1.5 * 2.0**52 * quantum for quantum in (2.0**-20, 2.0**-50, 2.0**-80))
"""Adding and subtracting an anchor rounds to its level's quantum."""
_FIRST, _SECOND, _THIRD = ANCHORS


@dataclass(frozen=True)
class Share:
    """One rank's part of a sum.

    Attributes:
        levels: (3, …), each an exact sum.
        form: a linear map of the sum over all ranks, which rounds and so has to come after it; None for no map.
    """

    levels: Array
    form: Callable[[Array], Array] | None = None

    @property
    def value(self) -> Array:
        """This rank's part as ordinary numbers."""
        return self.formed(collapse(self.levels))

    def formed(self, total: Array) -> Array:
        """What is made of the sum over ranks."""
        return total if self.form is None else self.form(total)

    def __add__(self, other: Share) -> Share:
        return replace(self, levels=self.levels + other.levels)

    def __sub__(self, other: Share) -> Share:
        return replace(self, levels=self.levels - other.levels)


def share_of(terms: Array, axes: tuple[int, ...] = ()) -> Share:
    """The exact sum of this rank's terms over some axes; not finite where a term is not."""
    with np.errstate(invalid="ignore"):  # infinities give a sum that is not finite, and no warning
        return Share(split(np.asarray(terms, dtype=np.float64)).sum(axis=tuple(axis + 1 for axis in axes)))


def split(terms: Array) -> Array:
    """The levels (3, …) of terms (…)."""
    levels = np.empty((LEVELS, *terms.shape))
    rest = terms
    for level, anchor in enumerate(ANCHORS):
        levels[level] = (rest + anchor) - anchor
        rest = rest - levels[level]
    return levels


@kernel()
def add_exactly(terms: Array, first: Array, second: Array, third: Array) -> None:
    """Add terms (b,) to the three levels of their sums, inside a compiled loop."""
    for b in range(terms.size):
        high = (terms[b] + _FIRST) - _FIRST
        rest = terms[b] - high
        middle = (rest + _SECOND) - _SECOND
        first[b] += high
        second[b] += middle
        third[b] += ((rest - middle) + _THIRD) - _THIRD


def split_traced(terms: jax.Array) -> jax.Array:
    """`split` inside a compiled JAX function."""
    levels, rest = [], terms
    for anchor in ANCHORS:
        levels.append((rest + anchor) - anchor)
        rest = rest - levels[-1]
    return jnp.stack(levels)


def collapse(levels: Array) -> Array:
    """Ordinary numbers (…) from levels (3, …), the smallest first."""
    return np.asarray(levels[0] + (levels[1] + levels[2]))


def pack(parts: Sequence[Share | Array]) -> Array:
    """All parts as one array (3, n) for one reduction; an ordinary array counts as one term."""
    levels = [(part if isinstance(part, Share) else share_of(part)).levels for part in parts]
    return np.concatenate([level.reshape(LEVELS, -1) for level in levels], axis=1)


def unpack(total: Array, parts: Sequence[Share | Array]) -> list[Array]:
    """The sums, in the shapes of the parts or as their `form` has them."""
    shares = [part if isinstance(part, Share) else Share(np.broadcast_to(0.0, (LEVELS, *part.shape))) for part in parts]
    sizes = [int(np.prod(share.levels.shape[1:])) for share in shares]
    pieces = np.split(collapse(total), np.cumsum(sizes)[:-1])
    return [share.formed(piece.reshape(share.levels.shape[1:])) for share, piece in zip(shares, pieces, strict=True)]
