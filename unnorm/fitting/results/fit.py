"""What a fit returns."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from unnorm.core.findings import Finding
from unnorm.core.messages import pluralize
from unnorm.core.validation import verb
from unnorm.declaration.density import Density
from unnorm.fitting.edge_stability.fit_refits import edge_stability
from unnorm.fitting.edge_stability.result import EdgeStability
from unnorm.fitting.inference.intervals import interval
from unnorm.fitting.inference.profile_likelihood import profile
from unnorm.fitting.inference.sandwich import Covariance
from unnorm.fitting.results.entries import EntryIndex, entry_bounds, entry_index, entry_labels
from unnorm.fitting.results.flow_likelihood import NoisePath
from unnorm.fitting.results.log_likelihood import LogLikelihood, log_likelihood
from unnorm.fitting.results.predictions import predict, residuals
from unnorm.fitting.results.readable import ReadableFit
from unnorm.fitting.results.serialization import save


class FitLogZ(NamedTuple):
    """log Z after a fit, with its two errors apart.

    `monte_carlo_error` is that of log Z at this estimate (another seed would change it),
    `sampling_error` that of log Z at the true parameters (another data set would change it).
    `standard_error` is both together.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive},
        ...     {"rate": (un.Positive, 1.0)})
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], "maximum_likelihood", seed=0, progress=False)
        >>> fit.log_z  # log Z = -log rate
        log Z = 0.69315 (Monte Carlo error 0, sampling error 0.4)
    """

    value: float
    monte_carlo_error: float
    sampling_error: float

    @property
    def standard_error(self) -> float:
        return float(np.hypot(self.monte_carlo_error, self.sampling_error))

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return (
            f"log Z = {self.value:.5f} (Monte Carlo error {self.monte_carlo_error:.2g}, "
            f"sampling error {self.sampling_error:.2g})"
        )


@dataclass(frozen=True, repr=False, eq=False)
class Fit(ReadableFit):
    """A fitted density: estimates with their errors, log Z, findings and a verdict.

    Attributes:
        density: the density at the estimate, ready to be sampled and normalized; of several data
            sets a list.
        objective: the registry name of the objective; `target` says which fixed point it aims at.
        converged: whether the optimiser got to the objective's own fixed point and, for a network,
            whether draws of it are like the data.
        log_z: `FitLogZ`, or None where the method gives none and log Z is not at hand exactly (then
            run `un.log_z`); of several data sets a list.
        history: the loss by step (contrastive divergence: the step's length in its metric, for it
            has no loss).
        monte_carlo_error: the part of each standard error that another seed would change, as a
            labelled Series.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, m: m * x - 0.5 * x**2, {"x": un.Real},
        ...     {"m": (un.Real, 0.0)})
        >>> fit = un.fit(p, [1.0, 2.0, 3.0], "score_matching", progress=False)
        >>> fit.passed, round(float(fit.density.parameters["m"]), 4)
        (True, 2.0)
    """

    density: Density | list[Density]
    objective: str
    target: str
    converged: bool
    log_z: FitLogZ | list[FitLogZ | None] | None
    history: np.ndarray
    seed: int
    rows: int
    findings: list[Finding] = field(default_factory=list)
    likelihood: bool = False
    _estimates: np.ndarray = field(default_factory=lambda: np.zeros(0))
    _covariance: Covariance | None = None  # of the free entries
    _free_covariance: np.ndarray | None = None  # of the free parameters
    _degrees: float = np.inf  # of freedom of the intervals
    _location: Any = None  # where the data lay, if log Z is at hand exactly
    _refit: Any = None  # (fit, replicates, seed) to a bootstrap
    _parts: Any = None  # of several data sets: a fit of each
    _log_likelihood: float | None = None  # of the data at the estimate, where it is exact
    _penalized: bool = False  # by a penalty or a prior
    _path: NoisePath | None = None  # of a noise-conditional density
    _origin: Any = None  # `problem.Origin`; None for a fit that was loaded

    @property
    def passed(self) -> bool:
        return self.converged and super().passed

    def _labels(self) -> list[str]:
        return entry_labels(self.density)

    def _index(self) -> EntryIndex:
        return entry_index(self.density)

    def _bounds(self) -> list[tuple[float, float]]:
        return entry_bounds(self.density)

    @verb
    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """Estimates, standard errors and intervals, each free entry once; intervals respect the
        parameters' bounds.

        The index has the levels parameter, i and j (k, l where a parameter has more axes), with the
        labels of named dimensions; those of a scalar are empty. A lookup also takes an entry's
        flat label: ``summary().loc["coupling[a,b]"]``, and ``summary().loc["rate"]`` of a scalar.

        From fewer than 100 rows, fewer than 10 a parameter, or fewer than 50 clusters, the standard
        errors are the jackknife's and the intervals Student's; a finding says so.
        """
        errors = self._errors(None if self._covariance is None else self._covariance.total)
        listed = zip(self._estimates, errors, self._bounds(), strict=True)
        ends = [interval(e, s, b, level, self._degrees) for e, s, b in listed]
        lower, upper = np.array(ends).reshape(-1, 2).T
        columns = {
            "estimate": self._estimates,
            "standard_error": errors,
            "lower": lower,
            "upper": upper,
        }
        return pd.DataFrame(columns, index=self._index())

    def _errors(self, covariance: np.ndarray | None) -> np.ndarray:
        if covariance is None:
            return np.full(len(self._estimates), np.nan)
        return np.sqrt(np.maximum(np.diagonal(covariance), 0.0))

    @property
    def covariance(self) -> pd.DataFrame | None:
        """The covariance of the free entries, labelled; None where there is none (a finding says
        why).
        """
        if self._covariance is None:
            return None
        return pd.DataFrame(self._covariance.total, index=self._labels(), columns=self._labels())

    @property
    def model_based_covariance(self) -> pd.DataFrame | None:
        """The inverse information, labelled: maximum likelihood's covariance if the model is true,
        else None.
        """
        if self._covariance is None or not self.likelihood:
            return None
        return pd.DataFrame(
            self._covariance.inverse_curvature, index=self._labels(), columns=self._labels()
        )

    @property
    def monte_carlo_error(self) -> pd.Series:
        """The Monte Carlo part of the standard errors: noise that was drawn, chains that were
        run.
        """
        simulation = None if self._covariance is None else self._covariance.simulation
        return pd.Series(self._errors(simulation), index=self._index(), name="monte_carlo_error")

    @verb
    def log_likelihood(self, data: Any, log_z: Any = None) -> LogLikelihood:
        """The log-likelihood of held-out data, with its error.

        Var = n var(log p(x_i)) + n² d'Vd + n² se(log Z)², d = mean ∇ log p̃ − E ∇ log p̃, V the
        parameters' covariance; where log Z is not at hand exactly, the expectation is over draws of
        `un.sample`.

        After a fit by noise levels it is that of the probability flow from the lowest level,
        log p(x) = log N(x_high) − ∫ σ Δ log p_σ(x_σ) dσ, with the solver's and the trace's error in
        `monte_carlo_error`; `findings` give the bias by the normal distribution at the highest
        level. A network's errors are those at its fitted parameters. With `log_z` it is that of the
        density at the lowest level instead.

        Args:
            data: as `un.fit` takes them (a list where the fit is of several data sets; then a list
                is returned).
            log_z: a `LogZ` or number to use; None: exactly where that is at hand, else
                `un.log_z(fit.density)`.

        Returns:
            `LogLikelihood`: value, standard_error, pointwise, monte_carlo_error, sampling_error,
            bits_per_dimension. Without a covariance of the parameters the errors are NaN.

        Raises:
            ValueError: data that do not fit, covariates or latent variables without an exact log Z,
                or a log Z whose verdict is neither "exact" nor "ok".

        Example:
            >>> import unnorm as un
            >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive},
            ...     {"rate": (un.Positive, 1.0)})
            >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], "maximum_likelihood", seed=0, progress=False)
            >>> round(fit.log_likelihood([1.0, 2.0]).value, 4)  # 2 log(1/2) - 3/2
            -2.8863
        """
        if self._parts is None:
            return log_likelihood(self, data, log_z)
        if not isinstance(data, list | tuple) or len(data) != len(self._parts):
            raise ValueError(
                f"data is a {type(data).__name__} and the fit is of {len(self._parts)} data sets; "
                "expected a list of equally many; pass one data set for each density."
            )
        given = log_z if isinstance(log_z, list | tuple) else [log_z] * len(data)
        return [  # type: ignore[return-value]
            log_likelihood(part, *one) for part, *one in zip(self._parts, data, given, strict=True)
        ]

    @verb
    def profile(self, level: float = 0.95, *, progress: bool = True) -> pd.DataFrame:
        """Profile likelihood intervals, which need no normal approximation: all θ_j with 2 (ℓ̂ −
        ℓ(θ_j)) ≤ χ²₁(level).

        ℓ(θ_j) is the largest log-likelihood with one listed entry held at θ_j, all else being free.
        Unlike those of `summary` they are not symmetric on any scale, and are the same in every
        parametrization. They suppose that the model is true: where the robust variance of an entry
        is clearly another than the model's, a `UserWarning` says so.

        Args:
            level: of the intervals, such as 0.95.
            progress: show a bar.

        Returns:
            A DataFrame like `summary()`, with the columns estimate, lower and upper. An end that
            does not exist is the parameter's bound (±inf where there is none); one that the search
            did not find is NaN.

        Raises:
            ValueError: a fit that is no maximum likelihood with an exact log Z, that was loaded,
                has weights, clusters, a penalty or a prior; a higher likelihood that was met on the
                way.

        Example:
            >>> import unnorm as un
            >>> p = un.Density(lambda x, *, mean: -0.5 * (x - mean) ** 2, {"x": un.Real},
            ...     {"mean": (un.Real, 0.0)})
            >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], "maximum_likelihood", seed=0, progress=False)
            >>> fit.profile().round(2).loc["mean"].to_dict()  # 2 ± 1.96 / √4
            {'estimate': 2.0, 'lower': 1.02, 'upper': 2.98}

        References:
            Venzon and Moolgavkar (1988), doi:10.2307/2347496; Murphy and van der Vaart (2000),
            doi:10.1080/01621459.2000.10474219.
        """
        return profile(self, level, progress)

    @verb
    def bootstrap(self, n: int = 200, *, seed: int = 0) -> Any:
        """Refit n replicates: rows (or clusters) redrawn with replacement; drawn from the fit if
        one row was observed.

        Args:
            n: how many replicates.
            seed: of what is drawn.

        Returns:
            A `Bootstrap` with `summary()` (percentile intervals), `covariance`, `estimates`, and
            `infinite`, the number of replicates without a finite estimate, which are counted apart.

        Raises:
            ValueError: the fit was loaded, or trained on batches.

        References:
            Efron (1979), doi:10.1214/aos/1176344552; Davison and Hinkley (1997),
            doi:10.1017/CBO9780511802843.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 2:
            raise ValueError(f"n is {n!r}; it must be an integer of at least 2; raise it.")
        if self._refit is None:
            raise ValueError(
                f"bootstrap was asked of a fit by {self.objective} that cannot be repeated here; "
                "expected a fit made in this process on all rows at once; fit again without "
                "batch_size, steps and optimizer."
            )
        return self._refit(self, n, seed)

    @verb
    def edge_stability(
        self,
        edges: str,
        n: int = 1000,
        *,
        dropped: Any = None,
        seed: int = 0,
        progress: bool = True,
    ) -> EdgeStability:
        """Refit resamples and subsets of the rows: how far the edges of a network would move.

        The bootstrap redraws n rows with replacement. The case-dropping subsets leave a share of
        the rows out; the CS-coefficient is max{share: P(cor(ŵ_subset, ŵ) ≥ .7) ≥ .95}, ŵ the edges.
        Rows of one cluster stay together.

        Percentiles of a lasso's edges are no tests against zero, because the lasso shrinks them.

        Args:
            edges: the name of a symmetric matrix, such as ``"coupling"``; its diagonal is left out.
            n: how many resamples, and how many subsets of all shares together.
            dropped: the shares of rows that the subsets leave out, between 0 and 1; None: ten from
                .05 to .75.
            seed: of the rows.
            progress: whether to show a progress bar on a terminal.

        Returns:
            `EdgeStability`: `summary()`, `case_drop()`, `cs_coefficient()`, `plot()`, `estimates`,
            `correlations` and `findings`.

        Raises:
            ValueError: no such matrix, or one with fewer than two edges; an edge without a finite
                estimate; a fit by chains or on batches, one that was loaded, of one row, of several
                data sets, or with sampling weights.

        Example:
            >>> import unnorm as un
            >>> data = un.models.load("rochdale")[["Econ", "Age", "Child"]]
            >>> fit = un.fit(un.models.ising, data, "maximum_likelihood", seed=0, progress=False)
            >>> found = fit.edge_stability("coupling", 40, dropped=[0.25, 0.5], progress=False)
            >>> found.cs_coefficient()
            0.5

        References:
            Epskamp, Borsboom and Fried (2018), doi:10.3758/s13428-017-0862-1.
        """
        return edge_stability(self, edges, n, dropped, seed, progress)

    @verb
    def predict(self, data: Any, level: float = 0.95) -> pd.DataFrame:
        """Predict the response at the covariates of every row.

        E[y | c_i] with its standard error by the delta method, (∂E/∂θ)' V (∂E/∂θ), and an
        interval for the response: the quantiles of p(y | c_i; θ̂), farther from the mean by the
        error of the mean (distances added in squares, on a scale without bounds; where there are no
        standard errors the quantiles alone). What is latent is summed or integrated out.

        Args:
            data: as `un.fit` takes it; the covariates alone suffice.
            level: of the intervals, such as 0.95.

        Returns:
            A DataFrame, one row for each of `data`, with the columns mean, standard_error, lower
            and upper (an interval for the mean), predictive_lower and predictive_upper (an interval
            for the response). For a category the probabilities of its values.

        Raises:
            ValueError: a density without covariates, several responses or one that is no scalar;
                sums and integrals that are too large.

        Example:
            >>> import jax.numpy as jnp
            >>> import unnorm as un
            >>> @un.density(log_z=lambda z, b: jnp.logaddexp(0.0, b * z))
            ... def logistic(y: un.Binary, *, z: un.Covariate, b: un.Real = 0.0):
            ...     return b * z * y
            >>> data = {"y": [0, 1, 1, 0, 1, 1.0], "z": [-1.0, -1.0, 1, 1, 1, 1]}
            >>> fit = un.fit(logistic, data, "maximum_likelihood", seed=0, progress=False)
            >>> fit.predict({"z": [1.0]})["mean"].round(4).tolist()  # 4 of 6 successes
            [0.6667]

        References:
            Casella and Berger (2002), Statistical Inference, section 5.5.4 (the delta method).
        """
        self._refuse_several("predict")
        return predict(self, data, level)

    @verb
    def residuals(self, data: Any, *, seed: int = 0) -> pd.Series:
        """Return randomised quantile residuals, standard normal if the model is true.

        r_i = Φ⁻¹(u_i), u_i uniform on (F(y_i−), F(y_i)), F the distribution function of the
        response at the covariates of row i; for a continuous response u_i = F(y_i).

        Args:
            data: as `un.fit` takes it.
            seed: of the uniform numbers.

        Returns:
            A Series with the index of the rows.

        Raises:
            ValueError: several responses, one that is no scalar or is missing.

        Example:
            >>> import unnorm as un
            >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive},
            ...     {"rate": (un.Positive, 1.0)})
            >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], "maximum_likelihood", seed=0, progress=False)
            >>> fit.residuals([2 * 0.6931472]).round(3).abs().tolist()  # the median
            [0.0]

        References:
            Dunn and Smyth (1996), doi:10.1080/10618600.1996.10474708.
        """
        self._refuse_several("residuals")
        return residuals(self, data, seed)

    def save(self, path: str | Path) -> None:
        """Write the fit into one file, whole or not at all; `un.load(path, p)` reads it."""
        self._refuse_several("save")
        save(self, Path(path))

    def _refuse_several(self, verb: str) -> None:
        """Raise where the fit is of several data sets, which this verb does not serve."""
        if self._parts is not None:
            raise ValueError(
                f"{verb} was asked of a fit of {len(self._parts)} data sets; expected a fit of "
                "one data set; use the densities in fit.density one by one."
            )

    def __repr__(self) -> str:
        state = "converged" if self.converged else "NOT converged"
        size = f"{pluralize(len(self._estimates), 'parameter')}, {pluralize(self.rows, 'row')}"
        names = [
            p.name for p in (self.density if isinstance(self.density, list) else [self.density])
        ]
        return f"Fit of {' and '.join(names)} by {self.objective}: {state}, {size}"
