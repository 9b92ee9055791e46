"""Make requirements.lock, docs/requirements.lock, and the pins in pyproject.toml that are made from them.

    uv run --no-project .ci/lock.py                    a range in pyproject.toml changed: keep every pin that still fits
    uv run --no-project .ci/lock.py --upgrade NAME…    forget the pins of these packages
    uv run --no-project .ci/lock.py --upgrade          forget all of them

`uv.lock` names a package registry in every line, so it is not kept: each machine resolves its own, from its own
registry. What is kept is requirements.lock (exact versions, and the hashes of the files they may come from) with what
uv installs unasked, docs/requirements.lock with what the group `docs` adds to it, and the same versions as uv's
`constraint-dependencies`, which leave a resolution no choice. tests/unit/test_lock.py holds the files, the pins and the
environment to each other.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT, LOCK, DOCS_LOCK = ROOT / "pyproject.toml", ROOT / "requirements.lock", ROOT / "docs" / "requirements.lock"
BLOCK = re.compile(r"^constraint-dependencies = \[\n(.*?)^\]\n", re.MULTILINE | re.DOTALL)
EVERYWHERE = "numpy"  # needed on every supported machine: its marker says just that, and goes without saying
HEADER = "# Made by .ci/lock.py; `pip install --require-hashes -r requirements.lock` works too.\n"
DOCS_HEADER = "# Made by .ci/lock.py: what the dependency group `docs` adds to requirements.lock.\n"


def normal(name: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def without(text: str, forgotten: set[str] | None) -> str:
    """The text of pyproject.toml without the pins of these packages (None: of all)."""

    def fits(line: str) -> bool:
        return forgotten is not None and normal(line.strip(' ",').split("==")[0]) not in forgotten

    found = BLOCK.search(text)
    if found is None:
        raise SystemExit(f"{PROJECT.name}: needs a [tool.uv] list `constraint-dependencies` over several lines")
    return with_pins(text, [line for line in found[1].splitlines() if fits(line)])


def with_pins(text: str, lines: list[str]) -> str:
    """The text of pyproject.toml with these lines of pins."""
    block = "".join(f"{line}\n" for line in ["constraint-dependencies = [", *lines, "]"])
    return BLOCK.sub(lambda _: block, text)


def resolve(text: str) -> tuple[str, str]:
    """What uv finds for this pyproject.toml, with hashes and without addresses: unasked, and for `docs` besides."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PROJECT.name).write_text(text)
        uv = ["uv", "--quiet", "--directory", folder]
        subprocess.run([*uv, "lock", "--python", sys.executable], check=True)
        export = [*uv, "export", "--frozen", "--no-emit-project", "--no-header", "--no-annotate"]
        unasked, everything = (
            subprocess.run([*export, *groups], check=True, capture_output=True, text=True).stdout
            for groups in ([], ["--all-groups"])
        )
    everywhere = re.search(rf"^{EVERYWHERE}==\S+( ; .*?)( \\)?$", unasked, re.MULTILINE)
    if everywhere:
        unasked, everything = (found.replace(everywhere[1], "") for found in (unasked, everything))
    if "//" in everything:
        raise SystemExit("the resolution holds an address, which the locks must not")
    known = {name(block) for block in blocks(unasked)}
    return unasked, "".join(block for block in blocks(everything) if name(block) not in known)


def blocks(requirements: str) -> list[str]:
    """One text for every requirement: its line and those of its hashes."""
    return re.findall(r"^\S+==.*\n(?:[ ]+--hash=.*\n)*", requirements, re.MULTILINE)


def name(block: str) -> str:
    """The package of a requirement."""
    return block.partition("==")[0]


def pins(requirements: str) -> list[str]:
    """The lines of `constraint-dependencies`: the versions of both locks, without conditions."""
    exact = [line.removesuffix(" \\") for line in requirements.splitlines() if re.match(r"[^#\s]+==", line)]
    exact.sort(key=name)
    bare = [line.split(" ; ")[0] for line in exact]
    names = [line.split("==")[0] for line in bare]
    return [f'    "{bare[i] if names.count(names[i]) == 1 else exact[i]}",' for i in range(len(exact))]


def main() -> int:
    """Resolve, pin, resolve again: the second answer must be the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", nargs="*", metavar="NAME", help="packages that may change; none named: all may")
    wanted = parser.parse_args().upgrade
    forgotten = set() if wanted is None else {normal(name) for name in wanted} or None
    text = PROJECT.read_text()
    found = resolve(without(text, forgotten))
    text = with_pins(text, pins("".join(found)))
    if resolve(text) != found:
        raise SystemExit("the pins do not give back the resolution that they were made from")
    for lock, header, requirements in zip((LOCK, DOCS_LOCK), (HEADER, DOCS_HEADER), found, strict=True):
        lock.write_text(header + requirements)
        sys.stdout.write(f"{lock.relative_to(ROOT)}: {len(pins(requirements))} packages\n")
    PROJECT.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
