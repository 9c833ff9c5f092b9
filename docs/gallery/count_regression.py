"""
Counts with covariates
======================

Visits to a doctor in the RAND health insurance experiment. A Poisson regression beside
statsmodels, and a negative binomial regression, whose variance exceeds its mean.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm
from jax.scipy.special import gammaln

import unnorm as un

people = sm.datasets.randhie.load_pandas().data.sample(600, random_state=0)
people = people[people["mdvis"] <= 30].reset_index(drop=True)
data = {
    "visits": people["mdvis"].to_numpy(int),
    "poor_health": people["hlthp"].to_numpy(float),
    "copay": people["lncoins"].to_numpy(float),
}
print({name: round(float(column.mean()), 3) for name, column in data.items()})

# %%
# A covariate is given with each row, and each row has a Z of its own.


@un.density
def poisson(
    visits: un.Count,
    *,
    poor_health: un.Covariate,
    copay: un.Covariate,
    intercept: un.Real = 0.0,
    health: un.Real = 0.0,
    payment: un.Real = 0.0,
):
    log_rate = intercept + health * poor_health + payment * copay
    return visits * log_rate - gammaln(visits + 1)


fit = un.fit(poisson, data, seed=0)
print(fit)

# %%
# The same by statsmodels, with robust standard errors:
design = sm.add_constant(np.stack([data["poor_health"], data["copay"]], 1))
glm = sm.GLM(data["visits"], design, family=sm.families.Poisson()).fit(cov_type="HC0")
print("estimates      ", np.round(glm.params, 4))
print("standard errors", np.round(glm.bse, 4))

# %%
# Visits vary far more than a Poisson variable. The negative binomial distribution has one more
# parameter, and its log-density without the constant is as short:


@un.density
def negative_binomial(
    visits: un.Count,
    *,
    poor_health: un.Covariate,
    copay: un.Covariate,
    intercept: un.Real = 0.0,
    health: un.Real = 0.0,
    payment: un.Real = 0.0,
    size: un.Positive = 1.0,
):
    mean = jnp.exp(intercept + health * poor_health + payment * copay)
    return visits * jnp.log(mean / (mean + size)) + gammaln(visits + size) - gammaln(visits + 1)


dispersed = un.fit(negative_binomial, data, seed=0)
print(dispersed)

# %%
# statsmodels' parameter alpha is 1 / size:
nb = sm.NegativeBinomial(data["visits"], design).fit(disp=0)
print("estimates", np.round(nb.params[:3], 4), "size", np.round(1 / nb.params[3], 4))
print(f"log-likelihood {nb.llf:.4f}, un.fit {dispersed.log_likelihood(data).value:.4f}")

# %%
# What each model says about a person in good health without copayment:
y = np.arange(16)
figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
group = (data["poor_health"] == 0) & (data["copay"] == 0)
ax.bar(y, [np.mean(data["visits"][group] == k) for k in y], color="#c9d6df", label="observed")
for name, one, style in (("Poisson", fit, "s--"), ("negative binomial", dispersed, "o-")):
    p = one.density.given(poor_health=0.0, copay=0.0)
    share = np.exp(np.asarray(p(y), float) - un.log_z(p, progress=False).value)
    ax.plot(y, share, style, markersize=4, label=name)
ax.set(xlabel="visits", ylabel="share of persons")
ax.legend(frameon=False)
