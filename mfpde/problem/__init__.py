"""What is solved: families, Transformers, tasks. Pure functions in JAX; no finite elements, no MPI."""

import jax

# Gradients of a risk that is followed to 1e-8 need double precision; JAX asks for the switch before its first array.
jax.config.update("jax_enable_x64", True)
