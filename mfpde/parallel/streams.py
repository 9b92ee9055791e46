"""Standard output and error of a command, which goes on without them when the reader goes away or a stream is closed.

A pipe may break at any write (`| head`), and again when the interpreter writes out what is left at its end. A shell may
close a stream (`>&-`), and the next file that is opened takes its number, with all that a library prints to it.
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
    """A stream of text that takes everything; from the first write that fails on, it goes nowhere."""

    def __init__(self, stream: TextIO, complain: Stream | None = None) -> None:
        """As good as the stream itself, as long as somebody reads it.

        Args:
            stream: what is written to.
            complain: gets a line when the stream fails for another reason than a reader that went away.
        """
        self._stream = stream
        self._complain = complain

    def write(self, text: str) -> int:
        """Write a text, or lose it; the number of its characters."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's own: encoding, number of the file, is it a terminal?"""
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        """Point the file to nowhere, for libraries and for what the interpreter still has to write out."""
        if self._complain is not None and error.errno != errno.EPIPE:
            self._complain.write(f"mfpde: standard output cannot be written: {error.strerror or error}\n")
        self._complain = None
        with suppress(OSError, ValueError):  # a stream in memory has no file
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


@contextmanager
def lasting() -> Iterator[None]:
    """Standard output and error that are there, and stay, for the time of a command."""
    before = sys.stdout, sys.stderr
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if isinstance(sys.stdout, io.TextIOWrapper):  # where a terminal has no letter such as τ, a question mark stands
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
