"""The tables of docs/temperature.md: `uv run python docs/studies/temperature.py`; some minutes on one core."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from mfpde.parallel import mpi

mpi.start()
mpi.start_petsc()

from exact.test_temperature import gibbs, remainder, settled


def main() -> None:
    """Print the rows."""
    for degree, cells in ((1, (16, 32, 48, 64, 96)), (2, (12, 16, 24, 32))):
        for n in cells:
            wrong, reports = settled(degree, n)
            last = reports[-1].history
            risk, energy = last["risk"] - gibbs().risk, last["energy"] - gibbs().energy
            sys.stdout.write(f"| {degree} | {n} | {wrong:.1e} | {risk:.1e} | {energy:.1e} | {last['gap']:.1e} |\n")
    for frame in ("fixed", "comoving"):
        for degree in (1, 2):
            row = " | ".join(f"{remainder(degree, n, frame):.1e}" for n in (16, 24, 32))
            sys.stdout.write(f"| {frame} | {degree} | {row} |\n")


if __name__ == "__main__":
    main()
