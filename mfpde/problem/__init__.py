"""What is solved: families, Transformers, tasks. Pure functions in JAX; no finite elements, no MPI."""

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
    """JAX as it is without the checks of a user's own code that environment or script may have switched on.

    They refuse what is meant here: arrays of NumPy where those of JAX could stand, and broadcasting.
    """
    with jax.transfer_guard("allow"), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield
