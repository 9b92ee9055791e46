"""Is a value that a user gave of the right kind and in range? If not: one line with key, value and what is allowed."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import TypeGuard

from mfpde.errors import InputError

_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SMALLEST, _LARGEST = 1e-50, 1e50  # beyond, squares and determinants leave the range of double precision


@contextmanager
def inside(place: str) -> Iterator[None]:
    """Put the name of a file or table in front of the line of an InputError.

    Raises:
        InputError: the body's, with the place named first.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def real(key: str, value: object, least: float = -math.inf, above: float = -math.inf) -> float:
    """A finite number ≥ least and > above, of a size that can be computed with.

    Raises:
        InputError: naming key, value and what is allowed.
    """
    allowed = "a finite number"
    if above > -math.inf:
        allowed = f"a finite number above {above:g}"
    elif least > -math.inf:
        allowed = f"a finite number, at least {least:g}"

    number = _float(value)
    if not math.isfinite(number) or number < least or number <= above:
        raise InputError(f"{key} = {show(value)}: must be {allowed}")
    if abs(number) > _LARGEST or (above == 0.0 and number < _SMALLEST):
        raise InputError(f"{key} = {show(value)}: must be {allowed}, of a size between {_SMALLEST:g} and {_LARGEST:g}")
    return number


def _float(value: object) -> float:
    """As a float; nan for what is no number, inf for a whole number that no float holds."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def is_whole(value: object) -> TypeGuard[int]:
    """Is it a whole number, Python's or NumPy's?"""
    return isinstance(value, Integral) and not isinstance(value, bool)


def whole(key: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """A whole number, between least and most where they are given.

    Raises:
        InputError: naming key, value and what is allowed.
    """
    if is_whole(value) and (least is None or least <= int(value)) and (most is None or int(value) <= most):
        return int(value)
    allowed = "" if least is None else f", {least} … {most}"
    raise InputError(f"{key} = {show(value)}: must be a whole number{allowed}")


def word(key: str, value: object) -> str:
    """A text.

    Raises:
        InputError: naming key and value.
    """
    if not isinstance(value, str):
        raise InputError(f"{key} = {show(value)}: must be a text")
    return value


def truth(key: str, value: object) -> bool:
    """True or false.

    Raises:
        InputError: naming key and value.
    """
    if not isinstance(value, bool):
        raise InputError(f"{key} = {show(value)}: must be true or false")
    return value


def one_of(key: str, value: object, allowed: Sequence[str]) -> str:
    """One of the allowed words.

    Raises:
        InputError: naming key, value and what is allowed.
    """
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{key} = {show(value)}: must be one of {', '.join(map(repr, allowed))}")
    return value


def duration(key: str, value: object) -> float:
    """Seconds of a text such as "90s", "10m", "2h".

    Raises:
        InputError: naming key, value and what is allowed.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|min|h|d)", value) if isinstance(value, str) else None
    if match is None or float(match[1]) == 0.0:
        raise InputError(f'{key} = {show(value)}: must be a time such as "90s", "10m" or "2h"')
    return float(match[1]) * _SECONDS[match[2]]


def file_name(key: str, value: object, what: str) -> Path:
    """The path of a file or folder, which may not exist yet.

    Args:
        key: where it was given.
        value: a text or a path.
        what: "the name of a folder" and the like, for the message.

    Raises:
        InputError: naming key, value and what is allowed.
    """
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value) or not is_text(str(value)):
        raise InputError(f"{key} = {show(value)}: must be {what}")
    return Path(value)


def existing(key: str, given: Path) -> Path:
    """A file that exists.

    Raises:
        InputError: naming key and path.
    """
    try:
        found = given.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be searched
        raise InputError(f"{key} = {show(str(given))}: {error.strerror or error}") from error
    if not found:
        raise InputError(f"{key} = {str(given)!r}: {'not a file' if given.exists() else 'no such file'}")
    return given


def is_text(word: str) -> bool:
    """Is it a text in UTF-8? Python takes other bytes on the command line, too, and most libraries do not."""
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def plain(value: object) -> object:
    """An array or a number of NumPy or JAX as Python's own; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def short(text: str, most: int = 200) -> str:
    """A text of the user's as in a message, shortened."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def show(value: object) -> str:
    """A value as in a message, shortened."""
    return short(repr(value), 60)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that a user may have meant; empty where none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")


def reject_unknown(table: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse names that are not known.

    Raises:
        InputError: naming the first unknown key and the nearest known one, or all of them.
    """
    for name in given:
        if name not in known:
            where = short(f"{table}.{name}" if table else name)
            near = nearest(name, known)
            hint = f"did you mean {near!r}?" if near else f"known are {', '.join(sorted(known)) or 'none'}"
            raise InputError(f"{where}: unknown key; {hint}")
