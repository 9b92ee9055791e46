"""The transport kernel against the memory and against assembly: `uv run python tests/benchmarks/bench_transport.py`.

`--large` is what the targets are stated for: 24 blocks, two million unknowns, quadrilaterals, hexahedra. `--json FILE`
keeps the numbers, `--peer` adds DOLFINx assembling the same form from UFL, one block of it, compiled with native flags,
coefficients packed before: only the assembly is timed. Also a test, which asserts no speed:
`uv run pytest -m benchmark tests/benchmarks/bench_transport.py`. One rank. Prints a table in Markdown: ns per unknown
and right-hand side with frames at rest and in motion, and of the moments that co-moving frames follow; unknowns per
second × 40 bytes (density and potential read, the rate written and its cache lines fetched, the density's copy) as a
share of the bandwidth of a triad measured between the repeats; medians. Every repeat goes through all cases, so that a
disturbance does not hit one of them alone, and times are those of this thread on the processor, so that what else runs
takes cache and bandwidth from all of them and time from none.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mfpde.parallel import mpi

mpi.start()
mpi.start_petsc()

import dolfinx.fem as fem  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from mpi4py import MPI  # noqa: E402
from numba import njit  # noqa: E402

from mfpde.limit.fem import mesh as meshes  # noqa: E402
from mfpde.limit.fem.frame import Motion  # noqa: E402
from mfpde.limit.fem.space import Space, build_space  # noqa: E402
from mfpde.limit.transport.transport import Transport  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.forms import needs_no_headers  # noqa: E402
from support.upwind import upwind  # noqa: E402

SHAPES = {"quadrilateral": (2, False), "triangle": (2, True), "hexahedron": (3, False), "tetrahedron": (3, True)}
DEGREES, BLOCKS = (1, 2, 3), (1, 4, 24)
UNKNOWNS = 200_000  # of each case, about
LARGE = 2_000_000
NATIVE = {"cffi_extra_compile_args": ["-O3", "-march=native"]}
TRIAD = 4_000_000  # numbers in each of its three arrays
BYTES = 40


@dataclass(frozen=True)
class Case:
    """What is timed, ready to run."""

    name: str
    parts: dict[str, Callable[[], object]]
    unknowns: dict[str, int]  # of each part


@njit(cache=True)
def triad(a, b, c):
    for i in range(a.size):
        a[i] = b[i] + 3.0 * c[i]


def bandwidth(arrays: list[np.ndarray]) -> float:
    """GB/s of the triad, as STREAM counts: 24 bytes each."""
    start = time.thread_time()
    triad(*arrays)
    return 24e-9 * len(arrays[0]) / (time.thread_time() - start)


def prepare(shape: str, degree: int, blocks: int, unknowns: int, peer: bool = False) -> Case:
    """A box with about so many unknowns, densities and potentials without symmetry."""
    dim, simplex = SHAPES[shape]
    sizes = {1: (4, 3, 8, 4), 2: (9, 6, 27, 10), 3: (16, 10, 64, 20)}[degree]
    per_cube = sizes[list(SHAPES).index(shape)] * (1 if not simplex else 2 if dim == 2 else 6)
    cells = max(3, round((unknowns / (per_cube * blocks)) ** (1 / dim)))
    space = build_space(MPI.COMM_SELF, meshes.box(MPI.COMM_SELF, dim, cells, simplex), degree, degree)
    rng = np.random.default_rng(0)
    density = rng.normal(size=(space.owned, space.size, blocks))
    x = space.nodes[..., None]
    potential = np.sin(x[:, :, 0] + 0.1 * np.arange(blocks)) + x[:, :, 0] * x[:, :, 1]
    root = np.eye(dim) + 0.1 * rng.normal(size=(blocks, dim, dim))
    metric = root @ np.swapaxes(root, 1, 2)
    drift, stretch = rng.normal(size=(blocks, dim)), rng.normal(size=(blocks, dim, dim))
    still, moving = Motion(metric, 0 * drift, 0 * stretch), Motion(metric, drift, stretch)
    transport = Transport(space, blocks)
    parts: dict[str, Callable[[], object]] = {
        "at rest": lambda: transport.rate(density, potential, still),
        "moving": lambda: transport.rate(density, potential, moving),
        "moments": lambda: transport.gradient_moments(density, potential),
    }
    sizes = dict.fromkeys(parts, density.size)
    if peer:
        parts["assembled"] = assembly(space, density[:, :, 0], moving)
        sizes["assembled"] = density[:, :, 0].size
    return Case(f"{shape}, p = {degree}, {blocks} blocks", parts, sizes)


def assembly(space: Space, density: np.ndarray, moving: Motion) -> Callable[[], object]:
    """DOLFINx assembling one block into a vector."""
    needs_no_headers()
    peer = upwind(space, density, lambda x: np.sin(x[0]) + x[0] * x[1], moving, 0)
    form = fem.form(peer.form, jit_options=NATIVE)
    constants, coefficients = fem.pack_constants(form), fem.pack_coefficients(form)
    vector = np.zeros(peer.density.x.array.size)

    def assemble() -> object:
        vector[:] = 0.0
        return fem.assemble_vector(vector, form, constants, coefficients)

    return assemble


def measure(cases: list[Case], repeats: int) -> dict[str, object]:
    """Medians: ns per unknown of every part of every case, and the triad's GB/s."""
    times = {(case.name, part): [] for case in cases for part in case.parts}
    arrays = [np.ones(TRIAD) for _ in range(3)]
    speeds = []
    for repeat in range(repeats + 1):  # the first compiles
        for case in cases:
            speeds.append(bandwidth(arrays))
            for part, call in case.parts.items():
                call()  # caches as they are within a run
                start = time.thread_time()
                call()
                if repeat:
                    times[case.name, part].append((time.thread_time() - start) / case.unknowns[part] * 1e9)
    rows = {case.name: {part: statistics.median(times[case.name, part]) for part in case.parts} for case in cases}
    return {"triad": statistics.median(speeds[len(cases) :]), "ns": rows}


def table(found: dict[str, object]) -> str:
    """Markdown."""
    lines = [
        f"triad {found['triad']:.1f} GB/s; ns per unknown and right-hand side\n",
        "| case | at rest | moving | moments | of the triad | assembled | times faster |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in found["ns"].items():
        share = BYTES / row["moving"] / found["triad"]
        peer = f"{row['assembled']:.1f} | {row['assembled'] / row['moving']:.1f}" if "assembled" in row else " | "
        lines.append(
            f"| {name} | {row['at rest']:.1f} | {row['moving']:.1f} | {row['moments']:.1f} | {share:.0%} | {peer} |"
        )
    return "\n".join(lines)


def every_case(unknowns: int) -> list[Case]:
    return [prepare(s, p, b, unknowns) for s in SHAPES for p in DEGREES for b in BLOCKS]


def large_cases(unknowns: int, peer: bool) -> list[Case]:
    """What the targets are stated for."""
    wanted = [*(("quadrilateral", p) for p in DEGREES), ("hexahedron", 2)]
    return [prepare(shape, p, max(BLOCKS), unknowns, peer) for shape, p in wanted]


@pytest.mark.benchmark
def test_speed_is_recorded(tmp_path: Path) -> None:
    found = measure([*every_case(UNKNOWNS // 10), *large_cases(UNKNOWNS // 10, peer=True)[:1]], 3)
    (tmp_path / "transport.json").write_text(json.dumps(found, indent=1))
    sys.stdout.write(table(found) + f"\n{tmp_path / 'transport.json'}\n")
    assert all(ns > 0 for row in found["ns"].values() for ns in row.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="a file for the numbers; a temporary one unless given")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--unknowns", type=int, help=f"of each case; {UNKNOWNS} unless given, {LARGE} if large")
    parser.add_argument("--large", action="store_true", help="the cases of the targets alone")
    parser.add_argument("--peer", action="store_true", help="of the large cases, beside assembly by DOLFINx")
    given = parser.parse_args()
    cases = large_cases(given.unknowns or LARGE, given.peer) if given.large else every_case(given.unknowns or UNKNOWNS)
    found = measure(cases, given.repeats)
    file = given.json or Path(tempfile.mkdtemp()) / "transport.json"
    file.write_text(json.dumps(found, indent=1))
    sys.stdout.write(f"{table(found)}\n\n{file}\n")


if __name__ == "__main__":
    main()
