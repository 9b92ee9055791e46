"""The least value of the reduced potential W = λ/2 |q|² − gain(q) over all of R^m.

Known are W at the mesh nodes, and after that whatever is asked for. Boxes that grow with the distance from zero cover a
region; beyond radius r no minimum can lie once λ/2 r² exceeds the largest gain by more than the least W found, and the
region is widened until it goes as far. From the lowest points Newton's method descends in a trust region with exact
derivatives. Then boxes are divided where curvature leaves room for a lower value (`branch_and_bound`), until none is
left.

What is found is the least value *found*, as the update is a black box. What is assumed: that the largest gain at the
points seen, enlarged by a factor, bounds it everywhere (softmax heads and bounded neurons have such a bound), and the
estimates of `branch_and_bound`. Where gain outgrows λ/2 r² up to the end of the region and W still falls there, W has
no lower bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.certificate.branch_and_bound import Cover
from mfpde.limit.certificate.potential_probes import Derivatives, Jet, Prober

Array = NDArray[np.float64]
_INNERMOST = 0.02  # half-width of the innermost box, in largest |q| of the mesh
_OUTERMOST = 8.0  # of the region, at least
UNSEEN = 1.2  # the largest gain anywhere over the largest seen, at most: this is assumed
_ROUNDS = 4  # each further out
_FURTHER = (4.0, 64.0)  # by which a round goes further out, least and most
_AT_ONCE = {1: 32, 2: 128, 3: 256}  # points of a block that are looked at together
_CLOSE = 2e-3  # of the gap, by which a value that is not looked for may be lower
_SAME = 1e-9  # relative difference of two values of W that does not matter
_STARTS = 6  # of Newton's method, per block
_APART = 0.2  # of starts, relative to their distance from zero
_NODES = 64  # lowest mesh nodes that may become starts
_STEPS = 8  # of Newton's method
_SETTLED = 1e-14  # relative decrease that is no longer looked for


class Search:
    """What is known of W of one family in all layers.

    Attributes:
        best: the least W found (L,).
        gain: the largest gain seen (L,).
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
        """(L,) by how much W may still be lower than `best`, by the estimates of `certificate.branch_and_bound`."""
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
        return np.asarray(np.sqrt(np.maximum(2.0 * (UNSEEN * self.gain + self.best) / self.weight_decay, 0.0)))

    @property
    def open(self) -> NDArray[np.bool_]:
        """(L,) where a minimum beyond the region is not ruled out."""
        return self._needed > self._outer

    @property
    def waiting(self) -> bool:
        """Are there points to be looked at?"""
        return any(cover.waiting for cover in self._covers)

    def next(self) -> Array:
        """Points q (L, u, m) to be looked at, u always the same; layers that need fewer look at zero again."""
        points = np.zeros((len(self.best), _AT_ONCE[self.m], self.m))
        self._lengths = []
        for cover, mine in zip(self._covers, points, strict=True):
            asked = cover.next(len(mine)) if cover.waiting else mine[:0]
            mine[: len(asked)] = asked
            self._lengths.append(len(asked))
        return points

    def learn(self, jet: Jet) -> None:
        """Take in what was found at the points that `next` gave."""
        known = derivatives(jet)
        for layer, (cover, n) in enumerate(zip(self._covers, self._lengths, strict=True)):
            if n:
                parts = (jet.value, known.slope, jet.gain, known.gain_slope, known.gain_curvature)
                cover.learn(*(part[layer, :n] for part in parts))
        self.best = np.minimum(self.best, jet.value.min(axis=1))
        self.gain = np.maximum(self.gain, jet.gain.max(axis=1))

    def widen(self) -> None:
        """Go further out where a minimum there is not ruled out."""
        least, most = _FURTHER
        for layer in np.flatnonzero(self.open):
            cover = self._covers[layer]
            cover.widen(cover.outer * float(np.clip(1.5 * self._needed[layer] / cover.outer, least, most)))

    def judge(self) -> None:
        """Say where W has no lower bound: it is not ruled out further out, and falls there."""
        rim = np.array([cover.rim for cover in self._covers])
        self.unbounded = self.open & (rim <= self.best) & (rim < 0.0)

    def divide(self, mean: Array) -> None:
        """Divide boxes where W may be lower, by more than a small part of the gap to the mean of V (L,)."""
        scale = np.maximum(np.abs(self.best), self.gain)
        below = self.best - _CLOSE * np.maximum(mean - self.best, 0.0) - _SAME * scale
        for layer in np.flatnonzero(~self.unbounded):
            self._covers[layer].divide(float(below[layer]), _AT_ONCE[self.m])

    def improve(self, points: Array, jet: Jet) -> None:
        """Take in the ends of Newton's method (L, s, m)."""
        self._points = np.concatenate([self._points, points], axis=1)
        self._values = np.concatenate([self._values, jet.value], axis=1)
        self.best = np.minimum(self.best, jet.value.min(axis=1))
        self.gain = np.maximum(self.gain, jet.gain.max(axis=1))

    def starts(self) -> Array:
        """The lowest points (L, s, m) seen that are well apart."""
        chosen = np.zeros((len(self.best), _STARTS, self.m))
        for layer, cover in enumerate(self._covers):
            centres, of_centres = cover.seen
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


def survey(prober: Prober, searches: Sequence[Search]) -> None:
    """W in boxes of growing size, further out as long as a minimum there is not ruled out; collective."""
    for k in range(_ROUNDS):
        _look(prober, searches)
        for search in searches:
            search.judge()
        if k == _ROUNDS - 1 or not prober.agree(any(search.open.any() for search in searches)):
            return
        for search in searches:
            search.widen()


def descend(prober: Prober, searches: Sequence[Search], means: Sequence[Array]) -> None:
    """From the lowest points found to the least value, until no box leaves room for a lower one; collective.

    Args:
        prober: of the families.
        searches: theirs, after a survey.
        means: ∫V dρ of each (L,), which says how small a difference matters.
    """
    _polish(prober, searches)
    while True:
        for search, mean in zip(searches, means, strict=True):
            search.divide(mean)
        if not prober.agree(any(search.waiting for search in searches)):
            break
        _look(prober, searches)
    _polish(prober, searches)


def _look(prober: Prober, searches: Sequence[Search]) -> None:
    """W at all points that wait; collective."""
    while prober.agree(any(search.waiting for search in searches)):
        points = [search.next() for search in searches]
        for search, jet in zip(searches, prober(points, derivatives=True), strict=True):
            search.learn(jet)


def _polish(prober: Prober, searches: Sequence[Search]) -> None:
    """Newton's method in a trust region from the starts of all blocks, in lockstep; collective."""
    places = [search.starts() for search in searches]
    jets = prober(places, derivatives=True)
    radii = [
        0.5 * np.maximum(np.sqrt((q**2).sum(axis=2)), _INNERMOST * search.reach[:, None])
        for q, search in zip(places, searches, strict=True)
    ]
    for _ in range(_STEPS):
        steps = [_newton(jet, radius) for jet, radius in zip(jets, radii, strict=True)]
        waiting = [_promises(s, jet, step[1]) for s, jet, step in zip(searches, jets, steps, strict=True)]
        if not prober.agree(any(w.any() for w in waiting)):
            break
        tried = [q + step for q, (step, _) in zip(places, steps, strict=True)]
        found = prober(tried, derivatives=True)
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


def _promises(search: Search, jet: Jet, predicted: Array) -> NDArray[np.bool_]:
    """(L, s) where a step may still lower the least W by more than rounding."""
    low = jet.value - 4.0 * predicted < search.best[:, None]
    worth = predicted > _SETTLED * np.maximum(np.abs(search.best), np.finfo(float).tiny)[:, None]
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
