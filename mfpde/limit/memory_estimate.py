"""The memory that a run will need at its peak, from the sizes in its run file, before anything large is made.

Everything large is one of: a copy of the density's coefficients or of the potential's nodal values, geometry by cells,
moments with what a tile of samples keeps for the reverse pass, and on rank 0 the densities of
all ranks on their way to a file. The numbers of copies below are counted in `stepper`, `gradient_flow`,
`reporter`, `sampled_fields`, `cloud_nodes` and `vtu`; what libraries take is measured (docs/validation.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, factorial

import numpy as np
from mpi4py import MPI

from mfpde.config.settings import Density
from mfpde.errors import InputError
from mfpde.limit.backprop import threads_of, tile_size
from mfpde.limit.lagrangian.grid import sizes as node_sizes
from mfpde.limit.specification import Problem, potential_degree
from mfpde.output.fields.snapshot import in_pieces
from mfpde.parallel import memory
from mfpde.parallel.agreement import agree
from mfpde.problem.family import Family
from mfpde.problem.transformer import DEPTH_STAGES

LIBRARIES = 0.5 * 2**30  # of a rank that has solved something tiny; a first, compiling run takes up to 0.2 GiB more
_NUMBER = 8.0  # bytes
_MESHED = 300.0  # bytes of a cell and dimension in DOLFINx's mesh and its connectivities
_LINE = 30.0  # bytes of a cell in a .msh file, at least
_WRITTEN = 12.0  # numbers of a point on its way to a .vtu, in VTK's order and with three coordinates each
_STEP, _HOT = 12.0, 12.0  # copies of the density in a step, three of them PETSc's, and more with diffusion
_REPORT = 4.0  # in a report: the PETSc Vec, the state, the one before, its rate


@dataclass(frozen=True)
class Need:
    """Bytes at the peak.

    Attributes:
        rank: of every rank.
        first: of rank 0 beyond that, for output.
    """

    rank: float
    first: float

    def of(self, ranks: int, first: bool) -> float:
        """Of so many ranks on one machine, with rank 0 among them or not."""
        return ranks * self.rank + (self.first if first else 0.0)


def estimate(problems: Sequence[Problem], ranks: int) -> Need:
    """The need of a run, whose first problem is reported on, on so many ranks.

    Raises:
        InputError: for a density that no mesh can have.
    """
    found = [_of_problem(problem, ranks) for problem in problems]
    return Need(LIBRARIES + sum(need.rank for need in found), found[0].first)


def check(comm: MPI.Intracomm, problems: Sequence[Problem]) -> None:
    """Refuse a run that does not fit on a machine that takes part; collective.

    Raises:
        InputError: on every rank, saying what is needed, what there is and which key makes it smaller.
    """
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    ranks, first = node.size, node.allreduce(comm.rank == 0, op=MPI.LOR)
    there = node.allreduce(memory.resident())
    node.Free()

    def fits() -> None:
        needed = estimate(problems, comm.size).of(ranks, first)
        free = memory.available() + there

        if needed > free:
            densities = problems[0].densities
            largest = max(problems[0].model.families, key=lambda family: cells(family, densities[family.name]))
            given = densities[largest.name]
            what = f"density.cells = {given.cells}" if given.mesh is None else f"density.mesh = {str(given.mesh)!r}"
            among = f" by {ranks} ranks on this machine" if ranks > 1 else ""
            shared = ", and so does a run on more machines" if ranks > 1 else ""
            raise InputError(
                f"{what}: about {memory.in_gibibytes(needed)} of memory are needed{among} "
                f"and {memory.in_gibibytes(free)} are there; "
                f"fewer cells or a smaller density.degree need less{shared}"
            )

    agree(fits)


def cells(family: Family, density: Density) -> float:
    """Cells of the family's mesh; of a file at most."""
    if density.mesh is not None:
        try:
            return max(1.0, density.mesh.stat().st_size / _LINE)
        except OSError:  # the reader of the mesh has a message for it
            return 1.0
    return float(density.cells**family.dim) * (factorial(family.dim) if density.cell_type == "simplex" else 1)


def _of_problem(problem: Problem, ranks: int) -> Need:
    families, hot = problem.model.families, problem.training.temperature > 0.0
    meshes = [[families[place] for place in places] for places in problem.shared_meshes()]
    moving = [family for family in families if problem.densities[family.name].frame == "lagrangian"]
    sizes = [
        *(_of_elements(members, problem, ranks) for members in meshes),
        *(_of_nodes(family, problem, ranks) for family in moving),
    ]

    step = sum((_STEP + _HOT * hot) * s.coefficients + s.solved * hot for s in sizes)
    step += sum(s.nodal for s in sizes)
    report = sum(_REPORT * s.coefficients + s.nodal for s in sizes) + _of_costates(problem, ranks)
    sampling = max((3.0 * s.dim + 1.0) * s.nodal + 2.0 * s.coefficients for s in sizes)
    kept = sum(s.geometry for s in sizes) + _of_passes(problem, ranks)
    usual = max(step, report + sampling)
    every = max(usual, report + _of_output([s for s in sizes if s.in_pieces]))
    return Need(kept + every, max(0.0, report + _of_output(sizes) - every))


def _of_output(sizes: Sequence[_Sizes]) -> float:
    """Of a rank that holds the densities of all families for a report, and writes one of them."""
    held = sum((2.0 * s.dim + 2.0) * s.points for s in sizes)
    return held + max((_WRITTEN * s.points for s in sizes), default=0.0)


@dataclass(frozen=True)
class _Sizes:
    """Bytes on a rank of the arrays of one discretisation.

    Attributes:
        dim: d.
        coefficients: a copy of the density.
        nodal: of the potential.
        points: of the density on its way to a file.
        geometry: what does not change.
        in_pieces: does every rank write its own part of the points?
        solved: the inverses that precondition diffusion.
    """

    dim: int
    coefficients: float
    nodal: float
    points: float
    geometry: float
    in_pieces: bool = False
    solved: float = 0.0


def _of_nodes(family: Family, problem: Problem, ranks: int) -> _Sizes:
    """Of Lagrangian nodes, which the ranks share; a file has the corners of the cells between them."""
    density, layers = problem.densities[family.name], problem.model.layers
    if density.nodes is not None:
        return _of_cloud(family, density.nodes, layers, ranks)
    nodes = _NUMBER * float(np.prod(node_sizes(family, density)[0], dtype=np.float64))
    numbers = nodes / ranks * problem.replicas * layers * (family.dim + 2.0)  # θ, log ρ, m; V, ∇V, ΔV
    points = nodes * layers * 2.0**family.dim
    pieces = in_pieces(ranks, points / _NUMBER)

    return _Sizes(
        dim=family.dim,
        coefficients=numbers,
        nodal=numbers,
        points=points / ranks if pieces else points,
        geometry=nodes / ranks * (family.dim + 1.0),
        in_pieces=pieces,
    )


def _of_cloud(family: Family, nodes: int, layers: int, ranks: int) -> _Sizes:
    """Of random nodes, of all replicas together."""
    numbers = _NUMBER * nodes / ranks * layers * (family.dim + 2.0)
    return _Sizes(dim=family.dim, coefficients=numbers, nodal=numbers, points=_NUMBER * nodes * layers, geometry=0.0)


def _of_elements(members: Sequence[Family], problem: Problem, ranks: int) -> _Sizes:
    """Of the families on one mesh, whose cells the ranks share."""
    density, dim = problem.densities[members[0].name], members[0].dim
    simplex, p, k = density.cell_type == "simplex" and dim > 1, density.degree, potential_degree(density)
    layers, whole = problem.model.layers, cells(members[0], density)
    own = whole / ranks
    if ranks > 1:
        own += 2.0 * dim * own ** ((dim - 1) / dim)  # ghosts

    basis, nodes, at = (_points(n, dim, simplex) for n in (p, k, max(p, 1)))
    coefficients = _NUMBER * own * basis * layers * len(members)
    pieces = in_pieces(ranks, whole * at * layers)

    facets, corners = (dim + 1, dim + 1) if simplex else (2 * dim, 2**dim)
    across = (p + k // 2 + 1) ** (dim - 1)
    numbers = corners * dim + nodes * dim + dim * dim + 2 + 0.5 * facets * (3 + across) + 0.5 * nodes
    if density.mesh is not None and not simplex:
        numbers += (dim * dim + 1) * ((p + k // 2 + 1) ** dim + facets * across) + basis * (basis + nodes)

    return _Sizes(
        dim=dim,
        coefficients=coefficients,
        nodal=_NUMBER * own * nodes * layers * len(members),
        points=_NUMBER * (whole / ranks if pieces else whole) * at * layers,  # of one family
        geometry=own * (_MESHED * dim + _NUMBER * numbers),
        in_pieces=pieces,
        solved=3.0 * basis * coefficients,  # cells' blocks and their inverses
    )


def _points(degree: int, dim: int, simplex: bool) -> float:
    """Functions of a polynomial degree on one cell."""
    return float(comb(degree + dim, dim) if simplex else (degree + 1) ** dim)


def _of_passes(problem: Problem, ranks: int) -> float:
    model, task = problem.model, problem.task
    samples = _NUMBER * (task.tokens.size + task.targets.size)
    moments = sum(_of_moments(problem, family) for family in model.families)
    return samples + threads_of(task.samples, ranks) * moments


def _points_of_table(family: Family, density: Density) -> float:
    """Distinct nonlinear coordinates of a mesh, or the most points that a table of moving nodes has."""
    if density.frame == "lagrangian":
        return float(np.prod(node_sizes(family, density)[2], dtype=np.float64))
    along = cells(family, density) ** (1.0 / family.dim) * potential_degree(density) + 1.0
    return float(along ** len(family.nonlinear_axes))


def _of_costates(problem: Problem, ranks: int) -> float:
    """Of the certificate, for a rank's samples: the tokens that the families of every layer see, and co-states."""
    model, tokens = problem.model, problem.task.tokens
    places = len(model.stages) if model.depth == "residual" else DEPTH_STAGES
    return 2.0 * _NUMBER * model.layers * places * tokens.size / ranks


def _of_moments(problem: Problem, family: Family) -> float:
    """Tables of the distinct nodes, and what their updates of a tile of samples keep in every layer."""
    model, task, density = problem.model, problem.task, problem.densities[family.name]
    count = (density.nodes or problem.replicas * _points_of_table(family, density)) * model.layers
    _, tokens, width = task.tokens.shape
    kept = tokens * (3.0 * width + 2.0 * tokens) if family.integral is None else 3.0 * (tokens + width)
    passes = 1 if model.depth == "residual" else DEPTH_STAGES
    return _NUMBER * count * (family.dim + 16.0 + passes * tile_size(task.samples) * kept)
