"""The ways in which a run ends early, and their exit codes."""

from __future__ import annotations


class InputError(ValueError):
    """A mistake that the user can correct: reported as one line, exit code 2."""

    exit_code = 2


class ComputationError(RuntimeError):
    """The numbers failed (not finite, step size collapsed, mass lost): one line, exit code 3."""

    exit_code = 3


class DiskError(ComputationError):
    """The numbers are sound and cannot be written (disk full, quota, a folder that vanished): one line, exit code 3."""


class Stopped(Exception):  # noqa: N818  (no error: it was requested)
    """The run ended on request and has been saved: one line; code 128 + signal, or 0 at the end of `--wall-time`."""

    def __init__(self, line: str, signal: int = 0) -> None:
        super().__init__(line)
        self.signal = signal
        self.exit_code = self.code(signal)

    @staticmethod
    def code(signal: int) -> int:
        """The exit code that shells expect of a program that a signal ended."""
        return 128 + signal if signal else 0
