"""Run file (TOML) → frozen dataclasses. Every error a user can make is caught here, before any collective."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from mfpde import toml
from mfpde.builders import build_initial, build_model, build_task, needs
from mfpde.errors import InputError
from mfpde.problem.task import Task
from mfpde.problem.transformer import Transformer, check_model
from mfpde.settings import Density, Output, Time, Training
from mfpde.suggest import reject_unknown

__all__ = ["Density", "Output", "RunFile", "Time", "Training", "load"]

_TABLES = ("task", "model", "training", "initial", "density", "time", "output")
_LATER = ("training.stationary",)


@dataclass(frozen=True)
class RunFile:
    """A validated run file.

    Attributes:
        source: what to call it in messages.
        base: the folder that its paths are relative to.
        content: its tables after overrides.
        training, density, time, output: the settings; `density` without the families' overrides.
    """

    source: str
    base: Path
    content: Mapping[str, Any]
    training: Training
    density: Density
    time: Time
    output: Output

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.content["name"])

    def build(self) -> tuple[Transformer, Task]:
        """Make the task and the model, and try them on a sample; runs the user's code if the file names some.

        Raises:
            InputError: one line naming file, key and what is wrong.
        """
        try:
            return self._build()
        except InputError as error:
            raise InputError(f"{self.source}: {error}") from error

    def densities(self, family: str) -> Density:
        """The settings of one family: [density] with [density.FAMILY] over it."""
        own = self.content.get("density", {}).get(family, {})
        return dataclasses.replace(self.density, **_resolved_density(own, self.base)) if own else self.density

    def text(self) -> str:
        """The resolved run file: what was given, and the defaults of the settings."""
        resolved = dict(self.content)
        for table, settings in (("training", self.training), ("time", self.time)):
            resolved[table] = {**_plain(settings), **self.content.get(table, {})}
        resolved["density"] = {**_plain(self.density), **self.content.get("density", {})}
        resolved["output"] = {k: v for k, v in _plain(self.output).items() if k != "directory"}
        return toml.dumps(resolved)

    def hash(self) -> str:
        """SHA-256 of what determines the solution: not the name, the output, or the horizon."""
        kept = {key: value for key, value in self.content.items() if key in _TABLES and key != "output"}
        kept["training"] = {k: v for k, v in kept.get("training", {}).items() if k != "horizon"}
        files = [(self.base / p).read_bytes() for p in self._files() if (self.base / p).is_file()]
        digest = hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode())
        for data in files:
            digest.update(data)
        return digest.hexdigest()

    def _files(self) -> list[str]:
        """Files whose content matters."""
        content = self.content
        named = [content["task"].get("npz"), content["task"].get("python"), content["model"].get("python")]
        density = content.get("density", {})
        named += [density.get("mesh"), *(t.get("mesh") for t in density.values() if isinstance(t, dict))]
        return [name.partition(":")[0] for name in named if isinstance(name, str)]

    def _build(self) -> tuple[Transformer, Task]:
        task_table, model_table = self.content["task"], self.content["model"]
        task: Task | None = None
        if not needs(task_table, "task", "model", self.base):
            task = build_task(task_table, self.base, None)
        model = build_model(model_table, self.base, task)
        model = build_initial(model, self.content.get("initial", {}))
        if task is None:
            task = build_task(task_table, self.base, model)
        if model.depth != "residual":
            raise InputError(f"model.depth = {model.depth!r}: only 'residual' is available in this version")
        names = [family.name for family in model.families]
        families = {key: v for key, v in self.content.get("density", {}).items() if isinstance(v, dict)}
        reject_unknown("density", families, names)
        for family in model.families:
            self._check_density(family.name, family.dim)
        check_model(model, jnp.asarray(task.tokens[0]), jnp.asarray(task.targets[0]))
        return model, task

    def _check_density(self, family: str, dim: int) -> None:
        density = self.densities(family)
        if isinstance(density.radius, tuple) and len(density.radius) != dim:
            raise InputError(f"density.radius = {list(density.radius)}: family {family!r} needs one number, or {dim}")
        if dim > 3:
            raise InputError(f"family {family!r}: dim = {dim}; the limit is solved for at most 3 parameters")
        if density.mesh is not None and not density.mesh.is_file():
            raise InputError(f"density.mesh = {str(density.mesh)!r}: no such file")


def load(path: Path | None, overrides: Sequence[str] = (), directory: Path | None = None) -> RunFile:
    """Read a run file, apply `a.b=value` overrides, and validate its settings.

    Args:
        path: the file; None for the embedded quick start.
        overrides: as after `--set`.
        directory: as after `--directory`; relative to the working directory.

    Raises:
        InputError: one line naming file, key, value and what is allowed.
    """
    source = "quick start" if path is None else str(path)
    content = _read(path, source)
    for text in overrides:
        _override(content, text)
    try:
        return _validate(source, path, content, directory)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _read(path: Path | None, source: str) -> dict[str, Any]:
    if path is None:
        return tomllib.loads(resources.files("mfpde").joinpath("quickstart.toml").read_text(encoding="utf-8"))
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{source}: no such run file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{source}: cannot be read as a text file ({type(error).__name__})") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{source}: not valid TOML: {' '.join(str(error).split())}") from error


def _override(content: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise InputError(f"--set {text}: must look like table.key=value")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = value  # a bare word is a string
    table: Any = content
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {text}: {part} is not a table")
    table[parts[-1]] = parsed


def _validate(source: str, path: Path | None, content: dict[str, Any], directory: Path | None) -> RunFile:
    reject_unknown("", content, ("name", *_TABLES))
    base = path.parent if path is not None else Path("runs")
    content.setdefault("name", path.stem if path is not None else "quickstart")
    name = content["name"]
    if not isinstance(name, str) or not name.strip() or Path(name).name != name or name in (".", ".."):
        raise InputError(f"name = {name!r}: must be a text without path separators")
    for table in _TABLES:
        if not isinstance(content.get(table, {}), dict):
            raise InputError(f"{table} = {content[table]!r}: must be a table, [{table}]")
    for table in ("task", "model", "training"):
        if table not in content:
            raise InputError(f"the table [{table}] is missing")
    for key in _LATER:
        table, _, last = key.partition(".")
        if last in content.get(table, {}):
            raise InputError(f"{key} is not available in this version")
    density = content.get("density", {})
    plain = {key: value for key, value in density.items() if not isinstance(value, dict)}
    for family, own in density.items():
        if isinstance(own, dict):
            _settings(Density, f"density.{family}", {**_resolved_density(plain, base), **_resolved_density(own, base)})
    output = dict(content.get("output", {}))
    given = output.pop("directory", name)
    settings = _settings(Output, "output", output)
    Output(directory=given)  # its type, before it is joined
    where = directory if directory is not None else base / given
    return RunFile(
        source=source,
        base=base,
        content=content,
        training=_settings(Training, "training", content["training"]),
        density=_settings(Density, "density", _resolved_density(plain, base)),
        time=_settings(Time, "time", content.get("time", {})),
        output=dataclasses.replace(settings, directory=where),
    )


def _settings[Kind](kind: type[Kind], table: str, values: Mapping[str, Any]) -> Kind:
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    reject_unknown(
        table,
        values,
        [f.name for f in fields if (kind, f.name) != (Output, "directory")] + ["directory"] * (kind is Output),
    )
    missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in values]
    if missing:
        raise InputError(f"{table}.{missing[0]} is missing")
    return kind(**values)


def _resolved_density(values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The table with its mesh file found from the run file's folder."""
    mesh = values.get("mesh")
    return {**values, "mesh": base / mesh} if isinstance(mesh, str) and mesh else dict(values)


def _plain(settings: object) -> dict[str, Any]:
    fields = dataclasses.asdict(settings)  # type: ignore[call-overload]
    return {k: str(v) if isinstance(v, Path) else v for k, v in fields.items() if v is not None}
