"""A run directory's limit against its finite Transformers: missing depths are solved, checks made, a report written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from mfpde.comparison.checks import CHANGE
from mfpde.comparison.evidence import Evidence
from mfpde.comparison.findings import Findings
from mfpde.config.run_file import RunFile
from mfpde.inputs import inside
from mfpde.limit.specification import refined
from mfpde.output.directory import COMPARE
from mfpde.output.lock import only_writer
from mfpde.parallel.agreement import agree, from_first
from mfpde.parallel.mpi import say
from mfpde.parallel.signals import Signals
from mfpde.parallel.working_ranks import communicator
from mfpde.runs.comparison_findings import SolvedDepths, find, gather_evidence, write
from mfpde.runs.comparison_inputs import ComparisonInputs, read_inputs
from mfpde.runs.limit_run import RunOptions, RunOrigin, solve_into
from mfpde.runs.problem_setup import problem_of
from mfpde.runs.run_status import is_done, is_resumable, stopped_within


def compare(
    directory: Path,
    run_file: Path | RunFile | None = None,
    depths: Sequence[int] = (),
    change: float | None = None,
    signals: Signals | None = None,
) -> Findings:
    """Compare, and write DIR/compare; collective.

    Args:
        directory: the run directory.
        run_file: the run file, where the directory was moved and its own copy does not find the files that it names, or
            where its model and task are Python objects.
        depths: L of the study of depth; none unless given.
        change: relative, of λ, of η and of a method's learning rate, that must have been seen; `CHANGE` unless given.
        signals: that may save and end a depth that is being solved, and the comparison with it.

    Returns:
        What was found, with the verdict.

    Raises:
        InputError: when there is nothing to compare, before anything is written.
        ComputationError: when a depth that is solved here fails.
        Stopped: when a signal ended a solve, after a checkpoint from which the same call goes on.
    """
    signals = signals or Signals()
    inputs = agree(lambda: read_inputs(directory, run_file, bool(depths)))
    folder = directory / COMPARE
    first = communicator().rank == 0

    with ExitStack() as stack:
        from_first(lambda: stack.enter_context(only_writer(folder)))
        own = inputs.run.build(trial=False)[0].layers
        solved = _solve_depths(inputs, own, depths, signals)

        def judge() -> tuple[Evidence, Findings]:
            evidence = gather_evidence(inputs, solved, CHANGE if change is None else change)
            return evidence, find(inputs, solved, evidence, own)

        judged = agree(lambda: judge() if first else None)
        signals.keep()  # what is written from here on is written to the end
        agree(lambda: write(folder, *judged) if judged else None)
        return communicator().bcast(judged[1] if judged else None, root=0)


def _solve_depths(inputs: ComparisonInputs, own: int, depths: Sequence[int], signals: Signals) -> SolvedDepths:
    """Solve what has not been solved yet; collective."""
    run, folder = inputs.run, inputs.directory / COMPARE
    layers = sorted({own, *(r.job.layers for r in inputs.records)})
    weighted = sorted({r.job.layers for r in inputs.records if r.job.initial != "sampled"})
    cells = sorted({max(2, max(depths) // 2), max(4, *depths)}) if depths else []

    def solve(name: str, at_depth: RunFile, finer: bool = False) -> Path:
        return _solve(at_depth, folder / name, signals, finer)

    limits = {n: inputs.directory if n == own else solve(f"layers-{n}", run.with_layers(n)) for n in layers}
    return SolvedDepths(
        limits=limits,
        finer={n: solve(f"finer-{n}", run.with_layers(n), finer=True) for n in weighted},
        residual={n: limits.get(n) or solve(f"layers-{n}", run.with_layers(n)) for n in depths},
        continuum={n: solve(f"continuum-{n}", run.with_layers(n, depth="continuum")) for n in cells},
    )


def _solve(run: RunFile, directory: Path, signals: Signals, finer: bool) -> Path:
    """Solve a run file there, unless that was done before, from where it was stopped; collective.

    Args:
        run: at one depth.
        directory: where.
        signals: that may save and end the solve.
        finer: solve the refined problem instead.

    Raises:
        Stopped: when one did.
    """
    first = communicator().rank == 0
    origin = agree(lambda: RunOrigin(run.text(directory), run.identity().refined(finer)))
    done, begun = from_first(lambda: (is_done(directory, origin.identity), is_resumable(directory, origin.identity)))
    if done:
        return directory

    if first:
        say(f"{'going on with' if begun else 'solving'} {directory}")
    problem = agree(lambda: problem_of(run, trial=first))
    with inside(run.source), stopped_within(str(directory)):
        output = dataclasses.replace(run.output, directory=directory)
        options = RunOptions(overwrite=not begun, resume=begun, alone=finer, quiet=True, signals=signals)
        solve_into(refined(problem) if finer else problem, output, origin, options)
    signals.free()
    return directory
