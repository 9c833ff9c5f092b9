"""Which objective fits which density to which data: the one that was named, or the first that
serves.
"""

import math
from dataclasses import dataclass
from typing import Any

from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.core.method import look_up
from unnorm.declaration.composite.missing_entries import missing_masks
from unnorm.declaration.density import Density
from unnorm.fitting.base import SmoothsData
from unnorm.fitting.checks.data_spread import without_spread
from unnorm.fitting.data.latent_variables import absent_variables, latent_variables
from unnorm.fitting.objectives.registry import (
    NCE,
    OBJECTIVES,
    ContrastiveDivergence,
    MaximumLikelihood,
    PseudoLikelihood,
    RankingNCE,
    ScoreMatching,
)
from unnorm.fitting.row_normalizers import too_many_rows
from unnorm.integration.representative_rows import count_of
from unnorm.supports.discrete import GraphSupport


@dataclass(frozen=True)
class LabelOptions:
    """Which variables may be summed out where the objective takes none that are absent."""

    max_states: int = 1024  # joint states: each is one evaluation of the density


@dataclass(frozen=True)
class OneGraphOptions:
    """The default for one observed graph, which objectives of many rows cannot take."""

    draws: int = 5_000  # simulated graphs


LABELS, ONE_GRAPH = LabelOptions(), OneGraphOptions()
Fitted = list[tuple[Density, dict[str, Any]]]  # densities, each with its data


def sum_out_labels(p: Density, events: dict, objective: Any, findings: list[Finding]) -> Density:
    """The density of the variables in the data: labels that are absent are summed out, for an
    objective that takes no latent variables.
    """
    names = absent_variables(p.variables, events)
    if objective is None or not names:
        return p
    objective = look_up(objective, OBJECTIVES, "objective", "losses|gradient")
    if objective.refuse_latent(p, events) is None or not _are_few_states(p, names, events):
        return p
    what = f"variable {', '.join(names)} is absent from the data and is summed out"
    advice = "pass it by name if it was observed"
    findings.append(Finding(what, advice, NOTE, code=FindingCode.CHOSEN_METHOD))
    return p._summing(tuple(names))


def _are_few_states(p: Density, names: list[str], events: dict) -> bool:
    """Whether the joint states of these variables can be summed over, others being observed."""
    if hasattr(p, "factors") or len(names) == len(p.variables):
        return False
    states, shapes = 1, p.shapes()
    for name in names:
        support = p.variables[name]
        if support.states is None or support.free_shape(shapes[name]) != shapes[name]:
            return False
        states *= len(support.states) ** math.prod(shapes[name])
    return states <= LABELS.max_states


def chosen(fitted: Fitted, objective: Any, weighted: bool, findings: list[Finding]) -> Any:
    """The objective as an object that serves all densities and data, and what is to be said of the
    choice.
    """
    for name in dict.fromkeys(
        name for p, events in fitted for name in absent_variables(p.variables, events)
    ):
        what = f"variable {name} is absent from the data and is taken as latent"
        findings.append(
            Finding(
                what, "pass it by name if it was observed", NOTE, code=FindingCode.CHOSEN_METHOD
            )
        )
    findings += [one for p, events in fitted for one in _missing_values(p, events)]
    if objective is None:
        objective, why = _by_default(fitted)
        findings.append(
            Finding(
                f"{type(objective).__name__} was chosen, {why}",
                "name an objective to change it",
                NOTE,
                code=FindingCode.CHOSEN_METHOD,
            )
        )
    objective = look_up(objective, OBJECTIVES, "objective", "losses|gradient")
    for p, events in fitted:
        refusal = _refusal(objective, p, events)
        if refusal:
            raise ValueError(f"{refusal}.")
    smoothed = isinstance(objective, SmoothsData) and bool(objective.smoothing)
    findings += [one for p, events in fitted for one in without_spread(p, events, smoothed)]
    if weighted and not objective.traits.supports_weights:
        raise ValueError(
            f"{type(objective).__name__} takes no sampling weights or clusters; expected an "
            "objective that takes them; use un.objectives.MaximumLikelihood, ScoreMatching or "
            "PseudoLikelihood."
        )
    return objective


def _missing_values(p: Density, events: dict) -> list[Finding]:
    """What is assumed of missing entries."""
    found = []
    for name, mask in missing_masks(p.variables, events).items():
        rows = int(mask.reshape(len(mask), -1).any(1).sum())
        what = (
            f"the missing entries of {name} ({mask.sum()} in {rows} of {len(mask)} rows) count as "
            "latent, missing at random"
        )
        found.append(Finding(what, "", NOTE, code=FindingCode.MISSING_VALUES))
    return found


def _by_default(fitted: Fitted) -> tuple[Any, str]:
    """The objective where none is named, and why it is that."""
    options: tuple[Any, ...] = (MaximumLikelihood(), ScoreMatching(), NCE())
    names = "maximum likelihood, score matching and NCE"
    if any(latent_variables(p.variables, events) for p, events in fitted):
        options = (MaximumLikelihood(), ContrastiveDivergence(persistent=True))
        names = "maximum likelihood and contrastive divergence"
    elif any(p.covariates for p, _ in fitted):
        options = (MaximumLikelihood(), PseudoLikelihood(), ScoreMatching(), RankingNCE())
        names = "maximum likelihood, pseudo-likelihood, score matching and ranking NCE"

    elif all(_is_one_graph(p, events) for p, events in fitted):
        options = (MaximumLikelihood(), MaximumLikelihood(draws=ONE_GRAPH.draws))
        names = "exact maximum likelihood and that by simulated graphs"

    def serves(option, p: Density, events: dict) -> bool:
        dear = isinstance(option, MaximumLikelihood) and too_many_rows(p, events)
        return not dear and _refusal(option, p, events) is None

    found = next(
        (option for option in options if all(serves(option, *one) for one in fitted)), options[-1]
    )
    return found, f"the first of {names} that serves {' and '.join(p.name for p, _ in fitted)}"


def _is_one_graph(p: Density, events: dict) -> bool:
    return count_of(events) == 1 and all(
        isinstance(support, GraphSupport) for support in p.variables.values()
    )


def _refusal(objective: Any, p: Density, events: dict) -> str | None:
    """Why an objective does not serve a density and its data, as a sentence, or None."""
    if not latent_variables(p.variables, events):
        return objective.refuse(p)
    return objective.refuse(p) or objective.refuse_latent(p, events)


__all__ = ["chosen", "sum_out_labels"]
