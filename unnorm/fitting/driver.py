"""`un.fit`: data in, a fitted density with its errors and findings out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import Finding
from unnorm.core.messages import RowLabels
from unnorm.core.progress import bar
from unnorm.core.validation import verb
from unnorm.declaration.density import Density, cast
from unnorm.fitting.base import (
    HasAdversary,
    Stochastic,
    at_lowest_level,
    levels_of,
    supplied_covariates,
)
from unnorm.fitting.data.columns import row_index
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.data.read import first_of, read_data, refuse_missing_entries
from unnorm.fitting.data.row_weights import Rows, read_rows
from unnorm.fitting.default_objective import chosen, sum_out_labels
from unnorm.fitting.joint.driver import several
from unnorm.fitting.penalties.lasso_path import lasso_path
from unnorm.fitting.penalties.parse import read_penalties
from unnorm.fitting.penalties.penalized_fit import refuse_lasso
from unnorm.fitting.probe import bind_start, check_options, probe
from unnorm.fitting.problem import Problem
from unnorm.fitting.procedures.average import fit_by_averaging
from unnorm.fitting.procedures.minimize import fit_by_minimization
from unnorm.fitting.procedures.train import fit_by_training
from unnorm.fitting.results.assemble import assemble
from unnorm.fitting.results.fit import Fit
from unnorm.numerics.newton import NewtonOptions
from unnorm.supports.base import has_network


@verb
def fit(  # noqa: PLR0913 - the options of a verb
    p: Density | list[Density],
    data: Any,
    objective: Any = None,
    *,
    frequency_weights: Any = None,
    sampling_weights: Any = None,
    weights: Any = None,
    cluster: Any = None,
    penalty: Any = None,
    prior: Any = None,
    start: dict[str, Any] | None = None,
    restarts: int = 0,
    optimizer: Any = None,
    steps: int | None = None,
    batch_size: int | None = None,
    held_out: Any = None,
    average: str | None = None,
    callback: Callable[[dict[str, Any]], Any] | None = None,
    store: str | Path | None = None,
    seed: int | None = None,
    progress: bool = True,
    dtype: Any = None,
    strict: bool = False,
) -> Fit:
    """Estimate the parameters of a density from data, with standard errors.

    Objectives without a sampler are minimised to convergence (Newton; L-BFGS for many parameters),
    and contrastive divergence is averaged until its Monte Carlo error is small. Densities with
    PyTree parameters (networks), and fits that are given `optimizer`, `held_out`, `callback`,
    `average`, `store` or batches, are trained by first-order steps on mini-batches; those have no
    standard errors.

    Args:
        p: the density; parameters start at their bound or declared values. A list of densities that
            share parameters (by equal names) is fitted to a list of data sets: the loss is the sum
            over the rows of all of them.
        data: an array (n, ...), DataFrame, xarray object, or a dict by variable and covariate;
            exactly one leading axis; or an iterable of such batches of one size, gone through again
            and again. Variables that are absent are latent, and so is an entry that is NaN, masked
            or pd.NA, for maximum likelihood and contrastive divergence. Such entries must be
            missing at random (Rubin 1976): whether an entry is missing may depend on what was
            observed, and not on its own value.
        objective: an object of `un.objectives`, its registry name, or None: maximum likelihood
            where Z is at hand exactly, else score matching where the supports have a form of it,
            else noise contrastive estimation.
        frequency_weights: how many equal rows each row stands for: integers, or the name of a
            column of `data` (a pandas Series is aligned by its index). The fit is that of the
            repeated rows.
        sampling_weights: one over each row's probability to be in the data, up to a constant, given
            likewise. They are scaled to mean 1, and the standard errors are robust to them.
        weights: deprecated; integers are read as `frequency_weights`, floating ones as
            `sampling_weights`.
        cluster: one label for each row, or a column's name: rows of one cluster may depend on each
            other, and the standard errors allow it.
        penalty: ``{parameter: un.L1(0.1)}`` or ``un.L2``, added to the mean loss.
        prior: ``{parameter: NumPyro distribution}`` over the constrained values: −log prior / n is
            added, and the fit is the maximum a posteriori estimate (MAP).
        start: ``{parameter: value}`` to start from.
        restarts: how many more starts to minimise from, at random within 2 of the first in
            unconstrained coordinates; the lowest loss is kept, and other optima are reported.
        optimizer: an Optax optimizer for training; None: Adam on a cosine schedule.
        steps: iterations of contrastive divergence or of training at most; None: until the Monte
            Carlo error is small, or 5,000.
        batch_size: rows per iteration; None: all for contrastive divergence, 256 for training.
        held_out: data like `data`, on whose loss training stops early. Draws of a network are
            compared with them too; without them a twentieth of the rows, at most 400, is kept out
            of training for that.
        average: which iterate of a training is the fit: "last"; "polynomial", an average that
            weighs late steps most; "ema", an exponential moving average of decay .999; None: the
            last where the steps die out, else the polynomial average. With `held_out`, the best
            is taken, of the last iterate and the average.
        callback: called about fifty times in training with a dict of `step`, `loss`, `losses` (of
            the steps since the last call), `held_out`, `density` and `parameters` as they stand,
            and `chains`, the events of persistent chains; True stops the training.
        store: a folder for checkpoints of training: the same call goes on from there, to the same
            bits.
        seed: an integer; None draws one and records it.
        progress: whether to show a progress bar on a terminal.
        dtype: float64 unless the density has PyTree parameters.
        strict: raise where the fit did not pass.

    Returns:
        `Fit`: `density`, `summary()`, `covariance`, `log_z`, `log_likelihood(data)`, `converged`,
            `findings`.

    Raises:
        ValueError: data outside the support or of the wrong shape; missing covariates; an
            objective that does not serve the density; a log-density, a gradient or a loss that is
            not finite at the start.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> @un.density
        ... def exponential(x: un.Positive, *, rate: un.Positive = 1.0):
        ...     return -rate * x
        >>> data = np.array([0.5, 1.0, 2.5, 0.2])
        >>> fitted = un.fit(exponential, data, un.objectives.MaximumLikelihood(), progress=False)
        >>> round(float(fitted.density.parameters["rate"]), 4)  # one over the mean
        0.9524

    References:
        van der Vaart (1998), Asymptotic Statistics, ch. 5, doi:10.1017/CBO9780511802256; Rubin
        (1976), doi:10.1093/biomet/63.3.581 (missing values).
    """
    levels = levels_of(objective)
    if isinstance(p, list | tuple):
        if levels is not None:
            raise ValueError(
                f"{type(objective).__name__}(sigma=(low, high, levels)) fits one data set, and p "
                f"is a list of {len(p)} densities; expected one density; fit them one by one."
            )
        asked = {
            "frequency_weights": frequency_weights,
            "sampling_weights": sampling_weights,
            "weights": weights,
            "cluster": cluster,
            "penalty": penalty,
            "prior": prior,
            "optimizer": optimizer,
            "steps": steps,
            "batch_size": batch_size,
            "held_out": held_out,
            "callback": callback,
            "average": average,
            "store": store,
        }
        found = several(list(p), data, objective, asked, start, restarts, seed, progress, dtype)
        return _check_passed(found, strict)
    check_options(
        p,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        restarts=restarts,
        dtype=dtype,
        optimizer=optimizer,
        callback=callback,
        average=average,
    )
    findings: list[Finding] = []
    rows = Rows(frequency_weights, sampling_weights, weights, cluster)
    supplied = supplied_covariates(objective)
    p, data, batches = first_of(bind_start(p, start), data, supplied)
    _refuse_weighted_batches(rows, batches)
    p, events = read_data(p, data, rows.columns, supplied)
    events, weights, clusters = read_rows(rows, data, events, findings)
    labels = RowLabels(row_index(held_out), p.labels)
    if held_out is not None:
        held_out = read_data(p, held_out, rows.columns, supplied)[1]
    if held_out is not None and set(held_out) != set(events):
        raise ValueError(
            f"held_out has values for {', '.join(held_out)} and data for {', '.join(events)}; "
            "expected the same variables; pass them in both."
        )
    if held_out is not None:
        refuse_missing_entries(p.variables, held_out, "held_out", labels)
    summed = sum_out_labels(p, events, objective, findings)
    objective = chosen(
        [(summed, events)], objective, weights is not None or clusters is not None, findings
    )
    entropy: Any = np.random.SeedSequence().entropy
    seed = int(entropy % 2**31) if seed is None else seed
    dtype = np.dtype(dtype or (jnp.result_type(float) if has_network(p.supports) else np.float64))
    if not p.supports:
        raise ValueError(
            f"Density {p.name} has no parameters to fit; expected at least one; declare it as a "
            "keyword-only argument with a support."
        )
    standing = at_lowest_level(summed, objective)
    with (
        jax.enable_x64(dtype == np.float64),
        bar(f"{type(objective).__name__}", 1.0, progress) as progress_bar,
    ):
        objective, density, events, weights, held_out = cast(
            (objective, standing.for_jit(), events, weights, held_out), dtype
        )
        probe(density, events)
        penalties = cast(read_penalties(p, penalty, prior, len(next(iter(events.values())))), dtype)
        batches = None if batches is None else (cast(batch, dtype) for batch in batches)
        problem = Problem(
            p,
            objective,
            density,
            events,
            seed,
            progress_bar,
            weights,
            clusters,
            steps,
            batch_size,
            optimizer,
            held_out,
            batches,
            callback,
            store,
            restarts,
            average,
            penalties,
            findings,
        )
        return _check_passed(_solve(problem), strict)


def _refuse_weighted_batches(rows: Rows, batches: Any) -> None:
    """Weights are of rows that are at hand; those of later batches are not."""
    given = [name for name, value in rows._asdict().items() if value is not None]
    if given and batches is not None:
        raise ValueError(
            f"{given[0]} was given to a fit on an iterable of batches, whose rows are not all "
            f"known; expected no {given[0]}; pass all rows at once, with batch_size=."
        )


def _solve(problem: Problem) -> Any:
    """Bring the objective to its optimum by the procedure that suits it."""
    objective, stochastic = problem.objective, isinstance(problem.objective, Stochastic)
    options = (
        problem.optimizer,
        problem.held_out,
        problem.batches,
        problem.callback,
        problem.store,
        problem.average,
    )
    size = sum(leaf.size for leaf in jax.tree.leaves(problem.density.free()))
    if stochastic:
        in_steps = size > NewtonOptions.parameters
    else:
        in_steps = problem.steps is not None or problem.batch_size is not None
    trains = problem.has_network or in_steps or any(option is not None for option in options)
    trains = trains or objective.traits.is_game
    refuse_lasso(problem, trains)
    if problem.penalty is not None and problem.penalty.grid is not None:
        return lasso_path(problem)
    if not trains and not stochastic:
        return assemble(fit_by_minimization(problem))
    if problem.restarts:
        raise ValueError(
            f"restarts is {problem.restarts} and {type(objective).__name__} is trained by steps "
            "here; expected 0, because restarts compare minima; leave restarts out, or leave out "
            "steps, batch_size and optimizer."
        )
    if not trains:
        return assemble(fit_by_averaging(problem))
    if problem.batches is not None and stochastic:
        _refuse_own_chains(problem)
    moves = isinstance(objective, HasAdversary) and not problem.objective.traits.bounds_likelihood
    if problem.held_out is not None and (stochastic or moves):
        why = "has no meaning" if stochastic else "moves with its adversary"
        raise ValueError(
            f"held_out was given to {type(objective).__name__}, whose loss {why}; "
            "expected an objective with a loss of its own; leave it out, or use "
            "un.objectives.NCE, ScoreMatching or DenoisingScoreMatching."
        )
    return assemble(fit_by_training(problem))


def _refuse_own_chains(problem: Problem) -> None:
    """Batches that come and go have no chains of their rows."""
    named = [
        *problem.density.covariates,
        *latent_variables(problem.density.variables, problem.events),
    ]
    if named:
        raise ValueError(
            f"data is an iterable of batches and {type(problem.objective).__name__} keeps a chain "
            f"for each row, because {named[0]} is a covariate or latent; expected all rows; pass "
            "them at once, with batch_size=."
        )


def _check_passed(result: Fit, strict: bool) -> Fit:
    if strict:
        result.raise_unless_passed()
    return result
