"""Figure 1 of the paper with its limit: `uv run python docs/studies/figure1.py` makes docs/figure-1.md again.

It solves runs/figure-1.toml, trains finite Transformers of that run file and of runs/vision-transformer.toml, gathers
their curves in docs/figure-1.json, and writes the page and the picture from that. `--draw` does the last alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HEADS = (4, 10, 20, 40)
QUANTITIES = ("risk", "accuracy", "test_risk", "test_accuracy")
LOW, VISION = "figure-1", "vision-transformer"
TRAINING = {  # what follows `python -m mfpde.particles runs/NAME.toml`
    LOW: ["--seeds", "8", "--learning-rate", "0.01"],
    VISION: ["--seeds", "3", "--learning-rate", "0.05"],
}
FURTHER: dict[str, list[str]] = {  # a run directory beside the first, and what follows the name of its run file there
    "16": ["--set", "density.cells=16"],
    "loose": ["--set", "time.tolerance=1e-2"],
    "160": ["--units", "160", "--seeds", "3", "--learning-rate", "0.01"],
    "0.02": ["--units", "40", "--seeds", "8", "--learning-rate", "0.02"],
    "0.005": ["--units", "40", "--seeds", "4", "--learning-rate", "0.005"],
}
IMAGES = 200  # training images
type Curves = Mapping[str, Any]
"""`tau` (t,), and per quantity of QUANTITIES (t,) for the limit or (seeds, t) for a number M of units."""
FAMILIES = 40  # of heads in a layer of runs/figure-1.toml, each with M units


def commands() -> list[list[str]]:
    """All that has to be run before there is something to draw."""
    units = ",".join(map(str, HEADS))
    trained = [
        ["-m", "mfpde.particles", f"runs/{name}.toml", "--units", units, *words] for name, words in TRAINING.items()
    ]
    return [["-m", "mfpde.solve", f"runs/{LOW}.toml", "--overwrite"], *trained]


def further_commands() -> list[list[str]]:
    """What shows that the limit does not depend on its cells and tolerance, nor the others on their learning rate."""
    return [
        ["-m", f"mfpde.{'particles' if '--units' in words else 'solve'}", f"runs/{LOW}.toml", *words]
        + ["--directory", f"runs/{LOW}-{name}"]
        + ([] if "--units" in words else ["--overwrite"])
        for name, words in FURTHER.items()
    ]


def gather(runs: Path) -> dict[str, Any]:
    """The curves of run directories, and what no layer can do."""
    found: dict[str, Any] = {}
    for name in (LOW, VISION):
        history = runs / name / "particles" / "history.csv"
        every = {str(m): _of_heads(history, m) for m in HEADS}
        found[name] = {m: curves for m, curves in every.items() if curves["tau"]} | {"readouts": readouts(name)}
    found["further"] = further(runs)
    rows = _rows(runs / LOW / "history.csv")
    most = max(curves["tau"][-1] for m, curves in found[LOW].items() if m != "readouts")
    rows = [row for row in rows if float(row["tau"]) <= most * (1 + 1e-9)]  # the same horizon for all
    found[LOW]["limit"] = _of_rows(rows)
    with (runs / LOW / "timings.csv").open(encoding="utf-8") as file:
        spent = list(csv.DictReader(file))[len(rows) - 1]
    ranks = json.loads((runs / LOW / "manifest.json").read_text(encoding="utf-8"))["ranks"]
    found["solve"] = {"steps": float(rows[-1]["steps"]), "ranks": ranks} | {
        key: float(spent[key]) for key in ("wall", "right_hand_sides")
    }
    return found


def further(runs: Path) -> dict[str, Any]:
    """The curves of the runs of FURTHER that are there."""
    found: dict[str, Any] = {}
    for name, words in FURTHER.items():
        directory = runs / f"{LOW}-{name}"
        if "--units" not in words and (directory / "history.csv").exists():
            found[name] = _of_rows(_rows(directory / "history.csv"))
        elif (path := directory / "particles" / "history.csv").exists():
            found[name] = _of_heads(path, int(words[1]))
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _of_rows(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    return {key: [float(row[key]) for row in rows] for key in ("tau", *QUANTITIES)}


def _of_heads(path: Path, heads: int) -> dict[str, Any]:
    rows = [row for row in _rows(path) if row["units"] == str(heads)]
    seeds = sorted({row["seed"] for row in rows})
    curves = {
        key: [[float(row[key]) for row in rows if row["seed"] == seed] for seed in seeds]
        for key in ("tau", *QUANTITIES)
    }
    return {**curves, "tau": curves["tau"][0] if seeds else []}


def readouts(name: str) -> dict[str, list[float]]:
    """Training and test accuracy of the model's own readout without layers, and of the best linear one, fitted."""
    import jax.numpy as jnp  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    from mfpde.config import run_file  # noqa: PLC0415

    model, task = run_file.load(ROOT / "runs" / f"{name}.toml").build(trial=False)
    fitted = LogisticRegression(C=1e4, max_iter=2000)
    fitted.fit(task.tokens.reshape(task.samples, -1), task.targets.argmax(1))
    found: dict[str, list[float]] = {"zero layers": [], "best linear readout": []}
    for tokens, targets in ((task.tokens, task.targets), (task.test_tokens, task.test_targets)):
        own = [int(model.readout(jnp.asarray(sample)).argmax()) for sample in tokens]
        for kind, guessed in (
            ("zero layers", own),
            ("best linear readout", fitted.predict(tokens.reshape(len(tokens), -1))),
        ):
            found[kind].append(float(np.mean(np.asarray(guessed) == targets.argmax(1))))
    return found


def last(curves: Curves, quantity: str) -> tuple[float, float]:
    """Mean over seeds at the end, and its standard error."""
    ends = np.atleast_2d(curves[quantity])[:, -1]
    return float(ends.mean()), float(ends.std(ddof=1) / np.sqrt(len(ends))) if len(ends) > 1 else 0.0


def sizes(curves: Mapping[str, Curves]) -> list[int]:
    """The numbers M of units that were trained."""
    return [m for m in HEADS if str(m) in curves]


def ordered(curves: Mapping[str, Curves], quantity: str = "risk") -> str:
    """Does the mean final loss fall with every number of heads? "yes", "no", or "not significant" with the first such.

    A difference between neighbours counts where zero is outside its 95 % interval (seed by seed, Student's t).
    """
    finite = {name: curves[name] for name in map(str, sizes(curves))}
    seeds = min(len(np.atleast_2d(c[quantity])) for c in finite.values())
    rows = paired(finite, quantity)
    reach = float(stats.t.ppf(0.975, seeds - 1))
    if any(mean < -reach * error for _, mean, error in rows):
        return "no"
    unclear = [f"{name}: {mean:+.4f} ± {error:.4f}" for name, mean, error in rows if mean <= reach * error]
    return f"not significant ({', '.join(unclear)})" if unclear else "yes"


def beyond(curves: Mapping[str, Curves], test: str = "", single: bool = False) -> bool:
    """Is the limit's loss below, and its accuracy above, that of the largest M, or within two standard errors?

    Args:
        curves: with a limit.
        test: "test_" for the test images.
        single: within two standard deviations of a single finite Transformer, instead of those of the mean.
    """
    largest, limit = curves[str(sizes(curves)[-1])], curves["limit"]
    (risk, risk_error), (accuracy, accuracy_error) = (last(largest, test + key) for key in ("risk", "accuracy"))
    if single:
        root = np.sqrt(len(np.atleast_2d(largest["risk"])))
        risk_error, accuracy_error = root * risk_error, root * accuracy_error
    return bool(
        last(limit, f"{test}risk")[0] <= risk + 2.0 * risk_error
        and last(limit, f"{test}accuracy")[0] >= accuracy - 2.0 * accuracy_error
    )


def figure(found: Mapping[str, Any]) -> None:
    """Loss and accuracy against τ: the low-dimensional Transformer with its limit, and the Vision Transformer."""
    canvas, axes = plt.subplots(2, 2, figsize=(9.2, 6.4), sharex="col", layout="constrained")
    colours = plt.get_cmap("viridis")(np.linspace(0.85, 0.15, len(HEADS)))
    titles = {LOW: f"{FAMILIES} families of M heads of 2 parameters", VISION: "Vision Transformer of M heads"}
    for column, (name, title) in enumerate(titles.items()):
        for row, (key, label) in enumerate((("risk", "training loss"), ("accuracy", "training accuracy"))):
            panel = axes[row, column]
            for m in sizes(found[name]):
                curves, colour = found[name][str(m)], colours[HEADS.index(m)]
                values = np.asarray(curves[key])
                panel.plot(curves["tau"], values.mean(0), color=colour, label=f"M = {m}")
                panel.fill_between(curves["tau"], values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
            if "limit" in found[name]:
                limit = found[name]["limit"]
                panel.plot(limit["tau"], limit[key], color="black", linewidth=1.8, label="M = ∞ (PDE)")
            panel.set(ylabel=label)
            panel.grid(alpha=0.3)
            if key == "risk":
                panel.set(yscale="log", title=title)
                for scale in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
                    scale(FuncFormatter(lambda value, _: f"{value:g}"))
                panel.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes[1, column].set(xlabel="training time τ")
        axes[0, column].legend(frameon=False, fontsize=9)
    for ending in ("png", "pdf"):
        canvas.savefig(
            DOCS / "figures" / f"figure-1.{ending}", dpi=160, metadata={} if ending == "png" else {"CreationDate": None}
        )
    plt.close(canvas)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def percent(value: float) -> str:
    """97.4 %."""
    return f"{100.0 * value:.1f} %"


def ends(curves: Mapping[str, Curves], families: int = 1) -> str:
    """A row per M, and one for the limit; with the number of heads a layer where that is another."""
    rows = []
    for label in [*map(str, sizes(curves)), *(["limit"] if "limit" in curves else [])]:
        whole = label == "limit"
        risk, error = last(curves[label], "risk")
        seeds = len(np.atleast_2d(curves[label]["risk"]))
        rows.append(["∞ (PDE)", "", f"{risk:.4f}"] if whole else [label, str(seeds), f"{risk:.4f} ± {error:.4f}"])
        if families > 1:
            rows[-1].insert(1, "∞" if whole else f"{families * int(label):,}")
        rows[-1] += [percent(last(curves[label], "accuracy")[0]), f"{last(curves[label], 'test_risk')[0]:.3f}"]
        rows[-1].append(percent(last(curves[label], "test_accuracy")[0]))
    head = ["M", *(["heads a layer"] if families > 1 else [])]
    return table([*head, "seeds", "training loss", "training accuracy", "test loss", "test accuracy"], rows)


def unfinished(found: Mapping[str, Any]) -> str:
    """A line where the sweep that is drawn has fewer seeds than the commands ask for."""
    wanted = {name: int(words[words.index("--seeds") + 1]) for name, words in TRAINING.items()}
    short = [
        f"M = {m} of `{name}`"
        for name, seeds in wanted.items()
        for m in HEADS
        if str(m) not in found[name] or len(found[name][str(m)]["risk"]) < seeds
    ]
    return f"Not all seeds are in it yet: {', '.join(short)}. The commands go on where they were.\n" if short else ""


def own(readouts: Mapping[str, Sequence[float]], limit: Curves | None = None) -> str:
    """Training and test accuracy beside the layers' own."""
    rows = [[kind, *map(percent, values)] for kind, values in readouts.items()]
    if limit is not None:
        rows[1:1] = [
            [f"limit, τ = {limit['tau'][k]:g}", percent(limit["accuracy"][k]), percent(limit["test_accuracy"][k])]
            for k in (0, -1)
        ]
    return table(["", "training accuracy", "test accuracy"], rows)


def verdict(curves: Mapping[str, Curves]) -> str:
    """What is asked of the sweep, on training and on test images, yes or no."""
    said = []
    for kind, test in (("training", ""), ("test", "test_")):
        said.append(f"- Mean final {kind} loss falls with every M, at 95 %: **{ordered(curves, test + 'risk')}**.")
        if "limit" in curves:
            said.append(
                f"- The limit's {kind} loss below and its accuracy above those of M = {sizes(curves)[-1]}, or within "
                f"two standard errors of the mean: **{_answer(beyond(curves, test))}**; or within two standard "
                f"deviations of a single finite Transformer: **{_answer(beyond(curves, test, single=True))}**."
            )
    return "\n".join(said) + "\n"


def _answer(yes: bool) -> str:
    return "yes" if yes else "no"


def paired(curves: Mapping[str, Curves], quantity: str = "risk") -> list[tuple[str, float, float]]:
    """Mean differences of final losses, fewer less more units, and their standard errors, seed by seed.

    Fewer units of a seed are the first of more, so that much of what a seed does is common to both. The last row is the
    largest M less the limit, where there is one.
    """
    ends = {str(m): np.atleast_2d(curves[str(m)][quantity])[:, -1] for m in sizes(curves)}
    pairs = [(f"{a} − {b}", ends[a] - ends[b]) for a, b in pairwise(ends)]
    if "limit" in curves:
        largest = str(sizes(curves)[-1])
        pairs.append((f"{largest} − ∞", ends[largest] - curves["limit"][quantity][-1]))
    return [(name, float(d.mean()), float(d.std(ddof=1) / np.sqrt(len(d)))) for name, d in pairs]


def differences(curves: Mapping[str, Curves]) -> str:
    """A row per pair of neighbouring M, on training and on test images."""
    both = zip(paired(curves), paired(curves, "test_risk"), strict=True)
    rows = [
        [name, *(f"{mean:+.4f} ± {error:.4f}" for mean, error in ((r, e), (tested, tested_error)))]
        for (name, r, e), (_, tested, tested_error) in both
    ]
    return table(["M", "training loss, difference", "test loss, difference"], rows)


def along(curves: Mapping[str, Curves]) -> str:
    """The limit less the largest M at every report but the first: loss, and images that are told right."""
    name = sizes(curves)[-1]
    largest, limit = curves[str(name)], curves["limit"]
    loss, right = (
        scale * (np.asarray(limit[key]) - np.asarray(largest[key]))[:, 1:]
        for key, scale in (("risk", 1.0), ("accuracy", IMAGES))
    )
    error = right.std(axis=0, ddof=1) / np.sqrt(len(right))
    rows = [
        [f"{tau:g}", f"{a:+.4f}", f"{b:+.1f} ± {c:.1f}"]
        for tau, a, b, c in zip(limit["tau"][1:], loss.mean(0), right.mean(0), error, strict=True)
    ]
    above, below = (int((sign * right.mean(0) > 2.0 * error).sum()) for sign in (1.0, -1.0))
    return (
        table(["τ", f"loss, ∞ less M = {name}", "images told right"], rows)
        + f"\nThe limit's loss is below at {int((loss.mean(0) < 0.0).sum())} of {len(rows)} reports. It tells more "
        f"images right by over two standard errors at {above}, fewer at {below}.\n"
    )


def closer(found: Mapping[str, Any]) -> str:
    """The ends once more: other cells, another tolerance, more units, other learning rates."""
    low, more = found[LOW], found["further"]
    named = [
        ("∞, 24 cells", low["limit"]), ("∞, 16 cells", more.get("16")),
        ("∞, 24 cells, `time.tolerance` 1e-2", more.get("loose")), ("160, learning rate 0.01", more.get("160")),
        ("40, learning rate 0.02", more.get("0.02")), ("40, learning rate 0.01", low["40"]),
        ("40, learning rate 0.005", more.get("0.005")),
    ]  # fmt: skip
    rows = []
    for label, curves in named:
        if curves is None:
            continue
        cells = []
        for quantity, scale in zip(QUANTITIES, (1.0, 100.0, 1.0, 100.0), strict=True):
            mean, error = (scale * value for value in last(curves, quantity))
            digits, unit = (1, " %") if scale > 1.0 else (4, "")
            cells.append(f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if error else "") + unit)
        rows.append([label, str(len(np.atleast_2d(curves["risk"]))) if label[0] != "∞" else "", *cells])
    return table(["M", "seeds", "training loss", "training accuracy", "test loss", "test accuracy"], rows)


def steps_of_descent(found: Mapping[str, Any]) -> str:
    """What a finite learning rate adds to the loss, seed by seed, and what is left of M = 40 without it."""
    usual, more = found[LOW]["40"], found["further"]
    limit = found[LOW]["limit"]["risk"][-1]
    said = []
    for name, factor in (("0.02", 1.0), ("0.005", -2.0)):  # the error is of first order: that of 0.01 is the factor's
        if name in more:
            other = np.asarray(more[name]["risk"])[:, -1]
            here = np.asarray(usual["risk"])[: len(other), -1]
            bias = factor * (other - here)
            flow = here - bias
            error, spread = (each.std(ddof=1) / np.sqrt(len(each)) for each in (bias, flow))
            said.append(
                f"- From 0.01 and {name}, {len(other)} seeds: steps of 0.01 add {bias.mean():.4f} ± {error:.4f}; the "
                f"flow of M = 40 ends at {flow.mean():.4f} ± {spread:.4f}, {flow.mean() - limit:+.4f} from the limit."
            )
    return (
        "Gradient descent is not the flow; carried on to it from two learning rates, as if the error were of first "
        "order:\n\n"
        + "\n".join(said)
        + "\n\nThe two do not agree, so that 0.02 is too large to carry on from, and the "
        "line of the smaller one counts.\n"
    )


def page(found: Mapping[str, Any]) -> str:
    """docs/figure-1.md."""
    low, vision, solve = found[LOW], found[VISION], found["solve"]
    lines = [
        "# Figure 1, with its limit\n",
        "Made by `uv run python docs/studies/figure1.py` from `runs/figure-1.toml` and `runs/vision-transformer.toml`; "
        "`--draw` makes it again from [figure-1.json](figure-1.json). Its commands are\n",
        "```sh\n" + "\n".join("uv run python " + " ".join(words) for words in commands()) + "\n```\n",
        "and, for the last table of the next section, the same with other cells, tolerances and learning rates.\n",
        "Figure 1 of arXiv 2410.23610 shows training curves of Vision Transformers of 6 layers for several numbers "
        "of heads. Here is the same sweep for Transformers whose limit can be computed, with that limit, and for an "
        "ordinary Vision Transformer. Both read the 8×8 digits in four patches, with cross-entropy; readouts are drawn "
        "from a seed and never fitted. Lines are means over seeds, bands all of them.\n",
        f"In the first, M is the number of units in each of {FAMILIES} head families and of the families of neurons: "
        f"M = {HEADS[0]} … {HEADS[-1]} are {FAMILIES * HEADS[0]} … {FAMILIES * HEADS[-1]:,} heads a layer. In the "
        "second it is the number of heads a layer, as in the paper.\n",
        f"![Training loss and accuracy against τ for M = 4, 10, 20, 40 units in each of {FAMILIES} head families, and "
        "the limit; the same for a Vision Transformer of M heads](figures/figure-1.png)\n",
        "## Heads of two parameters, and the PDE\n",
        ends(low, FAMILIES),
        "± is the standard error over the seeds.\n",
        unfinished(found),
        verdict(low),
        "Differences between neighbouring M, seed by seed (fewer units of a seed are the first of more):\n",
        differences(low),
        f"At every report; one image of {IMAGES} is {percent(1.0 / IMAGES)} of accuracy:\n",
        along(low),
        "What is minimised is the loss; accuracy counts images on the right side of a border.\n",
        "Does it depend on how it was computed? The ends with other cells, tolerances, M and learning rates:\n",
        closer(found),
        steps_of_descent(found),
        f"The solve took {solve['wall'] / 60.0:.1f} minutes on {solve['ranks']} rank: {solve['steps']:.0f} steps, "
        f"{solve['right_hand_sides']:.0f} right-hand sides; the gap at the end of a run is not in it.\n",
        "The layers' share:\n",
        own(low["readouts"], low["limit"]),
        "## Vision Transformer\n",
        "Pre-norm, heads of 256 parameters (queries, keys, values, outputs), blocks of 4 hidden neurons; the patch "
        "embedding is drawn. `solve` refuses it in one line: its densities live in 256 dimensions.\n",
        ends(vision),
        verdict(vision),
        own(vision["readouts"]),
    ]
    return "\n".join(lines)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="from docs/figure-1.json, without training")
    parser.add_argument("--gather", action="store_true", help="from the directories of runs that are done")
    given = parser.parse_args()
    data = DOCS / "figure-1.json"
    if not given.draw:
        for words in [] if given.gather else [*commands(), *further_commands()]:
            subprocess.run([sys.executable, *words], cwd=ROOT, check=True)
        data.write_text(json.dumps(_rounded(gather(ROOT / "runs")), indent=None) + "\n", encoding="utf-8")
    found = json.loads(data.read_text(encoding="utf-8"))
    figure(found)
    (DOCS / "figure-1.md").write_text(page(found), encoding="utf-8")
    return 0


def _rounded(value: Any) -> Any:
    """Six digits are enough to draw."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
