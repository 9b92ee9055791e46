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

from mfpde.limit.certificate.minimisation import GAIN_MARGIN, Search, descend, search_outward
from mfpde.limit.certificate.partition_function import gaussian, log_partition
from mfpde.limit.certificate.potential_probes import PotentialProbes, eliminate_linear
from mfpde.limit.gradient_flow import GradientFlow, Potential
from mfpde.limit.state import State
from mfpde.parallel.exact_sum import Share
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
    theta, weights, _ = flow.moments(state)
    summed = flow.backprop.sum_over_ranks(weights)
    data = potential.outcome.gradient or ()
    entropy = _entropies(flow, state, potential)

    means = []
    for place in range(len(model.families)):
        mean = (data[place] * summed[place]).sum(axis=1) + 0.5 * decay * potential.outcome.square[place]
        means.append(mean + flow.temperature * entropy[place])

    with np.errstate(all="ignore"):  # far out V may overflow: such points are left out
        least, margin = _least(flow, theta, weights, data, means)
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
    return "best found" if any(family.nonlinear for family in model.families) else "bound"


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


def _least(
    flow: GradientFlow, theta: list[Array], weights: list[Share], data: Sequence[Array], means: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """Per family min V (L,), or −β⁻¹ log ∫e^{−βV}, and the margin (L,)."""
    families, decay, temperature = flow.model.families, flow.weight_decay, flow.temperature
    exact = [np.full(len(g), 0.0 if temperature == 0.0 else np.nan) for g in data]
    if decay == 0.0 and temperature > 0.0:
        return [np.full(len(g), -np.inf) for g in data], exact
    if decay == 0.0:
        return [np.where((g == 0.0).all(axis=1), 0.0, -np.inf) for g in data], exact

    searches = []
    for family, place, gradient in zip(families, theta, data, strict=True):
        points = place[:, :: family.directions, family.nonlinear]
        table = gradient.reshape(*points.shape[:2], family.directions, 1)
        searches.append(Search(points, eliminate_linear(bool(family.linear), decay, points, table), decay))

    probes = None
    places = tuple(place for place, search in enumerate(searches) if search.m)
    if places:
        searched = [searches[place] for place in places]
        probes = PotentialProbes(flow.backprop, places, decay, theta, weights)
        search_outward(probes, searched)
        if temperature == 0.0:
            descend(probes, searched, [means[place] for place in places])

    if temperature > 0.0:
        return _free(flow, searches, probes), exact
    least = [np.where(search.unbounded, -np.inf, search.best) for search in searches]
    return least, [search.margin for search in searches]


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
