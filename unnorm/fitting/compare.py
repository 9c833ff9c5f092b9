"""`un.compare`: fits held against each other on held-out data, by likelihood and by score
matching.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from unnorm.core.compilation.policy import compiled
from unnorm.core.display import Card
from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode, Result, join_names
from unnorm.core.messages import pluralize, significant, table_text
from unnorm.core.method import registry_name
from unnorm.core.progress import bar
from unnorm.core.random_keys import make_key
from unnorm.core.validation import verb
from unnorm.declaration.density import cast
from unnorm.fitting.data import read_data
from unnorm.fitting.inference.information_criteria import (
    CRITERIA,
    information_criterion,
    same_scale,
)
from unnorm.fitting.inference.likelihood_ratio import likelihood_ratios
from unnorm.fitting.objectives.registry import ScoreMatching
from unnorm.fitting.results.fit import Fit
from unnorm.fitting.row_normalizers import latent_variables

CLEAR = 2.0  # standard errors beyond which a difference is one
H_SCORE = "h_score (lower is better)"


@dataclass(repr=False)
class Comparison(Result):
    """Fits on held-out data, a row of `table` each; the findings say where the two criteria part,
    and what is missing.

    Attributes:
        table: the DataFrame that `un.compare` describes.
        rows: how many held-out rows there were.
        likelihood_ratio: of nested fits, on the rows that they were fitted to: a row for each pair
            (small, large) with the columns likelihood_ratio, degrees_of_freedom and p.
    """

    table: pd.DataFrame
    rows: int
    findings: list[Finding] = field(default_factory=list)
    likelihood_ratio: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __repr__(self) -> str:
        notes = [
            f"Comparison of {pluralize(len(self.table), 'fit')} on {pluralize(self.rows, 'row')}"
        ]
        for column, words, sign in (
            ("log_likelihood", "log-likelihood", 1),
            (H_SCORE, "H-score", -1),
        ):
            if column in self.table and self.table[column].notna().any():
                notes.append(f"the {words} is best for {(sign * self.table[column]).idxmax()}")
        return ": ".join([notes[0], ", ".join(notes[1:])]) if notes[1:] else notes[0]

    def __str__(self) -> str:
        table = table_text(self.table.dropna(axis=1, how="all").T)
        parts = [repr(self), table, *self._ratio_sentences()]
        return "\n".join([*parts, *([self._findings_text()] if self.findings else [])])

    def _ratio_sentences(self) -> list[str]:
        """The likelihood ratios, a sentence each."""
        return [
            f"likelihood ratio of {small} in {large}: {row.likelihood_ratio:.2f} on "
            f"{row.degrees_of_freedom:.0f} degrees of freedom, p = {significant(float(row.p))}"
            for (small, large), row in self.likelihood_ratio.iterrows()
        ]

    def _card(self) -> Card:
        table = self.table.dropna(axis=1, how="all").T.map(significant)
        facts = {
            sentence.partition(":")[0]: sentence.partition(": ")[2]
            for sentence in self._ratio_sentences()
        }
        return Card(repr(self), "passed" if self.passed else "not passed", facts, (("", table),))


@verb
def compare(fits: Mapping[str, Fit], held_out: Any, *, progress: bool = True) -> Comparison:
    """Hold fits against each other on data that none of them has seen.

    Two criteria, both sums over the n held-out rows: the log-likelihood Σ log p(x_i), which needs
    log Z; and the H-score, score matching's loss Σ_i Σ_j h_j' ∂_j + h_j (∂_jj + ½ ∂_j²) of log p̃
    at x_i, which needs none, with the same h (that of the fits by score matching where they share
    one, else min(u, 1)) and the same scales, the held-out columns' standard deviations, for every
    fit. Score matching cannot see the weights of well separated modes: where the likelihood clearly
    prefers a fit that the H-score does not, a finding says so.

    Args:
        fits: ``{name: fit}``, at least two, of the same variables.
        held_out: data as `un.fit` takes them.
        progress: show a bar.

    Returns:
        `Comparison`: `passed`, `findings`, and `table`, a row a fit, with the columns
        log_likelihood, its monte_carlo_error (of n log Z) and sampling_error;
        log_likelihood_difference to the best (0 or below) and its error √n sd(log p(x_i) − log
        p_best(x_i)) with both Monte Carlo errors, of the fitted densities as they stand; the same
        for "h_score (lower is better)" where all variables are continuous; and, of fits by score
        matching and by NCE, on the rows that they were fitted to, n · mean loss + tr(J H⁻¹), J the
        covariance of the rows' scores and H the curvature: "smic (lower is better)" and "ncic
        (lower is better)" (twice that is on AIC's scale). A fit without a log Z to believe has NaN
        and a finding. `likelihood_ratio` tests fits by maximum likelihood of which one is the other
        with parameters fixed (`p.fix(...)`), Λ = 2 (ℓ̂_large − ℓ̂_small) against χ²; p is NaN, and
        a finding says why, where a parameter is fixed at its bound or a variable is latent.

    Raises:
        ValueError: fewer than two fits, fits of different variables or supports, data that do not
            fit.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, shift: -0.5 * (x - shift) ** 2, {"x": un.Real},
        ...     {"shift": (un.Real, 0.0)})
        >>> data = np.random.default_rng(0).normal(1.0, 1.0, 100)
        >>> fits = {"free": un.fit(p, data[:50], "score_matching", seed=0, progress=False),
        ...         "half": un.fit(p, data[:5], "score_matching", seed=0, progress=False)}
        >>> compared = un.compare(fits, data[50:], progress=False)
        >>> float(compared.table["log_likelihood_difference"].max())
        0.0

    References:
        Matsuda, Uehara and Hyvärinen (2021), JMLR 22(158), arXiv:1905.05976 (information criteria);
        Dawid, Musio and Ventura (2016), doi:10.1111/sjos.12168 (the H-score); Wenliang and Kanagawa
        (2020), arXiv:2008.10087 (its blindness); Vehtari, Gelman and Gabry (2017),
        doi:10.1007/s11222-016-9696-4 (paired differences); Wilks (1938),
        doi:10.1214/aoms/1177732360 (the likelihood ratio).
    """
    read = _read(fits, held_out)
    findings = _known(fits, read)
    rows = len(next(iter(next(iter(read.values()))[1].values())))
    with bar("Comparing fits", len(fits), progress) as shown:
        likelihoods = {
            name: _likelihood(name, fit, held_out, findings, shown) for name, fit in fits.items()
        }
    h_scores = _h_scores(fits, read, findings)
    table = pd.DataFrame(likelihoods.values(), index=pd.Index(fits, name="fit")).drop(
        columns="pointwise"
    )
    logs = {name: found["pointwise"] for name, found in likelihoods.items()}
    table = table.join(
        _differences("log_likelihood", logs, table["monte_carlo_error"], best=np.argmax)
    )
    if len(h_scores) > 1:
        table[H_SCORE] = pd.Series({name: rows.sum() for name, rows in h_scores.items()})
        table = table.join(_differences("h_score", h_scores, 0 * table[H_SCORE], best=np.argmin))
        findings += _blind_spots(table, h_scores)
    for objective, column in CRITERIA.items():
        given = {name: fit for name, fit in fits.items() if fit.objective == objective}
        if given:
            table[column] = pd.Series(
                {name: information_criterion(fit) for name, fit in given.items()}
            )
            findings += _on_other_scales(
                column, {n: fit for n, fit in given.items() if table[column].notna()[n]}
            )
    return Comparison(table, rows, findings, likelihood_ratios(fits, findings))


# -- at the door -----------------------------------------------------------------------------------
def _read(fits: Any, held_out: Any) -> dict[str, tuple[Any, dict[str, np.ndarray]]]:
    """Each fit's density at the data's dimensions, and the data, or a sentence."""
    good = (
        isinstance(fits, Mapping)
        and len(fits) > 1
        and all(isinstance(fit, Fit) for fit in fits.values())
    )
    if not good:
        found = f"{len(fits)} entries" if isinstance(fits, Mapping) else type(fits).__name__
        raise ValueError(
            f"fits is {found}; expected a dict of two fits or more by name; pass, for example, "
            "{'a': a, 'b': b}."
        )
    for fit in fits.values():
        fit._refuse_several("compare")
    read = {name: read_data(fit.density, held_out) for name, fit in fits.items()}
    (first, (one, _)), *others = read.items()
    for name, (p, _) in others:
        own, expected = ({v: (s, d.shapes()[v]) for v, s in d.variables.items()} for d in (p, one))
        if own != expected or set(p.covariates) != set(one.covariates):
            raise ValueError(
                f"Fit {name!r} is of {_variables(p)} and {first!r} of {_variables(one)}; expected "
                "the same variables and supports, because densities with respect to different "
                "measures cannot be compared; leave one out."
            )
    return read


def _variables(p) -> str:
    return ", ".join(
        f"{name}: {support!r}" for name, support in (p.variables | p.covariates).items()
    )


def _known(fits: Mapping[str, Fit], read: dict) -> list[Finding]:
    """What is known of the fits before they are held against each other."""
    notes = []
    failed = [repr(name) for name, fit in fits.items() if not fit.passed]
    if failed:
        notes.append(
            Finding(
                f"{join_names(failed)} did not pass as a fit",
                "print the fit, and read its findings",
                WARNING,
                code=FindingCode.FIT_DID_NOT_PASS,
            )
        )
    seen = [
        repr(name) for name, fit in fits.items() if fit._origin and _are_rows_of(fit, read[name][1])
    ]
    if seen:
        what = (
            f"the held-out rows are those that {join_names(seen)} "
            f"{'were' if len(seen) > 1 else 'was'} fitted to"
        )
        notes.append(
            Finding(
                what,
                "read the differences as flattery of the fit with more parameters",
                WARNING,
                code=FindingCode.ROWS_SEEN_IN_FIT,
            )
        )
    return notes


def _are_rows_of(fit: Fit, events: dict) -> bool:
    problem = fit._origin.problem
    rows = problem.events if problem.given is None else problem.given
    return all(
        np.array_equal(rows[variable], values, equal_nan=True)
        for variable, values in events.items()
    )


# -- the two criteria ------------------------------------------------------------------------------
def _likelihood(
    name: str, fit: Fit, held_out: Any, findings: list[Finding], shown
) -> dict[str, Any]:
    try:
        found = fit.log_likelihood(held_out)
    except ValueError as reason:  # the data fit: it is log Z that is not at hand
        what = f"{name!r} has no log-likelihood: {str(reason).rstrip('.')}"
        findings.append(
            Finding(
                what,
                "compare it by its H-score alone, or estimate its log Z by hand",
                ERROR,
                code=FindingCode.NO_LOG_Z,
            )
        )
        return dict.fromkeys(
            ("log_likelihood", "monte_carlo_error", "sampling_error", "pointwise"), np.nan
        )
    finally:
        shown.step(1, name)
    return {
        "log_likelihood": found.value,
        "monte_carlo_error": found.monte_carlo_error,
        "sampling_error": found.sampling_error,
        "pointwise": found.pointwise,
    }


def _h_scores(
    fits: Mapping[str, Fit], read: dict, findings: list[Finding]
) -> dict[str, np.ndarray]:
    """The H-score of every row, by fit; none, and a note, where score matching has another meaning
    or no form.
    """
    weights = {fit._origin.problem.objective.h for fit in fits.values() if _by_score_matching(fit)}
    objective = ScoreMatching(h=weights.pop()) if len(weights) == 1 else ScoreMatching()
    p, events = next(iter(read.values()))
    refusal = objective.refuse(p)
    if any(support.discrete for support in p.variables.values()):
        refusal = f"{_variables(p)} is discrete"
    elif latent_variables(p, events):
        refusal = f"{latent_variables(p, events)[0]} is latent, or missing in some rows"
    if refusal is None and len(next(iter(events.values()))) < 2:
        refusal = "one row tells no spread"
    if refusal is not None:
        findings.append(
            Finding(f"there is no H-score: {refusal}", "read the log-likelihoods", NOTE)
        )
        return {}
    with jax.enable_x64(True):
        rows = cast(events, jnp.float64)
        state = objective.prepare(cast(p.for_jit(), jnp.float64), rows, make_key(0))
        found = {}
        for name, (p, _) in read.items():
            density = cast(p.for_jit(), jnp.float64)
            violated = [f for f in objective.findings(density, state, rows) if f.severity == ERROR]
            if violated:
                findings.append(_no_h_score(name, violated[0]))
            else:
                found[name] = np.asarray(_h_score(objective, density, state, rows))
        return found


def _no_h_score(name: str, violated: Finding) -> Finding:
    what = f"{name!r} has no H-score: {violated.what}"
    return Finding(what, "compare it by its log-likelihood", WARNING, violated.code)


def _by_score_matching(fit: Fit) -> bool:
    return fit._origin is not None and (
        registry_name(type(fit._origin.problem.objective)) == "score_matching"
    )


@compiled
def _h_score(objective, density, state, events) -> jax.Array:
    return objective.losses(density, state, events)


def _difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Of two sums over the same rows, and its standard error."""
    each = one - other
    return float(each.sum()), float(np.sqrt(len(each)) * each.std(ddof=1)) if len(
        each
    ) > 1 else np.nan


def _differences(name: str, pointwise: dict[str, Any], noise: pd.Series, best) -> pd.DataFrame:
    """The differences of sums to the best one, with their errors; NaN for what has no value."""
    known = {fit: values for fit, values in pointwise.items() if np.ndim(values)}
    out = pd.DataFrame(
        np.nan, index=noise.index, columns=[f"{name}_difference", f"{name}_difference_error"]
    )
    if known:
        first = list(known)[int(best([values.sum() for values in known.values()]))]
        for fit, values in known.items():
            value, error = _difference(values, known[first])
            out.loc[fit] = (
                (0.0, 0.0)
                if fit == first
                else (value, float(np.hypot(error, np.hypot(*noise[[fit, first]]))))
            )
    return out


# -- the verdict -----------------------------------------------------------------------------------
def _blind_spots(table: pd.DataFrame, h_scores: dict[str, np.ndarray]) -> list[Finding]:
    """Where the likelihood clearly prefers its best fit to one that the H-score finds as good, or
    better.
    """
    if table["log_likelihood"].isna().all():
        return []
    first, notes = table["log_likelihood"].idxmax(), []
    for name, row in table.iterrows():
        gap, error = -row["log_likelihood_difference"], row["log_likelihood_difference_error"]
        if name == first or not {name, first} <= set(h_scores) or not gap > CLEAR * error:
            continue
        away, spread = _difference(h_scores[name], h_scores[first])
        if away > CLEAR * spread:
            continue
        verdict = "calls the two alike" if away >= -CLEAR * spread else f"prefers {name!r}"
        what = (
            f"the log-likelihood prefers {first!r} to {name!r} by {gap:.4g} (standard error "
            f"{error:.2g}), and the "
            f"H-score {verdict} (difference {away:.4g}, standard error {spread:.2g}): score "
            "matching cannot see the "
            "weights of separated modes, and has less power elsewhere"
        )
        advice = (
            "believe the log-likelihood, and compare the modes' shares in un.simulate with those "
            "in the data"
        )
        notes.append(Finding(what, advice, WARNING, code=FindingCode.CRITERIA_DISAGREE))
    return notes


def _on_other_scales(column: str, fits: dict[str, Fit]) -> list[Finding]:
    apart = [
        f"{a!r} and {b!r}"
        for a, b in itertools.combinations(fits, 2)
        if not same_scale(fits[a], fits[b])
    ]
    if not apart:
        return []
    what = (
        f"the {column.split()[0].upper()} of {join_names(apart)} are of other rows or other "
        "options, and do not compare"
    )
    return [
        Finding(
            what,
            "fit them to the same rows with the same options",
            WARNING,
            code=FindingCode.CRITERIA_DISAGREE,
        )
    ]
