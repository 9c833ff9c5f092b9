"""The commands beside sample and resume: tables in, results as text, JSON and files out."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import unnorm as un
from unnorm.cli import app

MODEL = """
import unnorm as un


@un.density
def exponential(x: un.Positive, *, rate: un.Positive = 1.0):
    \"\"\"Waiting times.\"\"\"
    return -rate * x


@un.density
def gamma(x: un.Positive, *, rate: un.Positive = 1.0, shape: un.Positive = 1.0):
    return (shape - 1) * un_log(x) - rate * x


def un_log(x):
    import jax.numpy as jnp

    return jnp.log(x)


@un.density
def ising(x: un.Binary["d"], *, field: un.Real["d"] = 0.0):
    return field @ x
"""
WAITS = np.random.default_rng(0).exponential(0.5, 80)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    (folder / "model.py").write_text(MODEL)
    table = pd.DataFrame({"x": WAITS, "household": np.arange(80) // 4, "times": 2})
    table.to_csv(folder / "waits.csv", index=False)
    np.savez(folder / "waits.npz", x=WAITS)
    (folder / "broken.csv").write_bytes(b"\xff\xfe\x00")
    answers = np.random.default_rng(1).integers(0, 2, (40, 2))
    pd.DataFrame(answers, columns=["a", "b"]).to_csv(folder / "answers.csv", index=False)
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


FIT = ("fit", "model.py:exponential", "--data", "waits.csv", "--columns", "x", "--seed", 0)


def test_fit_prints_the_estimate_and_saves_it(run, folder):
    """The rate's maximum likelihood estimate is one over the mean, its error that over √n."""
    done = run(*FIT, "--objective", "maximum-likelihood", "--json", "--output", "fit.npz")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["kind"] == "Fit" and found["passed"] and found["rows"] == 80
    (row,) = found["parameters"]
    assert row["parameter"] == "rate" and row["estimate"] == pytest.approx(1 / WAITS.mean())
    assert "fit.npz" in done.stderr and "fit.npz" not in done.stdout
    shown = run("show", "model.py:exponential")
    assert shown.exit_code == 0 and "rate: Positive" in shown.stdout and "-rate * x" in shown.stdout
    z = run("logz", "model.py:exponential", "--fit", "fit.npz", "--json")
    assert json.loads(z.stdout)["value"] == pytest.approx(np.log(WAITS.mean()), abs=1e-6)


def test_weights_and_clusters_are_columns(run):
    arguments = (*FIT, "--objective", "maximum-likelihood", "--json", "--frequency-weights")
    doubled = json.loads(run(*arguments, "times").stdout)
    assert doubled["rows"] == 160
    clustered = run(*FIT, "--objective", "maximum-likelihood", "--cluster", "household")
    assert clustered.exit_code == 0


@pytest.mark.parametrize("table", ["waits.npz"])
def test_tables_of_other_formats(run, table):
    done = run("fit", "model.py:exponential", "--data", table, "--objective", "score_matching")
    assert "rate" in done.stdout and "Traceback" not in done.output


def test_columns_become_the_entries_of_a_vector(run):
    done = run("fit", "model.py:ising", "--data", "answers.csv", "--json", "--output", "ising.csv")
    assert [row["i"] for row in json.loads(done.stdout)["parameters"]] == ["a", "b"]
    assert len(pd.read_csv("ising.csv")) == 2


def test_compare_fits_and_holds_them_against_each_other(run):
    models = ("model.py:exponential", "model.py:gamma")
    done = run(
        "compare", *models, "--data", "waits.csv", "--columns", "x", "--seed", 0, "--json",
        "--objective", "maximum_likelihood",
    )  # fmt: skip
    rows = json.loads(done.stdout)["table"]
    assert len(rows) == 2 and all(np.isfinite(row["log_likelihood"]) for row in rows)


def test_simulate_writes_tables(run):
    arguments = ("model.py:exponential", "--data", "waits.npz", "--rows", 7, "--replicates", 2)
    done = run("simulate", *arguments, "--seed", 0, "--output", "new.csv")
    table = pd.read_csv("new.csv")
    assert len(table) == 14 and (table["x"] > 0).all() and done.stdout == ""


def test_draws_go_into_a_run_folder_and_are_diagnosed_again(run, folder):
    done = run(
        "sample", "model.py:exponential", "--seed", 0, "--draws", 500, "--warmup", 300,
        "--output", "run", "--json",
    )  # fmt: skip
    assert json.loads(done.stdout)["kind"] == "Diagnosis"
    assert {path.name for path in (folder / "run").iterdir()} == {
        "draws.nc", "diagnosis.json", "summary.csv",
    }  # fmt: skip
    again = run("diagnose", "run", "model.py:exponential", "--json")
    assert again.exit_code == done.exit_code
    (first,), (second,) = (json.loads(one.stdout)["table"] for one in (done, again))
    assert first.pop("index") == second.pop("index") == "x"
    assert second == pytest.approx(first, rel=1e-9)


def test_models_lists_the_families(run):
    done = run("models", "--json")
    assert json.loads(done.stdout).keys() == un.models.FAMILIES.keys()


def test_a_report_of_log_z(run, folder):
    done = run("report", "model.py:exponential", "--logz", "--seed", 0, "--output", "waits.html")
    assert done.exit_code == 0 and "exponential" in (folder / "waits.html").read_text()


@pytest.mark.slow
def test_a_report_of_a_fit(run, folder):
    done = run("report", "model.py:exponential", "--data", "waits.npz", "--output", "waits.html")
    assert done.exit_code == 0 and "rate" in (folder / "waits.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fit", "model.py:exponental", "--data", "waits.csv"), "did you mean 'exponential'"),
        (("fit", "model.py:exponential", "--data", "absent.csv"), "absent.csv does not exist"),
        (("fit", "model.py:exponential", "--data", "model.py"), "must be a table"),
        (("fit", "model.py:exponential", "--data", "broken.csv"), "cannot be read"),
        ((*FIT[:4], "--columns", "z"), "column 'z' is not in waits.csv"),
        ((*FIT, "--objective", "nze"), "did you mean 'nce'"),
        ((*FIT, "--output", "fit.pdf"), "must end with .npz or .csv"),
        (("logz", "model.py:exponential", "--estimator", "smcc"), "did you mean 'smc'"),
        (("logz", "model.py:exponential", "--draws", "absent.nc"), "does not exist"),
        (("compare", "model.py:gamma", "--data", "waits.csv"), "two or more"),
        (("report", "model.py:exponential"), "nothing to show"),
        (("diagnose", "waits.csv"), "cannot be read"),
        (("fti", "model.py:exponential"), "Did you mean"),
    ],
)
def test_bad_input_is_a_sentence_and_ends_with_2(run, arguments, words):
    done = run(*arguments)
    said = " ".join(done.output.replace("│", " ").split())
    assert done.exit_code == 2 and words in said and "Traceback" not in said


def test_help_imports_no_jax():
    code = "import sys, unnorm.cli; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "command", [c.name or c.callback.__name__ for c in app.registered_commands]
)
def test_every_command_has_an_example(command):
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0 and "Example: unnorm" in done.output
