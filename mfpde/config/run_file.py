"""Run file (TOML) → frozen dataclasses. Every error a user can make is caught here, before any collective."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from mfpde.config import toml
from mfpde.config.build import build
from mfpde.config.identity import Identity, identify
from mfpde.config.named_files import contents, families, renamed, seen_from, without_folders
from mfpde.config.settings import Density, Output, Time, Training
from mfpde.errors import InputError
from mfpde.inputs import existing, file_name, inside, is_text, reject_unknown, short, show
from mfpde.problem.model_checks import try_out
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

_INSTEAD = {
    ("density", "mesh"): "cells",
    ("density", "cells"): "mesh",
    ("time", "step"): "tolerance",
    ("time", "tolerance"): "step",
}  # keys that exclude each other: one that is given after --set replaces the other
_TABLES = ("task", "model", "training", "initial", "density", "time", "output")
_DEEPEST = 16  # tables inside each other; what is known needs four
_BOX = ("cells", "cell_type")  # what a mesh file says instead


@dataclass(frozen=True)
class RunFile:
    """A validated run file.

    Attributes:
        source: what to call it in messages.
        base: the folder that its paths are relative to.
        content: its tables after overrides.
        training, density, time, output: the settings; `density` without the families' overrides.
        question: the comment at the top of the file, in one line; empty without.
    """

    source: str
    base: Path
    content: Mapping[str, Any]
    training: Training
    density: Density
    time: Time
    output: Output
    question: str = ""

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.content["name"])

    @property
    def directory(self) -> Path:
        """The run directory, which every run file has."""
        assert self.output.directory is not None  # noqa: S101  (`load` sees to it)
        return self.output.directory

    def build(self, trial: bool = True) -> tuple[Transformer, Task]:
        """Make the task and the model, and try them on a sample; runs the user's code if the file names some.

        Args:
            trial: of several ranks it is enough that one tries.

        Raises:
            InputError: one line naming file, key and what is wrong.
        """
        with inside(self.source):
            model, task = build(self.content, self.base)
            reject_unknown("density", families(self.content), [family.name for family in model.families])

            if trial:
                try_out(model, task)
            return model, task

    def densities(self, family: str) -> Density:
        """The settings of one family: [density] with [density.FAMILY] over it."""
        own = families(self.content).get(family)
        return self.density if own is None else _density(own, self.base, _common(self.content))

    def text(self, folder: Path | None = None) -> str:
        """The resolved run file: its question, what was given, and the defaults of the settings.

        Args:
            folder: where the text will stand, and its paths be relative to; the run directory unless given.
        """
        place = self.output.directory if folder is None else folder
        tables = self._resolved() if place is None else renamed(self._resolved(), seen_from(place, self.base))
        return (f"# {self.question}\n" if self.question else "") + toml.dumps(tables)

    def identity(self) -> Identity:
        """What decides whether another run is this one; wherever the files are that it names."""
        return identify(without_folders(self._resolved()), contents(self.content, self.base))

    def _resolved(self) -> dict[str, Any]:
        resolved = dict(self.content)
        for table, settings in (("training", self.training), ("time", self.time)):
            resolved[table] = {**settings.given(), **self.content.get(table, {})}
        without = () if self.density.mesh is None else _BOX
        defaults = {k: v for k, v in self.density.given().items() if k not in without}
        resolved["density"] = {**defaults, **self.content.get("density", {})}
        resolved["output"] = {k: v for k, v in self.output.given().items() if k != "directory"}
        return resolved

    def with_layers(self, layers: int, depth: str | None = None) -> RunFile:
        """The same run with another number of layers L, or with `depth = "continuum"`."""
        model = {**self.content["model"], "layers": layers} | ({} if depth is None else {"depth": depth})
        return dataclasses.replace(self, content={**self.content, "model": model})


def load(path: Path | None, overrides: Sequence[str] = (), directory: str | Path | None = None) -> RunFile:
    """Read a run file, apply `a.b=value` overrides, and validate its settings.

    Args:
        path: the file; None for the embedded quick start.
        overrides: as after `--set`.
        directory: as after `--directory`; relative to the working directory.

    Raises:
        InputError: one line naming file, key, value and what is allowed.
    """
    source = "quick start" if path is None else str(existing("run file", path))
    with inside(source):
        content = toml.loads(_source(path))

    content = overridden(content, overrides)
    with inside(source):
        return dataclasses.replace(_validate(source, path, content, directory), question=question(_source(path)))


def overridden(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The tables with `a.b=value` overrides, which are put into them.

    Raises:
        InputError: naming one that is none.
    """
    for text in overrides:
        _make_room(content, text)
    for text in overrides:
        _override(content, text)
    return content


def question(text: str) -> str:
    """The comment at the top of a run file, in one line; empty without."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.lstrip("\ufeff").splitlines())
    return " ".join(line.lstrip("#").strip() for line in lines)


def _source(path: Path | None) -> str:
    """The text of a run file, or of the quick start's."""
    if path is None:
        return resources.files("mfpde").joinpath("quickstart.toml").read_text(encoding="utf-8")
    return toml.read_text(path)


def _make_room(content: dict[str, Any], text: str) -> None:
    """Take out of the file what an override puts something else in the place of."""
    name, _, key = text.partition("=")[0].strip().partition(".")
    table = content.get(name)
    if isinstance(table, dict):
        table.pop(_INSTEAD.get((name, key), ""), None)


def _override(content: dict[str, Any], text: str) -> None:
    shown = short(text)
    if not is_text(text):
        raise InputError(f"--set {shown!a}: must be a text in UTF-8")
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise InputError(f"--set {shown}: must look like table.key=value")

    table: Any = content
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {shown}: {short(part)} is not a table")
    table[parts[-1]] = toml.line(f"value = {value}").get("value", value)  # a bare word is a string


def _validate(source: str, path: Path | None, content: dict[str, Any], directory: str | Path | None) -> RunFile:
    reject_unknown("", content, ("name", *_TABLES))
    _check_sizes("", content)
    _check_tables(content)

    beside = path.parent if path is not None else Path("runs")
    base = path.resolve().parent if path is not None and path.is_symlink() else beside  # its files are where it is
    name = content.setdefault("name", path.stem if path is not None else "quickstart")
    if file_name("name", name, "a text without path separators").name != name or name == "..":
        raise InputError(f"name = {show(name)}: must be a text without path separators")

    for family, own in families(content).items():
        with inside(f"[density.{family}]"):
            _density(own, base, _common(content))
    output = Output.of({"directory": name, **content.get("output", {})})
    where = beside / str(output.directory) if directory is None else directory
    return RunFile(
        source=source,
        base=base,
        content=content,
        training=Training.of(content["training"]),
        density=_density(_common(content), base),
        time=Time.of(content.get("time", {})),
        output=dataclasses.replace(output, directory=file_name("--directory", where, "the name of a folder")),
    )


def _check_tables(content: Mapping[str, Any]) -> None:
    for table in _TABLES:
        if not isinstance(content.get(table, {}), dict):
            raise InputError(f"{table} = {show(content[table])}: must be a table, [{table}]")
    for table in ("task", "model", "training"):
        if table not in content:
            raise InputError(f"the table [{table}] is missing")


def _check_sizes(key: str, value: object, depth: int = 0) -> None:
    """TOML's whole numbers have 64 bits; Python's parser takes any, and tables in tables without end."""
    if depth > _DEEPEST:
        raise InputError(f"{key[:60]}: more than {_DEEPEST} tables or arrays inside each other")
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        _check_sizes(f"{key}.{name}" if key else str(name), part, depth + 1)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InputError(f"{short(key)}: must be a number of at most 64 bits")


def _common(content: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of [density] that hold for all families."""
    own = families(content)
    return {key: value for key, value in content.get("density", {}).items() if key not in own}


def _density(own: Mapping[str, Any], base: Path, common: Mapping[str, Any] | None = None) -> Density:
    """The settings of a table, over those common to all families; a mesh file is found from the run file's folder."""
    boxed = [key for key in _BOX if key in own]
    if "mesh" in own and boxed:
        raise InputError(f"density.mesh = {show(own['mesh'])} and density.{boxed[0]} exclude each other; give one")

    inherited = {key: value for key, value in (common or {}).items() if key != "mesh" or not boxed}
    density = Density.of({**inherited, **own})
    return density if density.mesh is None else dataclasses.replace(density, mesh=base / density.mesh)
