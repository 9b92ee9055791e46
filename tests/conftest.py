"""MPI ahead of DOLFINx, one thread, and the compiled-code cache: as in every command."""

from collections.abc import Iterator

import pytest

from forms import needs_no_headers
from mfpde import parallel

parallel.start()
parallel.start_petsc()
needs_no_headers()


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_models() -> Iterator[None]:
    """Each model of a test is compiled for itself; in one process they use up the memory maps that Linux allows."""
    yield
    import jax

    jax.clear_caches()
