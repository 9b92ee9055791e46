"""The least value of the reduced potential W = λ/2 |q|² − gain(q) over all of R^m.

W is known at the mesh nodes, and can be evaluated anywhere. Boxes that grow with the distance from zero cover a region;
beyond radius r no minimum can lie once λ/2 r² exceeds the largest gain by more than the least W found, and the region
is extended to this radius. From the lowest points Newton's method descends in a trust region with exact derivatives.
Then boxes are divided where curvature leaves room for a lower value (`branch_and_bound`), until none is left.

The result is the least value *found*, as the update is a black box. It is assumed that the largest gain at the points
evaluated, enlarged by a factor, bounds it everywhere (softmax heads and bounded neurons have such a bound), and that
the estimates of `branch_and_bound` hold. Where the gain exceeds λ/2 r² up to the boundary of the region and W still
decreases there, W has no lower bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.certificate.branch_and_bound import Cover
from mfpde.limit.certificate.potential_probes import Derivatives, Jet, PotentialProbes

Array = NDArray[np.float64]
_INNERMOST = 0.02  # half-width of the innermost box, in largest |q| of the mesh
_OUTERMOST = 8.0  # of the region, at least
GAIN_MARGIN = 1.2  # assumed: the largest gain anywhere is at most this times the largest found
_ROUNDS = 4  # of extending the region
_EXTENSION = (4.0, 64.0)  # factor by which a round extends the region, least and most
_AT_ONCE = {1: 32, 2: 128, 3: 256}  # points of a block that are evaluated together
MOST_COORDINATES = 3  # that boxes cover
_CLOSE = 2e-3  # fraction of the gap by which W may be lower without being searched for
_SAME = 1e-9  # relative difference of values of W that counts as none
_STARTS = 6  # of Newton's method, per block
_APART = 0.2  # of starts, relative to their distance from zero
_NODES = 64  # lowest mesh nodes, candidates for starts
_STEPS = 8  # of Newton's method
_NEGLIGIBLE = 1e-14  # relative decrease at which Newton's method ends


class Search:
    """The search for the minimum of W of one family in all layers.

    Attributes:
        best: the least W found (L,).
        gain: the largest gain found (L,).
        unbounded: (L,) where W has no lower bound.
    """

    def __init__(self, points: Array, jet: Jet, weight_decay: float) -> None:
        """From W at the mesh nodes q (L, u, m)."""
        self.m, self.weight_decay = points.shape[2], weight_decay
        self.best = jet.value.min(axis=1)
        self.gain = jet.gain.max(axis=1)
        self.unbounded = np.zeros(len(points), dtype=bool)
        self._covers: list[Cover] = []
        self._lengths: list[int] = []

        if self.m:
            lowest = np.argsort(jet.value, axis=1, kind="stable")[:, :_NODES]
            self._points = np.take_along_axis(points, lowest[..., None], axis=1)
            self._values = np.take_along_axis(jet.value, lowest, axis=1)

            reach = np.sqrt((points**2).sum(axis=2)).max(axis=1)
            self.reach = np.where(reach > 0.0, reach, 1.0)
            outer = np.maximum(_OUTERMOST * self.reach, 1.5 * self._needed)
            sizes = zip(_INNERMOST * self.reach, outer, strict=True)
            self._covers = [Cover(weight_decay, self.m, float(inner), float(end)) for inner, end in sizes]

    @property
    def margin(self) -> Array:
        """(L,) by how much W may still be lower than `best`, by the estimates of `branch_and_bound`."""
        if not self.m:
            return np.zeros(len(self.best))
        lowest = [cover.lowest(best) for cover, best in zip(self._covers, self.best, strict=True)]
        return np.where(self.unbounded, 0.0, self.best - np.array(lowest))

    @property
    def _outer(self) -> Array:
        return np.array([cover.outer for cover in self._covers])

    @property
    def _needed(self) -> Array:
        """(L,) beyond this radius λ/2 r² − gain is above the least W found."""
        return np.asarray(np.sqrt(np.maximum(2.0 * (GAIN_MARGIN * self.gain + self.best) / self.weight_decay, 0.0)))

    @property
    def open(self) -> NDArray[np.bool_]:
        """(L,) where a minimum beyond the region is not ruled out."""
        return self._needed > self._outer

    @property
    def pending(self) -> bool:
        """Are there points to be evaluated?"""
        return any(cover.pending for cover in self._covers)

    def next_points(self) -> Array:
        """Points q (L, u, m) to be evaluated, u always the same; layers that need fewer have zeros."""
        points = np.zeros((len(self.best), _AT_ONCE[self.m], self.m))
        self._lengths = []
        for cover, mine in zip(self._covers, points, strict=True):
            asked = cover.next_points(len(mine)) if cover.pending else mine[:0]
            mine[: len(asked)] = asked
            self._lengths.append(len(asked))
        return points

    def record(self, jet: Jet) -> None:
        """Add the results at the points that `next_points` gave."""
        known = derivatives(jet)
        for layer, (cover, n) in enumerate(zip(self._covers, self._lengths, strict=True)):
            if n:
                parts = (jet.value, known.slope, jet.gain, known.gain_slope, known.gain_curvature)
                cover.record(*(part[layer, :n] for part in parts))
        self.best = np.minimum(self.best, jet.value.min(axis=1))
        self.gain = np.maximum(self.gain, jet.gain.max(axis=1))

    def widen(self) -> None:
        """Extend the region where a minimum beyond it is not ruled out."""
        least, most = _EXTENSION
        for layer in np.flatnonzero(self.open):
            cover = self._covers[layer]
            cover.widen(cover.outer * float(np.clip(1.5 * self._needed[layer] / cover.outer, least, most)))

    def find_unbounded(self) -> None:
        """Set `unbounded`, where W decreases up to the boundary, with no minimum beyond it ruled out."""
        boundary_value = np.array([cover.boundary_value for cover in self._covers])
        self.unbounded = self.open & (boundary_value <= self.best) & (boundary_value < 0.0)

    def divide(self, mean: Array) -> None:
        """Divide boxes where W may be lower, by more than a small fraction of the gap to the mean of V (L,)."""
        scale = np.maximum(np.abs(self.best), self.gain)
        below = self.best - _CLOSE * np.maximum(mean - self.best, 0.0) - _SAME * scale
        for layer in np.flatnonzero(~self.unbounded):
            self._covers[layer].divide(float(below[layer]), _AT_ONCE[self.m])

    def improve(self, points: Array, jet: Jet) -> None:
        """Add the end points of Newton's method (L, s, m)."""
        self._points = np.concatenate([self._points, points], axis=1)
        self._values = np.concatenate([self._values, jet.value], axis=1)
        self.best = np.minimum(self.best, jet.value.min(axis=1))
        self.gain = np.maximum(self.gain, jet.gain.max(axis=1))

    def starts(self) -> Array:
        """The lowest points evaluated that are well apart (L, s, m)."""
        chosen = np.zeros((len(self.best), _STARTS, self.m))
        for layer, cover in enumerate(self._covers):
            centres, of_centres = cover.evaluated
            points = np.concatenate([self._points[layer], centres])
            values = np.concatenate([self._values[layer], of_centres])
            size = np.maximum(np.sqrt((points**2).sum(axis=1)), _INNERMOST * self.reach[layer])
            free = np.isfinite(values)

            for s in range(_STARTS):
                if not free.any():
                    break
                k = int(np.where(free, values, np.inf).argmin())
                chosen[layer, s] = points[k]
                apart = np.sqrt(((points - points[k]) ** 2).sum(axis=1))
                free &= apart > _APART * np.maximum(size, size[k])
        return chosen


def search_outward(probes: PotentialProbes, searches: Sequence[Search]) -> None:
    """W in boxes of growing size, and a region that grows until a minimum beyond it is ruled out; collective."""
    for k in range(_ROUNDS):
        _evaluate_pending(probes, searches)
        for search in searches:
            search.find_unbounded()
        if k == _ROUNDS - 1 or not probes.agree(any(search.open.any() for search in searches)):
            return
        for search in searches:
            search.widen()


def descend(probes: PotentialProbes, searches: Sequence[Search], means: Sequence[Array]) -> None:
    """Descend from the lowest points found, until no box leaves room for a lower value; collective.

    Args:
        probes: of V.
        searches: theirs, after `search_outward`.
        means: ∫V dρ of each (L,), relative to which differences are negligible.
    """
    _newton_descent(probes, searches)
    while True:
        for search, mean in zip(searches, means, strict=True):
            search.divide(mean)
        if not probes.agree(any(search.pending for search in searches)):
            break
        _evaluate_pending(probes, searches)
    _newton_descent(probes, searches)


def _evaluate_pending(probes: PotentialProbes, searches: Sequence[Search]) -> None:
    """Evaluate W at all pending points; collective."""
    while probes.agree(any(search.pending for search in searches)):
        points = [search.next_points() for search in searches]
        for search, jet in zip(searches, probes(points, derivatives=True), strict=True):
            search.record(jet)


def _newton_descent(probes: PotentialProbes, searches: Sequence[Search]) -> None:
    """Newton's method in a trust region from the starts of all blocks, in lockstep; collective."""
    places = [search.starts() for search in searches]
    jets = probes(places, derivatives=True)
    radii = [
        0.5 * np.maximum(np.sqrt((q**2).sum(axis=2)), _INNERMOST * search.reach[:, None])
        for q, search in zip(places, searches, strict=True)
    ]

    for _ in range(_STEPS):
        steps = [_newton(jet, radius) for jet, radius in zip(jets, radii, strict=True)]
        pending = [_may_improve(s, jet, step[1]) for s, jet, step in zip(searches, jets, steps, strict=True)]
        if not probes.agree(any(w.any() for w in pending)):
            break

        tried = [q + step for q, (step, _) in zip(places, steps, strict=True)]
        found = probes(tried, derivatives=True)
        for k, (old, new) in enumerate(zip(jets, found, strict=True)):
            step, predicted = steps[k]
            better = new.value < old.value
            ratio = (old.value - new.value) / predicted
            length = np.sqrt((step**2).sum(axis=2))
            radii[k] = np.where(ratio > 0.75, np.maximum(radii[k], 2.0 * length), radii[k])
            radii[k] = np.where(better & (ratio > 0.25), radii[k], 0.25 * length)
            places[k] = np.where(better[..., None], tried[k], places[k])
            jets[k] = _choose(better, new, old)

    for search, q, jet in zip(searches, places, jets, strict=True):
        search.improve(q, jet)


def _newton(jet: Jet, radius: Array) -> tuple[Array, Array]:
    """Steps (L, s, m) that lower the quadratic model within the radius (L, s), and by how much."""
    known = derivatives(jet)
    curvature, axes = np.linalg.eigh(known.curvature)
    slope = np.einsum("lsij,lsi->lsj", axes, known.slope)

    size = np.maximum(np.abs(curvature), 1e-12 * np.abs(curvature).max(axis=2, keepdims=True) + 1e-300)
    along = -slope / size
    length = np.sqrt((along**2).sum(axis=2))
    along *= np.minimum(1.0, radius / np.maximum(length, 1e-300))[..., None]

    predicted = -(slope * along + 0.5 * curvature * along**2).sum(axis=2)
    return np.einsum("lsij,lsj->lsi", axes, along), predicted


def _may_improve(search: Search, jet: Jet, predicted: Array) -> NDArray[np.bool_]:
    """(L, s) where a step may still lower the least W by more than rounding."""
    low = jet.value - 4.0 * predicted < search.best[:, None]
    worth = predicted > _NEGLIGIBLE * np.maximum(np.abs(search.best), np.finfo(float).tiny)[:, None]
    return low & worth & np.isfinite(jet.value) & ~search.unbounded[:, None]


def _choose(where: NDArray[np.bool_], one: Jet, other: Jet) -> Jet:
    """One jet where true, the other elsewhere."""

    def pick(a: Array, b: Array) -> Array:
        return np.where(where.reshape(*where.shape, *[1] * (a.ndim - 2)), a, b)

    parts = [[getattr(derivatives(jet), field.name) for field in fields(Derivatives)] for jet in (one, other)]
    both = Derivatives(*(pick(a, b) for a, b in zip(*parts, strict=True)))
    return Jet(pick(one.value, other.value), pick(one.gain, other.gain), both)


def derivatives(jet: Jet) -> Derivatives:
    """The derivatives of a jet that was asked for with them."""
    assert jet.derivatives is not None  # noqa: S101
    return jet.derivatives
