"""mfpde: the partial differential equation of training infinitely wide Transformers, solved in parallel.

The public names of the Python interface; importing them starts neither MPI nor a compilation.
"""

from mfpde.parallel import caches as _caches
from mfpde.parallel import mpi as _parallel

_parallel.limit_threads()
_caches.prepare()

from mfpde.api import solve_limit  # noqa: E402  (threads and caches are chosen before JAX and numba look for them)
from mfpde.config.settings import Density, Output, Time  # noqa: E402
from mfpde.errors import ComputationError, InputError  # noqa: E402
from mfpde.figures.run import Run, open_run  # noqa: E402
from mfpde.problem.family import Family  # noqa: E402
from mfpde.problem.from_run import FromRun  # noqa: E402
from mfpde.problem.laws import Bump, Laplace, Law, Normal, StudentT, Uniform, Zero  # noqa: E402
from mfpde.problem.mixtures import Mixture  # noqa: E402
from mfpde.problem.tasks import Task  # noqa: E402
from mfpde.problem.transformer import Transformer  # noqa: E402

__all__ = [
    "Bump",
    "ComputationError",
    "Density",
    "Family",
    "FromRun",
    "InputError",
    "Laplace",
    "Law",
    "Mixture",
    "Normal",
    "Output",
    "Run",
    "StudentT",
    "Task",
    "Time",
    "Transformer",
    "Uniform",
    "Zero",
    "open_run",
    "solve_limit",
]

FromRun.reader = open_run  # a problem knows of no files of results

__version__ = "0.1.0"
