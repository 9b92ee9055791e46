"""The certificate of stationarity: gap = (1/L) Σ_{ℓ,c} ( ∫V dρ − min_{R^d} V ), zero at a global minimiser.

The minimum is over all of R^d. Jointly linear coordinates are eliminated exactly, min_v [v·G(q) + λ/2 |v|²] =
−|G(q)|²/(2λ); what remains, W(q) = λ/2 |q|² − gain(q), is searched in the other coordinates: at the mesh nodes, on
spheres around zero with radii in geometric progression, and from the lowest of these by Newton's method in a trust
region with exact derivatives. Beyond radius r no minimum can lie once λ/2 r² exceeds the largest gain by more than the
least W found; the spheres go at least as far.

What is assumed, as f is a black box: that the largest gain at the points seen, enlarged by a factor, bounds it
everywhere (softmax heads and bounded neurons have such a bound), and that no basin lies between all the points. Where
gain outgrows λ/2 r² up to the last sphere and W still falls there, V has no lower bound and the gap is infinite, as it
is for λ = 0 unless the data part of V vanishes.

The gap bounds Q − Q* where Q is convex in ρ: one layer, one stage, affine readout (`gap_kind`). Elsewhere it is a
*stationarity gap*: zero at global minimisers, small near stationary points that are none too, and no bound. Source:
docs/equations.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mfpde.limit.diagnostics import diagnose
from mfpde.limit.exact_sum import Share
from mfpde.limit.flow import Flow, Potential
from mfpde.limit.partition import gaussian, log_partition
from mfpde.limit.probes import Jet, Prober, reduce_linear
from mfpde.limit.state import State
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]
_SPHERES = {1: 64, 2: 32, 3: 24}  # by the number of nonlinear coordinates
_DIRECTIONS = {1: 2, 2: 24, 3: 64}
_INNERMOST = 0.02  # radius of the first sphere, in largest |q| of the mesh
_OUTERMOST = 8.0  # of the last one, at least
_UNSEEN = 1.2  # the largest gain anywhere over the largest seen, at most: this is assumed
_ROUNDS = 4  # of spheres, each further out
_FURTHER = (4.0, 64.0)  # by which a round goes further out, least and most
_STARTS = 6  # of Newton's method, per block
_APART = 0.2  # of starts, relative to their distance from zero
_NODES = 64  # lowest mesh nodes that may become starts
_STEPS = 8  # of Newton's method
_SETTLED = 1e-14  # relative decrease that is no longer looked for


@dataclass(frozen=True)
class BlockGap:
    """One family in one layer; with temperature, the free energies in place of V.

    Attributes:
        family: name of the family.
        layer: from 0.
        mean: ∫V dρ; ∫(V + β⁻¹ log ρ) dρ.
        least: min V over R^d, −∞ where V has no lower bound; −β⁻¹ log ∫e^{−βV}.
    """

    family: str
    layer: int
    mean: float
    least: float

    @property
    def gap(self) -> float:
        """∫V dρ − min V."""
        return self.mean - self.least


@dataclass(frozen=True)
class Certificate:
    """The gaps of all families and layers, in the model's order.

    Attributes:
        layers: L.
        blocks: of every family and layer.
    """

    layers: int
    blocks: tuple[BlockGap, ...]

    @property
    def gap(self) -> float:
        """(1/L) Σ_{ℓ,c} (∫V dρ − min V)."""
        return sum(block.gap for block in self.blocks) / self.layers


def certify(flow: Flow, state: State, potential: Potential) -> Certificate:
    """The certificate at a state whose potential is known; collective, with some ten sweeps (each with probes).

    How many sweeps are run is decided on one rank.
    """
    model, decay = flow.model, flow.weight_decay
    theta, weights, _ = flow.units(state)
    summed = flow.sweep.sum_over_ranks(weights)
    data = potential.outcome.gradient or ()
    with np.errstate(all="ignore"):  # far out V may overflow: such points are left out
        least = _least(flow, theta, weights, data)
    entropy = _entropies(flow, state, potential)
    blocks = []
    for place, family in enumerate(model.families):
        mean = (data[place] * summed[place]).sum(axis=1) + 0.5 * decay * potential.outcome.square[place]
        mean += flow.temperature * entropy[place]
        blocks += [
            BlockGap(family.name, layer, float(mean[layer]), float(least[place][layer]))
            for layer in range(model.layers)
        ]
    return Certificate(model.layers, tuple(blocks))


def gap_kind(model: Transformer, tokens: Array) -> str:
    """Say "bound" where Q is convex in ρ, so that the gap bounds Q − Q*, else "stationarity gap".

    Both losses are convex in the output. The output is affine in ρ for one residual layer of one stage and an affine
    readout; the latter is tried on samples (n, N, D) and random tokens of their size.
    """
    if model.layers > 1 or len(model.stages) > 1 or model.depth != "residual":
        return "stationarity gap"
    rng = np.random.default_rng(0)
    scale = max(float(np.abs(tokens).max()), 1.0)
    for size in (0.1, 1.0, 10.0):
        a, b = size * scale * rng.normal(size=(2, *tokens.shape[1:]))
        base = tokens[rng.integers(len(tokens))]
        reads = [np.asarray(model.readout(jnp.asarray(t))) for t in (base, base + a, base + b, base + a + b)]
        if not np.abs(reads[0] + reads[3] - reads[1] - reads[2]).max() <= 1e-9 * max(np.abs(r).max() for r in reads):
            return "stationarity gap"
    return "bound"


def _entropies(flow: Flow, state: State, potential: Potential) -> list[Array]:
    """Per family ∫ρ log ρ (L,); zero where temperature is, and nothing is computed."""
    layers = flow.model.layers
    entropies = [np.zeros(layers)] * len(flow.model.families)
    if flow.temperature > 0.0:
        for parts in flow.each(state, potential):
            entropy = diagnose(*parts, flow.temperature).entropy
            for place, part in zip(parts[0].members, entropy.reshape(-1, layers), strict=True):
                entropies[place] = part
    return entropies


def _least(flow: Flow, theta: list[Array], weights: list[Share], data: Sequence[Array]) -> list[Array]:
    """Per family min V (L,), or −β⁻¹ log ∫e^{−βV}."""
    families, decay, temperature = flow.model.families, flow.weight_decay, flow.temperature
    if decay == 0.0 and temperature > 0.0:
        return [np.full(len(g), -np.inf) for g in data]
    if decay == 0.0:
        return [np.where((g == 0.0).all(axis=1), 0.0, -np.inf) for g in data]
    nodes = []
    for family, place, gradient in zip(families, theta, data, strict=True):
        points = place[:, :: family.directions, family.nonlinear]
        nodes.append((points, gradient.reshape(*points.shape[:2], family.directions, 1)))
    searches = [
        _Search(points, reduce_linear(bool(family.linear), decay, points, table), decay)
        for family, (points, table) in zip(families, nodes, strict=True)
    ]
    places = tuple(place for place, search in enumerate(searches) if search.m)
    if places:
        searched = [searches[place] for place in places]
        prober = Prober(flow.sweep, places, decay, theta, weights)
        _survey(prober, searched)
        if temperature == 0.0:
            _polish(prober, searched)
    if temperature > 0.0:
        return _free(flow, searches, prober if places else None)
    return [np.where(search.unbounded, -np.inf, search.best) for search in searches]


def _free(flow: Flow, searches: list[_Search], prober: Prober | None) -> list[Array]:
    """Per family −β⁻¹ log ∫e^{−βV} (L,), −∞ where a search could not tell how far out V matters."""
    families, temperature = flow.model.families, flow.temperature
    free = [
        search.best - temperature * gaussian(family.dim, temperature, flow.weight_decay)
        for family, search in zip(families, searches, strict=True)
    ]  # of families without nonlinear coordinates; for the others W has to be integrated
    if prober is not None:
        searched = [searches[place] for place in prober.places]
        linear = [len(families[place].linear) for place in prober.places]
        gains = [_UNSEEN * search.gain for search in searched]
        sums = log_partition(prober, temperature, linear, [search.best for search in searched], gains)
        for place, search, logarithm in zip(prober.places, searched, sums, strict=True):
            free[place] = np.where(search.open, -np.inf, -logarithm)
    return free


class _Search:
    """What is known of W of one family in all layers: the points seen, and how far out a minimum may still be."""

    def __init__(self, points: Array, jet: Jet, weight_decay: float) -> None:
        self.m, self.weight_decay = points.shape[2], weight_decay
        self.best = jet.value.min(axis=1)  # (L,)
        self.gain = jet.gain.max(axis=1)
        self.unbounded = np.zeros(len(points), dtype=bool)
        if self.m:
            lowest = np.argsort(jet.value, axis=1, kind="stable")[:, :_NODES]
            self.points = np.take_along_axis(points, lowest[..., None], axis=1)
            self.values = np.take_along_axis(jet.value, lowest, axis=1)
            reach = np.sqrt((points**2).sum(axis=2)).max(axis=1)
            self.reach = np.where(reach > 0.0, reach, 1.0)
            self.inner = _INNERMOST * self.reach
            self.outer = np.maximum(_OUTERMOST * self.reach, 1.5 * self.needed)

    @property
    def needed(self) -> Array:
        """(L,) beyond this radius λ/2 r² − gain is above the least W found."""
        return np.asarray(np.sqrt(np.maximum(2.0 * (_UNSEEN * self.gain + self.best) / self.weight_decay, 0.0)))

    @property
    def open(self) -> NDArray[np.bool_]:
        """(L,) where a minimum beyond the last sphere is not ruled out."""
        return self.needed > self.outer

    def spheres(self) -> Array:
        """q (L, u, m) on spheres from the inner to the outer radius, outermost last; zero is the first point."""
        steps = np.linspace(0.0, 1.0, _SPHERES[self.m])
        radii = self.inner[:, None] * (self.outer / self.inner)[:, None] ** steps
        on = radii[:, :, None, None] * _directions(self.m)
        return np.concatenate([np.zeros((len(radii), 1, self.m)), on.reshape(len(radii), -1, self.m)], axis=1)

    def add(self, points: Array, jet: Jet) -> None:
        """Take in a round of spheres, and go further out where that may be worth it."""
        self.points = np.concatenate([self.points, points], axis=1)
        self.values = np.concatenate([self.values, jet.value], axis=1)
        self.best = np.minimum(self.best, jet.value.min(axis=1))
        self.gain = np.maximum(self.gain, jet.gain.max(axis=1))
        last = jet.value[:, -_DIRECTIONS[self.m] :].min(axis=1)
        self.unbounded = self.open & (last <= self.best) & (last < 0.0)

    def go_further(self) -> None:
        """The next round's radii where the search is open."""
        least, most = _FURTHER
        factor = np.clip(1.5 * self.needed / self.outer, least, most)
        self.inner = np.where(self.open, self.outer, self.inner)
        self.outer = np.where(self.open, self.outer * factor, self.outer)

    def starts(self) -> Array:
        """The lowest points (L, s, m) seen that are well apart."""
        chosen = np.zeros((len(self.points), _STARTS, self.m))
        for layer, (points, values) in enumerate(zip(self.points, self.values, strict=True)):
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


def _directions(m: int) -> Array:
    """Unit vectors (k, m), evenly spread and the same everywhere."""
    count = _DIRECTIONS[m]
    if m == 1:
        return np.array([[-1.0], [1.0]])
    if m == 2:
        angle = 2.0 * np.pi * np.arange(count) / count
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    height = 1.0 - (2.0 * np.arange(count) + 1.0) / count
    angle = np.pi * (1.0 + np.sqrt(5.0)) * np.arange(count)
    flat = np.sqrt(1.0 - height**2)
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), height], axis=1)


def _survey(prober: Prober, searches: list[_Search]) -> None:
    """W on spheres, further out as long as a minimum there is not ruled out; collective."""
    for _ in range(_ROUNDS):
        points = [search.spheres() for search in searches]
        for search, q, jet in zip(searches, points, prober(points, derivatives=False), strict=True):
            search.add(q, jet)
        if not prober.agree(any(search.open.any() for search in searches)):
            return
        for search in searches:
            search.go_further()


def _polish(prober: Prober, searches: list[_Search]) -> None:
    """Newton's method in a trust region from the starts of all blocks, in lockstep; collective."""
    places = [search.starts() for search in searches]
    jets = prober(places, derivatives=True)
    radii = [
        0.5 * np.maximum(np.sqrt((q**2).sum(axis=2)), _INNERMOST * search.reach[:, None])
        for q, search in zip(places, searches, strict=True)
    ]
    for search, jet in zip(searches, jets, strict=True):
        search.best = np.minimum(search.best, jet.value.min(axis=1))
    for _ in range(_STEPS):
        steps = [_newton(jet, radius) for jet, radius in zip(jets, radii, strict=True)]
        waiting = [_promises(s, jet, step[1]) for s, jet, step in zip(searches, jets, steps, strict=True)]
        if not prober.agree(any(w.any() for w in waiting)):
            return
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
            searches[k].best = np.minimum(searches[k].best, jets[k].value.min(axis=1))


def _newton(jet: Jet, radius: Array) -> tuple[Array, Array]:
    """Steps (L, s, m) that lower the quadratic model within the radius (L, s), and by how much."""
    assert jet.gradient is not None  # noqa: S101  (asked for with derivatives)
    assert jet.hessian is not None  # noqa: S101
    curvature, axes = np.linalg.eigh(jet.hessian)
    slope = np.einsum("lsij,lsi->lsj", axes, jet.gradient)
    size = np.maximum(np.abs(curvature), 1e-12 * np.abs(curvature).max(axis=2, keepdims=True) + 1e-300)
    along = -slope / size
    length = np.sqrt((along**2).sum(axis=2))
    along *= np.minimum(1.0, radius / np.maximum(length, 1e-300))[..., None]
    predicted = -(slope * along + 0.5 * curvature * along**2).sum(axis=2)
    return np.einsum("lsij,lsj->lsi", axes, along), predicted


def _promises(search: _Search, jet: Jet, predicted: Array) -> NDArray[np.bool_]:
    """(L, s) where a step may still lower the least W by more than rounding."""
    low = jet.value - 4.0 * predicted < search.best[:, None]
    worth = predicted > _SETTLED * np.maximum(np.abs(search.best), np.finfo(float).tiny)[:, None]
    return low & worth & np.isfinite(jet.value) & ~search.unbounded[:, None]


def _choose(where: NDArray[np.bool_], one: Jet, other: Jet) -> Jet:
    """One jet where true, the other elsewhere."""

    def pick(a: Array | None, b: Array | None) -> Array:
        assert a is not None  # noqa: S101
        assert b is not None  # noqa: S101
        return np.where(where.reshape(*where.shape, *[1] * (a.ndim - 2)), a, b)

    return Jet(
        np.where(where, one.value, other.value),
        np.where(where, one.gain, other.gain),
        pick(one.gradient, other.gradient),
        pick(one.hessian, other.hessian),
    )
