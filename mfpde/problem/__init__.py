"""What is solved: families of units, Transformers made of them, and tasks, as pure functions in JAX."""

import jax

from mfpde import device

# Gradients of a risk that is followed to 1e-8 need double precision; JAX asks for the switch before its first array.
jax.config.update("jax_enable_x64", True)
device.configure()
