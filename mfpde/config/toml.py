"""TOML: texts of run files, read and written, with one line for what cannot be read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from mfpde.errors import InputError
from mfpde.inputs import plain, show


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        InputError: when it is none.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as a text in UTF-8 ({type(error).__name__})") from error


def loads(text: str) -> dict[str, Any]:
    """The tables of a text.

    Raises:
        InputError: when it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: int() refuses thousands of digits
        raise InputError(f"not valid TOML: {' '.join(str(error).split())}") from error


def line(text: str) -> dict[str, Any]:
    """The entry of one line `key = value` of a command; empty where that is not TOML, as bare words are not."""
    try:
        return tomllib.loads(text) if "\n" not in text else {}
    except (ValueError, RecursionError):
        return {}


def dumps(content: Mapping[str, Any]) -> str:
    """The text of nested tables, every array in one line."""
    text = tomli_w.dumps(content)
    # A new line inside an array is the only one that a space or a bracket follows: those in strings are escaped.
    text = re.sub(r",\n *\]", "]", text)
    return re.sub(r"(?<=,)\n +", " ", re.sub(r"(?<=\[)\n +", "", text))


def value(content: object) -> str:
    """The text of one value, as `--set` takes it."""
    return dumps({"x": [[content]]}).removeprefix("x = [[").removesuffix("]]\n")


def override(key: str, content: object) -> str:
    """The text `a.b=value` that `--set` takes, of a value of Python's or NumPy's.

    Raises:
        InputError: naming key and value, where TOML has no such value.
    """
    try:
        return f"{key}={value(plain(content))}"
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{key} = {show(content)}: must be a text, a number, true or false, or a list of them"
        ) from error
