"""MPI ahead of DOLFINx, one thread, and the compiled-code cache: as in every command."""

from forms import needs_no_headers
from mfpde import parallel

parallel.start()
parallel.start_petsc()
needs_no_headers()
