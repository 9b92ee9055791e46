"""The structure of the package, read from its sources: rooms, directions of imports, sizes, names, words."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from mfpde.__main__ import COMMANDS

PACKAGE = Path(__file__).parents[2] / "mfpde"
BELOW = {
    "errors": set(),
    "inputs": {"errors"},
    "device": {"errors", "inputs"},
    "parallel": {"errors", "inputs"},
    "problem": {"errors", "inputs", "device"},
    "config": {"errors", "inputs", "parallel", "problem"},
    "output": {"errors", "inputs", "parallel", "config"},
    "limit": {"errors", "inputs", "device", "parallel", "config", "problem", "output"},
    "finite": {"errors", "inputs", "parallel", "problem", "output"},
    "comparison": {"errors", "inputs", "config", "problem", "output", "finite"},
    "figures": {"errors", "inputs", "parallel", "config", "output", "finite", "comparison"},
    "runs": {
        "errors",
        "inputs",
        "device",
        "parallel",
        "config",
        "problem",
        "output",
        "limit",
        "finite",
        "comparison",
        "figures",
    },
}
"""Per room those from which it may import. What stands at the top, the commands and the API, may import from all."""
MOST_MODULES, MOST_LEVELS, MOST_LINES = 12, 15, 400
LONG_FUNCTION, MOST_WITHOUT_BLANK_LINE = 15, 0.3

PRIVATE = {
    "keeper": "checkpointer",
    "kin": "parameter sweep",
    "wiring": "problem setup",
    "footprint": "memory estimate",
    "forecast": "extrapolation",
    "lane": "SIMD vector",
    "lanes": "SIMD vectors",
    "packs": "code generation",
    "pen": "kernel arguments",
    "carried": "Lagrangian nodes",
    "material": "Lagrangian grid",
    "wish": "proposed step",
    "wishes": "figure options",
    "settle": "regrid",
    "settled": "stationary value",
    "manner": "run options",
    "school": "trainer cache",
    "alarm": "warning",
    "alarms": "warnings",
    "told": "issued",
    "tells": "shows",
    "understood": "checkpoint errors",
    "mended": "corrected",
    "dearer": "costlier",
    "dearest": "longest processing time first",
}
"""Private words, and what the field calls them."""


@cache
def sources() -> dict[str, tuple[str, ast.Module]]:
    """Per module, by its name below mfpde ("limit.fem.mesh", "limit" for a folder), its text and syntax tree."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        text = path.read_text(encoding="utf-8")
        found[".".join(part for part in parts if part != "__init__")] = text, ast.parse(text)
    return found


@cache
def imports() -> dict[str, set[str]]:
    """Per module those that it imports, inside functions too; imports for type checkers alone do not count."""
    return {name: {n for n in _imported(tree) if n in sources()} - {name} for name, (_, tree) in sources().items()}


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from (alias.name.removeprefix("mfpde").removeprefix(".") for alias in node.names if _own(alias.name))
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        base = (node.module or "").removeprefix("mfpde").removeprefix(".") if _own(node.module or "") else None
        for alias in node.names if base is not None else ():
            module = f"{base}.{alias.name}".removeprefix(".")
            yield module if module in sources() else str(base)
    for child in ast.iter_child_nodes(node):
        yield from _imported(child)


def _own(name: str) -> bool:
    return name.partition(".")[0] == "mfpde"


def where(name: str, node: ast.AST) -> str:
    return f"{name}:{getattr(node, 'lineno', 1)}"


def test_imports_form_no_circle_and_few_levels():
    levels: dict[str, int] = {}
    open_now: list[str] = []

    def level(name: str) -> int:
        if name in open_now:
            pytest.fail(" > ".join([*open_now[open_now.index(name) :], name]))
        if name not in levels:
            open_now.append(name)
            levels[name] = 1 + max(map(level, imports()[name]), default=0)
            open_now.pop()
        return levels[name]

    deepest = max(imports(), key=level)
    chain = [deepest]
    while imports()[chain[-1]]:
        chain.append(max(imports()[chain[-1]], key=level))
    assert level(deepest) <= MOST_LEVELS, " > ".join(chain)


def test_rooms_import_from_those_below():
    rooms = {name.partition(".")[0] for name in sources() if "." in name}
    assert rooms == BELOW.keys() - {"errors", "inputs", "device"}
    wrong = []
    for name, others in imports().items():
        room = name.partition(".")[0]
        allowed = BELOW.get(room, BELOW.keys() | {"api", ""}) | {room}
        wrong += [f"{name} > {other or 'mfpde'}" for other in others if other.partition(".")[0] not in allowed]
    assert not wrong


def test_folders_are_small_and_no_two_modules_have_one_name():
    paths = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    addresses = {PACKAGE / f"{name}.py" for name in COMMANDS}  # public, wherever there would be more room
    counts = Counter(path.parent for path in paths if path not in addresses)
    crowded = {folder: count for folder, count in counts.items() if count > MOST_MODULES}
    assert not crowded
    assert not [name for name, count in Counter(path.name for path in paths).items() if count > 1]
    long = {name: text.count("\n") for name, (text, _) in sources().items() if text.count("\n") > MOST_LINES}
    assert not long


def test_no_two_classes_have_one_name():
    classes: dict[str, list[str]] = {}
    for name, (_, tree) in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(where(name, node))
    assert not {name: places for name, places in classes.items() if len(places) > 1}


def test_steps_of_long_functions_are_set_apart():
    long, dense = 0, []
    for name, (text, tree) in sources().items():
        lines = text.splitlines()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 >= LONG_FUNCTION:
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                long += 1
                if body and all(line.strip() for line in lines[body[0].lineno - 1 : node.end_lineno]):
                    dense.append(where(name, node))
    assert len(dense) <= MOST_WITHOUT_BLANK_LINE * long, f"{len(dense)} of {long}: {dense}"


def test_private_words_do_not_occur():
    """In docstrings, other texts, and names of modules, classes and functions."""
    word = re.compile(rf"\b({'|'.join(PRIVATE)})\b(?! out\b)", re.IGNORECASE)
    found = []
    for name, (_, tree) in sources().items():
        texts = [(name, name.replace(".", " ").replace("_", " "))]
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append((where(name, node), node.value))
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node.name).replace("_", " ")
                texts.append((where(name, node), parts))
        found += [f"{place} {match[0]}" for place, text in texts for match in word.finditer(text)]
    assert not found, "\n".join(found)
