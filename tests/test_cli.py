"""The commands `unnorm sample` and `unnorm resume`."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from unnorm.cli import app

MODEL = """
import unnorm as un


@un.density
def normal(x: un.Real[2]):
    return -0.5 * x @ x


number = 3
"""
QUICK = ["--kernel", "mala", "--draws", "200", "--warmup", "100", "--seed", "1"]


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    return f"{tmp_path / 'model.py'}:normal"


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_sample_prints_the_diagnosis_and_writes_the_draws(model, tmp_path):
    import xarray

    done = run("sample", model, *QUICK, "--output", tmp_path / "draws.nc")
    assert done.exit_code == 0 and "r_hat" in done.output and "x[1]" in done.output
    with xarray.open_datatree(tmp_path / "draws.nc", engine="h5netcdf") as draws:
        assert draws.posterior["x"].shape == (4, 200, 2) and draws.attrs["seed"] == 1


def test_resume_goes_on_to_the_same_table(model, tmp_path):
    first = run("sample", model, *QUICK, "--store", tmp_path / "run.d")
    state = tmp_path / "run.d" / "state.json"
    state.write_text(json.dumps({k: v for k, v in json.loads(state.read_text()).items() if int(k) < 7}))
    again = run("resume", tmp_path / "run.d", model)
    assert first.exit_code == again.exit_code == 0 and first.output == again.output
    assert np.load(tmp_path / "run.d" / "events" / "x.npy").shape == (200, 4, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "nothing.py:p"], "names no density"),
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
    assert done.exit_code == 1 and words in done.output and done.output.count("\n") == 1
