"""The potential anywhere in parameter space, with its derivatives: units that listen and do not act.

Unit u of a family changes the risk by ∂R/∂w_u = (η/L) mean_n ⟨P^n, f(T^n, θ_u)⟩, also where its weight w_u is zero and
θ_u is no node. A *probe* is such a unit. Its family's update is D^m f(T, θ) for some derivatives m, and the sweep's
gradient L ∂R/∂w is then the data part of D^m V at θ, exactly and for every depth, loss and number of ranks. Probes add
zero to the stream, whatever f is there, and their co-state is computed in the reverse pass alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mfpde.limit.exact_sum import Share, share_of
from mfpde.limit.sweep import Sweep
from mfpde.problem.family import Family, integrate
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]
_KEPT = 8  # models with probes that are not made, and compiled, a second time


@dataclass(frozen=True)
class Jet:
    """The reduced potential W(q) = min over jointly linear coordinates of V, at q (L, u, m) of one family.

    With linear coordinates v, V = v·G(q) + λ/2 |v|² + λ/2 |q|² and W = λ/2 |q|² − |G|²/(2λ), reached at v = −G/λ;
    without, W = V. Where W is not finite it is +∞: nothing is claimed there.

    Attributes:
        value: W (L, u).
        gain: what the data can win there, in W = λ/2 |q|² − gain (L, u).
        gradient: ∂W/∂q (L, u, m), or None if derivatives were not asked for.
        hessian: (L, u, m, m), likewise.
    """

    value: Array
    gain: Array
    gradient: Array | None = None
    hessian: Array | None = None


def reduce_linear(linear: bool, weight_decay: float, points: Array, table: Array) -> Jet:
    """Eliminate the linear coordinates.

    Args:
        linear: has the family any?
        weight_decay: λ > 0.
        points: q (L, u, m).
        table: G (L, u, a, 1) or with its m gradients and m(m+1)/2 second derivatives, (L, u, a, columns); a = 1 and
            G the data part of V without linear coordinates.
    """
    m = points.shape[2]
    data, decay = table[..., 0], weight_decay
    gain = (data**2).sum(axis=2) / (2.0 * decay) if linear else -data[..., 0]
    value = 0.5 * decay * (points**2).sum(axis=2) - gain
    sound = np.isfinite(value)
    value, gain = np.where(sound, value, np.inf), np.where(sound, gain, 0.0)
    if table.shape[3] == 1:
        return Jet(value, gain)
    slope = table[..., 1 : m + 1]  # (L, u, a, m)
    second = np.empty((*slope.shape, m))
    for column, (i, j) in enumerate(_pairs(m)):
        second[..., i, j] = second[..., j, i] = table[..., m + 1 + column]
    if linear:
        gradient = decay * points - np.einsum("lua,luai->lui", data, slope) / decay
        curved = np.einsum("luai,luaj->luij", slope, slope) + np.einsum("lua,luaij->luij", data, second)
        hessian = decay * np.eye(m) - curved / decay
    else:
        gradient, hessian = decay * points + slope[:, :, 0], decay * np.eye(m) + second[:, :, 0]
    return Jet(value, gain, np.nan_to_num(gradient), np.nan_to_num(hessian))


class Prober:
    """Evaluates W of some families of a model at a fixed measure; each call is one sweep, two reductions."""

    def __init__(
        self, sweep: Sweep, places: tuple[int, ...], weight_decay: float, theta: list[Array], weights: list[Share]
    ) -> None:
        """Nothing is computed.

        Args:
            sweep: of the training samples.
            places: of the families with probes, which have nonlinear coordinates.
            weight_decay: λ > 0.
            theta: the measure's units, per family (L, u, d).
            weights: this rank's share of their weights, per family (L, u).
        """
        self.sweep, self.places, self.weight_decay = sweep, places, weight_decay
        self.theta, self.weights = theta, weights

    def agree(self, more: bool) -> bool:
        """What rank 0 says: ranks whose numbers differed by rounding must not run different numbers of sweeps."""
        return bool(self.sweep.comm.bcast(more, root=0))

    def __call__(self, points: Sequence[Array], derivatives: bool) -> list[Jet]:
        """W at points q (L, u, m) of each of `places`; collective."""
        model = self.sweep.model
        units = []
        for place, q in zip(self.places, points, strict=True):
            family = model.families[place]
            theta = family.parameters(q)
            units.append((theta, share_of(np.zeros((len(theta), theta.shape[1] * _columns(q.shape[2], derivatives))))))
        order = list(_order(model, self.places))
        pairs = [units[self.places.index(p)] if probe else (self.theta[p], self.weights[p]) for p, probe in order]
        probing = self.sweep.of(probing_model(model, self.places, derivatives))
        outcome = probing([t for t, _ in pairs], [w for _, w in pairs], [])
        gradient = outcome.gradient or ()
        jets = []
        for place, q in zip(self.places, points, strict=True):
            family = model.families[place]
            table = gradient[order.index((place, True))].reshape(*q.shape[:2], family.directions, -1)
            jets.append(reduce_linear(bool(family.linear), self.weight_decay, q, table))
        return jets


@lru_cache(maxsize=_KEPT)
def probing_model(model: Transformer, places: tuple[int, ...], derivatives: bool) -> Transformer:
    """The model with a family of probes behind each family of `places`, in its own stage."""
    prefix = "probe_"
    while any(family.name.startswith(prefix) for family in model.families):
        prefix = "_" + prefix
    order, stages = _order(model, places), []
    for stage in model.stages:
        both: list[Family] = []
        for _ in range(len(stage) + sum(place in places for place in _places(model, stage))):
            place, probe = next(order)
            family = model.families[place]
            both.append(_probe(family, f"{prefix}{place}", derivatives) if probe else family)
        stages.append(both)
    return Transformer(stages, model.layers, model.readout, model.loss, model.step, model.depth)


def _order(model: Transformer, places: tuple[int, ...]) -> Iterator[tuple[int, bool]]:
    """Families of the model with probes: the place of each in the model, and whether it is the probe's."""
    for place in range(len(model.families)):
        yield place, False
        if place in places:
            yield place, True


def _places(model: Transformer, stage: Sequence[Family]) -> list[int]:
    names = [family.name for family in model.families]
    return [names.index(family.name) for family in stage]


def _probe(family: Family, name: str, derivatives: bool) -> Family:
    """A family whose "integral" is zero and has the derivatives of f as its derivative in the weights."""
    nonlinear = family.nonlinear

    def listen(tokens: jax.Array, theta: jax.Array, weights: jax.Array) -> jax.Array:
        columns = weights.reshape(len(theta), -1)

        def along(function: Callable[[jax.Array], jax.Array], axis: int) -> Callable[[jax.Array], jax.Array]:
            direction = jnp.zeros_like(theta).at[:, axis].set(1.0)
            return lambda place: jax.jvp(function, (place,), (direction,))[1]

        def update(column: int) -> Callable[[jax.Array], jax.Array]:
            return lambda place: integrate(family, tokens, place, columns[:, column])

        total, m = update(0)(theta), len(nonlinear)
        if derivatives:
            for column, axis in enumerate(nonlinear):
                total += along(update(1 + column), axis)(theta)
            for column, (i, j) in enumerate(_pairs(m)):
                total += along(along(update(1 + m + column), nonlinear[i]), nonlinear[j])(theta)
        return total

    @jax.custom_vjp
    def silent(tokens: jax.Array, theta: jax.Array, weights: jax.Array) -> jax.Array:  # noqa: ARG001
        return 0.0 * tokens  # a zero of its own for each sample, which JAX asks for

    def forward(tokens, theta, weights):  # type: ignore[no-untyped-def]
        return 0.0 * tokens, (tokens, theta, weights)

    def backward(saved, costate):  # type: ignore[no-untyped-def]
        tokens, theta, weights = saved
        pull = jax.vjp(lambda w: listen(tokens, theta, w), weights)[1]
        return jnp.zeros_like(tokens), jnp.zeros_like(theta), *pull(costate)

    silent.defvjp(forward, backward)
    return Family(name, family.dim, family.update, family.initial, integral=silent)


def _columns(m: int, derivatives: bool) -> int:
    return 1 + m + len(_pairs(m)) if derivatives else 1


def _pairs(m: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(m) for j in range(i, m)]
