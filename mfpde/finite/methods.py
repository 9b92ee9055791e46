"""The flow of a finite Transformer: by an adaptive Runge–Kutta method, or by gradient descent with a learning rate.

Times are the flow's τ. A step of gradient descent is θ_j ← θ_j − h (L/w_j) ∂Q/∂θ_j: with the learning rate h fixed, M
equal units and n steps, τ = n h, whatever M and L are. With temperature every unit has noise of its own.
Training by the steps of a run file's method is in `optimiser_steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import diffrax
import equinox
import jax
import jax.numpy as jnp
import numpy as np

from mfpde.errors import ComputationError, InputError
from mfpde.finite.flow import Parameters, ParticleFlow, Weights, join, split
from mfpde.problem.transformer import Units

type Advance = Callable[[TrainingState, Weights, float, jax.Array], TrainingState]
"""From one state to that at a later τ; the last argument is the key of the noise."""
type Measure = Callable[[Parameters, Weights], tuple[jax.Array, jax.Array, jax.Array]]
"""Risk, accuracy and penalty of units."""

_MAX_STEPS = 1_000_000
_COARSE = 1e-5  # tolerance from which a pair of lower order takes less work


@dataclass(frozen=True)
class TrainingSnapshot:
    """A finite Transformer at one τ.

    Attributes:
        tau: τ.
        risk: R.
        accuracy: share of samples whose largest output is where the target is largest; for classification.
        penalty: (λ/2L) Σ Σ w_j |θ_j|².
        units: per family θ (L, u, d) and w (L, u).
        steps: since τ = 0.
    """

    tau: float
    risk: float
    accuracy: float
    penalty: float
    units: Units
    steps: int

    @property
    def energy(self) -> float:
        """Q at temperature zero: R + penalty. The entropy of finitely many units is not defined."""
        return self.risk + self.penalty


@dataclass(frozen=True)
class TrainingState:
    """All that training goes on from.

    Attributes:
        parameters: per family θ (L, u, d).
        memory: what a method keeps of earlier gradients, arrays of a number per parameter; () where it keeps nothing.
        tau: τ.
        steps: since τ = 0.
    """

    parameters: Parameters
    memory: Any = ()
    tau: float = 0.0
    steps: int = 0


@dataclass(frozen=True)
class Trainer:
    """A way to train, compiled once for units of one shape.

    Attributes:
        advance: from one τ to the next.
        measure: of the units at one τ.
        start: from the units' θ at τ = 0 to the state there.
    """

    advance: Advance
    measure: Measure
    start: Callable[[Parameters], TrainingState] = TrainingState

    def snapshots(self, units: Units, times: Sequence[float], seed: int = 0) -> Iterator[TrainingSnapshot]:
        """A snapshot at every time.

        Args:
            units: at τ = 0.
            times: τ of the snapshots, increasing; steps end on them.
            seed: of the noise, where there is some.

        Raises:
            InputError: for times that do not increase from 0, or at which no step can end.
            ComputationError: when the units are no longer finite, or the step size collapses.
        """
        if not times or min(times) < 0.0 or any(a >= b for a, b in pairwise(times)):
            raise InputError(f"times {list(times)}: must be at least one τ ≥ 0, and increase")

        key = jax.random.key(seed)
        parameters, weights = split(units)
        state = self.start(parameters)
        for time in map(float, times):
            if time > state.tau:
                state = self.advance(state, weights, time, jax.random.fold_in(key, state.steps))

            risk, accuracy, penalty = (float(value) for value in self.measure(state.parameters, weights))
            if not np.isfinite(risk + penalty):
                raise ComputationError(f"the finite Transformer is not finite at τ = {state.tau:g}")
            reached = join(state.parameters, weights)
            yield TrainingSnapshot(state.tau, risk, accuracy, penalty, reached, state.steps)


def gradient_descent(flow: ParticleFlow, learning_rate: float, temperature: float = 0.0) -> Trainer:
    """Gradient descent, the explicit Euler method for the flow; with temperature the Euler–Maruyama method.

        θ_j ← θ_j − h (L/w_j) ∂Q/∂θ_j + √(2β⁻¹h) ξ_j,    ξ_j standard normal, independent for every unit and step

    Args:
        flow: model, samples and weight decay.
        learning_rate: h, the largest Δτ of a step; steps are shortened so that they end on each time exactly.
        temperature: β⁻¹.

    Raises:
        InputError: for a learning rate that is not positive.
    """
    if not learning_rate > 0.0:
        raise InputError(f"learning rate {learning_rate!r}: must be positive")

    def noise(key: jax.Array, parameters: Parameters, size: float) -> Parameters:
        keys = jax.random.split(key, len(parameters))
        scale = jnp.sqrt(2.0 * temperature * size)
        return tuple(scale * jax.random.normal(k, p.shape, p.dtype) for k, p in zip(keys, parameters, strict=True))

    @jax.jit
    def repeat(parameters: Parameters, weights: Weights, size: float, count: int, key: jax.Array) -> Parameters:
        def step(n: int, inner: Parameters) -> Parameters:
            moved = jax.tree.map(lambda p, v: p + size * v, inner, flow.velocity(inner, weights))
            if temperature == 0.0:
                return moved
            return jax.tree.map(jnp.add, moved, noise(jax.random.fold_in(key, n), moved, size))

        return jax.lax.fori_loop(0, count, step, parameters)

    def advance(state: TrainingState, weights: Weights, end: float, key: jax.Array) -> TrainingState:
        count = max(1, int(np.ceil((end - state.tau) / learning_rate - 1e-9)))
        parameters = repeat(state.parameters, weights, (end - state.tau) / count, count, key)
        return TrainingState(parameters, tau=end, steps=state.steps + count)

    return Trainer(advance, measure_of(flow))


def runge_kutta(flow: ParticleFlow, tolerance: float = 1e-8) -> Trainer:
    """The flow by a Runge–Kutta pair, with steps chosen by its error estimate.

    Orders 8(7) by Dormand and Prince, or 5(4) by Tsitouras for tolerances from 1e-5, where longer steps gain nothing.
    The first step tried goes to the next time at once. The error of a step is measured in the root mean square over
    units, each with its weight.

    Args:
        flow: model, samples and weight decay.
        tolerance: of a step, relative and absolute.

    Raises:
        InputError: for a tolerance that is not positive.
    """
    if not tolerance > 0.0:
        raise InputError(f"tolerance {tolerance!r}: must be positive")

    pair = diffrax.Dopri8() if tolerance < _COARSE else diffrax.Tsit5()

    @jax.jit
    def solve(parameters: Parameters, weights: Weights, start: float, end: float) -> tuple[Parameters, jax.Array]:
        controller = diffrax.PIDController(tolerance, tolerance, norm=lambda error: _weighted_norm(error, weights))
        term = diffrax.ODETerm(lambda _, inner, args: flow.velocity(inner, args))
        solution = diffrax.diffeqsolve(
            term, pair, start, end, end - start, parameters, weights,
            stepsize_controller=controller, max_steps=_MAX_STEPS,
        )  # fmt: skip
        return jax.tree.map(lambda y: y[-1], solution.ys), solution.stats["num_steps"]

    def advance(state: TrainingState, weights: Weights, end: float, _: jax.Array) -> TrainingState:
        try:
            parameters, steps = solve(state.parameters, weights, state.tau, end)
            return TrainingState(jax.block_until_ready(parameters), tau=end, steps=state.steps + int(steps))
        except equinox.EquinoxRuntimeError as error:
            reason = " ".join(str(error).split())[:120]
            raise ComputationError(f"the finite flow broke down after τ = {state.tau:g}: {reason}") from error

    return Trainer(advance, measure_of(flow))


def measure_of(flow: ParticleFlow) -> Measure:
    """Risk, accuracy and penalty on the flow's samples, compiled."""
    return jax.jit(lambda parameters, weights: (*flow.risk(parameters, weights), flow.penalty(parameters, weights)))


def _weighted_norm(error: Parameters, weights: Weights) -> jax.Array:
    """Root mean square over layers, families and coordinates of errors (L, u, d), units counted by w (L, u)."""
    parts = [jnp.mean(jnp.sum(w[..., None] * e**2, axis=1)) for e, w in zip(error, weights, strict=True)]
    return jnp.sqrt(jnp.mean(jnp.stack(parts)))
