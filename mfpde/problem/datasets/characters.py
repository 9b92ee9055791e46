"""The next character of a text from those before it: Genesis, which comes with mfpde, or any text file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import existing, real, whole
from mfpde.problem.datasets.splits import MOST_FREE, MOST_WIDTH, check_counts, split
from mfpde.problem.tasks import Array, Task, generator

type Codes = NDArray[np.int64]
_MOST_CONTEXT, _MOST_CHARACTERS, _MOST_KINDS = 1024, 10**8, 1000


def text(
    path: Path | None = None,
    context: int = 8,
    samples: int = 20_000,
    test_samples: int = 4000,
    width: int = 24,
    free: int = 24,
    places: float = 1.0,
    seed: int = 0,
) -> Task:
    """The next character of a text from the last N of them.

    The last tenth of the text is held out: its contexts, all of whose characters are in that tenth, are for testing. A
    token is a character: `width` channels of its embedding and its place's, and `free` channels that start at zero. The
    last token is that of the character before the one that is sought. Embeddings are standard normal, drawn from the
    seed, and not trained. Classes are the kinds of characters of the whole text, in the order of their code points.

    Args:
        path: of a text file in UTF-8; Genesis in the King James Version unless given.
        context: N.
        samples: training contexts, drawn from all there are without repetition; 0 takes all of them.
        test_samples: test contexts, likewise.
        width: channels of the embedding.
        free: channels that start at zero.
        places: standard deviation of the places' embedding.
        seed: of the choice of contexts, and of the embedding.

    Raises:
        InputError: for values out of range, and for a file that is missing, empty, no text in UTF-8, or too short.
    """
    check_counts(max(whole("task.samples", samples, 0, _MOST_CHARACTERS), 1), test_samples)
    characters, codes = language(path, context, width, free, places, seed)

    cut = len(codes) - len(codes) // 10
    rng = np.random.default_rng([seed, 1])
    training = _contexts("task.samples", codes[:cut], context, samples, rng)
    test = _contexts("task.test_samples", codes[cut:], context, test_samples, rng)
    check_counts(len(training) + len(test), 0, context, width + free)

    every = np.concatenate([training, test])
    return split(characters.tokens(every[:, :-1]), every[:, -1], len(training), len(characters.kinds))


@dataclass(frozen=True)
class Characters:
    """The characters of a text, and what a Transformer sees of them.

    Attributes:
        kinds: of characters, in the order of their numbers.
        embedding: of each kind, (K, D).
        places: what is added at each place of a context, (N, D).
    """

    kinds: str
    embedding: Array
    places: Array

    def codes(self, content: str) -> Codes:
        """The numbers of the characters of a text.

        Raises:
            InputError: for a character that is none of these.
        """
        number = {kind: code for code, kind in enumerate(self.kinds)}
        unknown = [kind for kind in content if kind not in number]
        if unknown:
            raise InputError(f"the character {unknown[0]!r} is not in the text that was learnt: {self.kinds!r}")
        return np.array([number[kind] for kind in content], dtype=np.int64)

    def tokens(self, codes: Codes) -> Array:
        """Contexts (n, N) -> (n, N, D)."""
        return self.embedding[codes] + self.places


def language(
    path: Path | None = None,
    context: int = 8,
    width: int = 24,
    free: int = 24,
    places: float = 1.0,
    seed: int = 0,
) -> tuple[Characters, Codes]:
    """The characters of a text and the text in their numbers; arguments and errors as of `text`."""
    whole("task.context", context, 1, _MOST_CONTEXT)
    whole("task.width", width, 1, MOST_WIDTH)
    whole("task.free", free, 0, MOST_FREE)
    real("task.places", places, least=0.0)
    rng = generator("task.seed", seed)

    where = "task" if path is None else f"task.path = {str(path)!r}"
    kinds, codes = _alphabet(where, _shipped() if path is None else _read(path))
    if len(codes) // 10 <= context:
        allowed = f"contexts of {context} and a tenth held out need at least {10 * (context + 1)}"
        raise InputError(f"{where}: the text has {len(codes)} characters; {allowed}")

    embedding, added = rng.normal(size=(len(kinds), width)), places * rng.normal(size=(context, width))
    room = np.eye(width, width + free)  # channels behind the embedding start at zero
    return Characters(kinds, embedding @ room, added @ room), codes


def _read(path: Path) -> str:
    """A text file."""
    place = f"task.path = {str(path)!r}"
    existing("task.path", path)
    try:
        if path.stat().st_size > 4 * _MOST_CHARACTERS:
            raise InputError(f"{place}: has more than {_MOST_CHARACTERS} characters")
        found = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: no text in UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{place}: {error.strerror or error}") from error

    if "\0" in found:
        raise InputError(f"{place}: no text (character {found.index(chr(0))} is a null)")
    if not found.strip():
        raise InputError(f"{place}: holds no text")
    return found


def _alphabet(where: str, content: str) -> tuple[str, Codes]:
    """The kinds of characters of a text, in the order of their code points, and the text in their numbers."""
    points = np.frombuffer(content.encode("utf-32-le"), dtype=np.uint32)
    kinds, codes = np.unique(points, return_inverse=True)
    if not 2 <= len(kinds) <= _MOST_KINDS:
        raise InputError(f"{where}: the text has {len(kinds)} kinds of characters; must be 2 … {_MOST_KINDS}")
    return "".join(map(chr, kinds)), codes.astype(np.int64)


def _shipped() -> str:
    """Genesis: one verse a line in the file, and a space for the break."""
    file = resources.files("mfpde.problem.datasets").joinpath("genesis.txt")
    return " ".join(file.read_text(encoding="utf-8").split("\n")).strip()


def _contexts(key: str, codes: Codes, context: int, wanted: int, rng: np.random.Generator) -> Codes:
    """Contexts and the character behind each, (n, N + 1)."""
    every = np.lib.stride_tricks.sliding_window_view(codes, context + 1)
    if wanted > len(every):
        raise InputError(
            f"{key} = {wanted}: the text has {len(every)} contexts of {context} there; must be at most that"
        )
    order = rng.permutation(len(every))
    return every[order[:wanted] if wanted else np.arange(len(every))]
