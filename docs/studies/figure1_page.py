"""The picture and the page of docs/studies/figure1.py, from the curves that it gathers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator
from numpy.typing import NDArray
from quarters import extrapolated
from scipy import stats

DOCS = Path(__file__).resolve().parents[1]
METHODS = {"flow": "the flow", "descent": "gradient descent"}
type Array = NDArray[np.float64]
type Curves = Mapping[str, Any]


def write(
    found: Mapping[str, Curves],
    titles: Mapping[str, str],
    commands: Sequence[Sequence[str]],
) -> None:
    """Write docs/figure-1.md and docs/figures/figure-1.png."""
    draw(found, {name: title for name, title in titles.items() if name in found})
    (DOCS / "figure-1.md").write_text(text(found, titles, commands), encoding="utf-8")


def text(
    found: Mapping[str, Curves],
    titles: Mapping[str, str],
    commands: Sequence[Sequence[str]],
) -> str:
    """The page."""
    parts = [section(name, title, found[name]) for name, title in titles.items() if name in found]
    return "\n".join([introduction(commands), *parts])


def introduction(commands: Sequence[Sequence[str]]) -> str:
    """What is compared with what."""
    shown = "\n".join("uv run python " + " ".join(words) for words in commands)
    return f"""# Figure 1, with its limit

Figure 1 of arXiv 2410.23610 shows training curves of Vision Transformers of 6 layers for several numbers of heads.
Here is the same sweep with the line that it tends to, for Transformers of M heads and M neurons a layer, **in all**:
there is one family of each. They read all ten of the 8×8 digits in four patches, with cross-entropy; patch embedding
and readout are drawn from a seed and never fitted. A head has two numbers u, which mix two fixed forms, and a 16 × 16
value matrix, which starts at zero.

![Training loss and accuracy against τ of Transformers with M = 4, 10, 20, 40 heads a layer, and their \
limit](figures/figure-1.png)

Lines are means over seeds, by the flow where there is a limit and by gradient descent for the Vision Transformer; bands
are all seeds. The limit's band is its estimated error. Made by `uv run python docs/studies/figure1.py FOLDER`, whose
commands for the first column are

```text
{shown}
```
"""


def section(name: str, title: str, curves: Curves) -> str:
    """One column: its table, differences seed by seed, and the limit."""
    by = METHODS[main_method(curves)]
    parts = [
        f"## {title[0].upper()}{title[1:]}\n",
        f"`runs/{name}.toml`. ± is the standard error over {seeds(curves)} seeds"
        f"{'; of the limit, its estimated error' if 'limit' in curves else ''}.\n",
        ends(curves),
        f"Differences between neighbouring M, seed by seed, of training losses by {by} (fewer heads of a seed are the "
        "first of more); significant where zero is outside of the 95 % interval of Student's t:\n",
        differences(curves),
        f"- Mean training loss falls with every M: **{ordered(curves)}**.",
    ]
    for method in (method for method in METHODS if method in curves):
        few, many = (_std(curves[method], m) for m in ("4", "40"))
        parts.append(
            f"- Standard deviation over seeds by {METHODS[method]}: {few:.4f} at M = 4, {many:.4f} at M = 40, exponent "
            f"{np.log(many / few) / np.log(10.0):+.2f} (−½ is expected)."
        )
    if "coupled" in curves:
        parts.append(both(curves))
    if "limit" not in curves:
        parts.append(
            "- No limit is shown: `solve` has it by random nodes, each a unit of its own, at the cost of a Transformer "
            "of a thousand heads; it was not run to its end."
        )
    return "\n".join(parts) + "\n"


def main_method(curves: Curves) -> str:
    """What the figure shows."""
    return "flow" if "flow" in curves else "descent"


def seeds(curves: Curves) -> int:
    """Of each M."""
    return len(curves["descent"]["4"]["risk"])


def ends(curves: Curves) -> str:
    """A row per M, and one for the limit."""
    rows, methods = [], [method for method in METHODS if method in curves]
    for m in curves["descent"]:
        shown = curves[methods[0]][m]
        row = [m, *("{:.4f} ± {:.4f}".format(*last(curves[method][m], "risk")) for method in methods)]
        row += [_percent(shown, "accuracy"), "{:.3f} ± {:.3f}".format(*last(shown, "test_risk"))]
        rows.append([*row, _percent(shown, "test_accuracy")])
    if "limit" in curves:
        limit = curves["limit"]
        row = [
            "∞",
            f"{limit['risk'][-1]:.4f} ± {limit['risk_error'][-1]:.4f}",
            "",
            f"{100 * limit['accuracy'][-1]:.1f} %",
        ]
        rows.append([*row, f"{limit['test_risk'][-1]:.3f}", f"{100 * limit['test_accuracy'][-1]:.1f} %"])
    losses = [f"training loss, {METHODS[method]}" for method in methods]
    return table(["M", *losses, "accuracy", "test loss", "test accuracy"], rows)


def last(curves: Curves, quantity: str) -> tuple[float, float]:
    """Mean over seeds at the end, and its standard error."""
    values = np.array(curves[quantity])[:, -1]
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def paired(curves: Curves) -> list[tuple[str, float, float, float]]:
    """Per pair of neighbouring M the mean difference of final losses, fewer less more, its standard error, and t."""
    found = []
    risks = {m: np.array(each["risk"])[:, -1] for m, each in curves[main_method(curves)].items()}
    pairs = [(f"{a} − {b}", risks[a] - risks[b]) for a, b in pairwise(risks)]
    if "limit" in curves:
        largest = list(risks)[-1]
        pairs.append((f"{largest} − ∞", risks[largest] - curves["limit"]["risk"][-1]))
    for name, apart in pairs:
        found.append((name, float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(len(apart))), len(apart)))
    return found


def differences(curves: Curves) -> str:
    """A row per pair."""
    rows = []
    for name, mean, error, count in paired(curves):
        significant = abs(mean) > stats.t.ppf(0.975, count - 1) * error
        rows.append([name, f"{mean:+.4f} ± {error:.4f}", "significant" if significant else "not significant"])
    return table(["M", "difference", ""], rows)


def ordered(curves: Curves) -> str:
    """Does the mean loss fall with every M? "yes", "no", or the first pair that leaves it open."""
    for name, mean, error, count in (row for row in paired(curves) if "∞" not in row[0]):
        reach = stats.t.ppf(0.975, count - 1) * error
        if mean < -reach:
            return f"no ({name})"
        if mean <= reach:
            return f"not significant ({name})"
    return "yes"


def both(curves: Curves) -> str:
    """The limit by nodes beside the extrapolation from coupled sizes."""
    pair, limit = curves["coupled"], curves["limit"]
    risks = np.array(pair["risk"])
    value, reach = extrapolated(risks[:, 0], risks[:, 1:].mean(axis=1))
    nodes, half = limit["risk"][-1], limit["risk_error"][-1]
    overlap = abs(value - nodes) <= reach + half
    return f"""
Two ways to M = ∞. *Nodes* of a midpoint rule, with the error that the run estimates. *Extrapolated* from \
{len(pair["risk"])} Transformers of {pair["units"]} heads and their quarters by the flow, R(M) = R + b/M, with the 95 %
interval of Student's t:

| by | training loss | half-width, of the loss |
| --- | --- | --- |
| nodes | {nodes:.4f} ± {half:.4f} | {100 * half / nodes:.1f} % |
| extrapolated | {value:.4f} ± {reach:.4f} | {100 * reach / value:.1f} % |

The two {"overlap" if overlap else "**do not** overlap"}."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows]) + "\n"


def _percent(curves: Curves, quantity: str) -> str:
    mean, error = last(curves, quantity)
    return f"{100 * mean:.1f} ± {100 * error:.1f} %"


def _std(curves: Mapping[str, Curves], m: str) -> float:
    return float(np.array(curves[m]["risk"])[:, -1].std(ddof=1))


def draw(found: Mapping[str, Curves], titles: Mapping[str, str]) -> None:
    """Loss and accuracy against τ, a column for each Transformer."""
    figure, axes = plt.subplots(2, len(titles), figsize=(4.3 * len(titles), 6.2), layout="constrained", squeeze=False)
    for column, (name, title) in enumerate(titles.items()):
        for row, (key, label) in enumerate((("risk", "training loss"), ("accuracy", "training accuracy"))):
            panel = axes[row, column]
            curves_of(panel, found[name], key)
            panel.set(ylabel=label if column == 0 else "")
            panel.grid(alpha=0.3)
            if key == "risk":
                panel.set(yscale="log", title=title)
                for scale in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
                    scale(FuncFormatter(lambda value, _: f"{value:g}"))
                panel.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes[1, column].set(xlabel="training time τ")
    axes[0, 0].legend(frameon=False, fontsize=9, title="heads a layer")
    figure.savefig(DOCS / "figures" / "figure-1.png", dpi=130)
    plt.close(figure)


def curves_of(panel: plt.Axes, curves: Curves, key: str) -> None:
    """Means and bands of all M, and the limit's with its error."""
    shown = curves[main_method(curves)]
    colours = plt.get_cmap("viridis")(np.linspace(0.85, 0.15, len(shown)))
    for (m, each), colour in zip(shown.items(), colours, strict=True):
        values = np.array(each[key])
        panel.plot(each["tau"], values.mean(axis=0), color=colour, label=f"M = {m}")
        panel.fill_between(each["tau"], values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    if "limit" not in curves:
        return
    limit = curves["limit"]
    panel.plot(limit["tau"], limit[key], color="black", linewidth=1.6, label="M = ∞")
    if key == "risk":
        risk, half = np.array(limit["risk"]), np.array(limit["risk_error"])
        panel.fill_between(limit["tau"], risk - half, risk + half, color="black", alpha=0.25, linewidth=0)
