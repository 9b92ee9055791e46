"""Unknown names, and the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from mfpde.errors import InputError
from mfpde.inputs import short


def reject_unknown(table: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse names that are not known.

    Raises:
        InputError: naming the first unknown key and the nearest known one, or all of them.
    """
    for name in given:
        if name not in known:
            where = short(f"{table}.{name}" if table else name)
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known)) or 'none'}"
            raise InputError(f"{where}: unknown key; {hint}")
