"""What is solved and how finely, and the finer problem against which its error is estimated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mfpde.config.settings import Density, Time, Training
from mfpde.errors import InputError
from mfpde.problem.family import Family
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

_MOST_STEPS = 1e9
_LARGEST_DIMENSION = 3
_MOST_CELLS = 2**27  # of a box; PETSc's 32 bits cannot number the unknowns of more
_WIDER = 1.2  # by which the finer problem's boxes are wider
_FINER = 1.5  # by which its cells are smaller, where the degree cannot be raised


@dataclass(frozen=True)
class Problem:
    """All that determines the solution.

    Attributes:
        model: the Transformer.
        task: training and test samples.
        training: λ, β⁻¹, and when it ends.
        densities: the discretisation of each family, by name; "auto" is replaced by the frame that it stands for.
        time: the time step.
        margin: by which reference meshes are wider than the densities say.

    Raises:
        InputError: for settings that do not fit together.
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
        chosen = {f.name: _with_frame(self.densities[f.name], self.training.temperature) for f in self.model.families}
        object.__setattr__(self, "densities", chosen)
        for family in self.model.families:
            density = self.densities[family.name]
            _check_density(family, density)
            _check_laws(family, density, self.model.layers)
            if self.training.temperature > 0.0:
                _check_diffusion(
                    f"training.temperature = {self.training.temperature!r}: family {family.name!r}", density
                )

    def shared_meshes(self) -> list[list[int]]:
        """The places in `model.families` of the families on meshes; those with one mesh and one element together."""
        places: dict[tuple[object, ...], list[int]] = {}
        for place, family in enumerate(self.model.families):
            density = self.densities[family.name]
            if density.frame == "lagrangian":
                continue
            mesh = (family.dim, density.mesh, density.cell_type, density.cells)
            degrees = (density.degree, potential_degree(density))
            places.setdefault((*mesh, *degrees, density.frame, density.positivity), []).append(place)
        return list(places.values())


def _with_frame(density: Density, temperature: float) -> Density:
    """The density with a frame that is chosen: nodes move with the flow wherever they can."""
    if density.frame != "auto":
        return density
    on_mesh = temperature > 0.0 or density.mesh is not None or density.cell_type != "tensor"
    return dataclasses.replace(density, frame="comoving" if on_mesh else "lagrangian")


def potential_degree(density: Density) -> int:
    """k, max(p, 1) unless given."""
    return max(density.degree, 1) if density.potential_degree is None else density.potential_degree


def _check_density(family: Family, density: Density) -> None:
    """Does the discretisation fit the number of the family's parameters?

    Raises:
        InputError: when it does not.
    """
    where = f"family {family.name!r} has dim = {family.dim}"
    if family.dim > _LARGEST_DIMENSION:
        raise InputError(f"{where}; the limit takes at most {_LARGEST_DIMENSION} parameters")

    if isinstance(density.radius, tuple) and len(density.radius) != family.dim:
        raise InputError(f"density.radius = {list(density.radius)}: {where}; give one number, or {family.dim}")

    if density.mesh is None and density.cells**family.dim > _MOST_CELLS:
        most = int(_MOST_CELLS ** (1.0 / family.dim) + 1e-6)
        raise InputError(f"density.cells = {density.cells}: {where}; at most {most} in each direction")


def _check_laws(family: Family, density: Density, layers: int) -> None:
    """Can the discretisation hold a law whose mass is in one point of some coordinates?

    Raises:
        InputError: when it cannot.
    """
    for layer in range(layers):
        degenerate = family.law(layer).degenerate
        where = f"initial.{family.name}: std = 0.0 in layer {layer}"
        if degenerate and density.frame != "lagrangian":
            raise InputError(f"{where}: no mesh holds a law of no width; needs density.frame = 'lagrangian'")
        if len(degenerate) == family.dim:
            raise InputError(f"{where}: all mass in one point; at least one coordinate needs a std above 0")


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
