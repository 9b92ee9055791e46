"""One writer a directory: a lock of the operating system, which ends with its process, however that ends.

A writer that is killed leaves a file behind that nobody has locked, and the next one takes it over. The file names host
and process, for the message that another writer gets.
"""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mfpde.errors import InputError
from mfpde.output.directory import check_writable
from mfpde.parallel import mpi

LOCK = ".mfpde-lock"  # a name that no other program has for a file of its own


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Be the only process that writes into a directory; on rank 0.

    The directory is made if it is not there, and taken away again if nothing was put into it.

    Raises:
        InputError: when another process holds it, naming that, or when the file system refuses.
    """
    try:
        made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
        check_writable(directory)
        directory.mkdir(parents=True, exist_ok=True)
        handle = _taken(directory)
    except OSError as error:
        raise InputError(f"directory {directory}: {error.strerror or error}") from error

    try:
        yield
    finally:
        with suppress(OSError):  # somebody may have removed it, or the disk is gone
            (directory / LOCK).unlink()
        os.close(handle)
        with suppress(OSError):  # not empty: the usual end
            for folder in made:
                folder.rmdir()


def _taken(directory: Path) -> int:
    """The locked file, open."""
    while True:
        handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _lock(handle, directory)
            if _is_there(handle, directory):
                break
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its writer has just ended, and has removed the file

    with suppress(OSError):  # a full disk: the lock holds without a name
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()} {platform.node()}".encode(), 0)
    return handle


def _lock(handle: int, directory: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        number, _, host = os.pread(handle, 300, 0).decode(errors="replace").partition(" ")
        who = f"process {number} on {host}" if host else "another process"
        raise InputError(
            f"directory {directory}: {who} is writing there; wait for it to end, or choose another directory"
        ) from error
    except OSError as error:  # ENOLCK, ENOSYS, EOPNOTSUPP: some network file systems
        mpi.warn(
            f"directory {directory}: its file system has no locks ({error.strerror}); nothing keeps a second run from "
            "writing there"
        )


def _is_there(handle: int, directory: Path) -> bool:
    """Is the open file still the one that has the name?"""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), (directory / LOCK).stat())
    return False
