"""A run whose model and task are Python objects: what its directory states of it, and the same run with the objects.

A directory has the settings of such a run and a digest of its objects, by which they are known again when they are
given a second time, for finite Transformers or a comparison.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfpde.config import run_file, toml
from mfpde.config.identity import Identity, identify
from mfpde.config.run_file import RunFile
from mfpde.config.settings import Density, Output, Time, Training
from mfpde.errors import InputError
from mfpde.inputs import inside
from mfpde.problem.model_checks import digest, try_out
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

_TITLE = "# model and task were given as Python objects\n"


def text_of(training: Training, time: Time, densities: Mapping[str, Density], output: Output) -> str:
    """The run.toml of a run whose model and task are Python objects: its settings."""
    settings = _settings(training, time, densities)
    settings["output"] = {key: value for key, value in output.given().items() if key != "directory"}
    return _TITLE + toml.dumps(settings)


def identity_of(
    training: Training, time: Time, densities: Mapping[str, Density], output: Output, objects: str
) -> Identity:
    """The identity of such a run: that of its settings, and the digest of its objects."""
    settings = {**_settings(training, time, densities), "output": output.given()}
    return dataclasses.replace(identify(settings), objects=objects)


def _settings(training: Training, time: Time, densities: Mapping[str, Density]) -> dict[str, Any]:
    given = {name: density.given() for name, density in densities.items()}
    return {"training": training.given(), "time": time.given(), "density": given}


@dataclass(frozen=True)
class GivenRun(RunFile):
    """A run file that has a model and a task as objects in the place of their tables.

    Attributes:
        model, task: the objects.
        objects: their digest, of the depth at which they were given.
        family_densities: the settings of each family, by its name.
        depths: `layers` and `depth` where they are others than those given.
    """

    model: Transformer = field(kw_only=True)
    task: Task = field(kw_only=True)
    objects: str = field(kw_only=True)
    family_densities: Mapping[str, Density] = field(kw_only=True)
    depths: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def build(self, trial: bool = True) -> tuple[Transformer, Task]:
        """The model and the task; tried on a sample where it is asked for."""
        if trial:
            try_out(self.model, self.task)
        return self.model, self.task

    def densities(self, family: str) -> Density:
        """The settings of one family."""
        return self.family_densities.get(family, self.density)

    def text(self, folder: Path | None = None) -> str:  # noqa: ARG002  (it names no files)
        """See `text_of`."""
        return text_of(self.training, self.time, self.family_densities, self.output)

    def identity(self) -> Identity:
        """See `identity_of`; another depth is another discretisation of the same problem."""
        own = identity_of(self.training, self.time, self.family_densities, self.output, self.objects)
        return dataclasses.replace(own, discretisation={**own.discretisation, **self.depths})

    def with_layers(self, layers: int, depth: str | None = None) -> GivenRun:
        """The same run with another number of layers L, or with `depth = "continuum"`."""
        changed = {"model.layers": layers, "model.depth": self.model.depth if depth is None else depth}
        own = {"model.layers": self.model.layers, "model.depth": self.model.depth}
        if changed == own:
            return self
        model = dataclasses.replace(self.model, layers=layers, depth=changed["model.depth"])  # type: ignore[arg-type]
        return dataclasses.replace(self, model=model, depths=changed)


def given_run(
    source: Path, model: Transformer, task: Task, overrides: Sequence[str] = (), place: Path | None = None
) -> GivenRun:
    """The run of a directory, with the objects that it was solved with.

    Args:
        source: its run.toml.
        model: the Transformer.
        task: the samples.
        overrides: as after `--set`.
        place: where results go; the run's directory unless given.

    Raises:
        InputError: where the file is missing or damaged, or an override does not fit.
    """
    if not isinstance(model, Transformer) or not isinstance(task, Task):
        raise InputError(
            f"model and task must be a mfpde.Transformer and a mfpde.Task; they are {type(model).__name__} and "
            f"{type(task).__name__}"
        )
    with inside(str(source)):
        content = run_file.overridden(toml.loads(toml.read_text(source)), overrides)
        tables = content.get("density", {})
        densities = {name: Density.of(_one_mesh(table)) for name, table in tables.items() if isinstance(table, dict)}
        return GivenRun(
            source=str(source),
            base=Path(),  # from which the paths of Python arguments are seen
            content={"name": source.parent.name, **content},
            training=Training.of(content.get("training", {})),
            density=Density(),
            time=Time.of(content.get("time", {})),
            output=dataclasses.replace(Output.of(content.get("output", {})), directory=place or source.parent),
            model=model,
            task=task,
            objects=digest(model, task),
            family_densities=densities,
        )


def _one_mesh(table: Mapping[str, Any]) -> dict[str, Any]:
    """Without the box, where there is a mesh in its place."""
    return {key: value for key, value in table.items() if "mesh" not in table or key not in ("cells", "cell_type")}
