"""From the tables [task], [model] and [initial] to objects: shipped functions and the user's go through one door.

A function gets the other keys of its table as keyword arguments; a task function with a parameter named `model` is
given the model, a model function with a parameter named `task` the task.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mfpde.config.user_files import call, function_of
from mfpde.errors import InputError
from mfpde.inputs import file_name, inside, one_of, real, reject_unknown, show, truth, whole, word
from mfpde.problem import datasets
from mfpde.problem.family import Family
from mfpde.problem.from_run import FromRun
from mfpde.problem.laws import Law, Normal, Zero
from mfpde.problem.mixtures import Mixture
from mfpde.problem.models import low_dimensional, value_matrices, vision
from mfpde.problem.product_laws import Bump, Laplace, StudentT, Uniform
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

_TASKS: Mapping[str, Callable[..., Task]] = {
    "digits": datasets.digits,
    "embedded-digits": datasets.embedded_digits,
    "in-context-regression": datasets.in_context_regression,
    "mnist1d": datasets.mnist1d,
    "scalars": datasets.scalars,
    "teacher": datasets.teacher,
    "text": datasets.text,
}
_MODELS: Mapping[str, Callable[..., Transformer]] = {
    "attention": low_dimensional.attention,
    "attention-mlp": low_dimensional.attention_mlp,
    "bilinear": low_dimensional.bilinear,
    "class-attention": low_dimensional.class_attention,
    "image": low_dimensional.image_transformer,
    "linear": low_dimensional.linear,
    "value-attention": value_matrices.value_attention,
    "vision-transformer": vision.vision_transformer,
}
_LAWS: Mapping[str, tuple[type[Law], tuple[str, ...]]] = {
    "normal": (Normal, ("mean", "std", "cov")),
    "uniform": (Uniform, ("mean", "std")),
    "bump": (Bump, ("mean", "std")),
    "student": (StudentT, ("mean", "std", "df")),
    "laplace": (Laplace, ("mean", "std")),
    "mixture": (Mixture, ("parts", "weights")),
    "zero": (Zero, ()),
}
_TYPES: Mapping[str, Callable[[str, object], object]] = {"int": whole, "float": real, "str": word, "bool": truth}
_MODEL_KEYS = ("layers", "step", "depth", "norm")
_OTHER = {"task": "model", "model": "task"}  # the parameter through which a function gets what the other makes


def build(content: Mapping[str, Any], base: Path) -> tuple[Transformer, Task]:
    """The model and the task of a run file's tables; runs the user's code if they name some.

    Args:
        content: the run file, whose tables [task], [model] and [initial] are read.
        base: the folder that paths are relative to.

    Raises:
        InputError: naming the key.
    """
    modules: dict[Path, ModuleType] = {}
    make_task = _maker(content["task"], "task", _TASKS, base, modules)
    make_model = _maker(content["model"], "model", _MODELS, base, modules)

    if not make_task.takes("model"):
        task = make_task(Task)
        return _model(make_model, content, task, base), task
    if make_model.takes("task"):
        raise InputError("[task] and [model]: each of the two functions needs what the other makes")
    model = _model(make_model, content, None, base)
    return model, make_task(Task, {"model": model})


@dataclass(frozen=True)
class _Maker:
    """The function that a table names, and the table's other keys, its arguments."""

    kind: str
    function: Callable[..., Any]
    parameters: Mapping[str, inspect.Parameter]
    given: Mapping[str, Any]

    def takes(self, name: str) -> bool:
        """Has the function a parameter of this name?"""
        return name in self.parameters

    def __call__[Result](self, result: type[Result], made: Mapping[str, object] | None = None) -> Result:
        """Call the function, after checking the names and simple types of its arguments.

        Args:
            result: what it must return.
            made: by the function of the other table, for a parameter of that name.
        """
        kind, parameters = self.kind, self.parameters
        winning = _MODEL_KEYS if kind == "model" else ()
        for key, value in self.given.items():
            _check_type(f"{kind}.{key}", value, parameters.get(key))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            names = dict.fromkeys([*(p for p in parameters if p != _OTHER[kind]), *winning])
            reject_unknown(kind, self.given, list(names))

        arguments = {key: value for key, value in self.given.items() if key not in winning or key in parameters}
        arguments |= {key: value for key, value in (made or {}).items() if key in parameters}
        missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in arguments
                   and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]  # fmt: skip
        if missing:
            raise InputError(f"{kind}.{missing[0]} is missing")

        value = call(f"{kind}: {getattr(self.function, '__name__', 'function')} failed", self.function, arguments)
        if not isinstance(value, result):
            raise InputError(f"{kind}: the function returned {type(value).__name__}, not mfpde.{result.__name__}")
        return value


def _maker(
    table: Mapping[str, Any],
    kind: str,
    shipped: Mapping[str, Callable[..., Any]],
    base: Path,
    modules: dict[Path, ModuleType],
) -> _Maker:
    """From `name`, `python` or, for tasks, `npz`; `modules` holds the user's files that have run already."""
    ways = ("name", "python", "npz") if kind == "task" else ("name", "python")
    named = [way for way in ways if way in table]
    if len(named) != 1:
        raise InputError(f"[{kind}] needs exactly one of {', '.join(ways)}; it has {' and '.join(named) or 'none'}")

    way = named[0]
    value, others = table[way], {key: v for key, v in table.items() if key != way}
    if way == "npz":
        archive = base / file_name("task.npz", value, "a file name")
        return _Maker(kind, lambda: datasets.from_npz(archive), {}, others)
    if way == "name":
        function, where = shipped[one_of(f"{kind}.name", value, list(shipped))], ""
        if kind == "task" and value == "text" and "path" in others:
            others["path"] = base / file_name("task.path", others["path"], "a file name")
    else:
        where = f"{kind}.python = {show(value)}"
        function = function_of(where, value, base, modules)

    try:
        return _Maker(kind, function, inspect.signature(function).parameters, others)
    except (TypeError, ValueError) as error:  # some built-in ones
        raise InputError(f"{where}: not a function whose parameters are known") from error


def _model(make: _Maker, content: Mapping[str, Any], task: Task | None, base: Path) -> Transformer:
    """The model of [model] and [initial]; the file's layers, step, depth and norm win over the function's."""
    winning = {key: make.given[key] for key in _MODEL_KEYS if key in make.given}
    if "layers" in winning:
        whole("model.layers", winning["layers"], 1, 100_000)
    if "step" in winning:
        winning["step"] = real("model.step", winning["step"], above=0.0)
    model = make(Transformer, {} if task is None else {"task": task})
    return _with_laws(dataclasses.replace(model, **winning), content.get("initial", {}), base)


def _with_laws(model: Transformer, table: Mapping[str, Any], base: Path) -> Transformer:
    """The model with the initial laws of [initial.FAMILY], a table, or an array of tables, one per layer."""
    reject_unknown("initial", table, [family.name for family in model.families])
    stages = [[_with_law(f, table.get(f.name), model.layers, base) for f in stage] for stage in model.stages]
    return dataclasses.replace(model, stages=stages)


def _with_law(family: Family, given: object, layers: int, base: Path) -> Family:
    if given is None:
        return family
    where = f"initial.{family.name}"
    if isinstance(given, Mapping) and given.get("law") == "run":
        return dataclasses.replace(family, initial=_from_run(given, where, base))
    if isinstance(given, Mapping) and family.nonlinear is not None and given and set(given) <= {"u", "v"}:
        return dataclasses.replace(family, initial=_pair(given, where))
    if isinstance(given, Mapping):
        return dataclasses.replace(family, initial=_law(given, where))
    if not isinstance(given, list) or len(given) != layers or not all(isinstance(g, Mapping) for g in given):
        raise InputError(f"{where}: must be a table, or an array of {layers} tables, one per layer")
    laws = tuple(_law(g, where) for g in given)
    return dataclasses.replace(family, initial=laws.__getitem__)


def _pair(table: Mapping[str, Any], where: str) -> tuple[Law, Law]:
    """The laws of u and of v."""
    for part in ("u", "v"):
        if not isinstance(table.get(part), Mapping):
            raise InputError(f"{where}.{part} is missing; a family with nonlinear and linear_shape has laws of both")
    return _law(table["u"], f"{where}.u"), _law(table["v"], f"{where}.v")


def _law(table: Mapping[str, Any], where: str) -> Law:
    """The law of a table: `law`, and the arguments of its class."""
    name = one_of(f"{where}.law", table.get("law", "normal"), [*_LAWS, "run"])
    if name == "run":
        raise InputError(f"{where}.law = 'run': is the start of a whole family, not of one layer or part")
    law, keys = _LAWS[name]
    reject_unknown(where, table, ("law", *keys))
    if "cov" in table and "std" in table:
        raise InputError(f"{where}.std and {where}.cov exclude each other; give one")

    instead = {"std": "cov"} if "cov" in table else {}
    arguments = [instead.get(key, key) for key in keys if key != "cov"]
    for key in arguments:
        if key not in table:
            raise InputError(f"{where}.{key} is missing")
    given: dict[str, Any] = {key: table[key] for key in arguments if key != "parts"}
    if "parts" in table:
        given["laws"] = _parts(table["parts"], f"{where}.parts")

    with inside(where):
        return law(**given)


def _from_run(table: Mapping[str, Any], where: str, base: Path) -> FromRun:
    """The densities of an earlier run, in all layers."""
    reject_unknown(where, table, ("law", "directory", "tau"))
    for key in ("directory", "tau"):
        if key not in table:
            raise InputError(f"{where}.{key} is missing")
    with inside(where):
        directory = file_name("directory", table["directory"], "the name of a run directory")
        return FromRun(base / directory, table["tau"])


def _parts(given: object, where: str) -> list[Law]:
    """The laws of a mixture, an array of tables."""
    if not isinstance(given, list) or not given or not all(isinstance(part, Mapping) for part in given):
        raise InputError(f"{where} = {show(given)}: must be an array of tables, one per law")
    return [_law(part, f"{where}[{number}]") for number, part in enumerate(given)]


def _check_type(key: str, value: object, parameter: inspect.Parameter | None) -> None:
    annotation = parameter.annotation if parameter is not None else ""
    if check := _TYPES.get(str(getattr(annotation, "__name__", annotation))):
        check(key, value)
