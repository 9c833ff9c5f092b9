"""
A hierarchical model with a missing value
=========================================

Eight schools, of which one has lost its result. What is missing is declared as a variable and
sampled with the rest. The results are compared with a sum over a grid.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import unnorm as un

Y = np.array([28.0, 8, -3, 7, -1, 1, 18])  # the eighth school's effect, 12, is lost
SIGMA = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


@un.density
def schools(
    mu: un.Real,
    tau: un.Positive,
    z: un.Real["school"],
    missing: un.Real,
    *,
    y: un.Constant["seen"] = Y,
    sigma: un.Constant["school"] = SIGMA,
):
    effect = mu + tau * z
    observed = jnp.append(y, missing)
    prior = -0.5 * (mu / 5) ** 2 - jnp.log1p((tau / 5) ** 2) - 0.5 * z @ z
    return prior - 0.5 * jnp.sum(((observed - effect) / sigma) ** 2)


draws = un.sample(schools, "nuts", draws=2000, seed=0)
check = un.diagnose(draws, schools)
print(check)

# %%
# By hand: the effects and the missing value integrate out, which leaves μ and τ, on a grid.
mu, tau = np.meshgrid(np.linspace(-30, 40, 701), np.geomspace(1e-3, 200, 800), indexing="ij")
variance = SIGMA[:7] ** 2 + tau[..., None] ** 2
log_p = -0.5 * ((Y - mu[..., None]) ** 2 / variance + np.log(variance)).sum(-1)
log_p += -0.5 * (mu / 5) ** 2 - np.log1p((tau / 5) ** 2) + np.log(tau)  # dτ = τ d log τ
weight = np.exp(log_p - log_p.max())
weight /= weight.sum()
mean = {name: (weight * value).sum() for name, value in (("mu", mu), ("tau", tau))}
spread = np.sqrt((weight * ((mu - mean["mu"]) ** 2 + tau**2 + SIGMA[7] ** 2)).sum())

table = check.table
print("                  grid    draws  Monte Carlo error")
for name in ("mu", "tau"):
    row = table.loc[name]
    print(f"{name:14s}{mean[name]:8.3f} {row['mean']:8.3f}  {row['mcse_mean']:.3f}")
row = table.loc["missing"]
print(f"missing       {mean['mu']:8.3f} {row['mean']:8.3f}  {row['mcse_mean']:.3f}")
print(f"missing, sd   {spread:8.3f} {row['sd']:8.3f}  {row['mcse_sd']:.3f}")

# %%
# What the lost result might have been, and what it was.
figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
ax.hist(draws.posterior["missing"].values.ravel(), bins=60, density=True, color="#c9d6df")
ax.axvline(12, color="#D55E00", label="the result that was taken out")
ax.set(xlabel="effect of the eighth school", yticks=[])
ax.legend(frameon=False)
