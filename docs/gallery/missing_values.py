"""
Groups with missing measurements
================================

Eighty groups, two measurements each, some of them missing: a random intercept model, fitted to the
table as it is. A NaN is a latent entry of its row. Beside it, the likelihood by SciPy.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import unnorm as un

rng = np.random.default_rng(0)
y = 2.0 + 1.5 * rng.normal(size=(80, 1)) + rng.normal(size=(80, 2))
lost = rng.random((80, 2)) < 0.25
lost[lost.all(1), 0] = False  # at least one measurement for each group
y[lost] = np.nan
print(f"{lost.sum()} of {y.size} measurements are missing")

# %%
# The group's intercept is latent as well: it is declared and absent from the data.


@un.density
def groups(
    y: un.Real[2],
    intercept: un.Real,
    *,
    mean: un.Real = 0.0,
    between: un.Positive = 1.0,
    within: un.Positive = 1.0,
):
    group = -0.5 * ((intercept - mean) / between) ** 2 - jnp.log(between)
    return group + jnp.sum(-0.5 * ((y - intercept) / within) ** 2 - jnp.log(within))


fit = un.fit(groups, {"y": y}, seed=0)
print(fit)

# %%
# By hand: the measurements that are there are jointly normal, with variance between² + within² and
# covariance between².


def loss(theta):
    mean, between, within = theta[0], np.exp(theta[1]), np.exp(theta[2])
    covariance = between**2 + within**2 * np.eye(2)
    total = 0.0
    for row, gone in zip(y, lost, strict=True):
        seen = ~gone
        total -= multivariate_normal(
            np.full(seen.sum(), mean), covariance[np.ix_(seen, seen)]
        ).logpdf(row[seen])
    return total


best = minimize(loss, np.zeros(3), tol=1e-8)
print("SciPy ", np.round([best.x[0], *np.exp(best.x[1:])], 4))
print("un.fit", np.round([float(fit.density.parameters[n]) for n in fit.density.parameters], 4))

# %%
# Groups with one measurement left tell less about their intercept. The conditional mean of each
# intercept shrinks towards the mean of all, the more so the fewer measurements there are.
mean, between, within = (float(value) for value in fit.density.parameters.values())
count = (~lost).sum(1)
weight = between**2 / (between**2 + within**2 / count)
average = np.nanmean(y, 1)
figure, ax = plt.subplots(figsize=(5, 4), layout="constrained")
for k, marker in ((1, "s"), (2, "o")):
    of = count == k
    shrunk = mean + weight[of] * (average[of] - mean)
    ax.plot(average[of], shrunk, marker, markersize=4, label=f"{k} measured")
ax.axline((mean, mean), slope=1, color="#b0b8bf", linewidth=0.8)
ax.set(xlabel="average of the group", ylabel="estimated intercept")
ax.legend(frameon=False)
