"""Where compiled code is kept that outlives a run, and what becomes of it where there is no home to keep it in.

numba, JAX and matplotlib look in the environment for the folders of their caches, when they are imported. Unless it
names one they write beside the modules or into the user's home. Where neither can be written (a read-only installation,
an unknown user in a container, a home on a cluster's nodes) numba ends with a traceback and matplotlib warns, so they
are given a folder that can.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

# where numba keeps the kernels by itself
_COMPILED = Path(__file__).parents[1] / "limit" / "transport" / "__pycache__"
_PREFIX = "mfpde-cache-"


def directory() -> Path:
    """The folder of all caches: `MFPDE_CACHE`, else mfpde/ in the user's cache folder."""
    given = os.environ.get("MFPDE_CACHE")
    return Path(given) if given else _of_the_user("XDG_CACHE_HOME", ".cache") / "mfpde"


def is_temporary() -> bool:
    """Is a temporary folder the only one that can be written?"""
    return directory().name.startswith(_PREFIX)


def prepare() -> None:
    """Choose the folders, and say so in the environment, where what the user has set wins.

    It comes before numba and JAX are imported, which look there once.
    """
    if not _has_home():
        os.environ["HOME"] = os.environ["MFPDE_CACHE"] = os.environ.get("MFPDE_CACHE") or str(_temporary())
    if not is_usable(directory()):
        os.environ["MFPDE_CACHE"] = str(_temporary())
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(directory() / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    if not is_usable(_COMPILED):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(directory() / "numba"))
        if "numba" in sys.modules:  # the user's script has imported it before mfpde
            sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]
    homes = _of_the_user("XDG_CONFIG_HOME", ".config"), _of_the_user("XDG_CACHE_HOME", ".cache")
    if not all(is_usable(home / "matplotlib") for home in homes):
        os.environ.setdefault("MPLCONFIGDIR", str(directory() / "matplotlib"))


def is_usable(folder: Path) -> bool:
    """Can files be written there, in the folder itself or in one that would have to be made? Nothing is left behind.

    Asking for permissions is not enough: the superuser has them on file systems that refuse.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=there):
            return True
    except OSError:
        return False


def _of_the_user(variable: str, name: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / name)


def _has_home() -> bool:
    try:
        return bool(Path.home().parts)
    except RuntimeError:  # neither HOME nor a line for this user in /etc/passwd
        return False


def _temporary() -> Path:
    """This user's folder beside all temporary ones, the same for every rank and every run.

    What is kept there will be executed, so a folder that others have made under its name, or can write to, will not do.
    """
    folder = Path(tempfile.gettempdir()) / f"{_PREFIX}{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix=_PREFIX))
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return folder if own else Path(tempfile.mkdtemp(prefix=_PREFIX))
