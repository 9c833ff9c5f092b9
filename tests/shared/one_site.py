"""A kernel with an exact transition matrix, for exact answers about contrastive divergence."""

import jax

from unnorm.core.method import method
from unnorm.sampling.base import Options, SamplingAlgorithm, tree_where
from unnorm.sampling.kernels.gibbs import GibbsState


@method
class OneSite(Options):
    """Redraw one site, chosen at random: CD-1 with it is pseudo-likelihood (Hyvärinen, 2006)."""

    def serves(self, support):
        return support.states is not None

    def build(self, target, tuning):
        def init(position, key=None):
            return GibbsState(position, target.log_density(position))

        def step(key, state):
            pick, draw = jax.random.split(key)
            x = state.position["x"]
            site = jax.random.randint(pick, (), 0, x.size)
            other = init({"x": x.at[site].set(1 - x[site])})
            flip = jax.random.logistic(draw, dtype=x.dtype) < other.logdensity - state.logdensity
            return tree_where(flip, other, state), {}

        return SamplingAlgorithm(init, step)

    def stats(self, info):
        return info
