"""Training by steps: θ ← θ − ε_k (D_k + λ θ), with the direction D_k of a method, its rates and its batches.

    g_k = ∇_θ δR_{B_k}/δρ,      s_k = Ψ(s_{k−1}, g_k),      D_k = D(s_k)

The gradient is that of the potential of a batch B_k, without weight decay: for M units it is L·M ∂R_{B_k}/∂θ, which has
a limit as M → ∞. So the method's state s, the momentum or Adam's two moments, has one too, and every unit carries its
own, from zero. Weight decay is decoupled from it in every method (Loshchilov and Hutter, 2019). τ is the sum of the
rates, and for plain descent with all samples the flow's time.
Source: docs/training.md; updates and schedules are optax's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from mfpde.problem.batches import Batches

if TYPE_CHECKING:
    from mfpde.config.settings import Optimiser, Training

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Descent:
    """A method for samples of a given number.

    Attributes:
        settings: the method.
        weight_decay: λ.
        samples: of the task.

    Raises:
        InputError: for a batch larger than the set of samples.
    """

    settings: Optimiser
    weight_decay: float
    samples: int

    def __post_init__(self) -> None:
        _ = self.batches

    @classmethod
    def of(cls, training: Training, samples: int) -> Descent | None:
        """The method that is trained with; None for the flow."""
        if training.optimiser is None:
            return None
        return cls(training.optimiser, training.weight_decay, samples)

    @cached_property
    def batches(self) -> Batches:
        """Which samples each step takes."""
        return Batches(self.samples, self.settings.batch, self.settings.sampling, self.settings.seed)

    @cached_property
    def steps(self) -> int:
        """How many."""
        if self.settings.steps is not None:
            return self.settings.steps
        return (self.settings.epochs or 0) * self.batches.per_epoch

    @cached_property
    def schedule(self) -> optax.Schedule:
        """ε_k of step k, counted from 0; above 0 in all steps."""
        rate, warmup = self.settings.learning_rate, min(self.settings.warmup, self.steps)
        rest = max(self.steps - warmup, 1)
        main = {
            "constant": optax.constant_schedule(rate),
            "linear": optax.linear_schedule(rate, 0.0, rest),
            "cosine": optax.cosine_decay_schedule(rate, rest),
        }[self.settings.schedule]
        if warmup:
            main = optax.join_schedules([optax.linear_schedule(rate / warmup, rate, warmup), main], [warmup])
        return lambda step: main(jnp.asarray(step, jnp.float64))  # optax counts in int32, whose quotients are float32

    @cached_property
    def rates(self) -> Array:
        """ε_k (steps,)."""
        steps = jnp.arange(self.steps)
        return np.array(jnp.broadcast_to(jnp.asarray(self.schedule(steps), jnp.float64), steps.shape))

    @cached_property
    def taus(self) -> Array:
        """τ_k = ε_0 + … + ε_{k−1}, (steps + 1,)."""
        return np.concatenate([[0.0], np.cumsum(self.rates)])

    @cached_property
    def transformation(self) -> optax.GradientTransformation:
        """From gradients, clipped where that is asked for, and parameters to what is added to these."""
        return optax.chain(
            self._direction(),
            optax.add_decayed_weights(self.weight_decay),
            optax.scale_by_learning_rate(self.schedule),
        )

    def _direction(self) -> optax.GradientTransformation:
        own = self.settings
        match own.method:
            case "momentum":
                return optax.trace(decay=own.momentum, nesterov=bool(own.nesterov))
            case "adamw":
                return optax.scale_by_adam(b1=own.beta1, b2=own.beta2, eps=own.epsilon)
            case _:
                return optax.identity()

    def clip_factor(self, norm: float) -> float:
        """By what gradients are multiplied whose norm in the measure is ((1/L) Σ_{ℓ,c} ∫|g|² dρ)^½ = `norm`."""
        most = self.settings.clip
        return 1.0 if most is None or norm <= most else most / norm
