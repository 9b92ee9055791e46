"""The two ways in which a run ends early, and their exit codes."""

from __future__ import annotations


class InputError(ValueError):
    """A mistake that the user can mend: reported as one line, exit code 2."""

    exit_code = 2


class ComputationError(RuntimeError):
    """The numbers failed (not finite, step size collapsed, mass lost): one line, exit code 3."""

    exit_code = 3
