"""What is solved: families of units, Transformers made of them, and tasks, as pure functions in JAX."""

import jax

# Gradients of a risk that is followed to 1e-8 need double precision; JAX asks for the switch before its first array.
jax.config.update("jax_enable_x64", True)
# All is computed on the CPU. Another platform in the environment may not exist here, and JAX would end with that.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_platform_name", "")
