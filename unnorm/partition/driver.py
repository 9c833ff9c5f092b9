"""`un.log_z`: log of the normalizing constant, with an error bar and a verdict."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import NOTE, WARNING, Finding, FindingCode
from unnorm.core.method import look_up, registry_name
from unnorm.core.progress import bar
from unnorm.core.random_keys import fold_in, make_key
from unnorm.core.validation import verb
from unnorm.declaration.density import Density, cast
from unnorm.declaration.purity import refuse_impure
from unnorm.declaration.values import refuse_other_labels_by_name
from unnorm.partition.base import LogZ, NotNormalizableError, total_evaluations
from unnorm.partition.combine import compare_with_draws
from unnorm.partition.default_estimator import Auto
from unnorm.partition.estimators.exact import has_exact
from unnorm.partition.estimators.quadrature import Quadrature
from unnorm.partition.estimators.registry import (
    ESTIMATORS,
    Bridge,
    Exact,
    ImportanceSampling,
)
from unnorm.partition.options import BUDGET, BudgetOptions
from unnorm.partition.parameter_sweep import log_z_over, read_over
from unnorm.partition.rounding_at_bounds import add_mass_at_bounds
from unnorm.partition.rounding_of_values import add_rounding
from unnorm.partition.row_sweep import read_rows
from unnorm.supports import PyTreeSupport


@verb
def log_z(  # noqa: PLR0913 - the options of a verb
    p: Density,
    estimator: Any = None,
    *,
    over: Mapping[str, Any] | None = None,
    draws: Any = None,
    target_error: float = 0.05,
    max_evaluations: float | None = None,
    seed: int | None = None,
    progress: bool = True,
    dtype: Any = None,
    strict: bool = False,
) -> LogZ | Any:
    """Estimate log Z, Z = ∫ p̃(x) dx or the sum over states.

    Args:
        p: the density, its parameters at their bound values.
        estimator: an object of `un.estimators`, its registry name, or None or "auto": exact where
            it can be, else two independent estimates that must agree, importance sampling or
            annealing from a proposal against a bridge from chains or another annealing.
        over: ``{parameter: values}``, a scalar parameter or constant: log Z at each value, from one
            annealed run that goes on from value to value (`SMC`, whose options are the
            estimator's), or exactly. ``{variable or covariate: rows}``: log Z of the density of the
            other variables, which are continuous, given each row: log p(x) where the density is a
            normalized one of (x, z). All rows are annealed in one program (`AIS`, whose options
            are the estimator's).
        draws: saved draws of the density, for bridge sampling: the result of `un.sample`, ArviZ's
            InferenceData or DataTree, a dict of arrays (chain, draw, ...), NumPyro's MCMC, or
            CmdStanMCMC.
        target_error: the standard error that "auto" aims at, in nats.
        max_evaluations: of the log-density and its gradient that "auto" may spend; None: 3 million,
            above 200 numbers in an event fewer in proportion, down to 500,000, for each then takes
            longer.
        seed: an integer; None draws one and records it.
        progress: show a bar.
        dtype: float64 unless the density has PyTree parameters.
        strict: raise where the result did not pass.

    Returns:
        `LogZ`: value, standard_error, interval, evaluations, verdict, measure, findings. With
        `over` an `xarray.Dataset` over the parameter: `log_z`, its joint `covariance` and
        `standard_error`, `derivative` (d log Z by the parameter) and `derivative_standard_error`;
        the verdict and the findings are attributes.

    Raises:
        ValueError: an estimator that does not serve the density, a missing value, or a covariate.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> round(un.log_z(normal, progress=False).value, 4)  # log sqrt(2 pi)
        0.9189
        >>> def log_density(x, *, beta):
        ...     return -0.5 * beta * x**2
        >>> scaled = un.Density(log_density, {"x": un.Real}, {"beta": un.Positive})
        >>> along = un.log_z(scaled, over={"beta": [1.0, 4.0]}, progress=False)
        >>> along["derivative"].values.round(4)  # -1 / (2 beta)
        array([-0.5  , -0.125])

    References:
        Gelman and Meng (1998), doi:10.1214/ss/1028905934.
    """
    p, rows, name, values = _read_over(p, over, draws)
    p.shapes()
    refuse_impure(p)
    bare, findings = p.on_chart().for_jit(), []
    most = default_evaluations(bare) if max_evaluations is None else max_evaluations
    _check(target_error=target_error, max_evaluations=most)
    entropy: Any = np.random.SeedSequence().entropy
    seed = int(entropy % 2**31) if seed is None else seed
    has_tree = any(isinstance(support, PyTreeSupport) for support in p.supports.values())
    dtype = np.dtype(dtype or (jnp.result_type(float) if has_tree else np.float64))
    loose = sorted(set(p.supports) - p.bound)
    if loose:
        what = f"{', '.join(loose)} stood at the declared starts, which no fit and no bind has set"
        findings.append(
            Finding(what, "bind values or fit first", WARNING, code=FindingCode.DECLARED_STARTS)
        )
    estimator = (
        None
        if estimator == "auto"
        else estimator and look_up(estimator, ESTIMATORS, "estimator", "__call__")
    )
    if draws is not None:
        estimator = _with_draws(estimator, draws)
    for field in dataclasses.fields(estimator) if dataclasses.is_dataclass(estimator) else ():
        given = getattr(estimator, field.name)
        refuse_other_labels_by_name("draws", p.variables, given, p.labels)
    if rows is not None:
        with jax.enable_x64(dtype == np.float64), bar("log Z of rows", 1.0, progress):
            return rows.log_z(p, estimator, seed, dtype, findings, strict)
    if name is not None and values is not None:
        with jax.enable_x64(dtype == np.float64), bar(f"log Z over {name}", 1.0, progress):
            sweep = log_z_over(cast(bare, dtype), name, values, estimator, make_key(seed))
        return sweep.to_dataset(p, name, values, findings, seed, strict)
    if estimator is None:
        estimator, why = choose_estimator(bare, target_error, most)
        findings.append(
            Finding(why, "name an estimator to change it", NOTE, code=FindingCode.CHOSEN_METHOD)
        )
    with jax.enable_x64(dtype == np.float64), bar(type(estimator).__name__, 1.0, progress):
        density = cast(bare, dtype)
        try:
            found = estimator(density, make_key(seed))
        except NotNormalizableError as error:
            found = error.result(density, registry_name(type(estimator)))
        found = _assess(density, estimator, found, seed)
    found = add_rounding(found, dtype)
    result = dataclasses.replace(found, seed=seed, findings=[*found.findings, *findings])
    if strict:
        result.raise_unless_passed()
    return result


def _read_over(p: Density, over: Any, draws: Any) -> tuple[Density, Any, Any, Any]:
    """The density, and what log Z is asked over: rows, or the values of a parameter by its name."""
    rows = read_rows(over, p.variables, p.covariates, p.labels)
    if rows is not None:
        if draws is not None:
            raise ValueError("log_z was given draws= and rows by over=; must be one; omit draws.")
        return rows.latent_part(p), rows, None, None
    if p.covariates:
        covariate = next(iter(p.covariates))
        raise ValueError(
            f"Density {p.name} has the covariate {covariate}, so that each row has its own Z; "
            f"expected no covariates; fix it by p.given({covariate}=...), or give its values by "
            f"over={{{covariate!r}: ...}}."
        )
    if over is None:
        return p, None, None, None
    p, name, values = read_over(p, over)
    return p, None, name, values


def _assess(density: Density, estimator: Any, found: LogZ, seed: int) -> LogZ:
    """With the mass at bounds, and held against what a given base does not reach."""
    if isinstance(estimator, Exact | Quadrature):  # they follow the mass themselves
        return found
    return add_mass_at_bounds(density, _compare_bases(density, estimator, found, seed))


def _compare_bases(density: Density, estimator: Any, found: LogZ, seed: int) -> LogZ:
    """An estimate from a given base, held against one from a base that the density gives: weights
    do not show the modes that no draw of the base comes near.
    """
    discrete = any(support.discrete for support in density.variables.values())
    if getattr(estimator, "base", None) is None or not found.passed or discrete:
        return found
    try:
        control = ImportanceSampling(BUDGET.control_draws)(density, fold_in(make_key(seed), 1))
    except (NotNormalizableError, ValueError):  # the density gives none
        return found
    spent = total_evaluations(found.evaluations, control.evaluations)
    found = dataclasses.replace(found, evaluations=spent)
    return compare_with_draws(control, found, "the base")


def _with_draws(estimator: Any, draws: Any) -> Bridge:
    """Bridge sampling from saved draws."""
    if estimator is not None and not isinstance(estimator, Bridge):
        raise ValueError(
            f"log_z was given draws for the estimator {type(estimator).__name__}, which draws by "
            "itself; expected 'bridge', which uses saved draws; leave draws out, or pass 'bridge'."
        )
    return dataclasses.replace(estimator or Bridge(), draws=draws)


def choose_estimator(
    density: Density, target_error: float, max_evaluations: float
) -> tuple[Any, str]:
    """The estimator that "auto" stands for here, and why."""
    if has_exact(density):
        return Exact(), "Exact was chosen, because Z is within its reach"
    why = f"two estimates were compared, because {density.name} is too large for an exact Z"
    return Auto(target_error, max_evaluations), why


def default_evaluations(density: Density, options: BudgetOptions = BUDGET) -> int:
    """The default of `max_evaluations`: about a minute where the function itself takes no time."""
    numbers = sum(math.prod(shape) for shape in density.shapes().values())
    most = options.max_evaluations * options.small_event // max(numbers, options.small_event)
    return max(options.min_evaluations, most)


def _check(**options: Any) -> None:
    for name, given in options.items():
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if not number or not 0 < given < np.inf:
            raise ValueError(f"{name} is {given!r}; it must be positive; correct it.")
