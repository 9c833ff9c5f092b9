"""Noise contrastive estimation: log Z is learned as a parameter."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.fitting.base import Extra, PerExample
from unnorm.fitting.drawn import refuse_one_row
from unnorm.methods import method, static


@method
class NCE(PerExample):
    """Tell the data from noise by logistic regression, with log Z as one more parameter.

    Minimise mean_i softplus(−G(x_i)) + Σ_k softplus(G(y_ik)), G = log p̃ − log Z − log p_n − log ν, the log-sum-exp
    form of the cross-entropy, with ν noise points y_i1..y_iν for every x_i, drawn once.

    Args:
        noise: a NumPyro distribution over one event (or ``{variable: distribution}``); None: chosen by the support and
            fitted to the data, which the standard errors account for.
        noise_ratio: ν, noise points per data point.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], NCE(noise_ratio=1000), seed=0, progress=False)
        >>> abs(float(fit.density.parameters["rate"]) - 0.5) < 0.05
        True

    References:
        Gutmann and Hyvärinen (2012), JMLR 13, 307-361.
    """

    noise: Any = static(None)
    noise_ratio: int = static(10)
    target = "the maximum likelihood estimate as the noise ratio grows, and a fixed point of its own before"

    def refuse(self, density):
        whole = isinstance(self.noise_ratio, int | np.integer) and not isinstance(self.noise_ratio, bool)
        if not whole or self.noise_ratio < 1:
            return f"noise_ratio is {self.noise_ratio!r}; expected a whole number of at least 1; pass such a one"
        if density.covariates:
            return (
                f"NCE learns one log Z, and with the covariate {next(iter(density.covariates))} every row has its own; "
                "use un.objectives.ScoreMatching"
            )
        return None

    # -- the noise -----------------------------------------------------------------------------------------------------
    def _distributions(self, density, statistics: dict) -> dict[str, Any]:
        """The noise of every variable: given, or the support's default at these statistics."""
        from numpyro.distributions import Distribution

        shapes = density.shapes()
        if self.noise is None:
            return {name: s.noise(statistics[name], shapes[name]) for name, s in density.variables.items()}
        given = self.noise if isinstance(self.noise, Mapping) else {next(iter(shapes)): self.noise}
        if set(given) != set(shapes):
            raise ValueError(
                f"noise was given for {', '.join(given)}; expected {', '.join(shapes)}; pass a dict with a "
                "distribution for each."
            )
        for name, distribution in given.items():
            if not isinstance(distribution, Distribution):
                raise ValueError(
                    f"noise for {name} is {distribution!r}; expected an object of numpyro.distributions over one "
                    "event; pass such a one."
                )
            found = tuple(distribution.batch_shape) + tuple(distribution.event_shape)
            if found != shapes[name]:
                raise ValueError(
                    f"noise for {name} has the shape {found}; expected {shapes[name]}; use .expand(...) or "
                    ".to_event(...)."
                )
        return dict(given)

    def _first_distributions(self, density, statistics: dict, rows: int) -> dict[str, Any]:
        """The noise, or in our words why NumPyro cannot build it from these data."""
        try:
            return self._distributions(density, statistics)
        except ValueError as error:
            if "got invalid" not in str(error):
                raise
            raise ValueError(
                f"The default noise cannot be fitted to {rows} rows of {', '.join(density.variables)}; expected data "
                "that vary in every direction; pass more rows, drop columns that others determine, or pass noise=."
            ) from None

    def _log_model(self, density):
        """log p̃ at noise; given noise may leave the support, where the model has no mass."""
        return density.log_density if self.noise is None else density.masked

    def log_noise(self, density, statistics: dict, event: dict) -> jax.Array:
        """log p_n at one event."""
        distributions = self._distributions(density, statistics)
        return sum(jnp.sum(d.log_prob(event[name])) for name, d in distributions.items())

    def statistics_i(self, density, event: dict) -> dict:
        """What the fitted noise takes from one row: the noise's parameters are the data means of these."""
        return {name: support.noise_statistics(event[name]) for name, support in density.variables.items()}

    def prepare(self, density, events, key):
        refuse_one_row(self, events)
        events = {name: jnp.asarray(value) for name, value in events.items()}
        rows, ratio = len(next(iter(events.values()))), int(self.noise_ratio)
        contributions = jax.vmap(lambda event: self.statistics_i(density, event))(events)
        statistics = jax.tree.map(lambda leaf: leaf.mean(0), contributions)
        distributions = self._first_distributions(density, statistics, rows)
        keys = jax.random.split(key, len(distributions))
        shapes = density.shapes()
        dtype = jnp.result_type(*events.values())
        noise = {
            name: jnp.asarray(d.sample(k, (rows, ratio)), dtype).reshape((rows, ratio) + shapes[name])
            for k, (name, d) in zip(keys, distributions.items(), strict=True)
        }
        log_noise = jax.vmap(lambda event: self.log_noise(density, statistics, event))
        on_noise, on_data = jax.vmap(log_noise)(noise), log_noise(events)
        self._refuse_uncovered(np.asarray(on_data), np.asarray(on_noise))
        ratios = _log_model_at(self, density, noise) - on_noise
        log_z = jax.scipy.special.logsumexp(ratios) - math.log(ratios.size)  # importance sampling: a start
        if not np.isfinite(log_z):
            raise ValueError(
                f"Density {density.name} has the log Z {float(log_z)} by the noise at the start; expected a finite "
                "number; pass start= parameters at which it can be normalized."
            )
        shared = {"statistics": statistics}
        return Extra({"log_z": log_z}, {"noise": noise, "on_noise": on_noise, "on_data": on_data}, shared)

    def _refuse_uncovered(self, on_data: np.ndarray, on_noise: np.ndarray) -> None:
        if not np.isfinite(on_data).all():
            row = int(np.argmin(np.isfinite(on_data)))
            raise ValueError(
                f"noise has the log-density {on_data[row]} at data row {row}; expected noise that is positive wherever "
                "data can be; pass noise with a wider support."
            )
        if not np.isfinite(on_noise).all():
            raise ValueError(
                "noise has a log-density that is not finite at its own draws; expected finite numbers; mend it."
            )

    # -- the loss ------------------------------------------------------------------------------------------------------
    def loss_i(self, density, extra, event, key):
        offset = extra.learned["log_z"] + math.log(self.noise_ratio)
        on_data = density.log_density(event) - offset - extra.rows["on_data"]
        on_noise = jax.vmap(self._log_model(density))(extra.rows["noise"]) - offset - extra.rows["on_noise"]
        return jax.nn.softplus(-on_data) + jnp.sum(jax.nn.softplus(on_noise))

    # -- standard errors -----------------------------------------------------------------------------------------------
    def score_correction(self, density, extra, events):
        """−A·IF(x_i): the influence of each row through the noise that was fitted to it; zero where noise was given."""
        if self.noise is not None:
            return None
        cross, _ = _noise_moments(self, density, extra, events)
        values = jax.vmap(lambda event: ravel_pytree(self.statistics_i(density, event))[0])(events)
        return -(values - values.mean(0)) @ cross.T

    def noise_variance(self, density, extra, events):
        return _noise_moments(self, density, extra, events)[1]


@jax.jit
def _log_model_at(objective: NCE, density, noise: dict) -> jax.Array:
    """log p̃ at all noise points (n, ν)."""
    return jax.vmap(jax.vmap(objective._log_model(density)))(noise)


@jax.jit
def _noise_moments(objective: NCE, density, extra: Extra, events: dict) -> tuple[jax.Array, jax.Array]:
    """A = mean_x[h(1−h) g s'] − ν mean_y[h² g s'] and ν Cov_y(h g), row by row to bound memory; s: noise score."""
    _, unravel = ravel_pytree((density.free(), extra.learned))
    vector = ravel_pytree((density.free(), extra.learned))[0]
    statistics, unravel_noise = ravel_pytree(extra.shared["statistics"])

    def log_model(vector, event):
        free, learned = unravel(vector)
        return objective._log_model(density.at(free))(event) - learned["log_z"]

    def at(event):
        g = jax.grad(log_model)(vector, event)
        s = jax.grad(lambda phi: objective.log_noise(density, unravel_noise(phi), event))(statistics)
        return log_model(vector, event), g, s

    def one_row(row):
        event, noise, on_data, on_noise = row
        value, g, s = at(event)
        h = jax.nn.sigmoid(value - on_data - math.log(objective.noise_ratio))
        values, gs, scores = jax.vmap(at)(noise)
        hs = jax.nn.sigmoid(values - on_noise - math.log(objective.noise_ratio))
        cross = h * (1 - h) * jnp.outer(g, s) - jnp.einsum("k,kp,kq->pq", hs**2, gs, scores)
        weighted = hs[:, None] * gs
        return cross, weighted.sum(0), weighted.T @ weighted

    rows = events, extra.rows["noise"], extra.rows["on_data"], extra.rows["on_noise"]
    cross, first, second = jax.lax.map(one_row, rows)
    mean = first.mean(0) / objective.noise_ratio
    return cross.mean(0), second.mean(0) - objective.noise_ratio * jnp.outer(mean, mean)
