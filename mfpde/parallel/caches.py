"""Folders for what outlives a run, such as compiled code, also where the user's home cannot be written.

JAX and matplotlib look in the environment for the folders of their caches, when they are imported; matplotlib warns
where it cannot write into the user's home (an unknown user in a container, a home on a cluster's nodes). So they are
given a folder that can be written. `parallel.compilation` does the same for numba's kernels.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

_PREFIX = "mfpde-cache-"


def directory() -> Path:
    """The folder of all caches: `MFPDE_CACHE`, else `mfpde` in the user's cache folder."""
    given = os.environ.get("MFPDE_CACHE")
    return Path(given) if given else _of_the_user("XDG_CACHE_HOME", ".cache") / "mfpde"


def is_temporary() -> bool:
    """Is a temporary folder the only one that can be written?"""
    return directory().name.startswith(_PREFIX)


def prepare() -> None:
    """Name the folders in the environment, which JAX reads once when it is imported; what the user has set is kept."""
    if not _has_home():
        os.environ["HOME"] = os.environ["MFPDE_CACHE"] = os.environ.get("MFPDE_CACHE") or str(_temporary())
    if not is_usable(directory()):
        os.environ["MFPDE_CACHE"] = str(_temporary())

    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(directory() / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

    homes = _of_the_user("XDG_CONFIG_HOME", ".config"), _of_the_user("XDG_CACHE_HOME", ".cache")
    if not all(is_usable(home / "matplotlib") for home in homes):
        os.environ.setdefault("MPLCONFIGDIR", str(directory() / "matplotlib"))


def keep_bytecode() -> None:
    """Let Python keep the bytecode of what a command imports, where nothing else has: starts take half as long.

    Many images forbid it (PYTHONDONTWRITEBYTECODE), and some installers compile nothing. Then it goes to the folder of
    caches, and not beside the sources.
    """
    if sys.dont_write_bytecode and sys.pycache_prefix is None and not _has_bytecode("jax"):
        sys.pycache_prefix = str(directory() / "bytecode")
        sys.dont_write_bytecode = False


def is_usable(folder: Path) -> bool:
    """Can files be written into the folder, or into the one in which it would have to be made? Nothing is left behind.

    Permissions do not answer that: the superuser has them on read-only file systems, too.
    """
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False


def _has_bytecode(package: str) -> bool:
    spec = find_spec(package)
    return spec is None or (spec.cached is not None and Path(spec.cached).exists())


def _of_the_user(variable: str, name: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / name)


def _has_home() -> bool:
    try:
        return bool(Path.home().parts)
    except RuntimeError:  # neither HOME nor a line for this user in /etc/passwd
        return False


def _temporary() -> Path:
    """This user's folder for temporary files, the same for every rank and every run.

    Its contents will be executed, so a folder that somebody else has made, or can write to, is not used.
    """
    folder = Path(tempfile.gettempdir()) / f"{_PREFIX}{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix=_PREFIX))
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return folder if own else Path(tempfile.mkdtemp(prefix=_PREFIX))
