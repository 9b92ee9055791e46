"""mfpde: the partial differential equation of training infinitely wide Transformers, solved in parallel.

The public names of the Python interface, imported when they are first asked for: a command that lets most of its ranks
sleep, or that has found a mistake in its arguments, imports nothing numerical. Importing them starts neither MPI nor a
compilation.
"""

import os as _os
import sys as _sys
from importlib import import_module as _import_module
from typing import TYPE_CHECKING

from mfpde.parallel import caches as _caches
from mfpde.parallel import mpi as _parallel

if TYPE_CHECKING:
    from mfpde.api import generate_text, solve_limit
    from mfpde.config.settings import Density, Optimiser, Output, Time
    from mfpde.errors import ComputationError, InputError
    from mfpde.figures.run import Run, open_run
    from mfpde.output.clouds.nodes import Nodes
    from mfpde.problem.family import Family
    from mfpde.problem.laws import Law, Normal, Zero
    from mfpde.problem.mixtures import Mixture
    from mfpde.problem.product_laws import Bump, Laplace, StudentT, Uniform
    from mfpde.problem.tasks import Task
    from mfpde.problem.transformer import Transformer
    from mfpde.runs.problem_setup import FromRun
    from mfpde.studies import compare_run, sweep_runs, train_particles

_parallel.limit_threads()  # before JAX and numba look for the number of threads, and for their caches
_caches.prepare()
_os.environ["JAX_ENABLE_X64"] = "1"  # scripts make arrays before they ask for the first of the names below
if "jax" in _sys.modules:
    _import_module("mfpde.problem")  # too late for the environment; it switches JAX to double precision itself

__version__ = "0.1.0"

_PLACES = {
    "api": ("generate_text", "solve_limit"),
    "config.settings": ("Density", "Optimiser", "Output", "Time"),
    "errors": ("ComputationError", "InputError"),
    "figures.run": ("Run", "open_run"),
    "output.clouds.nodes": ("Nodes",),
    "problem.family": ("Family",),
    "problem.laws": ("Law", "Normal", "Zero"),
    "problem.product_laws": ("Bump", "Laplace", "StudentT", "Uniform"),
    "problem.mixtures": ("Mixture",),
    "problem.tasks": ("Task",),
    "problem.transformer": ("Transformer",),
    "runs.problem_setup": ("FromRun",),
    "studies": ("compare_run", "sweep_runs", "train_particles"),
}
"""Module → public names in it."""

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
    "Nodes",
    "Normal",
    "Optimiser",
    "Output",
    "Run",
    "StudentT",
    "Task",
    "Time",
    "Transformer",
    "Uniform",
    "Zero",
    "compare_run",
    "generate_text",
    "open_run",
    "solve_limit",
    "sweep_runs",
    "train_particles",
]


def __getattr__(name: str) -> object:
    """A public name, from its module."""
    for place, names in _PLACES.items():
        if name in names:
            value = globals()[name] = getattr(_import_module(f"mfpde.{place}"), name)
            return value
    raise AttributeError(f"module 'mfpde' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, imported or not: what a notebook offers."""
    return [*__all__, "__version__"]
