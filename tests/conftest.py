"""MPI ahead of DOLFINx, one thread, and the compiled-code cache: as in every command."""

import random
import signal
from collections.abc import Iterator

import pytest

from mfpde.parallel import mpi
from support.forms import needs_no_headers

mpi.start()
mpi.start_petsc()
needs_no_headers()


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_models() -> Iterator[None]:
    """Each model of a test is compiled for itself; in one process they use up the memory maps that Linux allows."""
    yield
    import jax

    jax.clear_caches()


def pytest_configure() -> None:
    """Ctrl-C and a closed terminal are heard, though a shell ignores them for what it runs in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


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
