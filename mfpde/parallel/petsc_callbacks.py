"""Python functions that PETSc calls: what they raise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from petsc4py import PETSc


@contextmanager
def unwrapped() -> Iterator[None]:
    """Around a call of PETSc that calls Python: what is raised there comes out as it is, KeyboardInterrupt for one.

    PETSc hands it on as an error of its own, and petsc4py keeps the original as its cause; of calls inside calls, one
    behind the other.
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
