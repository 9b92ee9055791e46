"""A run directory's PDE against its finite Transformers: missing depths are solved, checks made, a report written."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI

from mfpde.comparison import block_distances, exponents, grids, verdict
from mfpde.comparison.checks import percent
from mfpde.comparison.comparison_report import Findings, page
from mfpde.comparison.depth_error import depth_rows
from mfpde.comparison.effects import CHANGE, Effect, effects, witness
from mfpde.comparison.evidence import Evidence, History
from mfpde.config import run_file
from mfpde.config.named_files import overrides, seen_from
from mfpde.config.run_file import RunFile
from mfpde.errors import InputError, Stopped
from mfpde.figures.plots import comparison_figures
from mfpde.finite.record_files import Record, load_all
from mfpde.inputs import existing, inside
from mfpde.limit.specification import refined
from mfpde.output.checkpoint.generations import Generations
from mfpde.output.files import failing_clearly, write_json, write_text
from mfpde.output.lock import only_writer
from mfpde.output.reader import RunReader
from mfpde.output.records.manifest import read_manifest
from mfpde.parallel.agreement import agree, from_first
from mfpde.parallel.signals import Signals
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer
from mfpde.runs.finite_runs import FOLDER as PARTICLES
from mfpde.runs.limit_run import Manner, Source, solve_into
from mfpde.runs.problem_setup import problem_of

FOLDER = "compare"


@dataclass(frozen=True)
class Material:
    """A finished run and its particles.

    Attributes:
        directory: the run directory.
        run: its run file.
        records: of its finite Transformers, of one method.
        coarser: of larger learning rates, where none of them follows the flow.
    """

    directory: Path
    run: RunFile
    records: Sequence[Record]
    coarser: Sequence[Record] = ()


def compare(
    directory: Path,
    run_file: Path | None = None,
    depths: Sequence[int] = (),
    change: float | None = None,
    signals: Signals | None = None,
) -> verdict.Verdict:
    """Compare, and write DIR/compare; collective.

    Args:
        directory: the run directory.
        run_file: the run file, where the directory was moved and its own copy does not find the files that it names.
        depths: L of the study of depth; none unless given.
        change: relative, of λ and of η, that must have been seen; `CHANGE` unless given.
        signals: that may save and end a depth that is being solved, and the comparison with it.

    Returns:
        The verdict.

    Raises:
        InputError: when there is nothing to compare, before anything is written.
        ComputationError: when a depth that is solved here fails.
        Stopped: when a signal ended a solve, after a checkpoint from which the same call goes on.
    """
    signals = signals or Signals()
    material = agree(lambda: _material(directory, run_file, bool(depths)))
    first = MPI.COMM_WORLD.rank == 0
    with ExitStack() as stack:
        agree(lambda: stack.enter_context(only_writer(directory / FOLDER)) if first else None)
        return _compare(directory, material, depths, CHANGE if change is None else change, signals)


def _compare(
    directory: Path, material: Material, depths: Sequence[int], change: float, signals: Signals
) -> verdict.Verdict:
    """Solve what is missing, judge, and write; collective."""
    run, own = material.run, _layers(material.run)
    folder = directory / FOLDER
    layers = sorted({own, *(r.job.layers for r in material.records)})

    def solve(wanted: RunFile, name: str, finer: bool = False) -> Path:
        return _solve(wanted, folder / name, signals, finer)

    solved = {n: directory if n == own else solve(run.with_layers(n), f"layers-{n}") for n in layers}
    weighted = sorted({r.job.layers for r in material.records if r.job.initial != "sampled"})
    finer = {n: solve(run.with_layers(n), f"finer-{n}", finer=True) for n in weighted}
    residual = {n: solved.get(n) or solve(run.with_layers(n), f"layers-{n}") for n in depths}
    cells = sorted({max(2, max(depths) // 2), max(4, *depths)}) if depths else []
    continuum = {n: solve(_continuum(run, n), f"continuum-{n}") for n in cells}

    def judge() -> tuple[Evidence, Findings]:
        evidence = _evidence(material, solved, finer, change)
        return evidence, _findings(material, evidence, own, _histories(residual), _histories(continuum))

    first = MPI.COMM_WORLD.rank == 0
    judged = agree(lambda: judge() if first else None)
    signals.keep()  # what is written from here on is written to the end

    def write() -> verdict.Verdict:
        assert judged is not None  # noqa: S101  (on rank 0)
        evidence, findings = judged
        _write(folder, findings, evidence)
        return findings.verdict

    return from_first(write)


def _material(directory: Path, run_file: Path | None, depth: bool) -> Material:
    """All that can be wrong with the directory is found here.

    Raises:
        InputError: naming what is missing, or what does not belong together.
    """
    finished = RunReader(directory)
    outcome = (finished.summary or {}).get("outcome")
    if outcome != "done":
        raise InputError(f"run directory {directory}: holds no finished solve (outcome: {outcome or 'still running'})")
    found = finished.manifest.get("problem_hash")
    if found is None:
        raise InputError(f"run directory {directory}: was not solved from a run file that ties particles to it")
    run = _run_file(directory, run_file)
    if run.problem_hash() != found:
        raise InputError(
            f"run directory {directory}: {run.source} is not the run file that was solved, or the files that it names "
            "have changed or are not found from here; give --run RUN.toml"
        )
    particles = directory / PARTICLES
    if not (particles / "manifest.json").is_file():
        if depth:
            return Material(directory, run, [])
        raise InputError(f"run directory {directory}: holds no particles; python -m mfpde.particles trains them")
    if read_manifest(particles / "manifest.json").get("problem_hash") != found:
        raise InputError(
            f"run directory {directory}: its particles are those of another run file (another task, model, initial "
            "law, weight decay or temperature)"
        )
    found_there = load_all(particles)
    records = _of_one_method(found_there)
    if not records and not depth:
        raise InputError(f"run directory {directory}: holds no particles; python -m mfpde.particles trains them")
    return Material(directory, run, records, _coarser(found_there, records))


def _run_file(directory: Path, given: Path | None) -> RunFile:
    """The directory's own copy; with the files of another run file, where the copy no longer finds them."""
    own = directory / "run.toml"
    if given is None:
        return run_file.load(own)
    there = seen_from(directory, existing("--run", given).parent)
    return run_file.load(own, overrides(run_file.load(own).content, run_file.load(given).content, there))


def _of_one_method(records: Sequence[Record]) -> list[Record]:
    """The flow where there is one, else the smallest learning rate; of each grid or seed the smallest tolerance."""
    flows = [r for r in records if r.job.method.learning_rate is None]
    if not flows and records:
        rates = [r.job.method.learning_rate or 0.0 for r in records]
        return [r for r, rate in zip(records, rates, strict=True) if rate == min(rates)]
    best: dict[tuple[object, ...], Record] = {}
    for record in flows:
        job = record.job
        key = (job.initial, job.size, job.layers, job.seed)
        if key not in best or job.method.tolerance < best[key].job.method.tolerance:
            best[key] = record
    return list(best.values())


def _coarser(found: Sequence[Record], chosen: Sequence[Record]) -> list[Record]:
    """Records of larger learning rates; none where the flow was chosen, whose steps leave no bias."""
    if any(r.job.method.learning_rate is None for r in chosen):
        return []
    names = {r.job.name for r in chosen}
    return [r for r in found if r.job.name not in names]


def _layers(run: RunFile) -> int:
    return run.build(trial=False)[0].layers


def _continuum(run: RunFile, cells: int) -> RunFile:
    deep = run.with_layers(cells)
    model = {**deep.content["model"], "depth": "continuum"}
    return dataclasses.replace(deep, content={**deep.content, "model": model})


def _solve(run: RunFile, directory: Path, signals: Signals, finer: bool) -> Path:
    """Solve the run file there, unless that was done before, from where it was stopped; collective.

    Args:
        run: at the depth wanted.
        directory: where.
        signals: that may save and end the solve.
        finer: solve the refined problem instead.

    Raises:
        Stopped: when one did.
    """
    identity = f"{run.hash()}-{run.training.horizon!r}{'-finer' if finer else ''}"
    first = MPI.COMM_WORLD.rank == 0
    done, begun = from_first(lambda: _found(directory, identity))
    if done:
        return directory
    if first:
        sys.stdout.write(f"{'going on with' if begun else 'solving'} {directory}\n")
        sys.stdout.flush()
    problem = agree(lambda: problem_of(run, trial=first))
    with inside(run.source):
        output = dataclasses.replace(run.output, directory=directory)
        solved = refined(problem) if finer else problem
        source = Source(run.text(directory), run.decisive(), identity, run.problem_hash())
        manner = Manner(overwrite=not begun, resume=begun, quiet=True, signals=signals)
        try:
            solve_into(solved, output, source, manner)
        except Stopped as stopped:
            where = str(stopped).partition(";")[0]
            raise Stopped(f"{directory}: {where}; the same command goes on", stopped.signal) from stopped
    signals.free()
    return directory


def _found(directory: Path, identity: str) -> tuple[bool, bool]:
    """Has this solve been done there? And is there a sound checkpoint of it, from which it can go on?"""
    if not (directory / "manifest.json").is_file():
        return False, False
    there = RunReader(directory)
    if there.manifest.get("run_hash") != identity:
        return False, False
    done = (there.summary or {}).get("outcome") == "done"
    try:
        Generations(directory).newest()
    except LookupError:
        return done, False
    return done, True


def _evidence(material: Material, solved: Mapping[int, Path], finer: Mapping[int, Path], change: float) -> Evidence:
    """All that is judged; effects are measured at the depths at which something is."""
    models, found = {}, {}
    for layers in solved:
        model, task = material.run.with_layers(layers).build(trial=False)
        models[layers] = model
        mine = [r for r in material.records if r.job.layers == layers]
        if len({(r.job.initial, r.job.size) for r in mine}) > 1:
            found[layers] = _effects(witness(mine, model), model, task, material.run, change)
    return Evidence(
        records=material.records,
        limits=_histories(solved),
        finer=_histories(finer),
        models=models,
        coarser=material.coarser,
        effects=found,
        change=change,
        moments=_moments(solved, finer),
    )


def _effects(record: Record, model: Transformer, task: Task, run: RunFile, change: float) -> dict[str, Effect]:
    sys.stdout.write(f"training {record.job.name} again with λ and with η larger by {percent(change)}\n")
    sys.stdout.flush()
    with np.errstate(all="ignore"):
        return effects(record, model, task, run.training, change)


def _histories(directories: Mapping[int, Path]) -> dict[int, History]:
    return {n: RunReader(directory).history for n, directory in directories.items()}


def _moments(solved: Mapping[int, Path], finer: Mapping[int, Path]) -> dict[int, tuple[History, History]]:
    return {n: (RunReader(solved[n]).moments, RunReader(directory).moments) for n, directory in finer.items()}


def _findings(
    material: Material, evidence: Evidence, own: int, residual: Mapping[int, History], continuum: Mapping[int, History]
) -> Findings:
    run = RunReader(material.directory)
    slopes = exponents.risk_slopes(evidence)
    mine = [r for r in evidence.drawn if r.job.layers == own]
    distances = block_distances.distances(run, mine, _last_kept(run, mine))
    dims = {family.name: family.dim for family in evidence.models[own].families}
    far = block_distances.distance_slopes(distances, own, dims, evidence.effects.get(own, {}))
    taus = [float(t) for t in run.taus if t > 0.0]
    depth = depth_rows(residual, continuum, taus) if residual else []
    judged = [row for row in (*slopes, *far) if row.wanted == exponents.RATE]
    checks = [
        *verdict.mean_checks(evidence),
        *grids.grid_checks(evidence),
        *verdict.refinement_checks(evidence),
        *exponents.slope_checks(judged, evidence.change),
    ]
    facts = {
        "problem_hash": material.run.problem_hash(),
        "finite_transformers": len(evidence.records),
        "methods": sorted({r.job.method.name for r in evidence.records}),
        "layers": sorted(evidence.limits),
        "loss": evidence.models[own].loss,
        "weight_decay": material.run.training.weight_decay,
    }
    rows = [asdict(d) for d in distances]
    governed = exponents.width_or_depth(evidence)
    return Findings(material.run.name, checks, [*slopes, *far], governed, depth, rows, facts, evidence.change)


def _last_kept(run: RunReader, records: Sequence[Record]) -> list[float]:
    """The τ > 0 at which most records kept their units and the run has densities; the last of those."""
    counts = {float(t): sum(bool(np.isclose(r.kept, t).any()) for r in records) for t in run.taus if t > 0.0}
    best = max(counts, key=lambda t: (counts[t], t), default=0.0)
    return [best] if counts.get(best) else []


def _write(folder: Path, findings: Findings, evidence: Evidence) -> None:
    figures = {}
    if evidence.records:
        figures["risk"] = comparison_figures.risk_curves(evidence)
        if all("accuracy" in table for table in evidence.limits.values()):
            figures["accuracy"] = comparison_figures.risk_curves(evidence, "accuracy")
    if findings.slopes:
        figures["sizes"] = comparison_figures.size_errors(findings.slopes)
    if findings.governed:
        tau = max(findings.governed)
        figures["width"] = comparison_figures.width_or_depth(findings.governed[tau], tau)
    if findings.depth:
        figures["depth"] = comparison_figures.depth_errors(findings.depth)
    with failing_clearly(folder):
        folder.mkdir(parents=True, exist_ok=True)
        images = comparison_figures.save(figures, folder)
        write_text(folder / "report.html", page(findings, images))
        write_json(folder / "summary.json", findings.plain())
