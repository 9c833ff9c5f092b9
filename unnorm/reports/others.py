"""The parts of a report on log Z, a diagnosis, and any other result."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from unnorm.core.findings import Result
from unnorm.core.messages import format_table
from unnorm.diagnostics.convergence import WORDS, Diagnosis
from unnorm.diagnostics.report import Section
from unnorm.partition.base import LogZ
from unnorm.plots.log_z import plot_log_z


def log_z_sections(estimates: Mapping[str, LogZ]) -> list[Section]:
    """One section for all estimates: a figure beside a table where there are several, and each
    one's numbers folded.
    """
    good = all(z.passed for z in estimates.values())
    findings = [
        replace(finding, what=f"{name}: {finding.what}")
        for name, z in estimates.items()
        for finding in z.findings
    ]
    folded = [Section(name, facts=z._facts()) for name, z in estimates.items()]
    if len(estimates) == 1:
        name, z = next(iter(estimates.items()))
        return [Section(name, verdict=(z.verdict, z.passed), facts=z._facts(), findings=z.findings)]
    rows = {
        name: {
            "log Z": f"{z.value:.6g}", "Standard error": f"{z.standard_error:.2g}",
            "Verdict": z.verdict,
        }
        for name, z in estimates.items()
    }  # fmt: skip
    table = pd.DataFrame.from_dict(rows, orient="index")
    return [
        Section(
            "log Z", verdict=("passed" if good else "not passed", good), table=table,
            figure=plot_log_z(estimates), beside=True, findings=findings, folded=folded,
        )
    ]  # fmt: skip


def diagnosis_section(name: str, check: Diagnosis) -> Section:
    """The table of a diagnosis."""
    return Section(
        name, verdict=_verdict(check), table=format_table(check.table).rename(columns=WORDS),
        findings=check.findings, copies={"CSV": check.table.to_csv()},
    )  # fmt: skip


def result_section(name: str, result: Result) -> Section:
    """What the card of any other result shows."""
    card = result._card()
    table = card.tables[0][1] if card.tables else None
    return Section(
        name, card.title, verdict=_verdict(result), facts=card.facts, table=table,
        findings=result.findings,
    )  # fmt: skip


def _verdict(result: Any) -> tuple[str, bool]:
    return ("passed" if result.passed else "not passed", result.passed)
