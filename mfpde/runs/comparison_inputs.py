"""What a comparison reads: the run file of a finished run, and the finite Transformers that belong to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from mfpde.config import run_file
from mfpde.config.named_files import overrides, seen_from
from mfpde.config.run_file import RunFile
from mfpde.errors import InputError
from mfpde.finite.record_files import Record, load_all
from mfpde.inputs import existing, is_whole
from mfpde.output.directory import MANIFEST, PARTICLES, RUN_FILE
from mfpde.output.reader import RunReader
from mfpde.output.records.manifest import read_manifest

_MOST_LAYERS = 100_000


@dataclass(frozen=True)
class ComparisonInputs:
    """A finished run and its particles.

    Attributes:
        directory: the run directory.
        run: its run file.
        records: of its finite Transformers, of one method.
        coarser: of larger learning rates, where all of them approximate the flow by gradient descent.
    """

    directory: Path
    run: RunFile
    records: Sequence[Record] = ()
    coarser: Sequence[Record] = ()


def read_inputs(directory: Path, given: Path | RunFile | None, depth: bool) -> ComparisonInputs:
    """Everything that can be wrong with the directory is found here.

    Args:
        directory: the run directory.
        given: the run file, where the directory's own copy does not find the files that it names, or has no model.
        depth: are depths compared, for which no particles are needed?

    Raises:
        InputError: naming what is missing, or what does not belong together.
    """
    place = f"run directory {directory}"
    finished = RunReader(directory)
    outcome = (finished.summary or {}).get("outcome")
    if outcome != "done":
        raise InputError(f"{place}: holds no finished solve (outcome: {outcome or 'still running'})")
    if finished.manifest.get("problem_hash") is None:
        raise InputError(f"{place}: was not solved from a run file that ties particles to it")

    if given is None and "task" not in finished.run_file[1]:
        raise InputError(
            f"{place}: its model and task were Python objects; from Python, mfpde.compare_run takes both once more"
        )

    run = given if isinstance(given, RunFile) else own_run_file(directory, given)
    identity = run.identity()
    if not identity.shares_problem_of(finished.manifest):
        raise InputError(
            f"{place}: {run.source} is not the run file that was solved, or the files that it names "
            "have changed or are not found from here; give --run RUN.toml"
        )

    particles = directory / PARTICLES
    found = []
    if (particles / MANIFEST).is_file():
        if not identity.shares_problem_of(read_manifest(particles / MANIFEST)):
            raise InputError(
                f"{place}: its particles are those of another run file (another task, model, initial law, weight "
                "decay or temperature)"
            )
        found = load_all(particles)
    if not found and not depth:
        raise InputError(f"{place}: holds no particles; python -m mfpde.particles trains them")

    records = _of_one_method(found)
    return ComparisonInputs(directory, run, records, _coarser(found, records))


def own_run_file(directory: Path, given: Path | None) -> RunFile:
    """The directory's own copy; with the files of another run file, where the copy no longer finds them."""
    own = directory / RUN_FILE
    if given is None:
        return run_file.load(own)
    there = seen_from(directory, existing("--run", given).parent)
    return run_file.load(own, overrides(run_file.load(own).content, run_file.load(given).content, there))


def _of_one_method(records: Sequence[Record]) -> list[Record]:
    """The run file's method; or the flow where there is one, else the smallest learning rate.

    Of each grid or seed the smallest tolerance.
    """
    exact = [r for r in records if r.job.method.learning_rate is None]
    if not exact:
        least = min((r.job.method.learning_rate or 0.0 for r in records), default=0.0)
        return [r for r in records if r.job.method.learning_rate == least]

    best: dict[tuple[object, ...], Record] = {}
    for record in exact:
        job = record.job
        key = (job.initial, job.size, job.layers, job.seed)
        if key not in best or job.method.tolerance < best[key].job.method.tolerance:
            best[key] = record
    return list(best.values())


def _coarser(found: Sequence[Record], chosen: Sequence[Record]) -> list[Record]:
    """Records of larger learning rates; none of a method or of the flow, whose steps leave no bias."""
    if any(r.job.method.learning_rate is None for r in chosen):
        return []
    names = {r.job.name for r in chosen}
    return [r for r in found if r.job.name not in names]


def checked_depths(depths: Sequence[object]) -> list[int]:
    """Numbers of layers to compare with L = ∞, in increasing order; none, or at least two.

    Raises:
        InputError: for any others.
    """
    numbers = {int(n) for n in depths if is_whole(n) and 1 <= n <= _MOST_LAYERS}
    if len(numbers) == 1 or not all(is_whole(n) and int(n) in numbers for n in depths):
        listed = ",".join(map(str, depths))
        raise InputError(f"--depth {listed}: must be at least two whole numbers, 1 … {_MOST_LAYERS}, as in 4,8,16")
    return sorted(numbers)


def checked_change(value: object) -> float | None:
    """The relative change that a comparison must have seen; None for that of `comparison.checks`.

    Raises:
        InputError: for what is not between 0 and 1.
    """
    if value is None:
        return None
    change = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not 0.0 < change < 1.0:
        given = f"{value:g}" if isinstance(value, float) else value
        raise InputError(f"--change {given}: must be a number between 0 and 1, as in 0.05 for 5 %")
    return change
