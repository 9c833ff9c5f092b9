"""`un.posterior`: the parameters of a density as the variables of another, given data and a
prior.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.validation import verb
from unnorm.declaration.density import Density, cast
from unnorm.declaration.slots import refuse_unknown
from unnorm.fitting.data.location import data_location
from unnorm.fitting.data.read import read_data, refuse_latent
from unnorm.fitting.driver import fit
from unnorm.fitting.objectives.likelihood.maximum_likelihood import MaximumLikelihood
from unnorm.fitting.penalties.parse import check_prior
from unnorm.fitting.penalties.terms import log_prior
from unnorm.fitting.row_normalizers import log_z_on_plan
from unnorm.integration.nodes import Plan
from unnorm.integration.plan import has_plan, plan_for


@dataclass(frozen=True)
class NodeCriteria:
    """Where nodes for the posterior's mode are tried, and how exact they must be there.

    Attributes:
        far: posterior standard deviations from the mode: all but .3% of a normal's mass is nearer.
        close: nats by which the log-likelihood may be off, 1% of a density.
    """

    far: float = 3.0
    close: float = 0.01


NODES = NodeCriteria()


@verb
def posterior(p: Density, data: Any, *, prior: dict[str, Any]) -> Density:
    """Return the posterior of a density's parameters: p̃(θ | data) = prior(θ) Π_i p̃(x_i; θ) /
    Z(θ).

    Its variables are the parameters of p, by constrained value; sample it, or normalize it for the
    evidence p(data). Z is summed over all states, or on quadrature nodes that are laid about the
    data for the posterior's mode.

    Args:
        p: a density whose Z is at hand exactly: at most 2^20 states, one count, or three continuous
            dimensions.
        data: as in `un.fit`.
        prior: ``{parameter: NumPyro distribution}`` over the constrained values, one for each
            parameter. Where Z is an integral, the mode is found first, by `un.fit` from the
            parameters' present values.

    Raises:
        ValueError: Z is not at hand exactly; a parameter without a prior, or one that cannot be
            sampled (a matrix, a network); nodes that do not hold across the posterior.

    Example:
        >>> import numpyro.distributions as dist
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, field: field * x, {"x": un.Binary},
        ...     {"field": (un.Real, 0.0)})
        >>> q = un.posterior(p, [0, 1, 1, 1], prior={"field": dist.Normal(0.0, 2.0)})
        >>> q
        Density posterior(field: Real)
        >>> round(float(q(field=1.0) - q(field=0.0)), 4)  # 3 - 4 log(1 + e) + 4 log 2 - 1/8
        0.3945

    References:
        Gelman et al. (2013), Bayesian Data Analysis, ch. 2, doi:10.1201/b16018.
    """
    if not isinstance(p, Density):
        raise ValueError(
            f"posterior was given {p!r}; expected a density; declare it with @un.density."
        )
    p, events = read_data(p, data)
    refuse_latent(p, events, "posterior")
    _refuse(p, prior)
    with jax.enable_x64(True):
        found = _nodes(p, data, prior)
        model, rows = cast((p.for_jit(), events), jnp.float64)
        for name, one in prior.items():
            check_prior(name, p.supports[name], p.parameters[name], one)
        name = "given_data" if "given_data" not in p.supports else "given_data_"
        held = {"model": model, "rows": rows, "nodes": found._asdict(), "prior": dict(prior)}
        density = Density(_Posterior(tuple(p.supports)), dict(p.supports), constants={name: held})
    known = {
        axis: p.labels.get(axis, size)
        for axis, size in p.dimensions.items()
        if axis in density.dimensions
    }
    return density.with_dimensions(**known) if known else density


@dataclass(frozen=True)
class _Posterior:
    """The log-posterior up to a constant; equal for equal parameters, so that other data run the
    same program.
    """

    names: tuple[str, ...]
    __name__ = "posterior"

    def __call__(self, *values: jax.Array, **constants: Any) -> jax.Array:
        (given,) = constants.values()
        by_name = dict(zip(self.names, values, strict=True))
        model, rows, nodes = given["model"], given["rows"], Plan(**given["nodes"])
        prior = sum(
            log_prior(one, model.supports[name], by_name[name])
            for name, one in given["prior"].items()
        )
        model = model.bind(**by_name)
        logs = jax.vmap(model.log_density)(rows)
        return prior + logs.sum() - len(logs) * log_z_on_plan(model, nodes)


def _refuse(p: Density, prior: Any) -> None:
    if not isinstance(prior, dict):
        raise ValueError(
            f"prior is {prior!r}; expected a dict by parameter; pass, for example, "
            f"prior={{{next(iter(p.supports), 'theta')!r}: numpyro.distributions.Normal(0, 1)}}."
        )
    refuse_unknown("prior", "parameter", prior, p.supports)
    for name, support in p.supports.items():
        if name not in prior:
            raise ValueError(
                f"Parameter {name} has no prior; expected one for each parameter, because the "
                f"posterior may not be integrable without it; pass prior={{{name!r}: ...}}, or "
                f"p.fix({name}=...)."
            )
        if not support.samplable:
            raise ValueError(
                f"Parameter {name} is {support!r}, which cannot be sampled; expected numbers or "
                "vectors; fix it, or "
                "declare its entries as a vector and build the matrix in the function."
            )
    if p.covariates or not has_plan(p):
        why = (
            f"has the covariate {next(iter(p.covariates))}"
            if p.covariates
            else "has no exact log Z"
        )
        raise ValueError(
            f"posterior needs Z(θ) exactly, and {p.name} {why}; expected at most 2^20 states, one "
            "count or three continuous dimensions, without covariates; write the model in NumPyro, "
            "or use un.fit(..., prior=...)."
        )


def _nodes(p: Density, data: Any, prior: dict[str, Any]) -> Plan:
    """All states; or the nodes of a quadrature for the posterior's mode, tried where the posterior
    ends.
    """
    if all(support.states is not None for support in p.variables.values()):
        return plan_for(cast(p.for_jit(), jnp.float64))
    mode = fit(p, data, MaximumLikelihood(), prior=prior, seed=0, progress=False)
    _, events = read_data(p, data)
    density, events = cast((mode.density.for_jit(), events), jnp.float64)
    where = data_location(density, events)
    found = plan_for(density, *where)
    vector, unravel = ravel_pytree(density.free())
    spread = 0.0 if mode._free_covariance is None else np.sqrt(np.diagonal(mode._free_covariance))
    for step in np.concatenate(
        [np.diag(NODES.far * spread * np.ones(vector.size)) * sign for sign in (1, -1)]
    ):
        there = density.at(unravel(vector + step))
        off = len(next(iter(events.values()))) * abs(
            float(log_z_on_plan(there, found) - log_z_on_plan(there, plan_for(there)))
        )
        if not off < NODES.close:
            raise ValueError(
                f"The log Z of {p.name} on nodes for the posterior's mode is off by {off:.2g} "
                f"nats over all rows, {NODES.far:g} standard deviations from it; expected less "
                f"than {NODES.close:g}; pass more rows or a narrower prior, so that the posterior "
                "is narrower."
            )
    return found
