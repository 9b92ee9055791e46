"""The Transformer: stages of families, repeated in L residual layers, a readout and a loss.

    T_{ℓ,r+1} = T_{ℓ,r} + (η/L) Σ_{c in stage r} ∫ f_c(T_{ℓ,r}, θ) dρ^c_ℓ(θ)

The integral is a weighted sum over units: the moments of a density, or nothing else here. Source: docs/equations.md,
section 1; Gao et al., arXiv 2410.23610, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from mfpde.errors import InputError
from mfpde.inputs import one_of, real, whole
from mfpde.problem.family import Family, integrate
from mfpde.problem.from_run import FromRun
from mfpde.problem.programs import Program, trace

DEPTH_STAGES = 4  # of a Runge–Kutta step through a cell of depth
_MOST_LAYERS = 100_000
_SMALL = 1e-6  # mean square of a token that is as good as zero

type Loss = Literal["squared", "cross_entropy", "bits"]
type Readout = Callable[[jax.Array], jax.Array]
type Units = tuple[tuple[jax.Array, jax.Array], ...]
"""Per family θ (L, u, d) and weights (L, u): Σ_u w_u f(T, θ_u) stands for ∫ f dρ."""


@dataclass(frozen=True)
class Transformer:
    """A model whose heads and neurons have low-dimensional parameters.

    Attributes:
        stages: what a layer does in order; each stage is a list of families that see the same tokens.
        layers: L.
        readout: from final tokens (N, D) to the output (C,).
        loss: "squared" is ½|o − y|², "cross_entropy" takes targets that are probabilities, and so does "bits", which is
            cross-entropy in bits, −Σ y log₂ softmax(o).
        step: η.
        depth: "residual" adds layer after layer, an error O(1/L) against L = ∞; "continuum" integrates
            dT/dt = η Σ_c ∫ f_c dρ^c_t inside each of L depth cells, an error O(1/L²): a cell's density is that at its
            midpoint, t = (ℓ + ½)/L, and a layer-dependent initial law is to be taken there.
        norm: "rms" has all families see T_i / (mean_d T_id² + 1e-6)^½ in the place of each token T_i, without
            parameters, as pre-norm Transformers do; the stream itself, and the readout, are as they are.

    Raises:
        InputError: for values that do not fit.
    """

    stages: Sequence[Sequence[Family]]
    layers: int
    readout: Readout
    loss: Loss = "squared"
    step: float = 1.0
    depth: Literal["residual", "continuum"] = "residual"
    norm: Literal["none", "rms"] = "none"

    def __repr__(self) -> str:
        names = [f"{family.name} (d = {family.dim})" for family in self.families]
        shown = ", ".join(names[:4]) + (f", … {len(names)} families" if len(names) > 4 else "")
        return f"Transformer({self.layers} layers of {shown}; loss {self.loss!r})"

    def __post_init__(self) -> None:
        try:
            stages = tuple(tuple(stage) for stage in self.stages)
        except TypeError:
            stages = ()
        if not stages or not all(stages) or not all(isinstance(f, Family) for s in stages for f in s):
            raise InputError("model: stages must be a list of non-empty lists of mfpde.Family")
        object.__setattr__(self, "stages", stages)

        names = [family.name for family in self.families]
        if len(set(names)) != len(names):
            raise InputError(f"model: families must have different names; they are {', '.join(names)}")
        if not callable(self.readout):
            raise InputError("model: readout must be a function of the final tokens")

        layers = whole("model.layers", self.layers, 1, _MOST_LAYERS)
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "stages", tuple(tuple(_started(family, layers) for family in s) for s in stages))
        object.__setattr__(self, "step", real("model.step", self.step, above=0.0))
        one_of("model.loss", self.loss, ("squared", "cross_entropy", "bits"))
        one_of("model.depth", self.depth, ("residual", "continuum"))
        one_of("model.norm", self.norm, ("none", "rms"))

    @property
    def families(self) -> tuple[Family, ...]:
        """All families in the order of the stages."""
        return tuple(family for stage in self.stages for family in stage)


def _started(family: Family, layers: int) -> Family:
    """The family, whose start from an earlier run knows its name and the number of layers."""
    if not isinstance(family.initial, FromRun):
        return family
    return replace(family, initial=family.initial.of(family.name, layers))


def residual_stream(model: Transformer, units: Units, tokens: jax.Array) -> jax.Array:
    """Final tokens (N, D) of one sample, from its first ones (N, D)."""
    return _cross(model, units, tokens, None)[0]


def sample_loss(model: Transformer, output: jax.Array, target: jax.Array) -> jax.Array:
    """½|o − y|², or −Σ y log softmax(o) in nats or in bits; output and target (C,)."""
    if model.loss == "squared":
        return 0.5 * jnp.sum((output - target) ** 2)
    nats = -jnp.sum(target * jax.nn.log_softmax(output))
    return nats if model.loss == "cross_entropy" else nats / math.log(2.0)


def risk(
    model: Transformer, units: Units, tokens: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Weighted sums over samples of the loss, and of [largest output where the target is largest].

    Args:
        model: the Transformer.
        units: per family θ (L, u, d) and weights (L, u).
        tokens: (n, N, D).
        targets: (n, C).
        weights: (n,), 1/n for a mean.
    """

    def one(sample: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
        output = model.readout(residual_stream(model, units, sample))
        hit = jnp.argmax(output) == jnp.argmax(target)
        return sample_loss(model, output, target), hit.astype(output.dtype)

    losses, hits = jax.vmap(one)(tokens, targets)
    return jnp.dot(weights, losses), jnp.dot(weights, hits)


def costates(
    model: Transformer, units: Units, tokens: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The tokens that the families of each layer see, and the derivative of the risk in what they add.

    A layer adds to the stream in K places: one a stage, or the four stages of a Runge–Kutta step through a cell of
    depth. With sources S, place k of layer ℓ adds Σ_c ∫ f_c(T_ℓk, θ) dρ^c + S_ℓk. By the derivative in S at zero, the
    data part of the potential is V(θ) = L Σ_n Σ_k ⟨∂R/∂S^n_ℓk, f(T^n_ℓk, θ)⟩ at any θ whatever.

    Args:
        model: the Transformer.
        units: per family θ (L, u, d) and weights (L, u).
        tokens: (n, N, D).
        targets: (n, C).
        weights: (n,), 1/n for a mean.

    Returns:
        T and L ∂R/∂S, (n, L, K, N, D) each.
    """
    places = DEPTH_STAGES if model.depth == "continuum" else len(model.stages)

    def share(sources: jax.Array) -> tuple[jax.Array, jax.Array]:
        def one(sample: jax.Array, target: jax.Array, source: jax.Array) -> tuple[jax.Array, jax.Array]:
            stream, seen = _cross(model, units, sample, source)
            return sample_loss(model, model.readout(stream), target), seen

        losses, seen = jax.vmap(one)(tokens, targets, sources)
        return jnp.dot(weights, losses), seen

    rest = jnp.zeros((len(tokens), model.layers, places, *tokens.shape[1:]))
    slope, seen = jax.grad(share, has_aux=True)(rest)
    return seen, model.layers * slope


def additions(model: Transformer, family: Family) -> slice:
    """The places of a layer, of the K that `costates` counts, in which a family adds to the stream."""
    if model.depth == "continuum":
        return slice(0, DEPTH_STAGES)
    place = next(k for k, stage in enumerate(model.stages) if any(member is family for member in stage))
    return slice(place, place + 1)


def _cross(
    model: Transformer, units: Units, tokens: jax.Array, sources: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Through all layers: the final tokens and, where there are sources, the tokens that the families see."""
    through = _residual_layer if model.depth == "residual" else _depth_cell

    def layer(stream: jax.Array, given: tuple[Units, jax.Array | None]) -> tuple[jax.Array, jax.Array | None]:
        seen: list[jax.Array] = []
        stream = through(model, given[0], stream, _Adding(given[1], seen, model.norm))
        return stream, None if given[1] is None else jnp.stack(seen)

    return jax.lax.scan(layer, tokens, (units, sources))  # type: ignore[arg-type]


def _residual_layer(model: Transformer, units: Units, stream: jax.Array, adding: _Adding) -> jax.Array:
    """One stage after the other: T + (η/L) Σ_{c in stage} ∫ f_c(T, θ) dρ^c."""
    place = 0
    for stage in model.stages:
        added = adding(stage, stream, units[place : place + len(stage)])
        place += len(stage)
        stream = stream + (model.step / model.layers) * added
    return stream


def _depth_cell(model: Transformer, units: Units, stream: jax.Array, adding: _Adding) -> jax.Array:
    """dT/dt = η Σ_c ∫ f_c(T, θ) dρ^c across a cell of depth 1/L in which ρ is constant, by one classical RK4 step.

    Its error, O(L⁻⁴), is far below that of a density that is constant in the cell, O(L⁻²). In the limit L → ∞ the
    stages of a layer act at the same depth, so all families are summed.
    """

    def slope(t: jax.Array) -> jax.Array:
        return model.step * adding(model.families, t, units)

    h = 1.0 / model.layers
    k1 = slope(stream)
    k2 = slope(stream + 0.5 * h * k1)
    k3 = slope(stream + 0.5 * h * k2)
    k4 = slope(stream + h * k3)
    return stream + (h / 6.0) * (k1 + 2.0 * (k2 + k3) + k4)


@dataclass(frozen=True)
class _Adding:
    """Σ_c ∫ f_c dρ^c + S in the places of one layer, one after the other; keeps the tokens that the families see."""

    sources: jax.Array | None
    seen: list[jax.Array]
    norm: Literal["none", "rms"]

    def __call__(self, families: Sequence[Family], stream: jax.Array, units: Units) -> jax.Array:
        """What some families, and the source of the next place, add to the stream."""
        if self.norm == "rms":
            stream = stream / jnp.sqrt(jnp.mean(stream**2, axis=-1, keepdims=True) + _SMALL)
        added = _added(families, stream, units)
        if self.sources is not None:
            added = added + self.sources[len(self.seen)]
            self.seen.append(stream)
        return added


def _added(stage: Sequence[Family], stream: jax.Array, units: Units) -> jax.Array:
    """Σ_c ∫ f_c(T, θ) dρ^c over the families of a stage; those that share a program at once."""
    forms: dict[Hashable, list[tuple[Program, tuple[jax.Array, jax.Array]]]] = {}
    for family, pair in zip(stage, units, strict=True):
        program = trace(partial(integrate, family), stream, *pair)
        forms.setdefault(program.form, []).append((program, pair))

    # One program for many families compiles in the time of one: their fixed arrays are stacked and mapped over.
    added = jnp.zeros_like(stream)
    for members in forms.values():
        run = members[0][0].run
        if len(members) == 1:
            ((program, pair),) = members
            added = added + run(program.held, stream, *pair)
            continue
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *((program.held, pair) for program, pair in members))
        each = jax.vmap(lambda held, pair, run=run: run(held, stream, *pair))(*stacked)
        added = added + each.sum(axis=0)
    return added
