"""A made-up run directory with Gaussian densities, written as a solve writes one: `from drawn import make_run`."""

from __future__ import annotations

import numpy as np

from mfpde import Run, open_run
from mfpde.output.fields.snapshot import Snapshot
from mfpde.output.records.report import BlockIndicators, BlockMoments, Report
from mfpde.output.writer import RunWriter
from support.snapshots import box, place

COORDINATES = ("q", "v", "b")
RUN_TEXT = '# Does it draw?\nname = "made-up"\n\n[training]\nweight_decay = 0.1\nhorizon = 1.0\n'
CELL = {1: "interval", 2: "quadrilateral", 3: "hexahedron"}


def gaussian(points, mean, deviation):
    """The normal density (…, d) -> (…)."""
    scaled = ((points - mean) / deviation) ** 2
    return np.exp(-0.5 * scaled.sum(axis=-1)) / (np.sqrt(2 * np.pi) * deviation) ** points.shape[-1]


def make_report(tau, dims, layers, negative):
    """Families by name → d; the mean moves with τ, the deviation is 0.6, V = |θ − 1|²/2."""
    snapshots, moments = [], []
    for family, dim in dims.items():
        count = 6 if dim < 3 else 3
        points = place(
            CELL[dim], 2, box(CELL[dim], count), np.zeros((layers, dim)), np.stack([3.0 * np.eye(dim)] * layers)
        )
        means = 0.3 + 0.4 * tau + 0.1 * np.arange(layers)[:, None] * np.ones(dim)
        density = np.stack([gaussian(points[layer], means[layer], 0.6) for layer in range(layers)]) - negative
        potential = 0.5 * ((points - 1.0) ** 2).sum(axis=-1)
        snapshots.append(Snapshot(family, COORDINATES[:dim], CELL[dim], 2, points, density, potential, 1.0 - points))
        moments += [BlockMoments(family, k, 1.0, means[k], 0.36 * np.eye(dim)) for k in range(layers)]
    history = {"tau": tau, "risk": 1.0 / (1.0 + tau), "penalty": 0.1, "energy": 0.1 + 1.0 / (1.0 + tau), "gap": 0.3}
    return Report(
        tau=tau,
        history=history
        | {
            "dissipation": 0.2,
            "risk_error": float("nan"),
            "mass_error": 1e-15,
            "negative_mass": 1e-4,
            "steps": 3.0,
            "accuracy": 0.5,
        },
        moments=tuple(moments),
        indicators=tuple(BlockIndicators(b.family, b.layer, 1e-9, 0.1, -1e-3, 1e-4, 1e-15) for b in moments),
        steps=(),
        gaps=tuple((b.family, b.layer, 0.3) for b in moments),
        gap_margin=0.0,
        timings={"tau": tau, "wall": 10.0 * tau, "sweep": 4.0 * tau, "transport": 3.0 * tau, "output": 1.0},
        snapshots=tuple(snapshots),
    )


def make_run(directory, dims=None, *, taus=(0.0, 0.5, 1.0), layers=2, negative=0.0, ended=True) -> Run:
    """Write a run of these families and open it; one that goes on has no summary."""
    directory.mkdir(parents=True, exist_ok=True)
    writer = RunWriter(directory, run_text=RUN_TEXT, manifest={"ranks": 2, "versions": {"python": "3"}}, unknowns=1234)
    for tau in taus:
        writer.report(make_report(tau, dims or {"attention": 2}, layers, negative))
    writer.wait()
    if ended:
        writer.close()
    return open_run(directory)
