"""What is solved: families of units, Transformers made of them, and tasks, as pure functions in JAX."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

# Gradients of a risk that is followed to 1e-8 need double precision; JAX asks for the switch before its first array.
jax.config.update("jax_enable_x64", True)
# All is computed on the CPU. Another platform in the environment may not exist here, and JAX would end with that.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_platform_name", "")


@contextmanager
def permissive() -> Iterator[None]:
    """JAX without the checks that the environment or a script may have switched on for a user's own code.

    They refuse what is intended here: arrays of NumPy in place of those of JAX, and broadcasting.
    """
    with jax.transfer_guard("allow"), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield
