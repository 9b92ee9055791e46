"""Training a finite Transformer by the steps of a run file's method: batches, momentum, AdamW.

    g_i = (L/w_i) ∂R_B/∂θ_i,      c = min(1, G/|g|),      |g|² = (1/L) Σ_{ℓ,c} Σ_i w_i |g_i|²
    θ_i ← θ_i − ε_k (D(c g)_i + λ θ_i)

B is the batch of step k, R_B its mean loss, G the largest norm, D the method's direction, whose state every unit has of
its own, from zero. Batches, rates and updates are those of `problem.descent`, which the limit takes as well; all else
here is the finite Transformer's. Nothing is an approximation of the flow: M → ∞ has these steps too.
Source: docs/training.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mfpde.errors import InputError
from mfpde.finite.flow import Parameters, ParticleFlow, Weights, pieces
from mfpde.finite.methods import Trainer, TrainingState, measure_of
from mfpde.problem.descent import Descent

_LONGEST = 64  # steps of one call of the compiled program; more would only make its array of batches larger


def optimiser_steps(flow: ParticleFlow, descent: Descent) -> Trainer:
    """Training by a method. τ of a state is the sum of the rates of its steps.

    Args:
        flow: model, samples and weight decay.
        descent: the method, for these samples.
    """
    tokens, targets = (array.reshape(-1, *array.shape[2:]) for array in (flow.tokens, flow.targets))
    places, shares = (jnp.asarray(a) for a in pieces(descent.batches.taken, flow.tokens.shape[1]))
    longest = min(_LONGEST, descent.steps)

    @jax.jit
    def repeat(
        parameters: Parameters, memory: Any, weights: Weights, samples: tuple[jax.Array, jax.Array],
        batches: jax.Array, count: int,
    ) -> tuple[Parameters, Any]:  # fmt: skip
        def step(n: int, inner: tuple[Parameters, Any]) -> tuple[Parameters, Any]:
            chosen = batches[n][places]
            batch = replace(
                flow, tokens=samples[0][chosen], targets=samples[1][chosen], shares=shares, weight_decay=0.0
            )
            return _step(batch, descent, weights, *inner)

        return jax.lax.fori_loop(0, count, step, (parameters, memory))

    def advance(state: TrainingState, weights: Weights, end: float, _: jax.Array) -> TrainingState:
        last = _step_at(descent, end)
        parameters, memory = state.parameters, state.memory
        for first in range(state.steps, last, longest):
            # The array has one shape whatever the number of steps, so that one program serves all.
            count = min(longest, last - first)
            batches = np.stack([descent.batches.at(first + min(k, count - 1)) for k in range(longest)])
            parameters, memory = repeat(parameters, memory, weights, (tokens, targets), batches, count)
        return TrainingState(parameters, memory, float(descent.taus[last]), last)

    def start(parameters: Parameters) -> TrainingState:
        return TrainingState(parameters, descent.transformation.init(parameters))

    return Trainer(advance, measure_of(flow), start)


def _step(
    batch: ParticleFlow, descent: Descent, weights: Weights, parameters: Parameters, memory: Any
) -> tuple[Parameters, Any]:
    """One step down the flow of a batch without decay; a unit without weight stays where it is."""
    slopes = tuple(-velocity for velocity in batch.velocity(parameters, weights))
    slopes = _clipped(slopes, weights, batch.model.layers, descent.settings.clip)
    moves, memory = descent.transformation.update(slopes, memory, parameters)

    moves = tuple(jnp.where(w[..., None] > 0.0, move, 0.0) for move, w in zip(moves, weights, strict=True))
    return optax.apply_updates(parameters, moves), memory


def _clipped(slopes: Parameters, weights: Weights, layers: int, most: float | None) -> Parameters:
    """All gradients times one number, so that their norm in the measure is at most `most`."""
    if most is None:
        return slopes

    squares = [jnp.sum(w * jnp.sum(s**2, axis=-1)) for s, w in zip(slopes, weights, strict=True)]
    norm = jnp.sqrt(sum(squares, start=jnp.zeros(())) / layers)
    return jax.tree.map(lambda s: jnp.minimum(1.0, most / norm) * s, slopes)


def _step_at(descent: Descent, tau: float) -> int:
    """The number of steps after which τ is this.

    Raises:
        InputError: where no step ends there.
    """
    step = int(np.abs(descent.taus - tau).argmin())
    if not np.isclose(descent.taus[step], tau, rtol=1e-9, atol=0.0):
        raise InputError(f"τ = {tau!r}: no step ends there; the nearest ends at {float(descent.taus[step])!r}")
    return step
