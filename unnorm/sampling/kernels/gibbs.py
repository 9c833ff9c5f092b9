"""Gibbs sampling of two-valued variables, site by site."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from unnorm.methods import method
from unnorm.sampling.base import Options, SamplingAlgorithm


class GibbsState(NamedTuple):
    position: dict
    logdensity: jax.Array


@method
class Gibbs(Options):
    """Systematic-scan Gibbs for Binary and Spin: a step visits every site once, in order, and redraws it.

    A site's conditional is logistic in log p̃(x with the site up) − log p̃(x with it down); its current value costs
    nothing, so that a sweep takes one evaluation a site.

    Example:
        >>> import unnorm as un
        >>> pair = un.Density(lambda x: 0.5 * x[0] * x[1], {"x": un.Spin[2]})
        >>> un.sample(pair, Gibbs(), draws=10, chains=2, seed=0, progress=False).posterior["x"].shape
        (2, 10, 2)

    References:
        Geman and Geman (1984), doi:10.1109/TPAMI.1984.4767596.
    """

    def serves(self, support):
        return support.states is not None and len(support.states) == 2

    def noise(self, key, position):
        """The logistic noise of every site: log u − log(1 − u)."""
        leaves, treedef = jax.tree.flatten(position)
        keys = jax.random.split(key, len(leaves))
        drawn = [jax.random.logistic(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(treedef, drawn)

    def build(self, target, tuning):
        def init(position, key=None):
            return GibbsState(position, target.log_density(position))

        def sweep(name, noise, state):
            low, high = target.supports[name].states

            def visit(state, site):
                index, logistic = site
                value = state.position[name]
                was_high = value.ravel()[index] == high
                flipped = value.ravel().at[index].set(jnp.where(was_high, low, high)).reshape(value.shape)
                other = init(state.position | {name: flipped})
                gain = jnp.where(was_high, state.logdensity - other.logdensity, other.logdensity - state.logdensity)
                flip = (logistic < gain) != was_high
                bad = jnp.isnan(other.logdensity), jnp.isposinf(other.logdensity)
                return jax.tree.map(lambda a, b: jnp.where(flip, a, b), other, state), (flip, *bad)

            sites = jnp.arange(noise.size), noise.ravel()
            return jax.lax.scan(visit, state, sites)

        def step(noise, state):
            seen = []
            for name in noise:
                state, told = sweep(name, noise[name], state)
                seen.append(told)
            flips, nans, infs = (jnp.concatenate(part) for part in zip(*seen, strict=True))
            return state, {"flip_rate": flips.mean(), "nan_proposal": nans.any(), "inf_proposal": infs.any()}

        return SamplingAlgorithm(init, step)

    def stats(self, info):
        return info
