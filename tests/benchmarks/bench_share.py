"""What a solve spends its time on: `NPROC=1 uv run python tests/benchmarks/bench_share.py [RUN.toml] --json FILE`.

Seconds of the processor in the parts of a run after its start, without those of the parts inside them, of the run and
of the coarser solve beside it; the second of two runs in processes of their own, so that programs are compiled.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from functools import wraps
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.launch import run

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("passes", "transport", "nodes")


class Stopwatch:
    """Seconds of parts, each without those that it calls."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open: list[str] = []
        self._last = 0.0

    def switch(self) -> None:
        now = time.process_time() - self.seconds["files"]
        if self._open:
            self.seconds[self._open[-1]] += now - self._last
        self._last = now

    def time_in_thread(self, owner: Any, name: str) -> None:
        """Count a function of the thread that writes files."""
        function = getattr(owner, name)

        @wraps(function)
        def timed(*given: Any, **named: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*given, **named)
            finally:
                self.seconds["files"] += time.thread_time() - start

        setattr(owner, name, timed)

    def time(self, owner: Any, name: str, part: str, inside: str = "") -> None:
        """Count a function's time; as that of `inside` within it, if that is given."""
        function = getattr(owner, name)

        @wraps(function)
        def timed(*given: Any, **named: Any) -> Any:
            self.switch()
            self._open.append(inside if inside and inside in self._open else part)
            try:
                return function(*given, **named)
            finally:
                self.switch()
                self._open.pop()

        setattr(owner, name, timed)


def child(words: list[str]) -> None:
    """Solve, and print seconds."""
    from mfpde.limit.backprop import Backprop
    from mfpde.limit.diagnostics import reporter
    from mfpde.limit.gradient_flow import GradientFlow
    from mfpde.limit.solver import Solver
    from mfpde.limit.timestepping import predictor_corrector
    from mfpde.output.writer import RunWriter
    from mfpde.runs import limit_run
    from mfpde.solve import main

    watch = Stopwatch()
    watch.time(Backprop, "called", "passes", inside="certificate")
    watch.time(Backprop, "sum_over_ranks", "sums over ranks", inside="certificate")
    for name in ("transport", "driven", "_values"):
        watch.time(GradientFlow, name, "transport")
    for name in ("moments", "masses", "regrid", "covering", "resolved", "transferred", "error"):
        watch.time(GradientFlow, name, "nodes")
    watch.time(predictor_corrector, "dormand_prince_step", "nodes")
    watch.time(Solver, "_half_errors", "nodes")
    watch.time(reporter.Reporter, "report", "reports")
    watch.time(reporter, "certify", "certificate")
    watch.time(limit_run, "_march", "rest")
    watch.time_in_thread(RunWriter, "_write")
    main(words)
    sys.stdout.write(f"\n{json.dumps(watch.seconds)}")


def main() -> None:
    """Measure and print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", default=str(ROOT / "runs" / "in-context.toml"))
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(json.loads(given.child))
        return

    found: dict[str, float] = {}
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            words = [given.run, "--directory", f"{folder}/run", *(w for each in given.set for w in ("--set", each))]
            done = run(Path(__file__), "--child", json.dumps(words), timeout=580)
        if done.returncode:
            raise RuntimeError(done.stderr)
        found = json.loads(done.stdout.splitlines()[-1])

    total = sum(found.values())
    for part, seconds in sorted(found.items(), key=lambda item: -item[1]):
        sys.stdout.write(f"{part:16} {seconds:7.2f} s {seconds / total:5.0%}\n")
    share = sum(found.get(part, 0.0) for part in PARTS) / total
    sys.stdout.write(f"{' + '.join(PARTS)}: {share:.0%} of {total:.2f} s\n")
    if given.json is not None:
        given.json.write_text(json.dumps({"seconds": found, "share": share}, indent=1) + "\n")


if __name__ == "__main__":
    main()
