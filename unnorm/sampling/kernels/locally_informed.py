"""Discrete kernels that follow the gradient: Gibbs with gradients and discrete Langevin."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.method import method, option, static
from unnorm.interactions.coloring import changes_by_gradient
from unnorm.sampling.base import Options, ProposalInfo, SamplingAlgorithm, metropolis, tree_where


class GradientState(NamedTuple):
    """The state of a chain with the gradient by state."""

    position: dict
    logdensity: jax.Array
    by_state: dict  # what each site's every state would add to the log-density, to first order


class _GradientProposal(Options):
    """What both share: the variables that they move, and the gradient at a state."""

    needs_gradient = True

    def serves(self, support):
        return support.states is not None

    def _init(self, target):
        def init(position, key=None):
            return GradientState(position, *changes_by_gradient(target, position))

        return init


def _codes(states: jax.Array, value: jax.Array) -> jax.Array:
    """Which state each site is in."""
    return jnp.argmax(value.reshape(-1, 1) == states, -1)


def _own_states(target, position: dict) -> dict:
    return {
        name: jnp.asarray(target.supports[name].states, value.dtype)
        for name, value in position.items()
    }


@method
class GibbsWithGradients(_GradientProposal):
    """Propose to change one site to one state, (i, s) ~ softmax(d / 2), and accept by
    Metropolis-Hastings.

    d_is = ∂f/∂x_i (s − x_i) is the change of the log-density to first order, so that one gradient
    informs the choice among all sites; for Binary, Spin, Categorical and Graph.

    Args:
        changes: proposals, one after another, in a step.

    Example:
        >>> import unnorm as un
        >>> pair = un.Density(lambda x: 0.5 * x[0] * x[1], {"x": un.Spin[2]})
        >>> draws = un.sample(pair, GibbsWithGradients(),
        ...     draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (2, 10, 2)

    References:
        Grathwohl et al. (2021), Oops I took a gradient, arXiv:2102.04509.
    """

    changes: int = static(default=1, at_least=1)

    def build(self, target, tuning) -> SamplingAlgorithm:
        init = self._init(target)

        def logits(state):
            """Of every change, those that change nothing left out; in the order of the
            variables.
            """
            parts = []
            for name, states in _own_states(target, state.position).items():
                stays = state.position[name].reshape(-1, 1) == states
                parts.append(jnp.where(stays, -jnp.inf, state.by_state[name] / 2).ravel())
            return jnp.concatenate(parts)

        def change_site(state, index):
            """The position after a change, and the index of the change back."""
            moved, back, start = {}, jnp.zeros((), int), 0
            for name, states in _own_states(target, state.position).items():
                value, count = state.position[name], len(states)
                own = (index >= start) & (index < start + value.size * count)
                site, code = (index - start) // count, (index - start) % count
                site = jnp.where(own, site, 0)
                flat = value.ravel()
                new = flat.at[site].set(jnp.where(own, states[code], flat[site]))
                moved[name] = new.reshape(value.shape)
                back = jnp.where(own, start + site * count + _codes(states, flat)[site], back)
                start += value.size * count
            return moved, back

        def one(state, key):
            pick, accept = jax.random.split(key)
            forward = logits(state)
            index = jax.random.categorical(pick, forward)
            moved, back = change_site(state, index)
            proposal = init(moved)
            backward = logits(proposal)
            ratio = proposal.logdensity - state.logdensity + jax.nn.log_softmax(backward)[back]
            ratio -= jax.nn.log_softmax(forward)[index]
            log_uniform = jnp.log(jax.random.uniform(accept, dtype=ratio.dtype))
            info = metropolis(ratio, log_uniform, proposal.logdensity)
            return tree_where(info.is_accepted, proposal, state), info

        def step(key, state):
            state, info = jax.lax.scan(one, state, jax.random.split(key, self.changes))
            rate, accepted, *flags = info
            return state, ProposalInfo(rate.mean(), accepted.any(), *(flag.any() for flag in flags))

        return SamplingAlgorithm(init, step)


@method
class DiscreteLangevin(_GradientProposal):
    """Propose every site at once, P(s) ∝ exp(½ ∂f/∂x_i (s − x_i) − (s − x_i)² / (2ε)), and accept
    by M-H.

    For Binary, Spin, Categorical (one-hot: the squared distance of two states is 2) and Graph.

    Args:
        step_size: ε; None: adapted during warm-up to an acceptance rate of .574.
        adjusted: accept or reject (DMALA); without it (DULA) every proposal is taken, and the draws
            are biased.

    Example:
        >>> import unnorm as un
        >>> pair = un.Density(lambda x: 0.5 * x[0] * x[1], {"x": un.Spin[2]})
        >>> draws = un.sample(pair, DiscreteLangevin(), draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (2, 10, 2)

    References:
        Zhang, Liu and Liu (2022), A Langevin-like sampler for discrete distributions,
        arXiv:2206.09914.
    """

    step_size: float | None = option(default=None, above=0)
    adjusted: bool = static(default=True)
    bias = (
        "DiscreteLangevin without adjustment does not reject, so its draws follow another "
        "distribution"
    )

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return self.adjusted

    @property
    def adapts(self) -> Any:
        return "step_size" if self.adjusted else None

    def initial_tuning(self, size) -> dict[str, Any]:
        return {"step_size": 0.5 if self.step_size is None else self.step_size}

    def target_acceptance(self, size) -> Any:
        return 0.574

    def build(self, target, tuning) -> SamplingAlgorithm:
        init = self._init(target)

        def log_proposal(state):
            """The log-probability of every state of every site."""
            out = {}
            for name, states in _own_states(target, state.position).items():
                apart = state.position[name].reshape(-1, 1) - states
                encoded = (
                    target.supports[name].encode(state.position[name]).ndim
                    > state.position[name].ndim
                )
                squared = jnp.where(apart == 0, 0.0, 2.0) if encoded else apart**2
                out[name] = jax.nn.log_softmax(
                    state.by_state[name] / 2 - squared / (2 * tuning["step_size"])
                )
            return out

        def chance(logs, position):
            states = _own_states(target, position)
            return sum(
                jnp.take_along_axis(logs[name], _codes(states[name], value)[:, None], 1).sum()
                for name, value in position.items()
            )

        def step(key, state):
            accept, *keys = jax.random.split(key, 1 + len(state.position))
            forward, states, moved = log_proposal(state), _own_states(target, state.position), {}
            for one, (name, value) in zip(keys, state.position.items(), strict=True):
                moved[name] = states[name][jax.random.categorical(one, forward[name])].reshape(
                    value.shape
                )
            proposal = init(moved)
            ratio = proposal.logdensity - state.logdensity
            ratio += chance(log_proposal(proposal), state.position) - chance(forward, moved)
            log_uniform: Any = (
                jnp.log(jax.random.uniform(accept, dtype=ratio.dtype))
                if self.adjusted
                else -jnp.inf
            )
            info = metropolis(ratio, log_uniform, proposal.logdensity)
            return tree_where(info.is_accepted, proposal, state), info

        return SamplingAlgorithm(init, step)
