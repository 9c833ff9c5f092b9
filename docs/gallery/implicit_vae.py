"""
A variational autoencoder with an implicit encoder
==================================================

A density of an image x and a latent z,

p(x, z) = N(z; 0, I) ∏_i Bernoulli(x_i; decoder(z)_i),

is normalized, and log p(x) = log ∫ p(x, z) dz is not at hand. Training maximises the evidence lower
bound E_q[log p(x, z) − log q(z | x)] over the decoder and an encoder q. The bound is loose where q
cannot follow the posterior. An implicit encoder z = m(x, ε) + s(x, ε) ξ can follow more shapes than
a Gaussian, but its entropy has no formula. The gradient of the entropy, −E[∇_z log q(z | x) ∂z],
needs the score of q alone, which is estimated from draws of q: by a network that sliced score
matching fits to them (Song, Garg, Shi and Ermon, 2019, arXiv:1905.07088), or by Stein's identity in
a kernel's space (Li and Turner, 2018, arXiv:1705.07107).

Here one decoder learns 8 × 8 digits beside three encoders. Annealed importance sampling then gives
log p(x) of test images, with its error.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import unnorm as un

LATENT = 4
decoder = eqx.nn.MLP(LATENT, 64, 64, 2, activation=jax.nn.silu, key=jax.random.key(0))


@un.density(log_z=0.0)
def autoencoder(x: un.Binary[64], z: un.Real[LATENT], *, decoder: un.PyTree = decoder):
    logits = decoder(z)
    log_prior = -0.5 * z @ z - 0.5 * LATENT * jnp.log(2 * jnp.pi)
    return log_prior + jnp.sum(x * logits - jax.nn.softplus(logits))


digits = un.models.load("digits").drop(columns="digit").to_numpy(np.float32)
digits = np.random.default_rng(0).permutation(digits)
train, held_out, test = digits[:1497], digits[1497:1697], digits[1697:]

# %%
# z is absent from the data, and so latent. `held_out` rows stop the training at the best bound; the
# callback shows how it goes. In the table the bound is that of the held-out rows, the standard
# error is over test images, and `ok` counts the images whose log p(x) is reliable.
rows, fits = {}, {}
for encoder in ("score_matching", "gaussian", "stein"):
    bounds: list[float] = []
    fit = un.fit(
        autoencoder,
        {"x": train},
        un.objectives.EvidenceLowerBound(encoder, width=64),
        steps=1500,
        batch_size=64,
        held_out={"x": held_out},
        callback=lambda seen, bounds=bounds: bounds.append(-seen["held_out"]),
        seed=0,
        progress=False,
    )
    fits[encoder] = fit
    # log p(x) of every test image by 150 trajectories of its own, all in one program
    z = un.log_z(
        fit.density,
        un.estimators.AIS(chains=150, temperatures=10, pilot=30),
        over={"x": test},
        seed=1,
        progress=False,
    )
    reliable = z["verdict"].values == "ok"
    values, errors = z["log_z"].values, z["standard_error"].values
    rows[encoder] = {
        "bound": max(bounds),
        "log p(x), test": values.mean(),
        "Monte Carlo error": np.sqrt(np.sum(errors**2)) / len(values),
        "standard error": values.std(ddof=1) / np.sqrt(len(values)),
        "ok": f"{reliable.sum()} of {len(reliable)}",
    }

print(pd.DataFrame(rows).T.to_string())

# %%
# Draws: z from its prior, then the mean of x given z.
noise = np.random.default_rng(1).normal(size=(10, LATENT)).astype(np.float32)
figure, axes = plt.subplots(len(fits), 10, figsize=(8, 2.6))
for row, (encoder, fit) in zip(axes, fits.items(), strict=True):
    means = jax.nn.sigmoid(jax.vmap(fit.density.parameters["decoder"])(noise))
    for axis, mean in zip(row, means, strict=True):
        axis.imshow(mean.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    row[0].set_ylabel(encoder.replace("_", "\n"), fontsize=7)
plt.show()
