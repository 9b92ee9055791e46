"""From solved depths and trained particles to what a comparison found, and to the files that show it; on rank 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mfpde.comparison import block_distances, exponents, verdict
from mfpde.comparison.checks import percent
from mfpde.comparison.depth_error import depth_rows
from mfpde.comparison.effects import effects, witness
from mfpde.comparison.evidence import Evidence, History
from mfpde.comparison.findings import Findings
from mfpde.config.run_file import RunFile
from mfpde.figures.pages.comparison_report import comparison_page
from mfpde.figures.plots import comparison_figures
from mfpde.finite.record_files import Record
from mfpde.output.files import failing_clearly, write_json, write_text
from mfpde.output.reader import RunReader
from mfpde.parallel.mpi import say
from mfpde.runs.comparison_inputs import ComparisonInputs
from mfpde.runs.problem_setup import problem_of


@dataclass(frozen=True)
class SolvedDepths:
    """Run directories per number of layers.

    Attributes:
        limits: at the depths of the finite Transformers and of the run itself.
        finer: of the refined problems, where units are quadrature points.
        residual, continuum: of the study of depth.
    """

    limits: Mapping[int, Path]
    finer: Mapping[int, Path]
    residual: Mapping[int, Path]
    continuum: Mapping[int, Path]


def gather_evidence(inputs: ComparisonInputs, solved: SolvedDepths, change: float) -> Evidence:
    """All that is judged; effects of `change` are measured at the depths at which something is."""
    models, measured = {}, {}
    for layers in solved.limits:
        model, task = inputs.run.with_layers(layers).build(trial=False)
        models[layers] = model
        mine = [r for r in inputs.records if r.job.layers == layers]
        if len({(r.job.initial, r.job.size) for r in mine}) > 1:
            record = witness(mine, model)
            say(f"training {record.job.name} again with each parameter larger by {percent(change)}")
            with np.errstate(all="ignore"):
                measured[layers] = effects(record, model, task, inputs.run.training, change)

    return Evidence(
        records=inputs.records,
        limits=_histories(solved.limits),
        finer=_histories(solved.finer),
        models=models,
        coarser=inputs.coarser,
        effects=measured,
        change=change,
        moments={n: (RunReader(solved.limits[n]).moments, RunReader(d).moments) for n, d in solved.finer.items()},
    )


def find(inputs: ComparisonInputs, solved: SolvedDepths, evidence: Evidence, own: int) -> Findings:
    """Checks, exponents, distances and errors of depth.

    Args:
        inputs: the run and its particles.
        solved: all run directories.
        evidence: what is judged.
        own: the run's own number of layers.
    """
    run = RunReader(inputs.directory)
    slopes = exponents.risk_slopes(evidence)
    mine = evidence.of(own, "sampled")
    distances = block_distances.distances(run, mine, _last_kept(run, mine), _with_densities(inputs.run))
    dims = {family.name: family.dim for family in evidence.models[own].families}
    far = block_distances.distance_slopes(distances, own, dims, evidence.effects.get(own, {}))

    taus = [float(t) for t in run.taus if t > 0.0]
    depth = depth_rows(_histories(solved.residual), _histories(solved.continuum), taus) if solved.residual else []
    checks = verdict.all_checks(evidence, [*slopes, *far])
    facts = {
        "problem_hash": inputs.run.identity().problem_hash,
        "finite_transformers": len(evidence.records),
        "methods": sorted({r.job.method.name for r in evidence.records}),
        "layers": sorted(evidence.limits),
        "loss": evidence.models[own].loss,
        "weight_decay": inputs.run.training.weight_decay,
    }

    rows = [asdict(d) for d in distances]
    governed = exponents.width_or_depth(evidence)
    judged = "the PDE" if inputs.run.training.optimiser is None else "the limit"
    return Findings(inputs.run.name, checks, [*slopes, *far], governed, depth, rows, facts, evidence.change, judged)


def write(folder: Path, evidence: Evidence, findings: Findings) -> None:
    """The figures, report.html and summary.json.

    Raises:
        ComputationError: when the disk refuses.
    """
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
        for name, figure in figures.items():
            figure.save(folder / name)
        pictures = [folder / f"{name}.png" for name in figures]
        write_text(folder / "report.html", comparison_page(findings, pictures))
        write_json(folder / "summary.json", findings.plain())


def _histories(directories: Mapping[int, Path]) -> dict[int, History]:
    return {n: RunReader(directory).history for n, directory in directories.items()}


def _with_densities(run: RunFile) -> list[str]:
    """Families whose files hold their density; those of a cloud of nodes hold a picture of it, smoothed by a kernel."""
    densities = problem_of(run, trial=False).densities
    return [name for name, density in densities.items() if density.nodes is None]


def _last_kept(run: RunReader, records: Sequence[Record]) -> list[float]:
    """The τ > 0 at which most records kept their units and the run has densities; the last of those."""
    counts = {float(t): sum(bool(np.isclose(r.kept, t).any()) for r in records) for t in run.taus if t > 0.0}
    best = max(counts, key=lambda t: (counts[t], t), default=0.0)
    return [best] if counts.get(best) else []
