"""`un.compare`: fits held against each other on held-out data, by likelihood and by score
matching.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode, join_names
from unnorm.core.progress import bar
from unnorm.core.validation import verb
from unnorm.fitting.comparison.differences import blind_spots, differences
from unnorm.fitting.comparison.h_score import describe_variables, held_out_h_scores
from unnorm.fitting.comparison.likelihood_ratio import likelihood_ratios
from unnorm.fitting.comparison.result import H_SCORE, Comparison
from unnorm.fitting.data.read import read_data
from unnorm.fitting.inference.information_criteria import (
    CRITERIA,
    information_criterion,
    same_scale,
)
from unnorm.fitting.results.fit import Fit


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
    h_scores = held_out_h_scores(fits, read, findings)
    table = pd.DataFrame(likelihoods.values(), index=pd.Index(fits, name="fit")).drop(
        columns="pointwise"
    )
    logs = {name: found["pointwise"] for name, found in likelihoods.items()}
    table = table.join(
        differences("log_likelihood", logs, table["monte_carlo_error"], best=np.argmax)
    )
    if len(h_scores) > 1:
        table[H_SCORE] = pd.Series({name: rows.sum() for name, rows in h_scores.items()})
        table = table.join(differences("h_score", h_scores, 0 * table[H_SCORE], best=np.argmin))
        findings += blind_spots(table, h_scores)
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
                f"Fit {name!r} is of {describe_variables(p)} and {first!r} of "
                f"{describe_variables(one)}; expected the same variables and supports, because "
                "densities with respect to different measures cannot be compared; leave one out."
            )
    return read


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
