"""The Transformer: stages of families, repeated in L residual layers, a readout and a loss.

    T_{ℓ,r+1} = T_{ℓ,r} + (η/L) Σ_{c in stage r} ∫ f_c(T_{ℓ,r}, θ) dρ^c_ℓ(θ)

The integral is a weighted sum over units: the moments of a density, or nothing else here. Source: docs/equations.md,
section 1; Gao et al., arXiv 2410.23610, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from mfpde.checks import real
from mfpde.errors import InputError
from mfpde.problem.family import Family, Form, Tried, check_family, integrate, trace

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
        loss: "squared" is ½|o − y|², "cross_entropy" takes targets that are probabilities.
        step: η.
        depth: "residual" adds layer after layer, an error O(1/L) against L = ∞; "continuum" integrates
            dT/dt = η Σ_c ∫ f_c dρ^c_t inside each of L depth cells, an error O(1/L²): a cell's density is that at its
            midpoint, t = (ℓ + ½)/L, and a layer-dependent initial law is to be taken there.

    Raises:
        InputError: for values that do not fit.
    """

    stages: Sequence[Sequence[Family]]
    layers: int
    readout: Readout
    loss: Literal["squared", "cross_entropy"] = "squared"
    step: float = 1.0
    depth: Literal["residual", "continuum"] = "residual"

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
        if not isinstance(self.layers, int) or isinstance(self.layers, bool) or self.layers < 1:
            raise InputError(f"model.layers = {self.layers!r}: must be a whole number, at least 1")
        if not callable(self.readout):
            raise InputError("model: readout must be a function of the final tokens")
        if self.loss not in ("squared", "cross_entropy"):
            raise InputError(f"model.loss = {self.loss!r}: must be 'squared' or 'cross_entropy'")
        object.__setattr__(self, "step", real("model.step", self.step, above=0.0))
        if self.depth not in ("residual", "continuum"):
            raise InputError(f"model.depth = {self.depth!r}: must be 'residual' or 'continuum'")

    @property
    def families(self) -> tuple[Family, ...]:
        """All families in the order of the stages."""
        return tuple(family for stage in self.stages for family in stage)


def residual_stream(model: Transformer, units: Units, tokens: jax.Array) -> jax.Array:
    """Final tokens (N, D) of one sample, from its first ones (N, D)."""
    cross = _residual_layer if model.depth == "residual" else _depth_cell

    def layer(stream: jax.Array, layer_units: Units) -> tuple[jax.Array, None]:
        return cross(model, layer_units, stream), None

    return jax.lax.scan(layer, tokens, units)[0]


def _residual_layer(model: Transformer, units: Units, stream: jax.Array) -> jax.Array:
    """One stage after the other: T + (η/L) Σ_{c in stage} ∫ f_c(T, θ) dρ^c."""
    place = 0
    for stage in model.stages:
        added = _added(stage, stream, units[place : place + len(stage)])
        place += len(stage)
        stream = stream + (model.step / model.layers) * added
    return stream


def _added(stage: Sequence[Family], stream: jax.Array, units: Units) -> jax.Array:
    """Σ_c ∫ f_c(T, θ) dρ^c over the families of a stage; those of one form at once.

    Families are of one form where JAX traces them to the same program, up to the arrays that they hold (W, U, e, g):
    these are stacked, and the program is compiled once, not once a family, which for dozens of heads takes minutes.
    """
    forms: dict[Form, list[tuple[Sequence[Any], tuple[jax.Array, jax.Array]]]] = {}
    programs: dict[Form, Any] = {}
    for family, pair in zip(stage, units, strict=True):
        form, program, held = trace(partial(integrate, family), stream, *pair)
        programs[form] = program
        forms.setdefault(form, []).append((held, pair))
    added = jnp.zeros_like(stream)
    for kind, members in forms.items():

        def one(consts: Sequence[Any], pair: tuple[jax.Array, jax.Array], program: Any = programs[kind]) -> jax.Array:
            (update,) = jax.core.eval_jaxpr(program, consts, stream, *pair)
            return jnp.asarray(update)

        if len(members) == 1:
            added = added + one(*members[0])
        else:
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
            added = added + jax.vmap(one)(*stacked).sum(axis=0)
    return added


def _depth_cell(model: Transformer, units: Units, stream: jax.Array) -> jax.Array:
    """dT/dt = η Σ_c ∫ f_c(T, θ) dρ^c across a cell of depth 1/L in which ρ is constant, by one classical RK4 step.

    Its error, O(L⁻⁴), is far below that of a density that is constant in the cell, O(L⁻²). In the limit L → ∞ the
    stages of a layer act at the same depth, so all families are summed.
    """

    def slope(t: jax.Array) -> jax.Array:
        parts = (integrate(family, t, *pair) for family, pair in zip(model.families, units, strict=True))
        return model.step * sum(parts, jnp.zeros_like(t))

    h = 1.0 / model.layers
    k1 = slope(stream)
    k2 = slope(stream + 0.5 * h * k1)
    k3 = slope(stream + 0.5 * h * k2)
    k4 = slope(stream + h * k3)
    return stream + (h / 6.0) * (k1 + 2.0 * (k2 + k3) + k4)


def sample_loss(model: Transformer, output: jax.Array, target: jax.Array) -> jax.Array:
    """½|o − y|², or −Σ y log softmax(o); output and target (C,)."""
    if model.loss == "squared":
        return 0.5 * jnp.sum((output - target) ** 2)
    return -jnp.sum(target * jax.nn.log_softmax(output))


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


def check_model(model: Transformer, tokens: jax.Array, targets: jax.Array) -> None:
    """Try the model on one sample, tokens (N, D) and target (C,).

    Raises:
        InputError: one line saying which function does not fit.
    """
    tried: Tried = {}
    for family in model.families:
        for layer in range(model.layers):
            family.law(layer)
        check_family(family, tokens, tried)
    try:
        output = jnp.asarray(model.readout(tokens))
    except Exception as error:  # the user's own code
        raise InputError(f"model: readout failed on tokens {tokens.shape}: {type(error).__name__}: {error}") from error
    if output.shape != targets.shape:
        raise InputError(f"model: readout returns shape {output.shape}; the targets have shape {targets.shape}")
