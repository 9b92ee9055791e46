"""Input as nobody means it: Hypothesis strategies that damage what ships, and a guard over what it may do.

    from support.mangled import run_texts, overrides, guarded

Random bytes are refused at the first character and test little. These start from the shipped run files, from a sound
archive, a sound checkpoint and a shipped mesh, and change one to three things in them.
"""

from __future__ import annotations

import copy
import io
import os
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from mfpde.config import toml
from mfpde.parallel import caches

ROOT = Path(__file__).parents[2]
BASES = [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "runs").glob("*.toml"))]
TABLES = ("task", "model", "training", "initial", "density", "time", "output")
KEYS = sorted({key for base in BASES for table in base.values() if isinstance(table, dict) for key in table})
MORE = [
    "stationary", "horizon", "temperature", "mesh", "cell_type", "frame", "radius", "positivity", "potential_degree",
    "step", "tolerance", "risk_error", "every", "checkpoint_every", "directory", "npz", "loss", "depth", "heads",
    "neurons", "activation", "bias", "patch", "classes", "context", "attention", "mlp", "law", "mean", "std",
]  # fmt: skip

# Sizes are either small or beyond every limit: what lies between is legal, and only takes long.
WHOLE = st.sampled_from([-(2**63), -(2**63) - 1, -1, 0, 1, 2, 3, 5, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400])
REAL = st.sampled_from([
    float("nan"), float("inf"), -float("inf"), -0.0, 5e-324, 1e-300, 1e-51, 1e-12, 0.1, 0.5, 1.0, -1.0, 7.5, 1e49, 1e51,
    1.7e308,
])  # fmt: skip
TEXT = st.one_of(
    st.sampled_from([
        "", " ", ".", "..", "../..", "/", "a/b", "/dev/full/x", "con:x", "user.py:", ":f", "none.py:f", "; touch hit",
        "$(touch hit)", "`touch hit`", "| touch hit", "__import__('os').mkdir('hit')", "{0.__class__}", "%s%n", "-h",
        "--overwrite", "nan", "true", "90s", "0s", "1e3h", "tanh", "relu", "normal", "uniform", "bump", "fixed",
        "comoving", "lagrangian", "simplex", "squared", "cross_entropy", "residual", "continuum", "output", "scheme",
        "teacher", "digits", "scalars", "attention", "attention-mlp", "image", "linear", "a" * 300, "é̂", "τ", "\u202e",
        "\x7f", "a\tb", "a\nb", "\ufeff", "\U0001f600",
    ]),
    st.text(max_size=8).filter(lambda text: "\0" not in text),
)  # fmt: skip
DATES = st.sampled_from(tomllib.loads("a = [1979-05-27T07:32:00Z, 1979-05-27, 07:32:00]")["a"])
LEAF = st.one_of(WHOLE, REAL, TEXT, st.booleans(), DATES)
NAMES = st.one_of(st.sampled_from([*KEYS, *MORE, *TABLES]), TEXT)
VALUE = st.recursive(
    LEAF,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def contents(draw: Any) -> dict[str, Any]:
    """A shipped run file's tables with one to three changes."""
    content: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, content)
    return content


def _change(draw: Any, content: dict[str, Any]) -> None:
    tables = [content, *(v for v in content.values() if isinstance(v, dict))]
    table = draw(st.sampled_from(tables))
    way = draw(
        st.sampled_from([*["near"] * 8, "value", "value", "known key", "known key", "drop", "key", "move", "deep"])
    )
    keys = list(table)
    if way == "near":
        numbers = [key for key in keys if isinstance(table[key], int | float)]
        if numbers:
            table[draw(st.sampled_from(numbers))] = draw(st.sampled_from([1, 2, 3, 5, 0.5, 1.5]))
    elif way == "known key":
        table[draw(st.sampled_from([*KEYS, *MORE]))] = draw(LEAF)
    elif way == "key" or not keys:
        table[draw(NAMES)] = draw(VALUE)
    elif way == "deep":
        value: Any = draw(LEAF)
        for _ in range(draw(st.sampled_from([1, 5, 90]))):
            value = draw(st.sampled_from([{"a": value}, [value]]))
        table[draw(st.sampled_from(keys))] = value
    else:
        key = draw(st.sampled_from(keys))
        old = table.pop(key)
        if way == "value":
            table[key] = draw(VALUE)
        elif way == "move":
            draw(st.sampled_from(tables))[draw(NAMES)] = old


@st.composite
def run_texts(draw: Any) -> bytes:
    """The text of such a run file, sometimes cut, or with other bytes in it."""
    text = toml.dumps(draw(contents())).encode("utf-8", "surrogatepass")
    way = draw(st.sampled_from(["as it is"] * 4 + ["cut", "insert", "twice"]))
    place = draw(st.integers(0, len(text)))
    if way == "cut":
        return text[:place]
    if way == "insert":
        odd = draw(st.one_of(st.binary(max_size=6), st.sampled_from([b"=", b"\n[", b'"', b"'''", b"\\", b"\r", b"#"])))
        return text[:place] + odd + text[place:]
    return text + b"\n" + text[place:] if way == "twice" else text


SOUND = [
    "training.horizon=2", "training.weight_decay=0", "training.stationary=1e-3", "density.cells=3", "density.degree=0",
    "density.frame='fixed'", "density.frame=fixed", "density.cell_type=simplex", "density.radius=4", "time.step=0.25",
    "time.tolerance=1e-3", "output.every=0.5", "output.checkpoint_every=10s", "model.layers=2", "model.step=0.5",
    "model.depth=continuum", "name=x", "task.seed=3", "density.potential_degree=4", "density.positivity=off",
    "output.directory='elsewhere'",
]  # fmt: skip


@st.composite
def overrides(draw: Any) -> list[str]:
    """One to three texts after --set."""
    texts = draw(st.lists(st.sampled_from(SOUND), max_size=2))
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        path = [draw(st.sampled_from(TABLES)), draw(st.sampled_from([*KEYS, *MORE]))]
        if draw(st.integers(0, 3)) == 0:
            path = draw(st.lists(NAMES, min_size=1, max_size=4))
        value = toml.dumps({"x": draw(LEAF if draw(st.booleans()) else VALUE)}).partition("=")[2].strip()
        text = f"{'.'.join(path)}={value}"
        texts.append(draw(st.sampled_from([text, text, text, text[: len(text) // 2], draw(TEXT), f"{text}\ud800"])))
    return texts


@st.composite
def damaged(draw: Any, sound: bytes) -> bytes:
    """A file with bytes flipped, cut, put in, repeated or made zero."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        way = draw(st.sampled_from(["flip", "flip", "cut", "insert", "repeat", "zero"]))
        if way == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif way == "cut":
            del data[place : place + draw(st.sampled_from([1, 4, 100, len(data)]))]
        elif way == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif way == "repeat":
            data[place:place] = data[place : place + 50]
        else:
            data[place : place + 8] = bytes(min(8, len(data) - place))
    return bytes(data)


class Trap:
    """Makes a folder `hit` where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("hit",)


@st.composite
def archives(draw: Any) -> bytes:
    """The bytes of an .npz: sound arrays of odd kinds and shapes, or a sound one damaged."""
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    arrays: dict[str, Any] = {"tokens": rng.normal(size=(4, 3, 2)), "targets": rng.normal(size=(4, 1))}
    file = io.BytesIO()
    if draw(st.booleans()):
        np.savez(file, **arrays)
        return draw(damaged(file.getvalue()))
    kinds = ["<f8", ">f4", "<f2", "<i8", "|u1", "|b1", "<c16", "<U3", "|S3", "<M8[s]", "|O", "|V4"]
    for _ in range(draw(st.integers(1, 2))):
        shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 4, 5]), max_size=4)))
        kind, name = draw(st.sampled_from(kinds)), draw(st.sampled_from(["tokens", "targets", "test_tokens", "x", ""]))
        if kind == "|O":
            arrays[name] = np.array([Trap()], dtype=object)
        else:
            count = int(np.prod(shape)) * np.dtype(kind).itemsize
            raw = draw(st.sampled_from([bytes(count), b"\xff" * count, rng.bytes(count)]))
            arrays[name] = np.frombuffer(raw, dtype=kind).reshape(shape)
    return archive(arrays)


def archive(arrays: dict[str, Any]) -> bytes:
    """The bytes of an .npz with these arrays, of Python objects too."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as members:
        for name, array in arrays.items():
            one = io.BytesIO()
            np.lib.format.write_array(one, array)
            members.writestr(f"{name}.npy", one.getvalue())
    return file.getvalue()


@st.composite
def facts(draw: Any, sound: dict[str, Any]) -> Any:
    """What a checkpoint says, with a value somewhere inside changed, taken away or added."""
    said = copy.deepcopy(sound)
    if draw(st.integers(0, 19)) == 0:
        return draw(st.one_of(st.just(said), st.none(), st.integers(-1, 1), st.lists(st.integers(), max_size=2)))
    place: Any = said
    for _ in range(5):
        inner = [key for key in place if isinstance(place[key], dict) and place[key]]
        if not inner or draw(st.integers(0, 2)) == 0:
            break
        place = place[draw(st.sampled_from(inner))]
    key = draw(st.sampled_from(list(place)))
    way = draw(st.sampled_from(["value", "value", "drop", "add"]))
    odd = st.one_of(st.none(), st.integers(-(2**70), 2**70), REAL, st.text(max_size=3), st.just([]), st.just({}))
    if way == "drop":
        del place[key]
    else:
        place[key if way == "value" else "more"] = draw(odd)
    return said


class Text(bytes):
    """Too long to be shown."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes, {hash(bytes(self))}>"


@st.composite
def meshes(draw: Any) -> bytes:
    """A shipped mesh file with words or lines changed; most still end as a whole one does."""
    name = draw(st.sampled_from(["disk.msh", "disk_quads.msh", "ball.msh", "square_graded.msh"]))
    lines = (ROOT / "meshes" / name).read_text().splitlines()
    for _ in range(draw(st.integers(1, 3))):
        heads = [k for k, line in enumerate(lines) if line.startswith("$")] or [0]
        near = [min(len(lines) - 1, k + j) for k in heads for j in (0, 1, 2)]
        place = draw(st.one_of(st.sampled_from(near), st.integers(0, len(lines) - 1)))
        way = draw(st.sampled_from([*["move"] * 6, "word", "word", "word", "drop", "twice", "swap", "text"]))
        if way == "move":  # a node, by a little or out of all proportion
            node = draw(st.integers(heads[len(heads) // 2] + 2, heads[len(heads) // 2] + 60))
            words = lines[min(node, len(lines) - 1)].split(" ")
            words[1:2] = draw(st.sampled_from([words[1:2], ["0.5"], ["1e9"]]))
            lines[min(node, len(lines) - 1)] = " ".join(words)
        elif way == "word":
            words = lines[place].split(" ")
            odd = st.one_of(WHOLE.map(str), REAL.map(repr), st.sampled_from(["", "x", "1 1", "$End", "4.1", "2"]))
            words[draw(st.integers(0, len(words) - 1))] = draw(odd)
            lines[place] = " ".join(words)
        elif way == "drop":
            del lines[place : place + draw(st.sampled_from([1, 3, 50]))]
        elif way == "twice":
            lines.insert(place, lines[place])
        elif way == "swap":
            other = draw(st.integers(0, len(lines) - 1))
            lines[place], lines[other] = lines[other], lines[place]
        else:
            lines[place] = draw(TEXT).replace("\n", " ")
        lines = lines or [""]
    return Text("\n".join([*lines, ""]).encode("utf-8", "replace"))


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NEVER = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pickle.find_class", "os.fork",
          "socket.connect", "shutil.rmtree")  # fmt: skip
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link")
_seen: list[str] | None = None


def _audit(event: str, words: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event == "pickle.find_class" and words[0].partition(".")[0] in ("mfpde", "numpy", "builtins"):
        return  # how MPI passes arrays and errors on
    opened = event == "open" and isinstance(words[2], int) and words[2] & _WRITES
    if opened or event in (*_NEVER, *_CHANGES):
        _seen.append(f"{event} {words!r}")


@contextmanager
def guarded(*allowed: Path) -> Iterator[None]:
    """Nothing is started, unpickled, connected to or written meanwhile, but for files in the allowed folders.

    What is imported for the first time leaves no bytecode: whether it is there already depends on what ran before.
    """
    global _seen  # noqa: PLW0603  (an audit hook can never be taken away)
    if _audit not in _installed:
        sys.addaudithook(_audit)
        _installed.append(_audit)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _seen = []
    try:
        yield
    finally:
        seen, _seen = _seen, None
        sys.dont_write_bytecode = before
    bad = [line for line in seen if not any(str(folder) in line for folder in (*allowed, caches.directory()))]
    assert not bad, bad


_installed: list[Any] = []
