"""The parts of a report on draws."""

import json
from collections.abc import Sequence
from typing import Any

from unnorm.core.messages import format_table
from unnorm.diagnostics.convergence import WORDS, diagnose
from unnorm.diagnostics.draws import read_draws
from unnorm.diagnostics.plots import plot_rank, plot_trace
from unnorm.diagnostics.report import Section
from unnorm.fitting.results.fit import Fit
from unnorm.fitting.results.tables import latex


def draws_sections(name: str, draws: Any, fits: Sequence[Fit]) -> list[Section]:
    """The diagnosis of draws, against the density of a fit of the same variables if one is at
    hand; traces and ranks folded.
    """
    found = read_draws(draws)
    p = _density_of(set(map(str, found.posterior.data_vars)), found.attrs, fits)
    check = diagnose(draws, p)
    against = "" if p is None else f", against the fitted {p.name}"
    facts = {
        "size": f"{found.chains} chains of {found.draws:,} draws{against}",
        **{
            key: str(found.attrs[key])
            for key in ("kernel", "seed", "biased")
            if found.attrs.get(key)
        },
    }
    table = format_table(check.table).rename(columns=WORDS)
    folded = [
        Section("Traces", figure=plot_trace(draws)),
        Section("Ranks", figure=plot_rank(draws)),
        Section("How they were made", code=_call(found.attrs), facts=_options(found.attrs)),
    ]
    return [
        Section(
            name, verdict=("passed", True) if check.passed else ("not passed", False), facts=facts,
            findings=check.findings, table=table, folded=folded,
            copies={"CSV": check.table.to_csv(), "LaTeX": latex(table)},
        )
    ]  # fmt: skip


def _density_of(names: set[str], attrs: dict, fits: Sequence[Fit]) -> Any:
    """The density of the one fit that these draws are of."""
    known = [
        fit.density
        for fit in fits
        if not isinstance(fit.density, list)
        and not fit.density.covariates
        and set(fit.density.variables) == names
        and fit.density.name == attrs.get("density")
    ]
    return known[0] if len(known) == 1 else None


def _options(attrs: dict) -> dict[str, str]:
    """Options and versions of a run, of which only this library's own attributes are read."""
    found: dict[str, str] = {}
    for key in ("options", "versions"):
        try:
            held = json.loads(attrs.get(key) or "{}")
        except (TypeError, ValueError):
            continue
        if isinstance(held, dict):
            found |= {str(name): str(value)[:200] for name, value in held.items()}
    return found


def _call(attrs: dict) -> str | None:
    """The call of `un.sample` that makes the draws again."""
    if not attrs.get("kernel"):
        return None
    options = _options({"options": attrs.get("options")})
    given = [
        f"{key}={options[key]}" for key in ("draws", "warmup", "chains", "thin") if key in options
    ]
    given.append(f"seed={attrs.get('seed')}")
    return f"un.sample({attrs.get('density')}, {attrs['kernel']!r}, {', '.join(given)})"
