"""Run files and their settings: one line with file, key, value and what is allowed; exit code 2; nothing written.

Most cases go through the same functions as the command, in this process; a few are the real command on two ranks.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfpde import particles
from mfpde.config import run_file
from mfpde.errors import InputError
from mfpde.solve import main
from support.launch import run
from support.run_files import BY_USER, MESHES, TEXT, USER, contents, refused, write

NUMBER, WHOLE = "must be a finite number", "must be a whole number"

ONE = "{mean = [0, 0], std = [1, 1]}"
SETTINGS = {
    # unknown and mistyped keys
    "tme.step=1": ("tme", "did you mean 'time'?"),
    "training.weigth_decay=1": ("training.weigth_decay", "did you mean 'weight_decay'?"),
    "task.sample=1": ("task.sample", "did you mean 'samples'?"),
    "task.model=1": ("task.model", "unknown key", "samples"),
    "model.layer=1": ("model.layer", "did you mean 'layers'?"),
    "density.cell=1": ("density.cell", "did you mean 'cells'?"),
    "density.attention.cell=1": ("[density.attention]", "did you mean 'cells'?"),
    "density.atention.cells=1": ("density.atention", "did you mean 'attention'?"),
    "initial.atention.mean=[0, 0]": ("initial.atention", "did you mean 'attention'?"),
    "initial.mlp={mean = [0, 0], sdt = [1, 1]}": ("initial.mlp.sdt", "did you mean 'std'?"),
    "task.name='digit'": ("task.name = 'digit'", "must be one of 'digits'"),
    "model.name=3": ("model.name = 3", "must be one of 'attention'"),
    # wrong types
    "task=1": ("task = 1", "must be a table"),
    "time=[{step = 1}]": ("time = [{'step': 1}]", "must be a table"),
    "name='a/b'": ("name = 'a/b'", "without path separators"),
    "name=3": ("name = 3", "must be a text"),
    'name="a\\u0000b"': ("name = 'a\\x00b'", "must be a text"),
    "training.weight_decay=true": ("training.weight_decay = True", NUMBER),
    "training.weight_decay='0.1'": ("training.weight_decay = '0.1'", NUMBER),
    "training.horizon=[1.0]": ("training.horizon = [1.0]", NUMBER),
    "training.horizon={a = 1}": ("training.horizon = {'a': 1}", NUMBER),
    "training.horizon=2020-01-01": ("training.horizon = datetime", NUMBER),
    "training.horizon=": ("training.horizon = ''", NUMBER),
    "density.degree=1.0": ("density.degree = 1.0", WHOLE, "0 … 3"),
    "density.degree=true": ("density.degree = True", WHOLE),
    "density.degree={a = 1}": ("density.degree = {'a': 1}", WHOLE),
    "density.frame=['fixed']": ("density.frame = ['fixed']", "must be one of 'auto'"),
    "density.radius='5'": ("density.radius = '5'", NUMBER),
    "density.radius=[1, 'a']": ("density.radius = 'a'", NUMBER),
    "model.activation=['tanh']": ("model.activation = ['tanh']", "must be one of 'tanh'"),
    "model.bias=1": ("model.bias = 1", "must be true or false"),
    "output.directory=3": ("output.directory = 3", "must be the name of a folder"),
    "output.checkpoint_every=60": ("output.checkpoint_every = 60", '"90s"'),
    # impossible values
    "training.weight_decay=-0.1": ("training.weight_decay = -0.1", "at least 0"),
    "training.weight_decay=nan": ("training.weight_decay = nan", NUMBER),
    "training.weight_decay=inf": ("training.weight_decay = inf", NUMBER),
    "training.weight_decay=1e300": ("training.weight_decay = 1e+300", "1e+50"),
    f"training.weight_decay=0x{'f' * 5000}": ("training.weight_decay", "at most 64 bits"),
    "training.horizon=0": ("training.horizon = 0", "above 0"),
    "training.horizon=1e-300": ("training.horizon = 1e-300", "1e-50"),
    "training.stationary=0": ("training.stationary = 0", "above 0"),
    "training.stationary=-1e-6": ("training.stationary = -1e-06", "above 0"),
    "training.stationary=nan": ("training.stationary = nan", NUMBER),
    "training.stationary=true": ("training.stationary = True", NUMBER),
    "training.stationary='small'": ("training.stationary = 'small'", NUMBER),
    "training.temperature=-1": ("training.temperature = -1", "at least 0"),
    "density.degree=7": ("density.degree = 7", "0 … 3"),
    "density.potential_degree=0": ("density.potential_degree = 0", "1 … 4"),
    "density.cells=0": ("density.cells = 0", "1 … 4096"),
    "density.attention.cells=10000000": ("[density.attention]", "density.cells = 10000000", "1 … 4096"),
    "density.remap=2": ("density.remap = 2", "must be true or false"),
    "density.positivity='always'": ("density.positivity = 'always'", "must be one of 'off', 'output'"),
    "density.radius=0": ("density.radius = 0", "above 0"),
    "density.radius=-1.0": ("density.radius = -1.0", "above 0"),
    "model.layers=0": ("model.layers = 0", "1 … 100000"),
    "model.step=0": ("model.step = 0", "above 0"),
    "model.step=inf": ("model.step = inf", NUMBER),
    "model.depth='deep'": ("model.depth = 'deep'", "'residual'"),
    "model.seed=-1": ("model.seed = -1", WHOLE, "0 …"),
    "model.channels=1": ("model.channels = 1", WHOLE, "2 …"),
    "task.seed=-1": ("task.seed = -1", WHOLE, "0 …"),
    "task.seed=1180591620717411303424": ("task.seed", "at most 64 bits"),
    "task.samples=0": ("task.samples = 0", "1 …"),
    "task.samples=0.5": ("task.samples = 0.5", WHOLE),
    "task.samples=1000000000": ("task.samples = 1000000000", WHOLE),
    "task.samples=90000000": ("task.samples = 90000000", "numbers in all tokens; at most"),
    "task.test_samples=-1": ("task.test_samples = -1", "0 …"),
    "task.units=0": ("task.units = 0", "1 …"),
    "task.channels=4": ("task: teacher failed", "got (4,) and (3,)"),
    "task={name = 'digits', classes = [0, 0]}": ("task.classes = [0, 0]", "different digits"),
    "task={name = 'digits', classes = 1000000000}": ("task.classes = 1000000000", "2 … 10"),
    "task={name = 'digits', classes = '01'}": ("task.classes = '01'", "2 … 10"),
    "task={name = 'digits', patch = 3}": ("task.patch = 3", "1, 2, 4 or 8"),
    "task={name = 'scalars', std = -1}": ("task.std = -1", "at least 0"),
    "initial.mlp={mean = [0, 0], std = [1, 0]}": ("initial.mlp", "std = 0.0", "above 0"),
    "initial.mlp={mean = [0, nan], std = [1, 1]}": ("initial.mlp", "mean = nan", NUMBER),
    "initial.mlp={mean = ['0', 0], std = [1, 1]}": ("initial.mlp", "mean = '0'", NUMBER),
    "initial.mlp={mean = [0, 0, 0], std = [1, 1, 1]}": ("initial.mlp", "3 numbers", "dim = 2"),
    "initial.mlp={mean = [0, 0], std = [1]}": ("initial.mlp", "one per coordinate"),
    "initial.mlp={mean = [0, 0], std = [1, 1], law = 'x'}": ("initial.mlp.law = 'x'", "'normal'"),
    "initial.mlp={mean = [0, 0]}": ("initial.mlp.std is missing",),
    "initial.mlp={mean = [0, 0], std = [1, 1], cov = [[1, 0], [0, 1]]}": ("initial.mlp.std and initial.mlp.cov",),
    "initial.mlp={mean = [0, 0], cov = [[1, 2], [2, 1]]}": ("initial.mlp: cov = [[1, 2], [2, 1]]", "positive definite"),
    "initial.mlp={mean = [0, 0], cov = [[1, 0.5], [0, 1]]}": ("initial.mlp: cov", "symmetric"),
    "initial.mlp={mean = [0, 0], cov = [[1, 0]]}": ("initial.mlp: cov", "d lists of d finite numbers"),
    "initial.mlp={mean = [0, 0], cov = 1}": ("initial.mlp: cov = 1", "a list of d lists"),
    "initial.mlp={mean = [0], cov = [[1, 0], [0, 1]]}": ("initial.mlp", "mean has 1 numbers and std 2"),
    "initial.mlp={law = 'uniform', mean = [0, 0], cov = [[1, 0], [0, 1]]}": ("initial.mlp.cov: unknown key",),
    "initial.mlp={law = 'student', mean = [0, 0], std = [1, 1]}": ("initial.mlp.df is missing",),
    "initial.mlp={law = 'student', mean = [0, 0], std = [1, 1], df = 2}": ("initial.mlp: df = 2", "above 2"),
    "initial.mlp={law = 'laplace', mean = [0, 0], std = [1, 1], df = 3}": ("initial.mlp.df: unknown key",),
    "initial.mlp={law = 'mixture', weights = [1]}": ("initial.mlp.parts is missing",),
    "initial.mlp={law = 'mixture', weights = [1], parts = []}": ("initial.mlp.parts = []", "an array of tables"),
    "initial.mlp={law = 'mixture', weights = [1], parts = [{mean = [0, 0]}]}": ("initial.mlp.parts[0].std is missing",),
    f"initial.mlp={{law = 'mixture', weights = [1, 0], parts = [{ONE}, {ONE}]}}": ("weights = 0", "above 0"),
    f"initial.mlp={{law = 'mixture', weights = [1], parts = [{ONE}, {ONE}]}}": ("weights = [1]", "2 positive numbers"),
    f"initial.mlp={{law = 'mixture', weights = [1, 1], parts = [{ONE}, {{mean = [0], std = [1]}}]}}": (
        "initial.mlp: laws of 2, 1 coordinates",
    ),
    "initial.mlp=[{mean = [0, 0], std = [1, 1]}]": ("initial.mlp", "an array of 2 tables, one per layer"),
    "time={step = 0.1, tolerance = 0.1}": ("time.step = 0.1 and time.tolerance = 0.1", "give one"),
    "time.tolerance=0": ("time.tolerance = 0", "at least 1e-14"),
    # tables without end, and bytes that are no text
    f"task.{'a.' * 3000}a=1": ("task.a.a.a", "more than 16 tables or arrays inside each other"),
    f"output.{'a.' * 3000}a=1": ("output.a.a.a", "more than 16 tables or arrays inside each other"),
    f"model.w={'[' * 40}1{']' * 40}": ("model.w.0.0", "more than 16 tables or arrays inside each other"),
    "name=\udcff": ("--set 'name=\\udcff'", "must be a text in UTF-8"),
    # what is not key=value
    "training.horizon": ("--set training.horizon", "table.key=value"),
    "training.horizon.x=1": ("--set", "horizon is not a table"),
}


@pytest.mark.parametrize(
    ("setting", "named"), [("density.degree=0", "density.degree = 0"), ("density.frame=lagrangian", "lagrangian")]
)
def test_a_discretisation_that_cannot_diffuse(setting, named, tmp_path):
    line = refused(write(tmp_path), "training.temperature=0.1", setting, whole=True)
    assert named in line


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_key_or_value_that_cannot_be(setting, tmp_path):
    line = refused(write(tmp_path), setting)
    for part in SETTINGS[setting]:
        assert part in line


FILES = {
    "": "the table [task] is missing",
    "[task": "not valid TOML",
    TEXT.format(density="") + "[task]\n": "not valid TOML",
    "a = " + "[" * 5000: "not valid TOML",
    "a = " + "9" * 5000: "not valid TOML",
    "name = '\xe9'": "UTF-8",
}


@pytest.mark.parametrize("text", FILES, ids=range(len(FILES)))
def test_a_file_that_is_no_run_file(text, tmp_path):
    path = tmp_path / "case.toml"
    path.write_text(text, encoding="latin-1")
    assert FILES[text] in refused(path)


@pytest.mark.parametrize(("name", "reason"), [("none.toml", "no such file"), (".", "not a file"), ("a" * 300, "long")])
def test_a_run_file_that_is_no_file(name, reason, tmp_path):
    with pytest.raises(InputError, match=reason):
        run_file.load(tmp_path / name)


TOGETHER = {
    "density.radius=[1.0]": ("density.radius = [1.0]", "family 'attention' has dim = 2", "one number, or 2"),
    "density.mlp.radius=[1, 1, 1]": ("density.radius = [1.0, 1.0, 1.0]", "family 'mlp' has dim = 2"),
    "density.mlp={frame = 'lagrangian', cell_type = 'simplex'}": ("density.cell_type = 'simplex'", "must be cell_type"),
    "density.mlp={frame = 'lagrangian', cells = 1}": ("density.cells = 1", "must be at least 2"),
    "density.mlp={mesh = 'none.msh'}": ("density.mesh", "none.msh", "no such file"),
    f"density.mesh='{'a' * 300}'": ("density.mesh = ", "File name too long"),
    "output.every=1e-9": ("output.every = 1e-09", "more than 1e+05 reports", "at least 5e-06"),
    "time.step=1e-12": ("time.step = 1e-12", "more than 1e+09 steps", "at least 5e-10"),
    "output.directory='case.toml'": ("case.toml is a file, not a folder",),
    f"output.directory='{'a' * 300}'": ("File name too long",),
}


@pytest.mark.parametrize("setting", TOGETHER)
def test_settings_that_do_not_fit_together(setting, tmp_path):
    line = refused(write(tmp_path), setting, whole=True)
    for part in TOGETHER[setting]:
        assert part in line


def test_reports_to_a_horizon_that_nobody_gave(tmp_path):
    settings = ["training={weight_decay = 0.1, stationary = 1e-3}", "output.every=0.05"]
    line = refused(write(tmp_path), *settings, whole=True)
    assert (
        "more than 1e+05 reports to training.horizon = 10000.0, which it is unless given; must be at least 0.1" in line
    )


def test_petsc_options_that_cannot_be(tmp_path, capsys):
    """As after --; in a process in which PETSc is up they are set by hand."""
    from petsc4py import PETSc

    path, options = write(tmp_path), PETSc.Options()
    for name, value in (("ts_max_steps", "many"), ("ts_exact_final_time", "never"), ("ts_type", "euler")):
        options[name] = value
        try:
            assert main([str(path)]) == 2
        finally:
            options.delValue(name)
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert line.startswith(f"mfpde: {path}: "), line
    assert not (tmp_path / "case").exists()


def test_a_link_to_a_run_file(tmp_path):
    """Its files are where the file is, its results beside the link."""
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
    write(tmp_path / "there", BY_USER, density="")
    (tmp_path / "here" / "case.toml").symlink_to(Path("..") / "there" / "case.toml")
    run = run_file.load(tmp_path / "here" / "case.toml")
    assert run.build()[0].layers == 2
    assert run.output.directory == tmp_path / "here" / "case"
    copy = tmp_path / "here" / "copy.toml"
    copy.write_text(run.text(tmp_path / "here"))
    assert run_file.load(copy).build()[0].layers == 2


def test_finite_transformers_need_a_horizon(tmp_path, capsys):
    settings = ["--set", "training={weight_decay = 0.1, stationary = 1e-3}"]
    assert particles.main([str(write(tmp_path)), "--units", "2", "--seeds", "1", *settings]) == 2
    assert "training.horizon is missing; finite Transformers are trained to it" in capsys.readouterr().err


def test_a_mistyped_key_on_two_ranks(tmp_path):
    path = write(tmp_path)
    ended = run("-m", "mfpde.solve", path.name, "--set", "training.horizn=1", ranks=2, directory=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == "mfpde: case.toml: training.horizn: unknown key; did you mean 'horizon'?\n"
    assert not (tmp_path / "case").exists()


MANY = """
import json, sys
from mfpde import solve
from mfpde.parallel import mpi
comm = mpi.start()
codes = [comm.gather(solve.main(words)) for words in json.load(open("cases.json"))]
if comm.rank == 0:
    print(codes)
"""

DRAWN = "def task(): return mfpde.Task(np.random.normal(size=(4, 3, 2)), np.ones((4, 1)))"

ALONE = "from mpi4py import MPI\ndef model(): return MPI.COMM_WORLD.rank or transformer(family())"


def test_other_mistakes_on_two_ranks(tmp_path):
    """One job, one command after the other: each ends on both ranks with one line."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "manifest.json").write_text("{}")
    (tmp_path / "cut.msh").write_bytes((MESHES / "disk.msh").read_bytes()[:-20])
    (tmp_path / "drawn.py").write_text(USER + DRAWN)
    (tmp_path / "alone.py").write_text(USER + ALONE)
    write(tmp_path, BY_USER, density="")
    cases = {
        "density.mesh='cut.msh'": "density.mesh = 'cut.msh': not a readable gmsh file",
        "task.python='drawn.py:task'": "not the same on every rank; draw random numbers from a fixed seed",
        "model.python='alone.py:model'": "the function returned int, not mfpde.Transformer",
        "model.python='sys.py:exit'": "no such file",
        "output.directory='taken'": "directory taken: holds a run; --overwrite replaces it",
    }
    (tmp_path / "cases.json").write_text(json.dumps([["case.toml", "--set", setting] for setting in cases]))
    (tmp_path / "many.py").write_text(MANY)
    before = contents(tmp_path)
    ended = run("many.py", ranks=2, directory=tmp_path)
    assert ended.stdout == f"{[[2, 2]] * len(cases)}\n", ended.stderr
    for line, reason in zip(ended.stderr.splitlines(), cases.values(), strict=True):
        assert line.startswith("mfpde: case.toml: ")
        assert reason in line
    assert contents(tmp_path) == before


def test_an_override_takes_the_place_of_what_it_excludes(tmp_path):
    """density.mesh or cells, time.step or tolerance: --set replaces the file's choice; two overrides still clash."""
    path = write(tmp_path, density="cells = 2\n[time]\ntolerance = 1e-3")
    run = run_file.load(path, ["time.step=0.1", "density.mesh='disk.msh'"])
    assert (run.time.step, run.time.tolerance) == (0.1, None)
    assert run.density.mesh == tmp_path / "disk.msh"
    assert "exclude each other" in refused(path, "time.step=0.1", "time.tolerance=1e-3")
    both = write(tmp_path, density="cells = 2\nmesh = 'disk.msh'")
    assert "density.mesh = 'disk.msh' and density.cells exclude each other" in refused(both)
