"""Is the PDE the limit? The studies of docs/particles.md: `python docs/studies/validation.py FOLDER [NAME…]`.

Each is a solve, its finite Transformers, and a comparison, by the commands that a user has; FOLDER/NAME/compare holds
the report. Without names all of them are made, one after the other.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "exact" / "cases"
SHORT = ("training.horizon=1", "output.every=0.2")


@dataclass(frozen=True)
class Study:
    """One run directory.

    Attributes:
        run: the run file.
        settings: overrides of the solve.
        particles: arguments of each call of the command particles, overrides that differ among them.
        compare: further arguments of the comparison.
    """

    run: Path
    settings: tuple[str, ...]
    particles: tuple[tuple[str, ...], ...] = ()
    compare: tuple[str, ...] = ()


CUBIC = ("density.degree=3", "density.potential_degree=4", "density.cells=12")
HOT = ("training.horizon=1.5", "output.every=0.75", "density.cells=12", "time.tolerance=1e-4")
FEW = ("--units", "40,160", "--seeds", "8", "--tolerance", "1e-5")
MANY = ("--seeds", "16", "--tolerance", "1e-4")
STUDIES = {
    "in-context": Study(
        ROOT / "runs" / "in-context.toml",
        ("task.samples=32", *SHORT),
        ((*MANY, "--units", "10,40,160,640"), (*MANY, "--units", "2000", "--set", "output.every=1", "--tau", "1")),
    ),
    "grid": Study(
        ROOT / "runs" / "in-context.toml",
        ("task.samples=32", *SHORT[:1], "output.every=0.5", "time.tolerance=1e-7", *CUBIC),
        (("--initial", "grid", "--units", "24x16,32x20,48x24,64x32,96x48", "--tolerance", "1e-8"),),
    ),
    "width": Study(
        ROOT / "runs" / "in-context.toml",
        ("task.samples=16", "density.cells=12", *SHORT[:1], "output.every=0.5"),
        (("--units", "20,80", "--seeds", "16", "--layers", "2,4,8,16", "--tolerance", "1e-5"),),
    ),
    "noise": Study(
        ROOT / "runs" / "langevin.toml",
        HOT,
        tuple(("--units", "1000,10000", "--seeds", "12", "--learning-rate", h) for h in ("0.05", "0.025")),
    ),
    "digits": Study(CASES / "digits.toml", ("density.cells=10", *SHORT), (FEW,)),
    "teacher": Study(CASES / "teacher.toml", ("density.cells=12", *SHORT), (FEW,)),
    "neurons-2d": Study(CASES / "neurons-2d.toml", ("density.cells=12", *SHORT), (FEW,)),
    "depth": Study(
        CASES / "attention-decay.toml",
        ("density.cells=8", *SHORT, "output.every=0.5"),
        compare=("--depth", "4,8,16,32,64"),
    ),
}


def overrides(settings: tuple[str, ...]) -> list[str]:
    """As on the command line."""
    return [word for setting in settings for word in ("--set", setting)]


def command(name: str, *words: str | Path) -> None:
    """`python -m mfpde.NAME WORDS`; its failure is ours."""
    subprocess.run([sys.executable, "-m", f"mfpde.{name}", *map(str, words)], check=True)


def main() -> int:
    """Entry point."""
    folder = Path(sys.argv[1])
    for name in sys.argv[2:] or STUDIES:
        study, where = STUDIES[name], folder / name
        command("solve", study.run, *overrides(study.settings), "--directory", where, "--overwrite")
        for words in study.particles:
            command("particles", study.run, *overrides(study.settings), *words, "--directory", where)
        command("compare", where, "--run", study.run, *study.compare)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
