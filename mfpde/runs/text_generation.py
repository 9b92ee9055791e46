"""Text written by the limit of a run of the task "text": character after character from the densities at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.config import run_file
from mfpde.errors import InputError
from mfpde.inputs import inside, real, show, whole
from mfpde.limit.solver import Solver
from mfpde.output.checkpoint.checkpoint import read_state
from mfpde.output.checkpoint.generations import Generations
from mfpde.output.checkpoint.state_dict import checkpoint_errors
from mfpde.output.directory import RUN_FILE
from mfpde.output.reader import RunReader
from mfpde.problem.datasets.characters import Characters, Codes, language
from mfpde.problem.transformer import Transformer, Units, residual_stream
from mfpde.runs.problem_setup import problem_of

_MOST_CHARACTERS = 10**7


def written(run: str | Path | RunReader, length: int, temperature: float, seed: int, start: str | None) -> str:
    """See `mfpde.generate_text`; every rank computes all of it.

    A character is drawn from softmax(o/T), with o the readout of the last N characters; random nodes have the mean of
    these laws over their replicas. Before a start that is shorter than N stands the end of the text that was learnt.
    """
    whole("length", length, 1, _MOST_CHARACTERS)
    real("temperature", temperature, least=0.0)
    rng = np.random.default_rng(whole("seed", seed, 0, 2**63 - 1))
    reader = run if isinstance(run, RunReader) else RunReader(run)

    given = run_file.load(reader.directory / RUN_FILE)
    task = given.content["task"]
    if task.get("name") != "text":
        raise InputError(f"{given.source}: task = {show(task)}: writes no text; needs the task 'text'")
    with inside(given.source):
        characters, codes = _language(given)

    learnt, context = codes[: len(codes) - len(codes) // 10], len(characters.places)
    if start is None:
        start = "".join(characters.kinds[code] for code in codes[len(learnt) : len(learnt) + context])
    with inside("start"):
        before = np.concatenate([learnt[-context:], characters.codes(start)])[-context:]

    model, units = trained_units(given, reader.directory)
    return start + _continued(model, units, characters, before, length, temperature, rng)


def _language(given: run_file.RunFile) -> tuple[Characters, Codes]:
    """The characters of a run's text and the text."""
    keys = ("context", "width", "free", "places", "seed")
    own: dict[str, Any] = {key: given.content["task"][key] for key in keys if key in given.content["task"]}
    path = given.content["task"].get("path")
    return language(None if path is None else given.base / str(path), **own)


def trained_units(given: run_file.RunFile, directory: Path) -> tuple[Transformer, Units]:
    """The model, and the units that stand for its densities in the newest checkpoint, (K, L, …) of K replicas."""
    problem = problem_of(given, trial=False)
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        path, facts, _ = Generations(directory).newest()
        with checkpoint_errors():
            solver.load_state_dict(read_state(path, facts))
        points, shares, _ = solver.flow.moments(solver.stepper.state)
        moments = solver.flow.backprop.sum_over_ranks(shares)
    except LookupError as error:
        reasons = "; ".join(map(str, error.args)) or "there is none"
        raise InputError(f"run directory {directory}: no checkpoint is sound: {reasons}") from error
    finally:
        solver.close()

    families = zip(problem.model.families, points, moments, strict=True)
    units = tuple(family.units(jnp.asarray(q), jnp.asarray(own)) for family, q, own in families)
    layers = problem.model.layers
    return problem.model, jax.tree.map(lambda part: part.reshape(-1, layers, *part.shape[1:]), units)


def _continued(
    model: Transformer,
    units: Units,
    characters: Characters,
    before: Codes,
    length: int,
    temperature: float,
    rng: np.random.Generator,
) -> str:
    """So many characters after a context (N,)."""

    @jax.jit
    def law(tokens: jax.Array, units: Units) -> jax.Array:
        """Of the next character, (K,)."""
        outputs = jax.vmap(lambda own: model.readout(residual_stream(model, own, tokens)))(units)
        return jax.nn.softmax(outputs / (temperature or 1.0), axis=-1).mean(axis=0)

    context, found = before.copy(), []
    for _ in range(length):
        tokens = jnp.asarray(characters.tokens(context[None])[0])
        code = _drawn(np.asarray(law(tokens, units)), temperature, rng)
        found.append(characters.kinds[code])
        context = np.append(context[1:], code)
    return "".join(found)


def _drawn(law: NDArray[np.float64], temperature: float, rng: np.random.Generator) -> int:
    """The number of a character, likeliest or drawn."""
    if not temperature:
        return int(law.argmax())
    return int(np.searchsorted(np.cumsum(law), rng.random() * law.sum(), side="right").clip(0, len(law) - 1))
