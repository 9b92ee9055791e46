"""The code blocks of the documents, and a place where their commands can be run in small.

Commands are run as they stand, one document's after each other, in a scratch folder whose run files have few samples,
coarse meshes and short horizons; `uv run` and `mpirun -n N` are taken off, and all of them share one process.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

from mfpde.config import toml

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(p for room in ("docs", "docker", "meshes", "runs") for p in (ROOT / room).rglob("*.md"))]
)
FENCE = re.compile(r"^(```+)([^\n`]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
NAME = "runs/NAME.toml"  # in the documents, any run file
_TINY = {
    "task": {
        "digits": {"samples": 12, "test_samples": 6, "classes": 2},
        "embedded-digits": {"samples": 12, "test_samples": 6},
        "in-context-regression": {"samples": 4, "context": 3},
        "teacher": {"samples": 4},
    },
    "model": {
        "image": {"heads": 2, "neurons": 1},
        "class-attention": {"heads": 2, "neurons": 1},
        "vision-transformer": {"layers": 2},
    },
}


def blocks(path: Path, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language: number of lines before the code, and the code."""
    text = path.read_text()
    return [(text[: m.start(3)].count("\n"), m[3]) for m in FENCE.finditer(text) if m[2] == language]


def lines(path: Path) -> Iterator[list[str]]:
    """The words of each command in the shell blocks of a document, without comments."""
    for _, code in blocks(path, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                cut = words.index("&&")
                yield words[:cut]
                words = words[cut + 1 :]
            if words:
                yield words


def commands(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(name, arguments) of each mfpde command in the shell blocks of a document."""
    for words in lines(path):
        for k in range(len(words) - 2):
            name = words[k + 2].removeprefix("mfpde.")
            if words[k : k + 2] == ["python", "-m"] and name != words[k + 2]:
                yield name, words[k + 3 :]


def parsed(name: str, words: list[str]) -> Any:
    """What the command's own parser makes of its arguments; PETSc options stand behind --."""
    cut = words.index("--") if "--" in words else len(words)
    return importlib.import_module(f"mfpde.{name}").parser().parse_args(words[:cut])


def examples(name: str) -> Iterator[list[str]]:
    """The arguments of each example that the command's help shows."""
    text = importlib.import_module(f"mfpde.{name}").parser().epilog.partition("examples:\n")[2]
    for line in text.partition("\n\n")[0].splitlines():
        words = shlex.split(line.partition(" > ")[0], comments=True)
        yield words[words.index(f"mfpde.{name}") + 1 :]


def tiny(text: str) -> str:
    """A run file that asks for next to nothing."""
    content = tomllib.loads(text)
    for table, smaller in _TINY.items():
        content[table] |= smaller.get(content[table].get("name"), {})
    if content["task"].get("name") == "digits":
        content["task"]["classes"] = 2
    content["training"]["horizon"] = 0.02
    content["output"] = {k: v for k, v in content.get("output", {}).items() if k != "every"} | {"every": 0.01}
    density = content.setdefault("density", {})
    if "mesh" not in density:
        density["cells"] = 4
    return toml.dumps(content)


def furnish(place: Path) -> None:
    """A scratch folder with what the commands of the documents name, in small."""
    for folder in ("runs", "tests/exact/cases", "meshes"):
        copytree(ROOT / folder, place / folder, ignore=ignore_patterns("*.npz", "__pycache__", "*.geo"))
    for file in [*(place / "runs").glob("*.toml"), *(place / "tests/exact/cases").glob("*.toml")]:
        file.write_text(tiny(file.read_text()))
    (place / NAME).write_text((place / "runs/in-context.toml").read_text())


def main() -> None:
    """Run all commands of a document, in the working directory: `python blocks.py README.md`."""
    from mfpde.config import run_file
    from mfpde.parallel import mpi

    mpi.start()
    mpi.start_petsc()
    small = tiny(run_file._source(None))
    embedded = run_file._source
    run_file._source = lambda path: small if path is None else embedded(path)
    for name, words in commands(ROOT / sys.argv[1]):
        said = f"mfpde.{name} {shlex.join(words)}"
        sys.stdout.write(f"+ {said}\n")
        sys.stdout.flush()
        taken = _smaller(name, words)
        code = importlib.import_module(f"mfpde.{name}").main(taken)
        if code != 0:
            sys.exit(f"{said}: exit code {code}")


def _smaller(name: str, words: list[str]) -> list[str]:
    """Fewer seeds and units, and runs that may replace what a command before has left."""
    if name == "solve" and "--resume" not in words:
        cut = words.index("--") if "--" in words else len(words)
        return [*words[:cut], "--overwrite", *words[cut:]]
    if name == "particles":
        most = {"--seeds": 2, "--units": 6}
        for k, word in enumerate(words[:-1]):
            if word in most:
                words[k + 1] = re.sub(r"\d+", lambda m, n=most[word]: str(min(int(m[0]), n)), words[k + 1])
    return words


if __name__ == "__main__":
    main()
