"""
Counts with covariates
======================

Visits to a doctor in the RAND health insurance experiment. A Poisson regression beside
statsmodels, and a Conway-Maxwell-Poisson regression that lets the variance differ from the mean.
"""

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
print({name: np.round(column.mean(), 3) for name, column in data.items()})

# %%
# A covariate is given with each row, and each row has a Z of its own.


@un.density
def regression(
    visits: un.Count,
    *,
    poor_health: un.Covariate,
    copay: un.Covariate,
    intercept: un.Real = 0.0,
    slope_health: un.Real = 0.0,
    slope_copay: un.Real = 0.0,
    nu: un.Positive = 1.0,
):
    log_rate = intercept + slope_health * poor_health + slope_copay * copay
    return visits * log_rate - nu * gammaln(visits + 1)


poisson = un.fit(regression.fix(nu=1.0), data, seed=0)
print(poisson)

# %%
# The same by statsmodels, with robust standard errors:
design = sm.add_constant(np.stack([data["poor_health"], data["copay"]], 1))
glm = sm.GLM(data["visits"], design, family=sm.families.Poisson()).fit(cov_type="HC0")
print("estimates      ", np.round(glm.params, 4))
print("standard errors", np.round(glm.bse, 4))

# %%
# Visits vary more than a Poisson variable. With ν below 1 the tail is heavier:
dispersed = un.fit(regression, data, seed=0)
print(dispersed.summary())

# %%
# The log-likelihoods, and what each model says about a person in good health without copayment:
for name, fit in (("Poisson", poisson), ("Conway-Maxwell-Poisson", dispersed)):
    print(f"{name:24s}{fit.log_likelihood(data).value:9.1f}")
y = np.arange(16)
figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
group = (data["poor_health"] == 0) & (data["copay"] == 0)
ax.bar(y, [np.mean(data["visits"][group] == k) for k in y], color="#c9d6df", label="observed")
for name, fit, style in (("Poisson", poisson, "s--"), ("Conway-Maxwell-Poisson", dispersed, "o-")):
    one = fit.density.given(poor_health=0.0, copay=0.0)
    p = np.exp(np.asarray(one(y), float) - un.log_z(one, progress=False).value)
    ax.plot(y, p, style, markersize=4, label=name)
ax.set(xlabel="visits", ylabel="share of persons")
ax.legend(frameon=False)
