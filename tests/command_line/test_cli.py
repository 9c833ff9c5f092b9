"""The commands `unnorm sample` and `unnorm resume`."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import unnorm as un
from unnorm.cli import app
from unnorm.model_file import density_of

MODEL = """
import unnorm as un


@un.density
def normal(x: un.Real[2]):
    return -0.5 * x @ x


number = 3
"""
PASSING = ["--kernel", "nuts", "--draws", "1000", "--warmup", "300", "--seed", "1"]
QUICK = ["--kernel", "mala", "--draws", "200", "--warmup", "100", "--seed", "1"]


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    return f"{tmp_path / 'model.py'}:normal"


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_sample_prints_the_diagnosis_and_writes_the_draws(model, tmp_path):
    import xarray

    done = run("sample", model, *PASSING, "--output", tmp_path / "draws.nc")
    assert done.exit_code == 0 and "r_hat" in done.output and "x[1]" in done.output
    with xarray.open_datatree(tmp_path / "draws.nc", engine="h5netcdf") as draws:
        assert draws.posterior["x"].shape == (4, 1000, 2) and draws.attrs["seed"] == 1


def test_resume_goes_on_to_the_same_table(model, tmp_path):
    first = run("sample", model, *PASSING, "--store", tmp_path / "run.d")
    state = tmp_path / "run.d" / "state.json"
    state.write_text(
        json.dumps({k: v for k, v in json.loads(state.read_text()).items() if int(k) < 7})
    )
    again = run("resume", tmp_path / "run.d", model)
    assert first.exit_code == again.exit_code == 0 and first.output == again.output
    assert np.load(tmp_path / "run.d" / "events" / "x.npy").shape == (1000, 4, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "nothing.py:p"], "does not name a density"),
        (["sample", "{}:number"], "number in"),
        (["sample", "{}:absent"], "absent in"),
        (["sample", "{}:normal", "--kernel", "nut"], "did you mean 'nuts'"),
        (["sample", "{}:normal", "--draws", "0"], "draws is 0"),
        (["sample", "{}:normal", "--keep", "some"], "keep is 'some'"),
        (["resume", "nothing.d", "{}:normal"], "holds no run"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words, model):
    done = run(*(argument.format(model.partition(":")[0]) for argument in arguments))
    assert done.exit_code == 2 and words in done.output and done.output.count("\n") == 1


# -- model files -----------------------------------------------------------------------------------
SIBLING = "from dataclasses import dataclass\n\n\n@dataclass\nclass Scales:\n    x: float = 2.0\n"
FUTURE = """
from __future__ import annotations

from dataclasses import dataclass, field

import unnorm as un
from sibling_of_the_model import Scales


@dataclass
class Settings:
    scales: Scales = field(default_factory=Scales)
    names: list[str] = field(default_factory=list)


@un.density
def normal(x: un.Real[2], *, scale: un.Positive = Settings().scales.x):
    return -0.5 * x @ x / scale**2
"""


def test_a_model_file_finds_its_siblings_and_may_hold_dataclasses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "sibling_of_the_model.py").write_text(SIBLING)
    (folder / "future_model.py").write_text(FUTURE)
    p = density_of("models/future_model.py:normal")
    assert float(p([2.0, 0.0])) == -0.5 and p.variables == {"x": un.Real[2]}


def test_a_model_file_of_a_library_s_name_does_not_replace_it(tmp_path):
    (tmp_path / "numpy.py").write_text(MODEL)
    assert density_of(f"{tmp_path / 'numpy.py'}:normal").name == "normal"
    import numpy

    assert numpy is np


BROKEN = {
    "syntax": (
        "import unnorm as un\n\ndef p(:\n",
        "model.py, line 3, is not valid Python (invalid syntax)",
    ),
    "indentation": ("def p():\nreturn 1\n", "line 2, is not valid Python"),
    "name": (
        "import unnorm as un\np = un.Density(nothing)\n",
        "model.py, line 2, raised NameError",
    ),
    "import": ("import no_such_module_at_all\n", "line 1, raised ModuleNotFoundError"),
    "exit": ("import sys\nsys.exit(3)\n", "line 2, raised SystemExit: 3"),
    "null byte": ("a = 1\0\n", "expected a Python file|expected a file that can be imported"),
    "lines": ("raise ValueError('one\\ntwo')\n", "line 1, raised ValueError: one two"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_model_file_is_one_sentence(case, tmp_path):
    content, words = BROKEN[case]
    (tmp_path / "model.py").write_text(content)
    done = run("sample", f"{tmp_path / 'model.py'}:p")
    assert done.exit_code == 2 and done.output.count("\n") == 1
    assert any(part in done.output for part in words.split("|"))


# -- exit codes and output -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--output", "draws.xlsx", "ends with '.xlsx'"),
        ("--output", "draws.txt", "must end with .nc or .csv or no ending, for a folder"),
        ("--output", "no/such/folder/draws.nc", "existing folder"),
        ("--draws", "many", "Error"),
        ("--process-id", "3", "process 3 of 1 cannot run"),
        ("--processes", "0", "process 0 of 0 cannot run"),
        ("--devices", "-1", "must be a positive integer"),
        ("--seed", "-1", "seed is -1"),
    ],
)
def test_bad_values_end_with_2_before_the_run(option, value, words, model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "unnorm.sampling.engine.chunked_run.Run.advance", lambda *_: pytest.fail("it ran")
    )
    done = run("sample", model, *QUICK[:-2], option, value)
    assert done.exit_code == 2 and words in " ".join(done.output.replace("│", " ").split())


def test_an_output_that_is_a_folder_is_refused(model, tmp_path):
    (tmp_path / "draws.nc").mkdir()
    assert run("sample", model, *QUICK, "--output", tmp_path / "draws.nc").exit_code == 2
    assert run("demo", "--output", tmp_path / "report.csv").exit_code == 2


def test_draws_that_do_not_pass_end_with_1_and_are_written(model, tmp_path):
    done = run(
        "sample",
        model,
        "--kernel",
        "mala",
        "--draws",
        8,
        "--warmup",
        20,
        "--output",
        tmp_path / "draws.nc",
    )
    assert done.exit_code == 1 and "[error]" in done.output
    assert [path.name for path in tmp_path.glob("*.nc")] == ["draws.nc"]


def test_a_function_that_raises_is_one_sentence(tmp_path):
    (tmp_path / "model.py").write_text(MODEL.replace("return -0.5 * x @ x", "return x + 'a'"))
    done = run("sample", f"{tmp_path / 'model.py'}:normal", *QUICK)
    assert (
        done.exit_code == 2 and done.output.startswith("Error: ") and done.output.count("\n") == 1
    )
