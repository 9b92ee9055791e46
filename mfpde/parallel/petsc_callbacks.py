"""Exceptions raised by Python functions that PETSc calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from petsc4py import PETSc


@contextmanager
def unwrapped() -> Iterator[None]:
    """Around a call of PETSc that calls Python: re-raises the original exception, such as KeyboardInterrupt.

    PETSc replaces it by an error of its own, and petsc4py keeps the original as its cause; nested calls nest causes.
    """
    try:
        yield
    except PETSc.Error as error:
        cause: BaseException | None = error
        while isinstance(cause, PETSc.Error):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None
