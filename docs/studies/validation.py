"""Is the PDE the limit? The studies of docs/particles.md: `python docs/studies/validation.py FOLDER [NAME…]`.

Each is a solve, its finite Transformers, and a comparison, by the commands that a user has; FOLDER/NAME/compare holds
the report. Without names all of them are made, one after the other. What they found is kept in
docs/studies/validation.json, and all that is kept is printed as the tables of the page.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
FEW, MORE = (("--units", "40,160", "--seeds", n, "--tolerance", "1e-5") for n in ("8", "32"))
WIDE = ("--units", "10,40,160,640,2000", "--seeds", "24", "--tolerance", "1e-5")
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
    "digits": Study(CASES / "digits.toml", ("density.cells=10", *SHORT), (WIDE,)),
    "digits-grid": Study(
        CASES / "digits.toml",
        (*SHORT[:1], "output.every=0.5", "time.tolerance=1e-7", *CUBIC),
        (("--initial", "grid", "--units", "12x12,16x16,24x24,32x32", "--tolerance", "1e-8"),),
    ),
    "digits-depth": Study(
        CASES / "digits.toml",
        ("density.cells=8", *SHORT[:1], "output.every=0.5"),
        compare=("--depth", "4,8,16,32,64"),
    ),
    "teacher": Study(CASES / "teacher.toml", ("density.cells=12", *SHORT), (MORE,)),
    "neurons-2d": Study(CASES / "neurons-2d.toml", ("density.cells=12", *SHORT), (FEW,)),
    "depth": Study(
        CASES / "attention-decay.toml",
        ("density.cells=8", *SHORT, "output.every=0.5"),
        compare=("--depth", "4,8,16,32,64"),
    ),
}
KEPT = Path(__file__).with_suffix(".json")


def overrides(settings: tuple[str, ...]) -> list[str]:
    """As on the command line."""
    return [word for setting in settings for word in ("--set", setting)]


def command(name: str, *words: str | Path) -> None:
    """`python -m mfpde.NAME WORDS`; its failure is ours."""
    subprocess.run([sys.executable, "-m", f"mfpde.{name}", *map(str, words)], check=True)


def summary(directory: Path) -> dict[str, Any]:
    """What a comparison found, but for the rows of single distances."""
    found = json.loads((directory / "compare" / "summary.json").read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key not in {"distances", "problem_hash"}}


def read() -> dict[str, Any]:
    """All that is kept, in the order of the studies."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    return {name: kept[name] for name in STUDIES if name in kept}


def tables(kept: dict[str, Any]) -> str:
    """Markdown: verdicts, checks, slopes, depth, M or L·M."""
    parts = [
        table("verdicts", ["study", "loss", "finite Transformers", "checks", "failed", "the PDE", "why"], [
            [n, k["loss"], k["finite_transformers"], len(k["checks"]), len(k["failed"]), k["verdict"], k["why"]]
            for n, k in kept.items()
        ]),
        table("checks", ["study", "check", "L", "τ", "finite", "limit", "allowed", "passed", "seen", "figures"], [
            [n, c["name"], c["layers"], c["tau"], c["value"], c["expected"], c["allowed"], c["passed"],
             list(c["seen_in"].values()), c["note"]]
            for n, k in kept.items() for c in k["checks"]
        ]),
        table("slopes", ["study", "of", "L", "τ", "seeds", "M", "root mean squares", "exponent", "95 % interval"], [
            [n, r["of"], r["layers"], r["tau"], r["seeds"], r["sizes"], r["errors"], r["slope"]["value"],
             [r["slope"]["low"], r["slope"]["high"]]]
            for n, k in kept.items() for r in k["slopes"]
        ]),
        table("depth", ["study", "τ", "L", "errors", "exponent"], [
            [n, r["tau"], r["layers"], r["errors"], r["slope"]] for n, k in kept.items() for r in k["depth"]
        ]),
        table("M or L·M", ["study", "τ", "a", "interval", "b", "interval", "governs", "errors (M, L, RMS)"], [
            [n, r["tau"], *(v for g in ("units", "layers") for v in (r[g]["value"], [r[g]["low"], r[g]["high"]])),
             r["by"], [x for row in r["errors"] for x in row]]
            for n, k in kept.items() for r in k["width_or_depth"]
        ]),
    ]  # fmt: skip
    return "\n".join(parts)


def table(title: str, head: list[str], rows: list[list[Any]]) -> str:
    """One table, numbers to six digits."""
    lines = [head, ["---"] * len(head), *([said(value) for value in row] for row in rows)]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def said(value: Any) -> str:
    """A number, a list of numbers, a word."""
    if isinstance(value, list):
        return ", ".join(said(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Entry point."""
    folder = Path(sys.argv[1])
    for name in sys.argv[2:] or STUDIES:
        study, where = STUDIES[name], folder / name
        command("solve", study.run, *overrides(study.settings), "--directory", where, "--overwrite")
        for words in study.particles:
            command("particles", study.run, *overrides(study.settings), *words, "--directory", where)
        command("compare", where, "--run", study.run, *study.compare)
        kept = read() | {name: summary(where)}
        KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(tables(read()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
