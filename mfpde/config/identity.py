"""When are two runs the same? What determines a run, in named parts, by which every such question is answered.

| question | parts that must agree |
|---|---|
| do finite Transformers belong to this limit (`problem_hash`)? | task, model, initial, training |
| is it the same solution (`run_hash`)? | these and discretisation |
| may this run go on from that checkpoint? | these, command, and the fingerprint |
| does the directory hold this very run? | task … discretisation, and schedule |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mfpde.inputs import show

_PROBLEM = ("task", "model", "initial", "training")
_SOLUTION = (*_PROBLEM, "discretisation")
_RESUMED = (*_SOLUTION, "command")
_RUN = (*_SOLUTION, "schedule")

# The part that a table of the run file belongs to, and the keys that belong to another part than their table.
_TABLES = {**{part: part for part in _PROBLEM}, "density": "discretisation", "time": "discretisation"}
_KEYS = {
    "model.layers": "discretisation",  # of the depth, which a study of finite Transformers varies
    "training.horizon": "schedule",
    "training.stationary": "schedule",
    "training.precision": "discretisation",
    "time.risk_error": "schedule",
    "output.every": "schedule",
}
_AS_BEFORE = {"training.precision": "double"}  # keys that are younger than some runs, with what these did


@dataclass(frozen=True)
class Identity:
    """Key → value of all that determines a run, files by the SHA-256 of their content; values as in JSON.

    Attributes:
        task, model, initial: what the run file says of them; empty for a model and a task that are Python objects.
        training: λ and β⁻¹.
        discretisation: the number of layers, the densities, the time step and the precision of passes.
        schedule: when the run reports and when it ends; neither determines the solution.
        command: options of the command line that a checkpoint depends on.
        fingerprint: `problem.model_checks.fingerprint`, sums that another machine may round in another way.
        objects: `problem.model_checks.digest` of a model and a task that are Python objects; empty for others.
    """

    task: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    initial: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    discretisation: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    command: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Sequence[float] = ()
    objects: str = ""

    @property
    def problem_hash(self) -> str | None:
        """Of what finite Transformers share with their limit; None where nothing is known of model and task."""
        if self.objects:
            return _digest([self.objects, self.training])
        return _digest([getattr(self, part) for part in _PROBLEM]) if self.task else None

    @property
    def run_hash(self) -> str | None:
        """Of what determines the solution; None for Python objects, which have no text."""
        return _digest([getattr(self, part) for part in _SOLUTION]) if self.task else None

    @property
    def seed(self) -> int | None:
        """Of the task's draws; None where it has none."""
        return self.task.get("task.seed")

    def refined(self, finer: bool) -> Identity:
        """The identity of the finer problem, `limit.specification.refined`, if it is asked for."""
        return replace(self, discretisation={**self.discretisation, "refined": True}) if finer else self

    def hashes(self) -> dict[str, Any]:
        """The entries of a manifest by which the run of a directory is known again."""
        parts = {part: _digest(getattr(self, part)) for part in _RUN}
        parts |= {"objects": self.objects} if self.objects else {}
        return {"run_hash": self.run_hash, "problem_hash": self.problem_hash, "identity": parts}

    def is_run_of(self, manifest: Mapping[str, Any]) -> bool:
        """Does the manifest belong to this very run?"""
        return manifest.get("identity") == self.hashes()["identity"]

    def shares_problem_of(self, manifest: Mapping[str, Any]) -> bool:
        """Does the manifest belong to the same task, model, initial laws, weight decay and temperature?"""
        return manifest.get("problem_hash") == self.problem_hash

    def values(self, *parts: str) -> dict[str, Any]:
        """Key → value of these parts; of those that a run directory is known by unless some are given."""
        return {key: value for part in parts or _RUN for key, value in getattr(self, part).items()}

    def differences(self, before: Identity) -> list[str]:
        """A phrase for every key that keeps this run from going on where another one stopped; empty if none does."""
        here, there = self.values(*_RESUMED), before.values(*_RESUMED)
        keys = [key for key in {**here, **there} if (key in here, here.get(key)) != (key in there, there.get(key))]
        differing = [f"{key} = {_shown(key, there)} there, {_shown(key, here)} here" for key in keys]

        mine, theirs = self.fingerprint, before.fingerprint
        if len(mine) != len(theirs) or not np.allclose(mine, theirs, rtol=1e-9, equal_nan=True):
            differing.append("task and model = other there, other here")
        return differing


def identify(tables: Mapping[str, Any], files: Iterable[tuple[str, str, bytes]] = ()) -> Identity:
    """The identity of a run.

    Args:
        tables: of its run file, with defaults and without the folders of files.
        files: (table, name, content) of the files that the tables name.
    """
    found: dict[str, Any] = {part: {} for part in _RUN}
    for key, value in _flat("", json.loads(json.dumps(tables, default=str))):
        part = _KEYS.get(key) or _TABLES.get(key.partition(".")[0])
        if part and _AS_BEFORE.get(key, ()) != value:
            found[part][key] = value
    for table, name, content in files:
        found[_TABLES[table]][f"the content of {name}"] = hashlib.sha256(content).hexdigest()
    return Identity(**found)


def _flat(place: str, value: object) -> Iterator[tuple[str, object]]:
    """(a.b.c, value) of nested tables."""
    if not isinstance(value, Mapping):
        yield place, value
        return
    for key, inner in value.items():
        yield from _flat(f"{place}.{key}" if place else str(key), inner)


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _shown(key: str, values: Mapping[str, Any]) -> str:
    return "other" if key.startswith("the content") else show(values.get(key, "not given"))
