"""MPI ahead of DOLFINx, one thread, and the compiled-code cache: as in every command."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests compile thousands of small programs, most of which take less than the tenth of a second from which the commands
# keep them; a second run finds them all. Set before JAX is imported, and inherited by the processes that tests start.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("NPROC", "1")  # tests run on all cores as it is; those of threads set it

from mfpde.parallel import mpi
from support.forms import needs_no_headers

MAPS = Path("/proc/self/maps")
MOST_MAPS = 20_000  # of the 65,530 that Linux allows a process unless told otherwise


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_models() -> Iterator[None]:
    """Compiled programs stay for the next module, until they have used up many of a process's memory maps."""
    yield

    if not MAPS.exists() or MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        import jax

        jax.clear_caches()


def pytest_configure(config: pytest.Config) -> None:
    """Start what tests need, in the processes that run them and not in the one that hands them out."""
    worker = hasattr(config, "workerinput")
    if worker or config.option.collectonly or not config.getoption("numprocesses", None):
        start()

    # Ctrl-C and a closed terminal are heard, though a shell ignores them for what it runs in the background.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start() -> None:
    """MPI, PETSc, and a way to compile forms."""
    mpi.start()
    mpi.start_petsc()
    needs_no_headers()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """As many processes as cores, but only this one for a few files: starting others would take longer."""
    few = len(config.args) <= 4 and all(".py" in name for name in config.args)
    return 0 if few else None


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--shuffle SEED`: modules in an order drawn from the seed, and the tests of each likewise."""
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run modules, and the tests of each, in random order")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of one module stay together, since they share what its fixtures made."""
    seed = config.getoption("--shuffle")
    if seed is None:
        return
    modules: dict[str, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(str(item.path), []).append(item)
    draw = random.Random(seed)
    groups = list(modules.values())
    draw.shuffle(groups)
    for group in groups:
        draw.shuffle(group)
    items[:] = [item for group in groups for item in group]
