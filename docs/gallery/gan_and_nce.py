"""
A GAN and noise contrastive estimation
======================================

Both distinguish data from noise by logistic regression. A generative adversarial network (GAN)
learns the noise and discards the classifier. Noise contrastive estimation (NCE) keeps the noise
fixed and reads the density from the classifier. Flow contrastive estimation does both. The GAN is
written out here. It is not part of the package, because its discriminator is not a density.

With as many noise points as data, both have the value

.. math:: V(D, q) = E_{data}[\\log D] + E_q[\\log(1 - D)]

The classifier maximizes it at D* = p / (p + q), that is, logit D* = log p − log q (Goodfellow et
al., 2014, arXiv:1406.2661). There V = 2 JSD(p, q) − 2 log 2. A generator that minimizes it reaches
q = p, where D* is one half everywhere and carries no information. NCE writes logit D = f − c −
log q with a q that can be evaluated (Gutmann and Hyvärinen, 2012, JMLR 13, 307-361). Then f − c is
log p whatever q is, and c is log Z.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flowjax.distributions import Normal

import unnorm as un

rng = np.random.default_rng(0)
data = np.concatenate([rng.normal(-1.2, 0.5, 2400), rng.normal(1.3, 0.7, 1600)]).astype(np.float32)
grid = np.linspace(-4, 4, 400).astype(np.float32)


def log_truth(x):
    one, other = (-0.5 * ((x - m) / s) ** 2 - np.log(s) for m, s in ((-1.2, 0.5), (1.3, 0.7)))
    return np.logaddexp(np.log(0.6) + one, np.log(0.4) + other) - 0.5 * np.log(2 * np.pi)


# %%
# A GAN
# -----
# The generator transforms standard normal draws by a network, and the discriminator is another
# network. The two take steps of Adam in turn. The generator's loss is V itself, not the usual
# surrogate, so that the game is that of the formula.
def network(seed, activation=jax.nn.tanh):
    return eqx.nn.MLP("scalar", "scalar", 24, 2, activation=activation, key=jax.random.key(seed))


def value(discriminator, generator, x, z):
    at_data, at_noise = jax.vmap(discriminator)(x), jax.vmap(lambda z: z + generator(z))(z)
    return (
        -jax.nn.softplus(-at_data).mean()
        - jax.nn.softplus(jax.vmap(discriminator)(at_noise)).mean()
    )


def play(steps, learn_generator, generator, seed=0):
    optimizer = optax.adam(2e-3)
    discriminator, fixed = eqx.partition(network(seed), eqx.is_array)
    moving, rest = eqx.partition(generator, eqx.is_array)

    def of(d, g, x, z):
        return value(eqx.combine(d, fixed), eqx.combine(g, rest), x, z)

    def step(carry, key):
        d, g, of_d, of_g = carry
        row_key, key = jax.random.split(key)
        x = jnp.asarray(data)[jax.random.randint(row_key, (256,), 0, len(data))]
        z = jax.random.normal(key, (256,))
        slope = jax.grad(lambda d: -of(d, g, x, z))(d)
        update, of_d = optimizer.update(slope, of_d)
        d = optax.apply_updates(d, update)
        slope = jax.grad(lambda g: of(d, g, x, z))(g)
        update, of_g = optimizer.update(slope, of_g)
        g = optax.apply_updates(g, update) if learn_generator else g
        return (d, g, of_d, of_g), of(d, g, x, z)

    start = discriminator, moving, optimizer.init(discriminator), optimizer.init(moving)
    keys = jax.random.split(jax.random.key(seed), steps)
    (d, g, _, _), values = jax.jit(lambda start: jax.lax.scan(step, start, keys))(start)
    return eqx.combine(d, fixed), eqx.combine(g, rest), np.asarray(values)


still = jax.tree.map(lambda leaf: 0 * leaf if eqx.is_array(leaf) else leaf, network(1))
optimal, _, before = play(2000, False, still)
discriminator, generator, during = play(4000, True, network(1))
print(f"V, generator frozen at N(0, 1): {before[-500:].mean():.3f}")
print(f"V, generator learned: {during[-500:].mean():.3f}, and at q = p {-2 * np.log(2):.3f}")


# %%
# NCE against the same frozen generator
# -------------------------------------
# N(0, 1) has a density, so NCE can use it as its noise. The energy is a network too. The
# discriminator of the frozen generator learns log p − log q. NCE learns log p, with its constant.
SMOOTH = network(2, jax.nn.softplus)


@un.density
def energy(x: un.Real, *, network: un.PyTree = SMOOTH):
    return network(x) - 0.2 * x**2


noise = Normal(0.0, 1.0)
nce = un.fit(energy, data, un.objectives.NCE(noise=noise, noise_ratio=1), steps=4000, seed=0)
cell = grid[1] - grid[0]
by_grid = float(np.logaddexp.reduce(np.asarray(nce.density(grid), float)) + np.log(cell))
print(
    f"log Z learned: {float(nce.log_z):.3f}, by a grid: {by_grid:.3f}; converged: {nce.converged}"
)

log_q = np.asarray(noise.log_prob(grid))
inside = np.exp(log_truth(grid)) > 0.02
truth = log_truth(grid)
ways = {
    "log p − log q": truth - log_q,
    "discriminator, frozen generator": np.asarray(jax.vmap(optimal)(grid)),
    "NCE: f − c − log q": np.asarray(nce.density(grid)) - float(nce.log_z) - log_q,
    "discriminator of the GAN": np.asarray(jax.vmap(discriminator)(grid)),
}
for name, logit in list(ways.items())[1:]:
    apart = np.sqrt(np.mean((logit - (truth - log_q))[inside] ** 2))
    print(f"{name:32s} off log p - log q by {apart:.2f} (root mean square)")

# %%
# The two logits against the frozen generator are the same function. The logit against a learning
# generator is flat: the better the generator, the less its discriminator contains about the data.
# It is not a density. The energy still is one when the noise is gone.
drawn = np.asarray(
    jax.vmap(lambda z: z + generator(z))(jax.random.normal(jax.random.key(9), (4000,)))
)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
for name, logit in ways.items():
    left.plot(grid[inside], logit[inside], label=name)
left.set(title="what the classifiers learned", xlabel="x", ylabel="logit")
left.legend(fontsize=7)
right.hist(data, 60, density=True, alpha=0.3, label="data")
right.hist(drawn, 60, density=True, histtype="step", label="draws of the GAN")
right.plot(grid, np.exp(np.asarray(nce.density(grid)) - float(nce.log_z)), label="NCE")
right.set(title="what remains after training", xlabel="x", ylabel="density")
right.legend(fontsize=7)
figure.tight_layout()

# %%
# .. list-table::
#    :header-rows: 1
#
#    * -
#      - GAN
#      - NCE
#      - flow contrastive
#    * - the noise
#      - a generator, learned
#      - given, with a density
#      - a flow, learned
#    * - what it learns
#      - draws
#      - log p and log Z
#      - log p and log Z, and a flow
#    * - value at the best classifier
#      - 2 JSD(p, q) − 2 log 2
#      - the same, q fixed
#      - the same
#    * - standard errors
#      - none
#      - yes, few parameters
#      - yes, by a refit with the flow frozen
#
# `un.objectives.FlowContrastive` plays the GAN's game with a generator whose density can be
# evaluated. The classifier then stays log p − log q, and the density is kept.
