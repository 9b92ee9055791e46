"""From the tables [task], [model] and [initial] to objects: shipped functions and the user's go through one door.

A function gets the other keys of its table as keyword arguments; a task function with a parameter named `model` is
given the model, a model function with a parameter named `task` the task.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mfpde.errors import InputError
from mfpde.problem import library
from mfpde.problem import task as tasks
from mfpde.problem.family import Family
from mfpde.problem.laws import Bump, Law, Normal, Uniform
from mfpde.problem.task import Task
from mfpde.problem.transformer import Transformer
from mfpde.settings import real, whole
from mfpde.suggest import reject_unknown

_TASKS: Mapping[str, Callable[..., Task]] = {
    "digits": tasks.digits,
    "in-context-regression": tasks.in_context_regression,
    "scalars": tasks.scalars,
    "teacher": tasks.teacher,
}
_MODELS: Mapping[str, Callable[..., Transformer]] = {
    "attention": library.attention,
    "attention-mlp": library.attention_mlp,
    "bilinear": library.bilinear,
    "image": library.image_transformer,
    "linear": library.linear,
}
_LAWS: Mapping[str, type[Law]] = {"normal": Normal, "uniform": Uniform, "bump": Bump}
_MODEL_KEYS = ("layers", "step", "depth")


def build_task(table: Mapping[str, Any], base: Path, model: Transformer | None) -> Task:
    """The task of [task]: `name`, `npz` or `python`.

    Raises:
        InputError: naming the key.
    """
    if "npz" in table:
        reject_unknown("task", table, ("npz",))
        if not isinstance(table["npz"], str):
            raise InputError(f"task.npz = {table['npz']!r}: must be a file name")
        return tasks.from_npz(base / table["npz"])
    function = _function(table, "task", _TASKS, base)
    return _call(function, table, "task", Task, {} if model is None else {"model": model})


def build_model(table: Mapping[str, Any], base: Path, task: Task | None) -> Transformer:
    """The model of [model]: `name` or `python`; the file's layers, step and depth win over the function's.

    Raises:
        InputError: naming the key.
    """
    function = _function(table, "model", _MODELS, base)
    winning = {key: table[key] for key in _MODEL_KEYS if key in table}
    if "layers" in winning:
        whole("model.layers", winning["layers"], 1, 100_000)
    if "step" in winning:
        winning["step"] = real("model.step", winning["step"])
    taken = inspect.signature(function).parameters
    passed = {key: value for key, value in table.items() if key not in _MODEL_KEYS or key in taken}
    model = _call(function, passed, "model", Transformer, {} if task is None else {"task": task})
    return dataclasses.replace(model, **winning)


def build_initial(model: Transformer, table: Mapping[str, Any]) -> Transformer:
    """The model with the initial laws of [initial.FAMILY], a table, or an array of tables, one per layer.

    Raises:
        InputError: naming the key.
    """
    reject_unknown("initial", table, [family.name for family in model.families])
    stages = [[_with_law(family, table.get(family.name), model.layers) for family in stage] for stage in model.stages]
    return dataclasses.replace(model, stages=stages)


def needs(table: Mapping[str, Any], kind: str, parameter: str, base: Path) -> bool:
    """Does the table's function have a parameter of this name that the table does not give?"""
    if "npz" in table:
        return False
    function = _function(table, kind, _TASKS if kind == "task" else _MODELS, base)
    return parameter in inspect.signature(function).parameters and parameter not in table


def _with_law(family: Family, given: object, layers: int) -> Family:
    if given is None:
        return family
    where = f"initial.{family.name}"
    if isinstance(given, Mapping):
        return dataclasses.replace(family, initial=_law(given, where))
    if not isinstance(given, list) or len(given) != layers or not all(isinstance(g, Mapping) for g in given):
        raise InputError(f"{where}: must be a table, or an array of {layers} tables, one per layer")
    laws = tuple(_law(g, where) for g in given)
    return dataclasses.replace(family, initial=laws.__getitem__)


def _law(table: Mapping[str, Any], where: str) -> Law:
    reject_unknown(where, table, ("law", "mean", "std"))
    kind = table.get("law", "normal")
    if not isinstance(kind, str) or kind not in _LAWS:
        raise InputError(f"{where}.law = {kind!r}: must be one of {', '.join(map(repr, _LAWS))}")
    for key in ("mean", "std"):
        if key not in table:
            raise InputError(f"{where}.{key} is missing")
    try:
        return _LAWS[kind](table["mean"], table["std"])
    except InputError as error:
        raise InputError(f"{where}.{error}") from error


def _function(
    table: Mapping[str, Any], kind: str, shipped: Mapping[str, Callable[..., Any]], base: Path
) -> Callable[..., Any]:
    named = [key for key in ("name", "npz", "python") if key in table]
    if len(named) != 1 or named == ["npz"]:
        raise InputError(f"[{kind}] needs exactly one of name and python{', npz' if kind == 'task' else ''}")
    value = table[named[0]]
    if not isinstance(value, str):
        raise InputError(f"{kind}.{named[0]} = {value!r}: must be a text")
    if named == ["python"]:
        return _from_file(value, kind, base)
    if value not in shipped:
        raise InputError(f"{kind}.name = {value!r}: must be one of {', '.join(map(repr, shipped))}")
    return shipped[value]


def _from_file(text: str, kind: str, base: Path) -> Callable[..., Any]:
    where = f"{kind}.python = {text!r}"
    name, colon, attribute = text.rpartition(":")
    path = base / name
    if not colon or not name or not attribute.isidentifier():
        raise InputError(f'{where}: must look like "file.py:function"')
    if not path.is_file():
        raise InputError(f"{where}: no such file")
    spec = importlib.util.spec_from_file_location(f"mfpde_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{where}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's own code
        raise InputError(f"{where}: failed to import: {_brief(error)}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise InputError(f"{where}: the file has no function {attribute!r}")
    return function


def _call[Result](
    function: Callable[..., Any], table: Mapping[str, Any], kind: str, result: type[Result], extra: Mapping[str, Any]
) -> Result:
    """Call with the table's other keys, after checking their names and simple types."""
    keywords = {key: value for key, value in table.items() if key not in ("name", "python")}
    parameters = inspect.signature(function).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        reject_unknown(kind, keywords, [*parameters, *(_MODEL_KEYS if kind == "model" else ())])
    for key, value in keywords.items():
        _check_type(f"{kind}.{key}", value, parameters.get(key))
    keywords.update({key: value for key, value in extra.items() if key in parameters and key not in keywords})
    missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in keywords
               and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]  # fmt: skip
    if missing:
        raise InputError(f"{kind}.{missing[0]} is missing")
    try:
        value = function(**keywords)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code, or values that no annotation describes
        raise InputError(f"{kind}: {getattr(function, '__name__', 'function')} failed: {_brief(error)}") from error
    if not isinstance(value, result):
        raise InputError(f"{kind}: the function returned {type(value).__name__}, not mfpde.{result.__name__}")
    return value


def _check_type(key: str, value: object, parameter: inspect.Parameter | None) -> None:
    annotation = parameter.annotation if parameter is not None else ""
    if annotation in ("int", int):
        whole(key, value, -(2**53), 2**53)
    elif annotation in ("float", float):
        real(key, value)
    elif annotation in ("str", str) and not isinstance(value, str):
        raise InputError(f"{key} = {value!r}: must be a text")
    elif annotation in ("bool", bool) and not isinstance(value, bool):
        raise InputError(f"{key} = {value!r}: must be true or false")


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
