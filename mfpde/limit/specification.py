"""What is solved and how finely, and the coarser and finer problems by which its error is estimated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mfpde.config.settings import FINEST, Density, Time, Training
from mfpde.errors import InputError
from mfpde.limit.sampled.midpoint_rule import has_rule
from mfpde.problem.descent import Descent
from mfpde.problem.family import Family
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

REPLICAS = 8  # independent flows of random nodes: the standard error of their mean is itself known to a quarter
_NODES = 1024  # random ones of a family with more coordinates than a grid has, unless they are given
_ORDERS = {1: 24, 2: 48, 3: 16}  # of a midpoint rule, by the number of random coordinates, likewise
_MOST_STEPS = 1e9
_LARGEST_DIMENSION = 3
_LEAST_ORDER = 4  # of a rule that is halved
_FINEST_RULE = 128  # order in each coordinate
_MOST_CELLS = 2**27  # of a box; PETSc's 32 bits cannot number the unknowns of more
_WIDER = 1.2  # by which the finer problem's boxes are wider
_FINER = 1.5  # by which its cells are smaller, where the degree cannot be raised
_COARSER = 1.5  # by which the coarser problem's cells are larger on meshes, so that errors of order five are as below
_SPARSER = 2.0  # and for moving nodes, whose errors fall faster
_FACTOR = 8.0  # by which its errors are larger: its tolerance, and the cube of its first and its fixed steps
_LONGER = _FACTOR ** (1.0 / 3.0)  # so much longer are these
_NODES_FACTOR = 9.0  # the same of moving nodes: 10 on geometric average over 23 runs, 6 for steps of one order
_ENOUGH = 8  # cells, of which twice as many are halved
_FEWEST = 8  # intervals in a direction that it may have
_LEAST_SINGLE = 1e-6  # tolerance of steps whose potential is rounded to single precision


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
        first: by which the first step of moving nodes is longer than otherwise.

    Raises:
        InputError: for settings that do not fit together.
    """

    model: Transformer
    task: Task
    training: Training
    densities: Mapping[str, Density]
    time: Time
    margin: float = 1.0
    first: float = 1.0

    def __post_init__(self) -> None:
        step, horizon = self.time.step, self.horizon
        if self.descent is not None and step is not None:
            raise InputError(f"time.step = {step!r}: steps are training.learning_rate long (training.method)")
        if step is not None and horizon / step > _MOST_STEPS:
            raise InputError(
                f"time.step = {step!r}: more than {_MOST_STEPS:.0e} steps to training.horizon = {horizon!r}; "
                f"must be at least {horizon / _MOST_STEPS:g}"
            )
        if self.training.precision == "single" and step is None and self.time.relative_tolerance < _LEAST_SINGLE:
            raise InputError(
                f"time.tolerance = {self.time.relative_tolerance!r}: training.precision = 'single' rounds the "
                f"potential to seven digits; must be at least {_LEAST_SINGLE:g}"
            )
        if self.descent is not None:
            for family in self.model.families:
                _check_nodes_alone(family, self.densities[family.name], self.descent.settings.method)
        chosen = {f.name: self._with_frame(f, self.densities[f.name]) for f in self.model.families}
        object.__setattr__(self, "densities", chosen)
        for family in self.model.families:
            density = self.densities[family.name]
            _check_density(family, density, self.random_coordinates(family))
            _check_laws(family, density, self.model.layers)
            if self.replicas > 1 and density.frame != "lagrangian":
                raise InputError(
                    f"density.frame = {density.frame!r}: family {family.name!r}: where another family has "
                    "density.nodes, all move by nodes; must be 'lagrangian' or 'auto'"
                )
            if self.training.temperature > 0.0:
                _check_diffusion(
                    f"training.temperature = {self.training.temperature!r}: family {family.name!r}", density
                )

    @cached_property
    def descent(self) -> Descent | None:
        """The method of training by steps; None for the flow."""
        return Descent.of(self.training, self.task.samples)

    @property
    def horizon(self) -> float:
        """τ of the end, at the latest."""
        return self.training.horizon if self.descent is None else float(self.descent.taus[-1])

    @cached_property
    def replicas(self) -> int:
        """K independent flows side by side: one, or several where the nodes of some family are random."""
        nodes = [family for family in self.model.families if self.densities[family.name].nodes is not None]
        return REPLICAS if any(self.order(family) == 0 for family in nodes) else 1

    def random_coordinates(self, family: Family) -> int:
        """In how many coordinates a midpoint rule takes the nodes of a family, in all layers; 0 where they are random.

        A rule needs laws that are random in few coordinates. It has nodes in the place of random ones where the family
        has more coordinates than a grid, and in training by steps.
        """
        return self._random[family.name]

    @cached_property
    def _random(self) -> Mapping[str, int]:
        found = {}
        for family in self.model.families:
            laws = [family.law(layer) for layer in range(self.model.layers)]
            numbers = {law.uniforms for law in laws}
            suits = len(numbers) == 1 and all(map(has_rule, laws)) and self._needs_nodes(family)
            found[family.name] = numbers.pop() if suits else 0
        return found

    def _needs_nodes(self, family: Family) -> bool:
        """Has the family more coordinates than a grid, or a method's state at every point?"""
        return family.dim > _LARGEST_DIMENSION or self.descent is not None

    def order(self, family: Family) -> int:
        """Points of the midpoint rule of a family with nodes, in each random coordinate; 0 where they are random."""
        return _order(self.densities[family.name].nodes or 0, self.random_coordinates(family))

    def _with_frame(self, family: Family, density: Density) -> Density:
        """The density with a frame that is chosen: nodes move with the flow wherever they can."""
        hot, coordinates = self.training.temperature > 0.0, self.random_coordinates(family)
        if density.nodes is None and self._needs_nodes(family) and not hot and density.frame in ("auto", "lagrangian"):
            nodes = _ORDERS[coordinates] ** coordinates if coordinates else _NODES
            density = dataclasses.replace(density, nodes=nodes)
        if density.frame != "auto":
            return density
        if density.nodes is not None:
            return dataclasses.replace(density, frame="lagrangian")
        on_mesh = hot or density.mesh is not None or density.cell_type != "tensor"
        return dataclasses.replace(density, frame="comoving" if on_mesh else "lagrangian")

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


def _order(nodes: int, coordinates: int) -> int:
    """Points in each coordinate of a tensor rule of so many nodes; 0 where there is none."""
    return round(nodes ** (1.0 / coordinates)) if coordinates else 0


def potential_degree(density: Density) -> int:
    """k, max(p, 1) unless given."""
    return max(density.degree, 1) if density.potential_degree is None else density.potential_degree


def _check_nodes_alone(family: Family, density: Density, method: str) -> None:
    """Can every point of the discretisation carry the state of a method?

    Raises:
        InputError: when it cannot; nodes alone can.
    """
    given = {"frame": (density.frame, ("auto", "lagrangian")), "cell_type": (density.cell_type, ("tensor",))}
    for key, (value, allowed) in {**given, "mesh": (density.mesh, (None,))}.items():
        if value not in allowed:
            raise InputError(
                f"density.{key} = {str(value)!r}: family {family.name!r}: training.method = {method!r} has a state at "
                "every point, which nodes alone carry; must be density.frame = 'auto' or 'lagrangian', without a mesh"
            )


def _check_density(family: Family, density: Density, random: int) -> None:
    """Does the discretisation fit the number of the family's parameters?

    Args:
        family: the family.
        density: its settings.
        random: coordinates of a midpoint rule that has its nodes; 0 where they are random.

    Raises:
        InputError: when it does not.
    """
    where = f"family {family.name!r} has dim = {family.dim}"
    if density.nodes is not None:
        _check_nodes(family, density, random)
        return
    if family.dim > _LARGEST_DIMENSION:
        raise InputError(
            f"{where}; a density on a mesh takes at most {_LARGEST_DIMENSION} parameters; for more there are random "
            "nodes, without a temperature and with density.frame = 'auto'"
        )

    if isinstance(density.radius, tuple) and len(density.radius) != family.dim:
        raise InputError(f"density.radius = {list(density.radius)}: {where}; give one number, or {family.dim}")

    if density.mesh is None and density.cells**family.dim > _MOST_CELLS:
        most = int(_MOST_CELLS ** (1.0 / family.dim) + 1e-6)
        raise InputError(f"density.cells = {density.cells}: {where}; at most {most} in each direction")


def _check_nodes(family: Family, density: Density, random: int) -> None:
    """Do nodes suit the family's density?"""
    number, where = density.nodes or 0, f"density.nodes = {density.nodes}: family {family.name!r}"
    if density.frame not in ("auto", "lagrangian"):
        raise InputError(f"{where} has density.frame = {density.frame!r}; random nodes need 'lagrangian' or 'auto'")
    if random:
        order = _order(number, random)
        if order**random != number or not 2 <= order <= _FINEST_RULE:
            power = {1: "a number", 2: "the square of a number", 3: "the cube of a number"}[random]
            raise InputError(f"{where}: must be {power} from 2 to {_FINEST_RULE}, the order of a midpoint rule")
        return
    if number & (number - 1) or number < 2 * REPLICAS:
        raise InputError(
            f"{where}: must be a power of two, at least {2 * REPLICAS}, as {REPLICAS} independent flows share them"
        )


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

    Passes in double precision, one degree higher (or, from degree 3 on, cells smaller by a half), on a mesh wider by a
    fifth with as much more cells, in steps of a tenth of the tolerance, or half as long. It costs several times what
    the problem costs; in return the estimate assumes no order of convergence, and sees what the box cuts off.

    Raises:
        InputError: for degree 3 on a mesh file, which cannot be made finer here.
    """
    time = _scaled(problem.time, step=0.5, tolerance=0.1)
    orders = {
        family.name: (problem.order(family), problem.random_coordinates(family)) for family in problem.model.families
    }
    densities = {name: _finer(density, *orders[name]) for name, density in problem.densities.items()}
    training = dataclasses.replace(problem.training, stationary=None, precision="double")  # ends where the problem does
    margin = _WIDER * problem.margin
    return dataclasses.replace(problem, training=training, densities=densities, time=time, margin=margin)


def _scaled(time: Time, *, step: float, tolerance: float) -> Time:
    """The same steps, longer or shorter by a factor, or with a tolerance that is larger or smaller by another."""
    if time.step is not None:
        return dataclasses.replace(time, step=step * time.step)
    return dataclasses.replace(time, tolerance=max(tolerance * time.relative_tolerance, FINEST))


def _finer(density: Density, order: int, random: int) -> Density:
    if order:
        finer = min(int(np.ceil(_FINER * order)), _FINEST_RULE)
        return dataclasses.replace(density, nodes=finer**random)
    if density.nodes is not None:
        return dataclasses.replace(density, nodes=4 * density.nodes)
    if density.degree < 3 and density.frame != "lagrangian":
        extra = None if density.potential_degree is None else min(density.potential_degree + 1, 4)
        cells = int(np.ceil(_WIDER * density.cells))
        return dataclasses.replace(density, degree=density.degree + 1, potential_degree=extra, cells=cells)
    if density.mesh is not None and density.frame != "lagrangian":
        raise InputError("--estimate-error: needs density.degree at most 2 with a mesh file, which it cannot refine")
    return dataclasses.replace(density, cells=int(np.ceil(_FINER * _WIDER * density.cells)))


@dataclass(frozen=True)
class Beside:
    """A problem that is solved alongside, and which part of the distance of the risks is the error of the run's.

    Attributes:
        problem: a coarser or a finer one.
        resolved: that part where the densities are resolved: 1/(F − 1), where a coarser one's error is F times it.
        unresolved: where they are not, and errors fall with the second power of the cells.
    """

    problem: Problem
    resolved: float = 1.0
    unresolved: float = 1.0


def coarsened(problem: Problem) -> Beside | None:
    """The same problem at a fraction of the cost, whose error of the risk is larger by a factor F = 8, of nodes 9.

    Steps have eight times the tolerance, or twice the length. So has the first step of moving nodes, which no tolerance
    bounds: steps grow from it, and where they have not grown to what the tolerance allows those of both solves would be
    the same, and so their errors. On meshes cells are larger by a half: errors that fall with the fifth power of the
    cells are eight times those of the problem. Sixteen cells of moving nodes and more are halved; their errors fall
    faster than the third power, so that the estimate is rather too large where they count more than those of the steps.

    Returns:
        None where there is no coarser one: meshes from files, and too few cells.
    """
    if any(density.nodes is not None for density in problem.densities.values()):
        return _with_fewer_nodes(problem)
    found = {name: _coarser(density) for name, density in problem.densities.items()}
    densities = {name: density for name, density in found.items() if density is not None}
    if len(densities) < len(found):
        return None

    time = _scaled(problem.time, step=_LONGER, tolerance=_FACTOR)
    training = dataclasses.replace(problem.training, stationary=None)  # it ends where the problem ends
    coarse = dataclasses.replace(problem, training=training, densities=densities, time=time, first=_LONGER)
    moves = problem.time.step is None and all(density.frame == "lagrangian" for density in densities.values())
    resolved = 1.0 / ((_NODES_FACTOR if moves else _FACTOR) - 1.0)
    fewer = min(problem.densities[name].cells / density.cells for name, density in densities.items())
    return Beside(coarse, resolved, max(resolved, 1.0 / (fewer**2 - 1.0)))


def _with_fewer_nodes(problem: Problem) -> Beside | None:
    """Half of all random nodes, F = 2: what a potential makes of its own nodes is a bias that falls as 1/n.

    Midpoint rules of half the order: their distance is taken for the error, which is smaller.
    """
    densities = dict(problem.densities)
    for family in problem.model.families:
        density, order = densities[family.name], problem.order(family)
        if density.nodes is None:
            continue
        if (order or density.nodes) < (_LEAST_ORDER if order else 4 * REPLICAS):
            return None
        nodes = (order // 2) ** problem.random_coordinates(family) if order else density.nodes // 2
        densities[family.name] = dataclasses.replace(density, nodes=nodes)

    time = _scaled(problem.time, step=2.0, tolerance=4.0)
    training = dataclasses.replace(problem.training, stationary=None)
    return Beside(dataclasses.replace(problem, training=training, densities=densities, time=time))


def _coarser(density: Density) -> Density | None:
    moves = density.frame == "lagrangian"
    halved = moves and density.cells >= _SPARSER * _ENOUGH
    cells = round(density.cells / (_SPARSER if halved else _COARSER))
    per_cell = (density.potential_degree or 2) if moves else 2
    if density.mesh is not None or per_cell * cells < _FEWEST:
        return None
    return dataclasses.replace(density, cells=cells)
