"""Densities of every kind of support with the exact means of their features: first and second
moments."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy import special
from targets import CENTRE, PRECISION, banana, beta, gaussian, ising, spins

import unnorm as un
from unnorm.integration.states import enumerate_states

COUPLING = np.array(
    [[0, 1.2, -0.7, 0], [1.2, 0, 0.4, -1.0], [-0.7, 0.4, 0, 0.8], [0, -1.0, 0.8, 0]]
)
FIELD = np.array([0.3, -0.5, 0.2, -0.1])
WEIGHTS = np.array([[0.8, -1.1, 0.3], [-0.5, 0.7, 1.2], [1.0, 0.2, -0.9], [0.4, -0.6, 0.5]])


class Exact(NamedTuple):
    """A density, features of an event's arrays (chain, draw, ...) as (chain, draw, feature), and
    their exact means."""

    density: un.Density
    features: Callable
    means: np.ndarray
    proposal: object = None  # for independent Metropolis-Hastings


def moments(*values):
    """All first and second moments of flattened events."""
    flat = np.concatenate([np.asarray(v, float).reshape(*v.shape[:2], -1) for v in values], -1)
    rows, columns = np.triu_indices(flat.shape[-1])
    return np.concatenate([flat, flat[..., rows] * flat[..., columns]], -1)


def circular(x):
    return np.stack([np.cos(x), np.sin(x), np.cos(x) ** 2, np.cos(x) * np.sin(x)], -1)


def by_enumeration(p: un.Density, proposal=None) -> Exact:
    p = p.for_jit()
    states = enumerate_states(p)
    log_density = np.asarray(p(states), float)
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    features = moments(*(np.asarray(states[n])[None] for n in p.variables))[0]
    return Exact(p, moments, weights @ features, proposal)


def on_grid(p: un.Density, axes, measure=1.0, proposal=None) -> Exact:
    """Means by the sum over a product grid."""
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    log_density = np.asarray(p(grid if len(axes) > 1 else grid[:, 0]), float)
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    return Exact(p, moments, weights @ moments(grid[None])[0], proposal)


def second_of(mean, covariance):
    rows, columns = np.triu_indices(len(mean))
    return np.concatenate([mean, (covariance + np.outer(mean, mean))[rows, columns]])


def _von_mises():
    first, second = special.iv(1, 2.0) / special.iv(0, 2.0), special.iv(2, 2.0) / special.iv(0, 2.0)
    means = [
        first * np.cos(1),
        first * np.sin(1),
        0.5 + 0.5 * second * np.cos(2),
        0.5 * second * np.sin(2),
    ]
    p = un.Density(lambda x: 2.0 * jnp.cos(x - 1.0), {"x": un.Circle})
    return Exact(p, circular, np.array(means), dist.Uniform(-np.pi, np.pi))


def _von_mises_fisher():
    mean = 1 / np.tanh(3.0) - 1 / 3.0
    along = 1 - 2 * mean / 3.0
    p = un.Density(lambda x: 3.0 * x[0], {"x": un.Sphere[3]})
    covariance = np.diag([along - mean**2, (1 - along) / 2, (1 - along) / 2])
    return Exact(p, moments, second_of(np.array([mean, 0, 0]), covariance))


def _dirichlet():
    alpha = np.array([2.0, 3.0, 4.0])
    mean = alpha / 9.0
    p = un.Density(lambda x: jnp.sum((alpha - 1) * jnp.log(x)), {"x": un.Simplex[3]})
    return Exact(
        p,
        moments,
        second_of(mean, (np.diag(mean) - np.outer(mean, mean)) / 10.0),
        dist.Dirichlet(alpha),
    )


def _banana():
    # x_1 = x_0² / 2 + e: E x_0² x_1 enters no second moment; Cov(x_0, x_1) = 0, Var x_1 = 1 +
    # Var(x_0²)/4 = 1.5.
    return Exact(banana, moments, second_of(np.array([0.0, 0.5]), np.diag([1.0, 1.5])))


def _tilted():
    prior = un.Density(
        lambda x: -0.5 * (x @ jnp.array([[2.0, -0.8], [-0.8, 1.0]]) @ x), {"x": un.Real[2]}
    )
    likelihood = un.Density(
        lambda x: -jnp.logaddexp(0.0, -3 * x[0]) - 0.1 * x[1] ** 4, {"x": un.Real[2]}
    )
    axis = np.linspace(-8, 8, 801)
    return on_grid(prior * likelihood, (axis, axis))


def _counts():
    @un.density
    def counts(x: un.Count[2]):
        return (
            x @ jnp.log(jnp.array([3.0, 2.0]))
            - 0.2 * x[0] * x[1]
            - 1.2 * jnp.sum(special_gammaln(x + 1))
        )

    axis = np.arange(40.0)
    proposal = dist.Poisson(jnp.array([3.0, 3.0])).to_event(1)
    return on_grid(counts, (axis, axis), proposal=proposal)


def special_gammaln(x):
    import jax

    return jax.scipy.special.gammaln(x)


def _mixed():
    @un.density
    def mixed(s: un.Spin, x: un.Real):
        return 0.3 * s - 0.5 * (x - s) ** 2

    mean = np.tanh(0.3)
    # features: s, x, s², s x, x²
    return Exact(
        mixed,
        lambda s, x: moments(s[..., None], x[..., None]),
        np.array([mean, mean, 1.0, 1.0, 2.0]),
    )


TARGETS = {
    "gaussian": lambda: Exact(
        gaussian,
        moments,
        second_of(CENTRE, np.linalg.inv(PRECISION)),
        dist.MultivariateStudentT(5.0, CENTRE, np.linalg.cholesky(np.linalg.inv(PRECISION))),
    ),
    "banana": _banana,
    "beta": lambda: Exact(
        beta, lambda x: moments(x[..., None]), np.array([0.4, 0.2]), dist.Uniform()
    ),
    "gamma": lambda: Exact(
        un.Density(lambda x: 2 * jnp.log(x) - 2 * x, {"x": un.Positive}),
        lambda x: moments(x[..., None]),
        np.array([1.5, 3.0]),
        dist.Exponential(0.5),
    ),
    "ordered": lambda: Exact(
        un.Density(lambda x: -0.5 * jnp.sum(x**2), {"x": un.Ordered[2]}),
        moments,
        np.array([-(np.pi**-0.5), np.pi**-0.5, 1.0, 0.0, 1.0]),
    ),
    "dirichlet": _dirichlet,
    "tilted": _tilted,
    "von Mises": _von_mises,
    "von Mises-Fisher": _von_mises_fisher,
    "counts": _counts,
    "binary": lambda: by_enumeration(
        ising.bind(coupling=COUPLING, field=FIELD), dist.Bernoulli(0.5).expand([4]).to_event(1)
    ),
    "spins": lambda: by_enumeration(spins.bind(coupling=COUPLING, field=FIELD)),
    "ring": lambda: by_enumeration(
        un.Density(lambda x: 0.5 * jnp.sum(x * jnp.roll(x, 1)) + 0.2 * x.sum(), {"x": un.Spin[6]})
    ),
    "potts": lambda: by_enumeration(
        un.Density(
            lambda x: 0.8 * jnp.sum(x * jnp.roll(x, 1, 0)) + x[0] @ jnp.array([0.1, 0.5, -0.3]),
            {"x": un.Categorical(3)[4]},
        )
    ),
    "graph": lambda: by_enumeration(
        un.Density(lambda g: -0.1 * g.sum() + 0.05 * jnp.trace(g @ g @ g), {"g": un.Graph[4]})
    ),
    "rbm": lambda: by_enumeration(
        un.Density(
            lambda v, h: v @ WEIGHTS @ h + 0.2 * v.sum(), {"v": un.Binary[4], "h": un.Binary[3]}
        )
    ),
    "mixed": _mixed,
}

K = un.kernels
# What stands for each entry of KERNELS; an entry that is missing is made without options.
VARIANTS = {
    "annealed_langevin": {},  # biased: test_annealed_langevin
    "tie_no_tie": {},  # of graphs that declare what a tie changes: tests/interactions
    "random_walk_mh": {"": K.RandomWalkMH(), "covariance": K.RandomWalkMH(learn_covariance=True)},
    "hmc": {"": K.HMC(), "dense": K.HMC(dense_mass=True), "auto": K.HMC(metric="auto")},
    "nuts": {"": K.NUTS(), "auto": K.NUTS(metric="auto"), "low rank": K.NUTS(metric="low_rank")},
    "mclmc": {"adjusted": K.MCLMC(adjusted=True)},
    "gibbs": {"": K.Gibbs(), "random": K.Gibbs(scan="random")},
    "replica_exchange": {
        "mala": K.ReplicaExchange("mala", temperatures=3, hottest=0.3),
        "gibbs": K.ReplicaExchange("gibbs", temperatures=3, hottest=0.0),
    },
    "blockwise": {"": K.Blockwise(s="gibbs", x="mala")},
}


def kernels() -> dict[str, object]:
    """Every exact kernel of the registry, by name and variant; those that need the target are
    None."""
    out = {}
    for name, cls in K.KERNELS.items():
        if name == "independent_mh":
            out[name] = None
        elif name in VARIANTS:
            out |= {
                f"{name} {variant}".strip(): kernel for variant, kernel in VARIANTS[name].items()
            }
        elif cls().exact:
            out[name] = cls()
    return out


def serves(name: str, kernel, exact: Exact) -> object:
    """The kernel for a target, or None where it does not serve it."""
    if name == "independent_mh":
        return exact.proposal and K.IndependentMH(exact.proposal)
    supports = exact.density.variables
    if name == "blockwise":
        return kernel if set(supports) == {"s", "x"} else None
    return kernel if all(kernel.serves(support) for support in supports.values()) else None
