"""Which finite Transformers of a run file are trained, and how, for the command and the Python function alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfpde.config.run_file import RunFile
from mfpde.config.settings import Training
from mfpde.errors import InputError
from mfpde.finite.jobs import INITIALS, Initial, Job, Method, Size, plan
from mfpde.inputs import inside, one_of, real, whole
from mfpde.output.directory import PARTICLES
from mfpde.runs.problem_setup import report_times

_KEPT = 5  # times at which units are kept unless some are given; where a comparison looks
_MOST = 10**12  # units, seeds or layers: beyond, it is a slip of the pen


@dataclass(frozen=True)
class TrainingPlan:
    """The finite Transformers that are to be trained.

    Attributes:
        run: the run file.
        jobs: of its problem, at any depths.
        kept: τ at which units are kept; None for five of the reports.
    """

    run: RunFile
    jobs: Sequence[Job]
    kept: Sequence[float] | None = None

    @property
    def folder(self) -> Path:
        """Where the records go."""
        return self.run.directory / PARTICLES

    def times(self, samples: int) -> list[float]:
        """τ of the reports: those of a solve of the same run file, 0 among them.

        Args:
            samples: of the task.

        Raises:
            InputError: when that is more than anyone reads, and for batches that the samples do not fill.
        """
        with inside(self.run.source):
            return [0.0, *report_times(self.run.training, self.run.output.every, samples)]

    def chosen(self, times: Sequence[float]) -> list[float]:
        """τ at which units are kept.

        Args:
            times: τ of the reports.

        Raises:
            InputError: naming one at which there is no report.
        """
        reports = np.array(times)
        if self.kept is None:
            even = reports[-1] * np.arange(1, _KEPT + 1) / _KEPT
            return sorted({float(reports[1:][np.abs(reports[1:] - t).argmin()]) for t in even})

        for tau in self.kept:
            nearest = float(reports[np.abs(reports - tau).argmin()])
            if not np.isclose(nearest, tau, rtol=1e-9, atol=1e-12):
                raise InputError(f"--tau {tau:g}: no report there; the nearest is {nearest!r} (output.every)")
        return sorted(self.kept)


def plan_training(
    run: RunFile,
    units: Sequence[Size],
    *,
    seeds: object = None,
    layers: Sequence[object] = (),
    initial: str = "sampled",
    learning_rate: object = None,
    tolerance: object = None,
    tau: Sequence[object] = (),
) -> TrainingPlan:
    """Everything that can be wrong with a study is found here, apart from what needs the task; no collective.

    Args:
        run: the run file.
        units: M of each size; with a grid, points per coordinate.
        seeds: sets of drawn units of each size.
        layers: depths; that of the run file for none.
        initial: where units start.
        learning_rate: h of gradient descent that approximates the flow; None for the flow itself.
        tolerance: of a step of the flow; None for 1e-6.
        tau: reports at which units are kept; five of them for none.

    Raises:
        InputError: one line naming the command's option, the value and what is allowed.
    """
    if run.training.optimiser is None and "horizon" not in run.content["training"]:
        raise InputError(f"{run.source}: training.horizon is missing; finite Transformers are trained to it")
    start: Initial = one_of("--initial", initial, INITIALS)  # type: ignore[assignment]
    _check_noise(start, learning_rate, run.training.temperature)

    method = _method(learning_rate, tolerance, run.training)
    count = _seeds(seeds, start)
    depths = [_whole("--layers", n) for n in layers] or [run.build(trial=False)[0].layers]
    sizes = [tuple(_whole("--units", points) for points in size) for size in units]
    kept = [real("--tau", t) for t in tau] or None
    return TrainingPlan(run, plan(start, sizes, depths, count, method), kept)


def _method(learning_rate: object, tolerance: object, training: Training) -> Method:
    """The run file's method, or for its flow steps of one length or of one tolerance.

    Raises:
        InputError: for options that exclude each other, or the run file's method.
    """
    options = {"--learning-rate": learning_rate, "--tolerance": tolerance}
    named = [option for option, value in options.items() if value is not None]
    if training.optimiser is not None:
        if named:
            raise InputError(
                f"{named[0]} {options[named[0]]}: is of the flow; the run file has training.method = "
                f"{training.optimiser.method!r}, whose steps are taken as they are"
            )
        return Method(None, 0.0, training.optimiser.method)

    if len(named) > 1:
        raise InputError("--learning-rate and --tolerance exclude each other; give one")
    if learning_rate is not None:
        return Method(real("--learning-rate", learning_rate, above=0.0), 0.0)
    return Method(None, real("--tolerance", 1e-6 if tolerance is None else tolerance, least=1e-14))


def _check_noise(initial: Initial, learning_rate: object, temperature: float) -> None:
    """Noise needs units that are drawn, and steps.

    Raises:
        InputError: naming the option.
    """
    if temperature > 0.0 and initial != "sampled":
        raise InputError(f"--initial {initial}: units with noise (training.temperature) are drawn, not on a grid")
    if temperature > 0.0 and learning_rate is None:
        raise InputError("training.temperature is not 0: noise needs steps; give --learning-rate, such as 0.01")


def _seeds(seeds: object, initial: Initial) -> int:
    if seeds is not None:
        return _whole("--seeds", seeds)
    if initial == "sampled":
        raise InputError("--seeds is missing: how many sets of units are drawn of each size? give a whole number")
    return 1


def _whole(option: str, value: object) -> int:
    """A whole number from 1.

    Raises:
        InputError: naming the option and the value.
    """
    return whole(option, value, 1, _MOST)
