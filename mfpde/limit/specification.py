"""What is solved and how finely, and the finer problem that tells how far off it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mfpde.config.settings import Density, Time, Training
from mfpde.errors import InputError
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

_MOST_STEPS = 1e9
_WIDER = 1.2  # by which the finer problem's boxes are wider
_FINER = 1.5  # by which its cells are smaller, where the degree cannot be raised


@dataclass(frozen=True)
class Problem:
    """All that determines the solution.

    Attributes:
        model: the Transformer.
        task: training and test samples.
        training: λ, β⁻¹, and when it ends.
        densities: the discretisation of each family, by name.
        time: the time step.
        margin: by which reference meshes are wider than the densities say.

    Raises:
        InputError: for settings that are sound one by one but not together.
    """

    model: Transformer
    task: Task
    training: Training
    densities: Mapping[str, Density]
    time: Time
    margin: float = 1.0

    def __post_init__(self) -> None:
        step, horizon = self.time.step, self.training.horizon
        if step is not None and horizon / step > _MOST_STEPS:
            raise InputError(
                f"time.step = {step!r}: more than {_MOST_STEPS:.0e} steps to training.horizon = {horizon!r}; "
                f"must be at least {horizon / _MOST_STEPS:g}"
            )
        if self.training.temperature > 0.0:
            for name, density in self.densities.items():
                _check_diffusion(f"training.temperature = {self.training.temperature!r}: family {name!r}", density)


def _check_diffusion(where: str, density: Density) -> None:
    if density.degree == 0:
        raise InputError(
            f"{where} has density.degree = 0, whose cells have no gradient that could diffuse; must be 1 … 3"
        )
    if density.frame == "lagrangian":
        raise InputError(
            f"{where} has density.frame = 'lagrangian', where no mass ever crosses from cell to cell, which diffusion "
            "needs; must be 'comoving' or 'fixed'"
        )


def refined(problem: Problem) -> Problem:
    """The same problem, finer in every way that causes an error: its risk minus the problem's estimates that error.

    One degree higher (or, from degree 3 on, cells smaller by a half), on a mesh wider by a fifth with as much more
    cells, in steps of a tenth of the tolerance, or half as long. It costs several times what the problem costs; in
    return the estimate assumes no order of convergence, and sees what the box cuts off.

    Raises:
        InputError: for degree 3 on a mesh file, which cannot be made finer here.
    """
    time = problem.time
    if time.step is not None:
        time = dataclasses.replace(time, step=0.5 * time.step)
    else:
        time = dataclasses.replace(time, tolerance=max(0.1 * time.relative_tolerance, 1e-14))
    densities = {name: _finer(density) for name, density in problem.densities.items()}
    training = dataclasses.replace(problem.training, stationary=None)  # it ends where the problem ends
    margin = _WIDER * problem.margin
    return dataclasses.replace(problem, training=training, densities=densities, time=time, margin=margin)


def _finer(density: Density) -> Density:
    if density.degree < 3 and density.frame != "lagrangian":
        extra = None if density.potential_degree is None else min(density.potential_degree + 1, 4)
        cells = int(np.ceil(_WIDER * density.cells))
        return dataclasses.replace(density, degree=density.degree + 1, potential_degree=extra, cells=cells)
    if density.mesh is not None and density.frame != "lagrangian":
        raise InputError("--estimate-error: needs density.degree at most 2 with a mesh file, which it cannot refine")
    return dataclasses.replace(density, cells=int(np.ceil(_FINER * _WIDER * density.cells)))
