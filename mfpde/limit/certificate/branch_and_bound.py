"""Boxes in which a potential may still be lower than the lowest value found, divided by branch and bound.

In a box of centre c and half-widths h the reduced potential W = λ/2 |q|² − gain(q) is estimated from below by its
derivatives at c,

    W(c) − Σ_i |∂_i W| h_i − ½ κ Σ_ij |∂_ij gain| h_i h_j,    κ = 2,

which holds where no second derivative of the gain is more than twice that at the centre. Where the gain grows like an
exponential, as in the tails of a narrow unit, this estimate is too high; a logarithm that is concave there lies below
its tangent, which gives gain(c) exp(Σ_i |∂_i gain| h_i / gain(c)) instead. At centres where the gain vanishes to
rounding there is no estimate; such boxes are divided down to a fixed spacing.

A box whose estimate is below the least value found, less a tolerance, is open. The lowest open box is divided in three
along the direction that lowers its estimate most, so that points are spent where a minimum may be and the family's own
scale decides their distance: division ends where curvature is resolved between points. Estimates are no bounds, as the
family is a black box: a unit narrower than the spacing, far from all points, is missed.
Source: Jones, Perttunen & Stuckman, *J. Optim. Theory Appl.* 79 (1993), for the division in three; Land & Doig,
*Econometrica* 28 (1960), for branch and bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_CURVATURE_MARGIN = 2.0  # κ
_TAIL = 0.75  # gain · gain″ / gain′² above which the gain grows like an exponential; 1 for one, ½ at a zero of v·G
_LARGEST = 700.0  # exponent
_INTERVALS = {1: 28, 2: 10, 3: 4}  # of a coordinate between the innermost and the outermost radius, at the start
_OUTWARD = {1: 6, 2: 3, 3: 2}  # intervals that an extension of the region adds
_SPACING = {1: 2048, 2: 64, 3: 16}  # boxes across the region, where the gain vanishes
MOST_POINTS = {1: 8192, 2: 8192, 3: 8192}  # of one block


@dataclass
class _Boxes:
    """Boxes, centre q (n, m) and half-widths h (n, m), and at the centres W (n,), the gain and their derivatives."""

    centre: Array
    half: Array
    value: Array
    slope: Array
    gain: Array
    gain_slope: Array
    gain_curvature: Array

    def __len__(self) -> int:
        return len(self.centre)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> _Boxes:
        return _Boxes(*(getattr(self, field.name)[rows] for field in fields(self)))

    @staticmethod
    def joined(parts: Sequence[_Boxes]) -> _Boxes:
        """All boxes of the parts."""
        return _Boxes(*(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(_Boxes)))


class Cover:
    """The boxes of one family in one layer.

    Attributes:
        outer: half-width of the region that they cover.
        count: points evaluated.
    """

    def __init__(self, weight_decay: float, m: int, inner: float, outer: float) -> None:
        """Boxes that grow with the distance from zero; none is evaluated yet.

        Args:
            weight_decay: λ > 0.
            m: number of coordinates.
            inner: half-width of the box around zero.
            outer: half-width of the region.
        """
        self._decay, self._m = weight_decay, m
        self.outer, self.count = outer, 0
        edges = inner * (outer / inner) ** np.linspace(0.0, 1.0, _INTERVALS[m] + 1)
        self._requested = np.empty((0, m)), np.empty((0, m))
        self._pending: list[tuple[Array, Array]] = [_grid(np.concatenate([-edges[::-1], edges]), m)]
        none = np.empty((0, m))
        self._boxes = _Boxes(none, none, none[:, 0], none, none[:, 0], none, np.empty((0, m, m)))

    def widen(self, outer: float) -> None:
        """Extend the region."""
        steps = self.outer * (outer / self.outer) ** np.linspace(0.0, 1.0, _OUTWARD[self._m] + 1)
        centre, half = _grid(np.concatenate([-steps[::-1], [0.0], steps]), self._m)
        beyond = (np.abs(centre) > self.outer).any(axis=1)
        self._pending.append((centre[beyond], half[beyond]))
        self.outer = outer

    @property
    def pending(self) -> bool:
        """Are there boxes whose centres have not been evaluated?"""
        return bool(self._pending)

    @property
    def boundary_value(self) -> float:
        """The least W at the centres of boxes that touch the boundary of the region."""
        touching = (np.abs(self._boxes.centre) + self._boxes.half > 0.999 * self.outer).any(axis=1)
        return float(self._boxes.value[touching].min(initial=np.inf))

    @property
    def evaluated(self) -> tuple[Array, Array]:
        """Centres (n, m) and W (n,)."""
        return self._boxes.centre, self._boxes.value

    def lowest(self, best: float) -> float:
        """A lower estimate of W in the region, at most `best`."""
        return min(best, float(self._floors().min(initial=np.inf)))

    def divide(self, below: float, room: int) -> None:
        """Divide the lowest boxes whose estimate is below a value, for at most `room` new centres."""
        room = min(room, MOST_POINTS[self._m] - self.count)
        floors = self._floors()
        chosen = np.argsort(floors, kind="stable")[: max(room // 2, 0)]
        chosen = chosen[floors[chosen] < below]
        if not len(chosen):
            return

        boxes, kept = self._boxes[chosen], np.ones(len(self._boxes), dtype=bool)
        kept[chosen] = False
        along, rows = self._decreases(boxes).argmax(axis=1), np.arange(len(boxes))
        boxes.half[rows, along] /= 3.0

        shift = np.zeros_like(boxes.centre)
        shift[rows, along] = 2.0 * boxes.half[rows, along]
        self._boxes = _Boxes.joined([self._boxes[kept], boxes])
        self._pending += [(boxes.centre + shift, boxes.half), (boxes.centre - shift, boxes.half)]

    def next_points(self, count: int) -> Array:
        """Up to `count` centres (n, m) to be evaluated; `record` takes the results."""
        centre, half = (np.concatenate(parts) for parts in zip(*self._pending, strict=True))
        self._requested = centre[:count], half[:count]
        self._pending = [(centre[count:], half[count:])] if len(centre) > count else []
        return self._requested[0]

    def record(self, value: Array, slope: Array, gain: Array, gain_slope: Array, gain_curvature: Array) -> None:
        """Add W and its slope, the gain and its derivatives at the centres that `next_points` gave."""
        centre, half = self._requested
        self.count += len(centre)
        new = _Boxes(centre, half.copy(), value, slope, gain, gain_slope, gain_curvature)
        self._boxes = _Boxes.joined([self._boxes, new])

    def _decreases(self, boxes: _Boxes) -> Array:
        """By how much each coordinate lowers the estimate (n, m); its width where there is no estimate."""
        curved = np.einsum("nij,nj->ni", np.abs(boxes.gain_curvature), boxes.half)
        decreases = (np.abs(boxes.slope) + 0.5 * _CURVATURE_MARGIN * curved) * boxes.half
        decreases += np.where(_in_tail(boxes)[:, None], np.abs(boxes.gain_slope) * boxes.half, 0.0)
        return np.where(_uninformative(boxes)[:, None], boxes.half, decreases + 1e-300 * boxes.half)

    def _floors(self) -> Array:
        """The estimates of W from below (n,)."""
        boxes = self._boxes
        curved = np.einsum("nij,ni,nj->n", np.abs(boxes.gain_curvature), boxes.half, boxes.half)
        floors = boxes.value - (np.abs(boxes.slope) * boxes.half).sum(axis=1) - 0.5 * _CURVATURE_MARGIN * curved

        tail = _in_tail(boxes)
        grown = (np.abs(boxes.gain_slope) * boxes.half).sum(axis=1) / np.where(tail, boxes.gain, 1.0)
        nearest = np.maximum(np.abs(boxes.centre) - boxes.half, 0.0)
        by_growth = 0.5 * self._decay * (nearest**2).sum(axis=1) - boxes.gain * np.exp(np.minimum(grown, _LARGEST))
        floors = np.where(tail, np.minimum(floors, by_growth), floors)

        wide = boxes.half.max(axis=1) > self.outer / _SPACING[self._m]
        return np.where(_uninformative(boxes) & wide, -np.inf, np.where(np.isfinite(boxes.value), floors, np.inf))


def _uninformative(boxes: _Boxes) -> NDArray[np.bool_]:
    """(n,) where the gain vanishes at the centre, to rounding, with its slope."""
    return np.asarray((boxes.gain == 0.0) & (boxes.gain_slope == 0.0).all(axis=1) & np.isfinite(boxes.value))


def _in_tail(boxes: _Boxes) -> NDArray[np.bool_]:
    """(n,) where the gain grows like an exponential along its slope."""
    slope = boxes.gain_slope
    square = (slope**2).sum(axis=1)
    along = np.einsum("ni,nij,nj->n", slope, boxes.gain_curvature, slope)
    return np.asarray((boxes.gain > 0.0) & (boxes.gain * along > _TAIL * square**2))


def _grid(edges: Array, m: int) -> tuple[Array, Array]:
    """Centres and half-widths (n, m) of the boxes between edges that all coordinates have."""
    middle, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * np.diff(edges)
    middle = np.where(np.abs(middle) < 1e-12 * np.abs(edges).max(), 0.0, middle)
    return tuple(  # type: ignore[return-value]
        np.stack(np.meshgrid(*[part] * m, indexing="ij"), axis=-1).reshape(-1, m) for part in (middle, half)
    )
