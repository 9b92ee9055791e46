"""The picture on the first page: finite Transformers of more and more heads, and the density that they tend to.

    uv run python docs/studies/limit_figure.py FOLDER

solves the in-context task and trains finite Transformers of 16, 64 and 1,024 heads a layer in FOLDER, and draws
docs/figures/limit.png: the heads of one of each over the limit's density in one layer, and the risk of all seeds over
the limit's. Takes about a minute.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import PowerNorm

from mfpde import open_run
from mfpde.figures.raster import rasterise
from mfpde.figures.style import density_map
from mfpde.finite.record_files import load_all

ROOT = Path(__file__).resolve().parents[2]
SIZES, SEEDS, LAYER = (16, 64, 1024), 6, 1
SETTINGS = ("task.samples=64", "training.horizon=4.0", "output.every=0.25")
BOX = np.array([[-1.6, 1.9], [-2.0, 2.2]])


def run_all(folder: Path) -> None:
    """Solve and train; what is there already is kept."""
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    common = [str(ROOT / "runs" / "in-context.toml"), *words, "--directory", str(folder)]
    if not (folder / "summary.json").is_file():
        subprocess.run([sys.executable, "-m", "mfpde.solve", *common], check=True)
    units = ["--units", ",".join(map(str, SIZES)), "--seeds", str(SEEDS), "--tolerance", "1e-4"]
    subprocess.run([sys.executable, "-m", "mfpde.particles", *common, *units], check=True)


def draw(folder: Path) -> Path:
    """The figure."""
    run, records = open_run(folder), load_all(folder / "particles")
    tau = float(run.taus[-1])
    raster = rasterise(run.snapshot(tau=tau, family="attention"), LAYER, BOX, 260)
    image, colours = np.maximum(raster.density, 0.0).T, dict(zip(SIZES, ("#56b4e9", "#0072b2", "#003b5c"), strict=True))

    faint = PowerNorm(0.4)  # where a head in a hundred lies has a colour, too
    figure, axes = plt.subplots(1, 4, figsize=(12.0, 3.3), width_ratios=(1, 1, 1, 1.25), layout="constrained")
    for panel, size in zip(axes[:3], SIZES, strict=True):
        record = next(r for r in records if r.job.size == (size,) and r.job.seed == 0)
        theta = record.theta["attention"][-1, LAYER]
        panel.imshow(image, origin="lower", extent=BOX.ravel(), cmap=density_map(), aspect="auto", norm=faint)
        panel.plot(theta[:, 0], theta[:, 1], ".", color="#0072b2", markersize=10.0 / size**0.16, markeredgewidth=0)
        panel.set(title=f"{size:,} heads", xlabel="q", xlim=BOX[0], ylim=BOX[1])
    axes[0].set_ylabel("v")

    panel = axes[3]
    for size in SIZES:
        for record in (r for r in records if r.job.size == (size,)):
            label = f"{size:,} heads" if record.job.seed == 0 else None
            panel.plot(record.tau, record.columns["risk"], color=colours[size], linewidth=0.8, alpha=0.8, label=label)
    panel.plot(run.taus, run.history["risk"], "k--", linewidth=1.8, label="limit")
    panel.set(title="risk", xlabel="training time τ", ylim=(0.1, None))
    panel.legend(frameon=False)
    figure.savefig(ROOT / "docs" / "figures" / "limit.png", dpi=130)
    return ROOT / "docs" / "figures" / "limit.png"


def main() -> None:
    """Run and draw."""
    folder = Path(sys.argv[1])
    run_all(folder)
    draw(folder)


if __name__ == "__main__":
    main()
