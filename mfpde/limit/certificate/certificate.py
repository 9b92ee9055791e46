"""The certificate of stationarity: gap = (1/L) Σ_{ℓ,c} ( ∫V dρ − min_{R^d} V ), zero at a global minimiser.

The minimum is over all of R^d. Jointly linear coordinates are eliminated exactly, min_v [v·G(q) + λ/2 |v|²] =
−|G(q)|²/(2λ); what remains, W(q) = λ/2 |q|² − gain(q), is searched in the other coordinates
(`limit.certificate.minimisation`). The gap is then that to the least value *found*, with a margin: an estimate, from
the curvature between the points, of how much it may be too small. Where V has no lower bound the gap is infinite, as
it is for λ = 0 unless the data part of V vanishes.

Where Q is convex in ρ (one layer, one stage, affine readout) the gap to the true minimum bounds Q − Q*: it is called a
bound where all coordinates are jointly linear, so that the minimum is known in closed form, and "best found" elsewhere
(`gap_kind`). Where Q is not convex the gap is a *stationarity gap*: zero at global minimisers, small also near other
stationary points, and no bound. Source: docs/equations.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mfpde.limit.certificate.local_search import LocalSearch, descend_locally
from mfpde.limit.certificate.minimisation import GAIN_MARGIN, MOST_COORDINATES, Search, descend, search_outward
from mfpde.limit.certificate.partition_function import gaussian, log_partition
from mfpde.limit.certificate.potential_probes import PotentialProbes, eliminate_linear
from mfpde.limit.gradient_flow import GradientFlow, Potential
from mfpde.limit.state import State
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BlockGap:
    """One family in one layer; with temperature, the free energies in place of V.

    Attributes:
        family: name of the family.
        layer: from 0.
        mean: ∫V dρ; ∫(V + β⁻¹ log ρ) dρ.
        least: min V over R^d, −∞ where V has no lower bound; −β⁻¹ log ∫e^{−βV}.
        margin: by how much the minimum may be lower than `least`, by estimates; nan with temperature.
    """

    family: str
    layer: int
    mean: float
    least: float
    margin: float

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

    @property
    def margin(self) -> float:
        """(1/L) Σ_{ℓ,c} of the margins: by how much the gap may be too small, by estimates."""
        return sum(block.margin for block in self.blocks) / self.layers


def certify(flow: GradientFlow, state: State, potential: Potential) -> Certificate:
    """The certificate at a state whose potential is known; collective, with one pass over the samples.

    After that pass, one rank decides how many points are evaluated.
    """
    model, decay = flow.model, flow.weight_decay
    seen, probes = _seen(flow, state, potential)
    squares = [square[: model.layers] for square in potential.outcome.square]
    entropy = _entropies(flow, state, potential)

    means = []
    for place, (_, data, weights) in enumerate(seen):
        mean = (data * weights).sum(axis=(1, 2)) + 0.5 * decay * squares[place]
        means.append(mean + flow.temperature * entropy[place])

    with np.errstate(all="ignore"):  # far out V may overflow: such points are left out
        least, margin = _least(flow, seen, probes, means)
    blocks = [
        BlockGap(family.name, layer, *(float(part[place][layer]) for part in (means, least, margin)))
        for place, family in enumerate(model.families)
        for layer in range(model.layers)
    ]
    return Certificate(model.layers, tuple(blocks))


def gap_kind(model: Transformer, tokens: Array) -> str:
    """The meaning of the gap: "bound", "best found" or "stationarity".

    Where Q is convex in ρ, the gap to the minimum of V bounds Q − Q*. That minimum is known, and the gap a "bound",
    where all coordinates of all families are jointly linear. Elsewhere V may be lower than the "best found".

    Both losses are convex in the output. The output is affine in ρ for one residual layer of one stage and an affine
    readout; the latter is tested on samples (n, N, D) and random tokens of their size.
    """
    if model.layers > 1 or len(model.stages) > 1 or model.depth != "residual":
        return "stationarity"

    rng = np.random.default_rng(0)
    scale = max(float(np.abs(tokens).max()), 1.0)
    for size in (0.1, 1.0, 10.0):
        a, b = size * scale * rng.normal(size=(2, *tokens.shape[1:]))
        base = tokens[rng.integers(len(tokens))]
        reads = [np.asarray(model.readout(jnp.asarray(t))) for t in (base, base + a, base + b, base + a + b)]
        if not np.abs(reads[0] + reads[3] - reads[1] - reads[2]).max() <= 1e-9 * max(np.abs(r).max() for r in reads):
            return "stationarity"
    return "best found" if any(family.nonlinear_axes for family in model.families) else "bound"


def _entropies(flow: GradientFlow, state: State, potential: Potential) -> list[Array]:
    """Per family ∫ρ log ρ (L,); zeros without temperature, where they are not computed."""
    layers = flow.model.layers
    entropies = [np.zeros(layers)] * len(flow.model.families)
    if flow.temperature > 0.0:
        for each, part, values in flow.each(state, potential):
            found = each.diagnose(part, values).entropy.reshape(-1, layers)
            for place, entropy in zip(each.members, found, strict=True):
                entropies[place] = entropy
    return entropies


def _seen(
    flow: GradientFlow, state: State, potential: Potential
) -> tuple[list[tuple[Array, Array, Array]], PotentialProbes | None]:
    """What is known of the potential of each family in the first replica, and probes to know more; collective.

    Returns:
        Per family points q (L, u, m), G there (L, u, a), and the density's moments (L, u, a); the probes of all
        families with nonlinear coordinates where there is weight decay, or some family's nodes are units of their own.
    """
    model, (points, weights, _) = flow.model, flow.moments(state)
    depth = model.layers
    known = [
        (q[:depth], data[:depth].reshape(*q[:depth].shape[:2], -1), moments[:depth].reshape(*q[:depth].shape[:2], -1))
        for q, data, moments in zip(
            points, potential.outcome.slopes, flow.backprop.sum_over_ranks(weights), strict=True
        )
    ]
    separate = [family.are_nodes(q) for family, q in zip(model.families, points, strict=True)]
    places = tuple(place for place, family in enumerate(model.families) if family.nonlinear_axes)
    if not places or not (flow.weight_decay > 0.0 or any(separate)):
        return known, None

    probes = PotentialProbes(flow.backprop, places, flow.weight_decay, points, weights)
    alone = tuple(place for place in places if separate[place])
    if alone:
        nodes = {place: known[place][2] for place in alone}
        at = [nodes[place][..., model.families[place].nonlinear_axes] for place in alone]
        for place, q, data in zip(alone, at, probes.of(alone).gradients(at), strict=True):
            linear, mass = model.families[place].linear, nodes[place][..., -1:]
            known[place] = q, data, mass * (nodes[place][..., linear] if linear else np.ones_like(data))
    return known, probes


def _least(
    flow: GradientFlow,
    seen: Sequence[tuple[Array, Array, Array]],
    probes: PotentialProbes | None,
    means: Sequence[Array],
) -> tuple[list[Array], list[Array]]:
    """Per family min V (L,), or −β⁻¹ log ∫e^{−βV}, and the margin (L,)."""
    families, decay, temperature = flow.model.families, flow.weight_decay, flow.temperature
    exact = [np.full(len(g), 0.0 if temperature == 0.0 else np.nan) for _, g, _ in seen]
    if decay == 0.0 and temperature > 0.0:
        return [np.full(len(g), -np.inf) for _, g, _ in seen], exact
    if decay == 0.0:
        return [np.where((g == 0.0).all(axis=(1, 2)), 0.0, -np.inf) for _, g, _ in seen], exact

    searches: list[Search | LocalSearch] = []
    for family, (own, data, _) in zip(families, seen, strict=True):
        jet = eliminate_linear(bool(family.linear), decay, own, data)
        far = own.shape[2] > MOST_COORDINATES
        searches.append(LocalSearch.from_nodes(own, jet) if far else Search(own, jet, decay))

    if probes is not None:
        searched = {k: each for k, each in enumerate(searches) if isinstance(each, Search) and each.m}
        local = {k: each for k, each in enumerate(searches) if isinstance(each, LocalSearch)}
        if searched:
            _search(probes.of(tuple(searched)), list(searched.values()), [means[k] for k in searched], temperature)
        if local:
            descend_locally(probes.of(tuple(local)), list(local.values()))

    if temperature > 0.0:
        return _free(flow, [each for each in searches if isinstance(each, Search)], probes), exact
    least = [np.where(search.unbounded, -np.inf, search.best) for search in searches]
    return least, [search.margin for search in searches]


def _search(probes: PotentialProbes, searches: list[Search], means: list[Array], temperature: float) -> None:
    search_outward(probes, searches)
    if temperature == 0.0:
        descend(probes, searches, means)


def _free(flow: GradientFlow, searches: list[Search], probes: PotentialProbes | None) -> list[Array]:
    """Per family −β⁻¹ log ∫e^{−βV} (L,), −∞ where the search found no region outside which e^{−βV} is negligible."""
    families, temperature = flow.model.families, flow.temperature
    free = [
        search.best - temperature * gaussian(family.dim, temperature, flow.weight_decay)
        for family, search in zip(families, searches, strict=True)
    ]  # of families without nonlinear coordinates; for the others W has to be integrated

    if probes is not None:
        searched = [searches[place] for place in probes.places]
        linear = [len(families[place].linear) for place in probes.places]
        gains = [GAIN_MARGIN * search.gain for search in searched]
        sums = log_partition(probes, temperature, linear, [search.best for search in searched], gains)
        for place, search, logarithm in zip(probes.places, searched, sums, strict=True):
            free[place] = np.where(search.open, -np.inf, -logarithm)
    return free
