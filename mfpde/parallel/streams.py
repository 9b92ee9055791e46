"""Standard output and error of a command, which continues without them when the reader goes away or closes a stream.

A pipe may break at any write (`| head`), and again when the interpreter flushes its buffers at exit. A shell may close
a stream (`>&-`), and the next file that is opened takes its descriptor, with everything that a library prints to it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class Stream:
    """A text stream whose writes never fail: after the first error the text is discarded."""

    def __init__(self, stream: TextIO, complain: Stream | None = None) -> None:
        """Writes pass through as long as the stream works.

        Args:
            stream: the stream written to.
            complain: receives a line when the stream fails for another reason than a reader that went away.
        """
        self._stream = stream
        self._complain = complain

    def write(self, text: str) -> int:
        """Write a text, or discard it; returns the number of its characters."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts in order."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own: encoding, file descriptor, whether it is a terminal."""
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        """Redirect the descriptor to the null device, for libraries and for what the interpreter has yet to flush."""
        if self._complain is not None and error.errno != errno.EPIPE:
            self._complain.write(f"mfpde: standard output cannot be written: {error.strerror or error}\n")
        self._complain = None
        with suppress(OSError, ValueError):  # a stream in memory has no file
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


@contextmanager
def lasting() -> Iterator[None]:
    """Standard output and error that exist and never fail while a command runs."""
    before = sys.stdout, sys.stderr

    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor: this one

    if isinstance(sys.stdout, io.TextIOWrapper):  # where a terminal cannot show τ, it shows a question mark
        sys.stdout.reconfigure(errors="replace")
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123  (no path of a user's)
        errors = Stream(sys.stderr or nowhere)
        output = Stream(sys.stdout or nowhere, errors)
        sys.stdout, sys.stderr = output, errors
        try:
            yield
        finally:
            output.flush()
            errors.flush()
            sys.stdout, sys.stderr = before
