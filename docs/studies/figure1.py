"""Figure 1 of the paper with its limit: `uv run python docs/studies/figure1.py FOLDER` makes docs/figure-1.md again.

For two Transformers of M heads a layer, `runs/figure-1.toml` (class attention with value matrices) and
`runs/self-attention.toml` (all tokens attend), it solves the limit and trains finite Transformers in FOLDER: sixteen
seeds of M = 4 … 40, by the flow and by gradient descent. For the first, Transformers of 160 heads and their quarters
are trained as well, from which the risk is extrapolated in 1/M. For `runs/vision-transformer.toml`, all of whose
matrices move, it trains three seeds by gradient descent. What is there is kept: `--only NAME` does one of the three,
and `--draw` writes page and picture from docs/figure-1.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from figure1_page import write

KEPT = ROOT / "docs" / "figure-1.json"
HEADS = (4, 10, 20, 40)
QUANTITIES = ("risk", "accuracy", "test_risk", "test_accuracy")
type Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sweep:
    """One column of the figure.

    Attributes:
        title: of the column.
        rate: of gradient descent, in units of τ.
        seeds: of each M.
        solved: is the limit solved, and are Transformers trained by the flow?
        coupled: M whose quarters are trained for an extrapolation, and how many sets of them.
    """

    title: str
    rate: float
    seeds: int = 16
    solved: bool = True
    coupled: tuple[int, int] | None = None


SWEEPS: Mapping[str, Sweep] = {
    "figure-1": Sweep("class attention, value matrices", 0.05, coupled=(160, 8)),
    "self-attention": Sweep("self-attention, value matrices", 0.05),
    "vision-transformer": Sweep("Vision Transformer, all matrices", 0.05, seeds=3, solved=False),
}


def commands(name: str, folder: str = "FOLDER") -> list[list[str]]:
    """What is run for one column; what is there already is not run again."""
    run, units, sweep = f"runs/{name}.toml", ",".join(map(str, HEADS)), SWEEPS[name]
    trained = ["-m", "mfpde.particles", run, "--units", units, "--seeds", str(sweep.seeds)]
    descent = [*trained, "--learning-rate", str(sweep.rate), "--directory", f"{folder}/{name}-descent"]
    if not sweep.solved:
        return [descent]
    return [
        ["-m", "mfpde.solve", run, "--directory", f"{folder}/{name}"],
        [*trained, "--directory", f"{folder}/{name}"],
        descent,
    ]


def run_all(name: str, folder: Path) -> None:
    """Run the commands of one column."""
    for words in commands(name, str(folder)):
        if "mfpde.solve" not in words or not (folder / name / "summary.json").is_file():
            subprocess.run([sys.executable, *words], cwd=ROOT, check=True)


def gather(name: str, folder: Path) -> dict[str, Any]:
    """The curves of one column: of the limit, and per method and M those of all seeds."""
    found: dict[str, Any] = {}
    if SWEEPS[name].solved:
        found["limit"] = columns(rows_of(folder / name / "history.csv"))
    for method, directory in (("flow", name), ("descent", f"{name}-descent"))[not SWEEPS[name].solved :]:
        rows = rows_of(folder / directory / "particles" / "history.csv")
        found[method] = {str(m): by_seed([row for row in rows if row["units"] == str(m)]) for m in HEADS}
    return found


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def columns(rows: Sequence[Mapping[str, str]]) -> dict[str, list[float]]:
    """The curves of a limit, with the errors of its risk."""
    return {key: [float(row[key]) for row in rows] for key in ("tau", *QUANTITIES, "risk_error")}


def by_seed(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The curves of all seeds of one M."""
    seeds = sorted({int(row["seed"]) for row in rows})
    found: dict[str, Any] = {
        key: [[float(row[key]) for row in rows if int(row["seed"]) == seed] for seed in seeds] for key in QUANTITIES
    }
    return found | {"tau": [float(row["tau"]) for row in rows if int(row["seed"]) == seeds[0]]}


def coupled(name: str, most: int, sets: int) -> dict[str, Any]:
    """Final risks of `sets` Transformers of `most` heads by the flow, and of their four quarters, (sets, 1 + 4)."""
    from mfpde.parallel import mpi  # noqa: PLC0415  (drawing needs none of this)

    mpi.start()
    mpi.start_petsc()
    from training_by_steps import Block  # noqa: PLC0415

    from mfpde.config import run_file  # noqa: PLC0415
    from mfpde.finite.jobs import Method  # noqa: PLC0415
    from mfpde.finite.training import TrainerCache  # noqa: PLC0415

    file = run_file.load(ROOT / "runs" / f"{name}.toml")
    model, task = file.build(trial=False)
    cache, end = TrainerCache.of(model, task, file.training), file.training.horizon
    blocks = [(most, 0), *((most // 4, k * most // 4) for k in range(4))]

    def risks(count: int, first: int) -> list[float]:
        jobs = [Block("sampled", (count,), model.layers, seed, Method(), first, most) for seed in range(sets)]
        return [float(cache.train(job, [0.0, end], [end]).columns["risk"][-1]) for job in jobs]

    return {"units": most, "risk": np.array([risks(*block) for block in blocks]).T.tolist()}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Figure 1 of the paper with its limit.")
    parser.add_argument("folder", nargs="?", type=Path, help="of the runs; needed unless --draw is given")
    parser.add_argument("--only", choices=list(SWEEPS), help="one of the three")
    parser.add_argument("--draw", action="store_true", help="from docs/figure-1.json alone")
    given = parser.parse_args()
    if not given.draw and given.folder is None:
        parser.error("give a folder, or --draw")

    found = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    if not given.draw:
        for name in [given.only] if given.only else SWEEPS:
            run_all(name, given.folder.resolve())
            found[name] = gather(name, given.folder.resolve())
            pair = SWEEPS[name].coupled
            if pair is not None:
                found[name]["coupled"] = coupled(name, *pair)
            KEPT.write_text(json.dumps(rounded(found)) + "\n", encoding="utf-8")
    write(found, {name: sweep.title for name, sweep in SWEEPS.items()}, commands("figure-1"))
    return 0


def rounded(value: Any) -> Any:
    """Six digits are enough."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
