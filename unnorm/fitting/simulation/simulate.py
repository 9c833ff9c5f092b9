"""`un.simulate`: data sets drawn from a fit, for posterior predictive checks."""

import json
from typing import Any

import jax
import numpy as np

from unnorm.core.findings import FindingCode
from unnorm.core.random_keys import make_key
from unnorm.core.validation import verb
from unnorm.fitting.inference.sandwich import NoCovarianceError
from unnorm.fitting.results.fit import Fit
from unnorm.fitting.simulation.data_sets import data_sets, is_listed
from unnorm.sampling.output.datatree import predictive_tree, provenance


@verb
def simulate(
    fit: Fit,
    rows: int | None = None,
    replicates: int = 100,
    seed: int | None = None,
    *,
    progress: bool = True,
) -> Any:
    """Draw data sets from a fitted density: what the data would look like, were the model true.

    x*_bi ~ p(x; θ̂) for b = 1..replicates and i = 1..rows, independent of each other: exactly where
    there are at most 2^14 states; at covariates, by the inverse of the distribution function of
    each row's response, a count or continuous; else by up to 1,000 chains that forgot their starts,
    shuffled over the data sets. θ̂ is held, so that the spread of the data sets is that of sampling
    alone.

    Args:
        fit: what `un.fit` returned in this process. Sampling weights of its rows are left out of
            account.
        rows: events per data set; None: as many as were observed.
        replicates: how many data sets.
        seed: an integer; None draws one and records it.
        progress: show a bar where chains take long.

    Returns:
        An `xarray.DataTree` with the groups posterior_predictive, (chain, draw, row, ...) with one
        chain and a data set a draw, and observed_data, (row, ...): the rows that the fit was made
        on. ArviZ's checks take it as it stands. Dimensions keep their labels; where the density has
        a dimension "row" itself, that of the rows is "data_row".

    Raises:
        ValueError: a fit that was loaded or trained on batches of the user's, for its data are not
            here; one that cannot be normalized; covariates with several responses that cannot be
            listed, or with another number of rows; chains that do not forget their starts.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, field: field * x, {"x": un.Binary},
        ...     {"field": (un.Real, 0.0)})
        >>> fit = un.fit(p, [0, 1, 1, 1, 0], "maximum_likelihood", seed=0, progress=False)
        >>> simulated = un.simulate(fit, replicates=2000, seed=0)
        >>> dict(simulated["posterior_predictive"].sizes)
        {'chain': 1, 'draw': 2000, 'row': 5}
        >>> abs(float(simulated["posterior_predictive"]["x"].mean()) - 3 / 5) < 0.02
        True

    References:
        Gelman, Meng and Stern (1996), Statistica Sinica 6, 733-760; Hunter, Goodreau and Handcock
        (2008), doi:10.1198/016214507000000446 (of fitted graphs).
    """
    _check(fit, rows, replicates, seed)
    entropy: Any = np.random.SeedSequence().entropy
    seed = int(entropy % 2**31) if seed is None else seed
    problem, density = fit._origin.problem, fit._origin.loss.density
    with jax.enable_x64(problem.is_double):
        try:
            drawn = data_sets(density, problem.events, make_key(seed), replicates, rows, progress)
        except NoCovarianceError as reason:
            raise ValueError(
                f"{str(reason)[0].upper()}{str(reason)[1:]}; {reason.finding.advice}."
            ) from None
        drawn, observed = jax.tree.map(np.asarray, (drawn, problem.events))
    fitted: Any = fit.density
    attributes = {
        "density": fitted.name,
        "objective": fit.objective,
        "draws": _how_drawn(density),
        "seed": seed,
        "versions": json.dumps(provenance()),
    }
    drawn = {
        name: drawn[name] for name in fitted.variables if name in drawn
    }  # no covariates, nothing latent
    return predictive_tree(fitted, drawn, observed, attributes)


def _how_drawn(density: Any) -> str:
    if is_listed(density):
        return "exact, from the list of all states"
    if density.covariates:
        return "by the inverse of each row's distribution function"
    return "by Markov chains"


def _check(fit: Any, rows: Any, replicates: Any, seed: Any) -> None:
    if not isinstance(fit, Fit):
        raise ValueError(
            f"simulate was given {type(fit).__name__}; expected a fit; pass the result of un.fit."
        )
    fit._refuse_several("simulate")
    assert not isinstance(fit.density, list)
    for name, value, least in (("rows", rows, 1), ("replicates", replicates, 1), ("seed", seed, 0)):
        wrong = isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least
        if wrong and not (value is None and name != "replicates"):
            raise ValueError(
                f"{name} is {value!r}; expected an integer of at least {least}; correct it."
            )
    if fit._origin is None or fit._origin.problem.batches is not None:
        raise ValueError(
            f"simulate was given a fit of {fit.density.name} that was loaded or trained on "
            "batches, without its data; expected a fit made in this process on data in one "
            "piece; fit again, or use un.sample(fit.density)."
        )
    improper = next((f.what for f in fit.findings if f.code == FindingCode.NOT_NORMALIZABLE), None)
    if improper:
        raise ValueError(
            f"simulate was given a fit that cannot be normalized ({improper}); expected a fit "
            "with a finite Z; restrict its parameters, and fit again."
        )
