"""Compiled kernels, kept on disk under a digest of all the sources that they are made of.

numba compares the file of a function with the one that its machine code was made from, but not the files of functions
that it calls, nor of those that generate its code. A kernel here is compiled anew when its module has changed, or any
module of this package that it imports at its top, directly or not, or the version of another package that these import.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

from numba import njit
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

from mfpde.parallel import caches

_PACKAGE = Path(__file__).parents[1]
_IMPORT = re.compile(r"^(?:from|import) (\w[\w.]*)(?: import (\([^)]*\)|.*))?", re.MULTILINE)


def kernel[**P, R](
    fastmath: bool | set[str] = False,
    error_model: Literal["python", "numpy"] = "python",
    inline: Literal["never", "always"] = "never",
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that compiles a function and keeps the machine code; where numba is switched off, the function.

    Args:
        fastmath: rewritings of floating-point operations that numba may make, such as {"contract"}.
        error_model: "numpy" where a division by zero need not raise an error.
        inline: "always" to insert the function into its callers.
    """

    def compile_lazily(function: Callable[P, R]) -> Callable[P, R]:
        compiled: Any = njit(fastmath=fastmath, error_model=error_model, inline=inline)(function)
        if compiled is not function:
            compiled._cache = _Cache(function)  # as `cache=True` does, with another locator
        return compiled

    return compile_lazily


def digest(file: Path) -> str:
    """Of the sources, and of the versions of other packages, that a module's kernels are made of."""
    files, packages = sources(file)
    versions = {name: getattr(sys.modules.get(name), "__version__", "") for name in sorted(packages)}
    total = hashlib.sha256(repr(versions).encode())
    for each in sorted(files):
        total.update(_content(each)[0])
    return total.hexdigest()


def sources(file: Path) -> tuple[frozenset[Path], frozenset[str]]:
    """The files of this package that a module consists of and imports, directly or not, and the other packages."""
    files, packages, waiting = {file}, set[str](), [file]
    while waiting:
        _, found, others = _content(waiting.pop())
        waiting += found - files
        files |= found
        packages |= others
    return frozenset(files), frozenset(packages)


@cache
def _content(file: Path) -> tuple[bytes, frozenset[Path], frozenset[str]]:
    """The digest of a file, and what it imports at its top: files of this package, and other packages."""
    content = file.read_bytes()
    files, packages = set(), set()
    for module, names in _IMPORT.findall(content.decode()):
        package, *inside = module.split(".")
        if package != _PACKAGE.name:
            packages.add(package)
            continue
        place = _PACKAGE.joinpath(*inside)
        candidates = (place, *(place / name for name in re.findall(r"\w+", names)))
        files |= {path for path in (each.with_suffix(".py") for each in candidates) if path.is_file()}
    return hashlib.sha256(content).digest(), frozenset(files), frozenset(packages)


class _Locator(_CacheLocator):
    """Where a kernel is kept: the folder of NUMBA_CACHE_DIR, or beside its module, or in the user's cache."""

    def __init__(self, function: FunctionType, file: str) -> None:
        self._py_file = file  # numba reads it
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, function: FunctionType, file: str) -> _Locator:
        """The locator of a function in a file."""
        return cls(function, file)

    def get_cache_path(self) -> str:
        """The folder."""
        return _folder(config.CACHE_DIR, self._py_file)  # type: ignore[attr-defined]

    def get_source_stamp(self) -> str:
        """What the machine code is valid for."""
        return digest(Path(self._py_file))

    def get_disambiguator(self) -> str:
        """The line of a function, which distinguishes it from others of its name."""
        return str(self._line)


@cache
def _folder(given: str, file: str) -> str:
    """The first folder that can be written."""
    apart = _CacheLocator.get_suitable_cache_subpath(file)
    choices = [Path(given) / apart] if given else []
    choices += [Path(file).parent / "__pycache__", caches.directory() / "numba" / apart]
    return str(next(filter(caches.is_usable, choices), choices[-1]))


class _CacheFiles(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012


class _Cache(FunctionCache):
    _impl_class = _CacheFiles
