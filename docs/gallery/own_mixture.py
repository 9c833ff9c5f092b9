"""
Your own mixture
================

Old Faithful erupts for about two minutes or for more than four. A mixture of two normals with a
latent label, compared with scikit-learn.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.mixture import GaussianMixture

import unnorm as un

eruptions = un.models.load("old_faithful")["eruptions"].to_numpy()

# %%
# A variable that is declared and absent from the data is latent, and is summed out.


@un.density
def mixture(
    x: un.Real,
    long: un.Binary,
    *,
    logit: un.Real = 0.0,
    means: un.Ordered[2] = (2.0, 4.0),
    spreads: un.Positive[2] = 0.5,
):
    which = jnp.stack([1 - long, long])
    mean, spread = which @ means, which @ spreads
    return logit * long - 0.5 * ((x - mean) / spread) ** 2 - jnp.log(spread)


fit = un.fit(mixture, {"x": eruptions}, seed=0)
print(fit)

# %%
# scikit-learn fits the same model by the EM algorithm, without standard errors:
em = GaussianMixture(2, tol=1e-10, max_iter=1000, random_state=0).fit(eruptions[:, None])
order = np.argsort(em.means_[:, 0])
print("means  ", em.means_[order, 0].round(4))
print("spreads", np.sqrt(em.covariances_[order, 0, 0]).round(4))
print("logit  ", np.log(em.weights_[order[1]] / em.weights_[order[0]]).round(4))
print(f"log-likelihood: {272 * em.score(eruptions[:, None]):.4f}", end=", ")
print(f"un.fit {fit.log_likelihood({'x': eruptions}).value:.4f}")

# %%
# The density, and how likely an eruption of each length is to be a long one.
x = np.linspace(1, 6, 200)
both = np.stack([fit.density({"x": x, "long": np.full(200, k)}) for k in (0, 1)])
parts = np.exp(both.astype(float) - float(fit.log_z))
figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
ax.hist(eruptions, bins=30, density=True, color="#c9d6df")
ax.plot(x, parts.sum(0), color="#0072B2", label="density")
ax.plot(x, parts[1] / parts.sum(0), "--", color="#D55E00", label="probability of a long eruption")
ax.set(xlabel="minutes")
ax.legend(frameon=False)
