"""The state of a run, and how families share spaces.

Families whose parameters have one dimension and whose densities are discretised alike share one mesh; each of their
layers is one *block* of that mesh's arrays, all layers of a family side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from dolfinx import mesh as dmesh
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.config.settings import Density
from mfpde.errors import InputError
from mfpde.inputs import real
from mfpde.limit.fem import mesh as meshes
from mfpde.limit.fem.frame import Frame, box_frame
from mfpde.limit.fem.law_coverage import WHOLE, judge
from mfpde.limit.fem.moments import Units, build_units
from mfpde.limit.fem.space import Space, Tables, build_space, tabulate
from mfpde.limit.lagrangian.nodes import Carried, Material, build_material
from mfpde.limit.positivity.limiter import Limiter, build_limiter
from mfpde.limit.transport.transport import Transport
from mfpde.output.checkpoint.checkpoint import CellRows, StateDict, fitting
from mfpde.parallel import reductions
from mfpde.parallel.exact_sum import collapse, share_of
from mfpde.problem.family import Family
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]
_LARGEST_DIMENSION = 3
_FINEST = 30  # exactness of the quadrature that settles how much of a law a mesh holds
_MOST_CELLS = 2**27  # of a box; more do not even have a number in PETSc's 32 bits once there are several unknowns each


@dataclass(frozen=True)
class Group:
    """The families on one space: `members[f]` is a family's place in `Transformer.families`, `units[f]` its units."""

    space: Space
    transport: Transport
    members: tuple[int, ...]
    units: tuple[Units, ...]
    comoving: bool = False
    positivity: Literal["off", "output", "scheme"] = "off"
    limiter: Limiter | None = None  # of "scheme"

    @property
    def linear(self) -> list[tuple[int, ...]]:
        """The linear coordinates of each block's family, (b,)."""
        return [u.linear for u in self.units for _ in range(u.blocks.stop - u.blocks.start)]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of this rank's coefficients: (owned cells, i, blocks)."""
        return (self.space.owned, self.space.size, self.transport.blocks)


@dataclass(frozen=True)
class State:
    """Time, and per group the reference density's coefficients (owned, i, b) and the frame of its blocks.

    `carried` has the nodes of every family whose density is carried by the flow, and is in no group.
    """

    tau: float
    density: tuple[Array, ...]
    frame: tuple[Frame, ...]
    carried: tuple[Carried, ...] = ()

    def state_dict(self, groups: Sequence[Group]) -> StateDict:
        """τ and all arrays, for a checkpoint."""
        density = [CellRows(g.space.cell_order, rows) for g, rows in zip(groups, self.density, strict=True)]
        replicated = {name: [vars(part) for part in getattr(self, name)] for name in ("frame", "carried")}
        return {"tau": self.tau, "density": density, **replicated}

    def loaded(self, groups: Sequence[Group], saved: StateDict) -> State:
        """The state of the same groups that `state_dict` gave, on any number of ranks; collective.

        Raises:
            InputError: on every rank, when arrays are missing, of other shapes, or of frames that have no inverse.
        """
        density = tuple(
            rows.read(group.space.comm, group.space.cell_order, like)
            for group, rows, like in zip(groups, saved["density"], self.density, strict=True)
        )
        frame = tuple(
            replace(like, **_fitting(f"frame/{g}", saved["frame"][g], like)) for g, like in enumerate(self.frame)
        )
        for g, each in enumerate(frame):
            if not (np.isfinite(each.determinant) & (each.determinant > 0.0)).all():
                raise InputError(f"its frame {g} has no inverse")

        carried = tuple(
            replace(like, **_fitting(f"carried/{g}", saved["carried"][g], like)) for g, like in enumerate(self.carried)
        )
        return State(real("tau", saved["tau"], least=0.0), density, frame, carried)


def _fitting(name: str, saved: StateDict, like: Frame | Carried) -> dict[str, Array]:
    """The arrays of a part of the state, each of the shape that it has there."""
    return {key: fitting(f"{name}/{key}", saved[key], array) for key, array in vars(like).items()}


def build_carried(model: Transformer, densities: Mapping[str, Density]) -> tuple[Material, ...]:
    """The families whose densities are carried by the flow.

    Raises:
        InputError: for settings that do not suit them.
    """
    places = []
    for place, family in enumerate(model.families):
        check_density(family, densities[family.name])
        if densities[family.name].frame == "lagrangian":
            places.append(place)
    return tuple(build_material(model, place, densities[model.families[place].name]) for place in places)


def build_groups(comm: MPI.Intracomm, model: Transformer, densities: Mapping[str, Density]) -> tuple[Group, ...]:
    """One group per distinct (dimension, mesh, degrees) of the families on meshes; collective.

    Raises:
        InputError: for a family of more than three parameters, or an unsuitable mesh.
    """
    kinds: dict[tuple[object, ...], list[int]] = {}
    for place, family in enumerate(model.families):
        check_density(family, densities[family.name])
        if densities[family.name].frame == "lagrangian":
            continue
        kinds.setdefault(discretisation(family, densities[family.name]), []).append(place)
    groups = []
    for places in kinds.values():
        first = model.families[places[0]]
        density = densities[first.name]
        space = build_space(_mesh(comm, first.dim, density), density.degree, potential_degree(density))
        units = tuple(
            build_units(space, tuple(model.families[place].linear), slice(f * model.layers, (f + 1) * model.layers))
            for f, place in enumerate(places)
        )
        groups.append(
            Group(
                space=space,
                transport=Transport(space, len(places) * model.layers),
                members=tuple(places),
                units=units,
                comoving=density.frame == "comoving",
                positivity=density.positivity,
                limiter=build_limiter(space) if density.positivity == "scheme" else None,
            )
        )
    return tuple(groups)


def check_density(family: Family, density: Density) -> None:
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


def discretisation(family: Family, density: Density) -> tuple[object, ...]:
    """What families have in common that share a space."""
    degrees = (density.degree, potential_degree(density))
    return (family.dim, density.mesh, density.cell_type, density.cells, *degrees, density.frame, density.positivity)


def potential_degree(density: Density) -> int:
    """k, max(p, 1) unless given."""
    return max(density.degree, 1) if density.potential_degree is None else density.potential_degree


def _mesh(comm: MPI.Intracomm, dim: int, density: Density) -> dmesh.Mesh:
    if density.mesh is not None:
        return meshes.read(comm, density.mesh, dim)
    return meshes.box(comm, dim, density.cells, simplex=density.cell_type == "simplex")


def initial_state(
    groups: tuple[Group, ...],
    model: Transformer,
    densities: Mapping[str, Density],
    margin: float = 1.0,
    carried: tuple[Material, ...] = (),
    warn: Callable[[str], None] | None = None,
) -> State:
    """Each block's initial law, projected to DG_p in its frame and given mass one; collective.

    Args:
        groups: of the families.
        model: whose families have the laws.
        densities: of each family, with the radius of its mesh.
        margin: by which the meshes are wider than that.
        carried: the families that are in no group.
        warn: is given a line for each family whose law is cut by its mesh.

    Raises:
        InputError: when a mesh holds much less than its law.
    """
    frames = tuple(_frame(group, model, densities, margin) for group in groups)
    start = []
    for group, frame in zip(groups, frames, strict=True):
        coefficients, mass = _project(group, frame, model)
        _judge(group, frame, model, densities, mass, warn or _ignore)
        start.append(coefficients / mass)
    for material in carried:
        _tell(material.family.name, densities, *material.held(margin), warn or _ignore)
    return limited(groups, State(0.0, tuple(start), frames, tuple(material.start(margin) for material in carried)))


def limited(groups: Sequence[Group], state: State) -> State:
    """The state with the densities of groups that ask for it nonnegative, see `positivity.limiter`; collective."""
    if all(group.limiter is None for group in groups):
        return state
    densities, frames = [], []
    for group, density, frame in zip(groups, state.density, state.frame, strict=True):
        if group.limiter is not None:
            density, frame = group.limiter(density, frame, group.linear if group.comoving else None)  # noqa: PLW2901
        densities.append(density)
        frames.append(frame)
    return replace(state, density=tuple(densities), frame=tuple(frames))


def _frame(group: Group, model: Transformer, densities: Mapping[str, Density], margin: float) -> Frame:
    means, radii = [], []
    for place in group.members:
        family = model.families[place]
        for layer in range(model.layers):
            law = family.law(layer)
            means.append(np.asarray(law.mean))
            radii.append(_radius(family, np.asarray(law.mean), np.asarray(law.std), densities[family.name]))
    return box_frame(np.stack(means), margin * np.stack(radii))


def _radius(family: Family, mean: Array, std: Array, density: Density) -> Array:
    """Half-widths of a block's box in θ units (`Density.radius` tells the defaults)."""
    wide = np.where(np.isin(np.arange(family.dim), family.linear), 10.0, 5.0)
    if density.frame == "comoving":
        return np.asarray((wide if density.radius is None else np.asarray(density.radius)) * std)
    if density.radius is None:
        return np.asarray(np.abs(mean) + wide * std)
    return np.broadcast_to(np.asarray(density.radius, dtype=np.float64), (family.dim,)).copy()


def _project(group: Group, frame: Frame, model: Transformer) -> tuple[Array, Array]:
    """L² projection of ρ₀(c + A ξ), by a quadrature finer than the scheme's, and its masses ∫ … dξ (b,)."""
    space = group.space
    tables = tabulate(space.cell, space.degree, 1, 2 * space.degree + 6)
    coefficients = np.empty(group.shape)
    for cells, part, scale, b, values in _laws(group, frame, model, tables):
        load = np.einsum("q,qi,cq,cq->ci", tables.weights, tables.density, scale, values)
        coefficients[cells, :, b] = part.invert_mass(load[:, :, None])[:, :, 0]
    per_cell = np.empty((space.owned, group.transport.blocks))
    for cells in space.batches(len(tables.weights) * group.transport.blocks):
        scale = space.part(cells).scale_at(tables.points)
        per_cell[cells] = np.einsum("q,qi,cq,cib->cb", tables.weights, tables.density, scale, coefficients[cells])
    return coefficients, _over_ranks(space, per_cell)


def _laws(
    group: Group, frame: Frame, model: Transformer, tables: Tables
) -> Iterator[tuple[slice, Space, Array, int, Array]]:
    """Batches of cells, their space, |det J| (c, q), a block's number, and its law at a quadrature's points (c, q)."""
    space = group.space
    for cells in space.batches(len(tables.weights) * group.transport.blocks * space.dim):
        part = space.part(cells)
        points = part.points(tables.vertex)
        theta = frame.theta(points)  # (c, q, d, b)
        scale = part.scale_at(tables.points)
        for f, place in enumerate(group.members):
            for layer in range(model.layers):
                b = f * model.layers + layer
                law = model.families[place].law(layer)
                values = law.density(theta[..., b].reshape(-1, space.dim)).reshape(points.shape[:2])
                yield cells, part, scale, b, values


def _over_ranks(space: Space, per_cell: Array) -> Array:
    """Sums (b,) over the cells (owned, b) of all ranks; collective."""
    return collapse(reductions.sum_over_ranks(space.comm, share_of(per_cell, axes=(0,)).levels))


def _judge(
    group: Group,
    frame: Frame,
    model: Transformer,
    densities: Mapping[str, Density],
    mass: Array,
    warn: Callable[[str], None],
) -> None:
    """Does the mesh hold the initial laws? Where the projection says no, a finer quadrature has the last word."""
    space, layers = group.space, model.layers
    if (np.abs(mass * frame.determinant - 1.0) < WHOLE).all():
        return
    tables = tabulate(space.cell, 0, 1, _FINEST)
    per_cell = np.empty((space.owned, group.transport.blocks))
    for cells, _, scale, b, values in _laws(group, frame, model, tables):
        per_cell[cells, b] = np.einsum("q,cq,cq->c", tables.weights, scale, values)
    held = _over_ranks(space, per_cell) * frame.determinant
    mine = np.ptp(space.vertices[: space.owned], axis=1).max(axis=0, initial=0.0)
    widest = np.empty_like(mine)
    space.comm.Allreduce(mine, widest, op=MPI.MAX)
    for f, place in enumerate(group.members):
        family, blocks = model.families[place], slice(f * layers, (f + 1) * layers)
        std = np.array([family.law(layer).std for layer in range(layers)])
        width = (np.diagonal(frame.matrix[blocks], axis1=1, axis2=2) * widest / std).max(axis=1)
        _tell(family.name, densities, held[blocks], width, warn)


def _tell(name: str, densities: Mapping[str, Density], held: Array, width: Array, warn: Callable[[str], None]) -> None:
    """Judge how much of a family's laws is held; see `held.judge`."""
    line = judge(name, densities[name], held, width)
    if line is not None:
        warn(line)


def _ignore(_line: str) -> None:
    """Where nobody listens."""
