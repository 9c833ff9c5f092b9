"""`un.path`: the lasso over a grid of strengths."""

from typing import Any

from unnorm.core.validation import verb
from unnorm.declaration.density import Density
from unnorm.fitting.driver import fit
from unnorm.fitting.penalties.path_result import Path
from unnorm.fitting.penalties.terms import Along


@verb
def path(  # noqa: PLR0913 - the options of a verb
    p: Density,
    data: Any,
    objective: Any = None,
    *,
    penalty: Any,
    gamma: float = 0.5,
    frequency_weights: Any = None,
    sampling_weights: Any = None,
    weights: Any = None,
    cluster: Any = None,
    prior: Any = None,
    start: dict[str, Any] | None = None,
    seed: int | None = None,
    progress: bool = True,
    dtype: Any = None,
    strict: bool = False,
) -> Path:
    """Fit a density along a path of lasso strengths, each fit from where the last one ended.

    The extended BIC, 2 n loss + df log n + 4 γ df log p, df the penalised entries that
    are not zero and p the entries of an event, chooses among them where the loss is minus a mean
    log-likelihood, log-pseudo-likelihood, or the score matching loss; the loss is that of the
    penalised estimates, without the penalty.

    Args:
        p: the density, as in `un.fit`.
        data: as in `un.fit`.
        objective: as in `un.fit`; one without a sampler.
        penalty: ``{"coupling": un.L1()}``: 30 strengths from the smallest at which all entries of
            these parameters are zero down to a hundredth of it; or ``un.L1(strengths)`` with a 1-D
            array. Others may have ``un.L2`` or an ``un.L1`` of one number, which stay as they are.
        gamma: γ of the extended BIC, from 0 (the BIC) to 1: the larger, the fewer entries. Foygel
            and Drton recommend 1/2; IsingFit's default is 1/4.
        frequency_weights: as in `un.fit`.
        sampling_weights: as in `un.fit`.
        weights: as in `un.fit`.
        cluster: as in `un.fit`.
        prior: as in `un.fit`.
        start: as in `un.fit`.
        seed: as in `un.fit`.
        progress: as in `un.fit`.
        dtype: as in `un.fit`.
        strict: as in `un.fit`.

    Returns:
        `Path`: `coefficients` (strength by labelled entries), `extended_bic`, `best` (the `Fit` at
        its minimum), `passed`, `findings`.

    Raises:
        ValueError: what `un.fit` raises; no parameter whose strength moves; strengths that are no
            numbers.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, m: m @ x - 0.5 * x @ x, {"x": un.Real[2]},
        ...     {"m": (un.Real[2], 0.0)})
        >>> data = np.array([2.0, 0.1]) + np.random.default_rng(0).normal(size=(200, 2))
        >>> found = un.path(p, data, "score_matching", penalty={"m": un.L1()}, progress=False)
        >>> found.coefficients.shape, bool((found.coefficients.iloc[0] == 0).all())
        ((30, 2), True)

    References:
        Foygel and Drton (2010), arXiv:1011.6640 (extended BIC); Barber and Drton (2015),
        doi:10.1214/15-EJS1012 (pseudo-likelihood); Lin, Drton and Shojaie (2016),
        doi:10.1214/16-EJS1126 (score matching).
    """
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 <= gamma <= 1:
        raise ValueError(f"gamma is {gamma!r}; it must be between 0 and 1; pass, for example, 0.5.")
    return fit(
        p,
        data,
        objective,
        penalty=Along(penalty, float(gamma)),
        frequency_weights=frequency_weights,
        sampling_weights=sampling_weights,
        weights=weights,
        cluster=cluster,
        prior=prior,
        start=start,
        seed=seed,
        progress=progress,
        dtype=dtype,
        strict=strict,
    )
