"""Before a run: does the model take the task's samples, and can JAX differentiate what the user wrote?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.problem.family import check_traced
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, check_model, sample_loss

_ROUNDING = 1e-6  # by which probabilities may miss 1


def try_out(model: Transformer, task: Task) -> None:
    """Try the model on the first sample, and the task's targets on the loss.

    Raises:
        InputError: one line saying which function or which array does not fit.
    """
    if not isinstance(model, Transformer) or not isinstance(task, Task):
        given = f"{type(model).__name__} and {type(task).__name__}"
        raise InputError(f"model and task must be a mfpde.Transformer and a mfpde.Task; they are {given}")
    if not jax.config.jax_enable_x64:
        raise InputError("model or task: JAX's double precision is switched off (jax_enable_x64); mfpde needs it")
    tokens, targets = jnp.asarray(task.tokens[0]), jnp.asarray(task.targets[0])
    check_model(model, tokens, targets)
    check_traced("model: readout", lambda stream: sample_loss(model, model.readout(stream), targets), tokens)
    if model.loss == "cross_entropy":
        _check_probabilities("targets", task.targets)
        if task.test_targets is not None:
            _check_probabilities("test_targets", task.test_targets)


def _check_probabilities(name: str, targets: NDArray[np.float64]) -> None:
    sums = targets.sum(axis=1)
    bad = (targets < 0.0).any(axis=1) | (np.abs(sums - 1.0) > _ROUNDING)
    if bad.any():
        n = int(bad.argmax())
        raise InputError(
            f"task: {name} of sample {n} are no probabilities (they sum to {sums[n]:g}); "
            "model.loss = 'cross_entropy' needs labels, or rows that are nonnegative and sum to 1"
        )


def fingerprint(model: Transformer, task: Task) -> NDArray[np.float64]:
    """A few numbers that tell models and tasks apart: ranks that drew their own random numbers differ in them."""
    given = (task.tokens, task.targets, task.test_tokens, task.test_targets)
    arrays = [np.asarray(array) for array in given if array is not None]
    tokens = jnp.asarray(task.tokens[0])
    for family in model.families:
        laws = [family.law(layer) for layer in range(model.layers)]
        arrays += [np.array([law.mean for law in laws]), np.array([law.std for law in laws])]
        arrays += [np.asarray(family.update(tokens, jnp.asarray(laws[0].mean) + jnp.asarray(laws[0].std)))]
    arrays += [np.asarray(model.readout(tokens))]
    return np.array([value for a in arrays for value in (a.size, a.sum(), np.abs(a).sum(), np.square(a).sum())])
