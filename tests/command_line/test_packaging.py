"""The wheel built from the sdist works outside the checkout."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ("florentine.csv", "iris.csv", "ozone_wind.csv", "rochdale.csv")

pytestmark = pytest.mark.slow


def run(*command, cwd):
    # PYTHONPATH could let the checkout in through the back door.
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=env, text=True, capture_output=True
    )
    assert done.returncode == 0, (
        f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    )
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build")
    tmp = tmp_path_factory.mktemp("build")
    # A copy, so that the checkout stays clean and a stale egg-info there cannot add files to the
    # sdist.
    left_out = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, tmp / "source", symlinks=True, ignore=left_out)
    # With neither --sdist nor --wheel, build makes the sdist, then the wheel from the sdist.
    run(sys.executable, "-m", "build", "--outdir", tmp / "dist", tmp / "source", cwd=tmp)
    assert len(list((tmp / "dist").glob("unnorm-*.tar.gz"))) == 1
    (built,) = (tmp / "dist").glob("unnorm-*.whl")
    return built


def test_wheel_holds_the_package_the_data_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"unnorm"}
    assert {f"unnorm/models/data/{name}" for name in DATA} <= names
    assert "unnorm/py.typed" in names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "unnorm").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}


def test_wheel_works_in_a_fresh_environment(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    bin_ = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    run(bin_ / "python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)

    where = run(
        bin_ / "python", "-c", "import unnorm; print(unnorm.__file__)", cwd=tmp_path
    ).strip()
    assert Path(where).is_relative_to(tmp_path / "env")
    rows = "from unnorm.models import load; print([len(load(n)) for n in ('iris', 'ozone_wind', 'rochdale')])"  # noqa: E501
    assert run(bin_ / "python", "-c", rows, cwd=tmp_path).strip() == "[150, 116, 665]"
    assert "demo" in run(bin_ / "unnorm", "demo", "--help", cwd=tmp_path)
