"""`un.report`: whole, self-contained, escaped, and frank about what failed."""

import dataclasses
import re

import numpy as np
import pytest
from made_fits import matrix_fit

import unnorm as un
from unnorm.core.findings import ERROR, Finding
from unnorm.diagnostics.page_style import SCRIPT
from unnorm.partition.base import LogZ

EVIL = ["</textarea><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "$x_$ \\end"]


def page_of(results, folder, **options):
    return un.report(results, folder / "report.html", **options).read_text(encoding="utf-8")


def log_z(value, **options):
    return LogZ(value, 0.1, {"values": 1, "gradients": 0}, "ok", "x: counting", "smc", **options)


def test_a_fit_has_its_header_table_network_and_call(tmp_path):
    fit = matrix_fit([2.0, -1.0, 0.1], [0.1, 0.1, 0.1])
    page = page_of(fit, tmp_path)
    assert "<dt>objective</dt><dd>nce</dd>" in page and "<dt>n</dt><dd>50</dd>" in page
    assert "x @ coupling @ x" in page  # the source of the declaration
    assert "coupling[v0,<wbr>v1]</th><td>2.00</td><td>0.10</td><td>1.80 to 2.20</td>" in page
    assert "Network of coupling" in page and "z and p of every entry" in page
    assert "Not drawn. Simulate was given a fit" in page or "Not drawn. simulate was given" in page
    assert page.count("<details>") >= 3 and 'class="beside"' in page and "<nav" in page


def test_the_page_asks_for_nothing_and_runs_its_own_script_alone(tmp_path):
    fit = matrix_fit([2.0, -1.0, 0.1], [0.1, 0.1, 0.1], labels=EVIL)
    draws = {EVIL[1]: np.random.default_rng(0).normal(size=(2, 50))}
    failed = Finding("<script>alert(2)</script>", "<b>", ERROR)
    found = {EVIL[1]: fit, "draws": un.diagnose(draws), EVIL[2]: log_z(1.0, findings=[failed])}
    page = page_of(found, tmp_path, title="<script>")
    assert re.findall(r"<script>(.*?)</script>", page, re.DOTALL) == [SCRIPT]
    assert page.count("<script") == 1 and "<img src=x" not in page
    assert page.count("<textarea") == page.count("</textarea>") == page.count("<button")
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//|@import|url\(""", page)
    assert "default-src &#x27;none&#x27;" in page and "sha256-" in page


def test_the_copies_are_whole(tmp_path):
    fit = matrix_fit(np.linspace(-1, 1, 4950), np.full(4950, 0.1))
    page = page_of(fit, tmp_path)
    assert "4,890 more rows are not shown; the copies hold all." in page
    csv = re.search(r"Copy as CSV</button><textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)[1]
    assert len(csv.strip().splitlines()) == 4951 and csv.startswith("Parameter,i,j,Estimate")
    assert page.count("<tr>") < 200


def test_failures_come_first(tmp_path):
    bad = matrix_fit([1.0, 2.0, 3.0], converged=False, findings=[Finding("it ran away", "", ERROR)])
    page = page_of([matrix_fit([1.0, 0.5, 0.1], [0.1] * 3), bad], tmp_path)
    assert page.index("Read this first") < page.index("x @ coupling @ x")
    assert "1 of the results on this page did not pass" in page and "It ran away." in page
    assert "because the fit did not converge" in page


def test_draws_and_several_log_z(tmp_path):
    draws = {"x": np.random.default_rng(0).normal(size=(4, 500, 2))}
    z = dataclasses.replace(log_z(2.0), verdict="unreliable", findings=[Finding("bad weights")])
    page = page_of([draws, log_z(1.0), z], tmp_path)
    assert "4 chains of 500 draws" in page and "<summary>Traces</summary>" in page
    assert "log Z by smc (2)" in page and "Log Z by smc (2): bad weights." in page
    assert page.count("<h2>log Z <") == 1


def test_what_cannot_be_reported(tmp_path):
    with pytest.raises(ValueError, match="must hold a fit"):
        un.report([], tmp_path / "report.html")
    with pytest.raises(TypeError):
        un.report(3, tmp_path / "report.html")
    with pytest.raises(FileNotFoundError, match="create it first"):
        un.report(log_z(1.0), tmp_path / "no" / "report.html")
    assert not list(tmp_path.iterdir())
