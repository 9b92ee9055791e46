"""The Python files of users that a run file names: run as a script would be, with what stands beside them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from mfpde.errors import InputError
from mfpde.inputs import existing

_USER = "mfpde_user_"  # before the name of a user's file, as a module


def function_of(where: str, text: object, base: Path, modules: dict[Path, ModuleType]) -> Callable[..., Any]:
    """The function that a text "file.py:function" names.

    Args:
        where: key and value, for messages.
        text: the value.
        base: the folder that the file is relative to.
        modules: files that have run already, to which this one is added.

    Raises:
        InputError: when the text, the file or the function is none.
    """
    name, colon, attribute = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if not colon or not name or not attribute.isidentifier():
        raise InputError(f'{where}: must look like "file.py:function"')
    path = existing(where.partition(" ")[0], base / name)
    if path not in modules:
        modules[path] = _module(where, path)
    function = getattr(modules[path], attribute, None)
    if not callable(function):
        raise InputError(f"{where}: the file has no function {attribute!r}")
    return function


def call(failing: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call the user's own code, or a shipped function with values that no annotation describes.

    Raises:
        InputError: when it fails, beginning with `failing`.
    """
    try:
        return function(**arguments)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{failing}: {type(error).__name__}{f': {text[:200]}' if text else ''}") from error


def _module(where: str, path: Path) -> ModuleType:
    """Run a user's file, as a script would: it may import what stands beside it, now or when it is called."""
    name = f"{_USER}{path.stem}"
    loader = _UncachedLoader(name, str(path)) if path.suffix == ".py" else None
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise InputError(f"{where}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    _make_importable(path.resolve().parent)
    sys.modules[spec.name] = module  # dataclasses and pickles look there
    call(f"{where}: failed to import", spec.loader.exec_module, {"module": module})
    return module


class _UncachedLoader(SourceFileLoader):
    """Compiles a file at every run.

    Python takes bytecode for that of a source of the same size and second, which a file that was just changed may have.
    """

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Without the time of the source bytecode is neither read nor written."""
        raise OSError(path)


def _make_importable(folder: Path) -> None:
    """Put a folder first among those that imports look into.

    What another user's file of this process has imported from beside itself must not pass for a file of the same name
    that stands here.
    """
    files = {name: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())}
    others = {Path(file).resolve().parent for name, file in files.items() if name.startswith(_USER)} - {folder}
    stale = {
        name for name in files if _beside(folder, name) and files[name] in (_beside(other, name) for other in others)
    }

    for name in files:
        if name.partition(".")[0] in stale:
            del sys.modules[name]
    sys.path[:] = [str(folder), *(path for path in sys.path if path != str(folder))]


def _beside(folder: Path, name: str) -> str:
    """The file of a module or package of this name in a folder; empty where there is none."""
    files = (folder / f"{name}.py", folder / name / "__init__.py")
    return next((str(file) for file in files if file.is_file()), "")
