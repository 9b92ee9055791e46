"""Finite Transformers, comparisons and sweeps from a script under mpirun: every rank has the numbers of one process."""

from __future__ import annotations

from pathlib import Path

from support.launch import run
from support.run_files import scalars_run

CASE = scalars_run(layers=1, horizon=0.5)
SCRIPT = """
import hashlib, sys
import numpy as np
import mfpde
from mfpde.parallel import mpi

comm, where = mpi.start(), sys.argv[1]
swept = mfpde.sweep_runs("case.toml", {"training.weight_decay": [0.3, 0.1]}, directory=where)
trained = mfpde.train_particles(swept.runs[0], (3, 5), seeds=2)
found = mfpde.compare_run(swept.runs[0])

head = mfpde.Family("head", 2, lambda t, p: p[0] * p[1] * t, mfpde.Normal([0.5, 0.5], [0.3, 0.3]), (1,))
model = mfpde.Transformer([[head]], 1, lambda tokens: tokens[-1])
task = mfpde.Task(np.ones((4, 2, 1)), np.ones((4, 1)))
mine = mfpde.solve_limit(model, task, weight_decay=0.1, horizon=0.2, every=0.1, directory=f"{where}-mine")
objects = mfpde.train_particles(mine, 3, seeds=2, model=model, task=task)
columns = (swept.table["risk"], trained.history["risk"], found.checks["difference"], objects.history["risk"])
numbers = np.concatenate(columns)
digest = hashlib.sha256(repr([float(n) for n in numbers]).encode()).hexdigest()
lines = comm.gather(f"{len(numbers)} {digest} {found.verdict}")

differing = {
    "settings": lambda r: mfpde.train_particles("case.toml", 3, seeds=1, settings={"task.seed": r}),
    "units": lambda r: mfpde.train_particles("case.toml", 3 + r, seeds=1),
    "change": lambda r: mfpde.compare_run(where, change=0.1 + r),
    "over": lambda r: mfpde.sweep_runs("case.toml", {"task.seed": [r]}),
}
for name, call in differing.items() if comm.size > 1 else ():
    try:
        call(comm.rank)
    except mfpde.InputError as error:
        lines = [*(lines or []), *(comm.gather(f"{name} | {error}") or [])]
if comm.rank == 0:
    print("\\n".join(lines))
"""


def test_every_rank_has_the_numbers_of_one_process(tmp_path: Path) -> None:
    (tmp_path / "case.toml").write_text(CASE)
    (tmp_path / "script.py").write_text(SCRIPT)
    alone = run("script.py", "alone", directory=tmp_path)
    both = run("script.py", "both", ranks=2, directory=tmp_path)
    assert alone.returncode == both.returncode == 0, alone.stderr + both.stderr
    first, second, *refused = both.stdout.splitlines()
    assert [first, second] == alone.stdout.splitlines() * 2
    assert len(refused) == 8
    assert all(f"{line.split(' | ')[0]} is " in line and "the same on every rank" in line for line in refused), refused
