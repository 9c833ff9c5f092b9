"""
Doctoral publications: counts with too many zeros and a long tail
=================================================================

915 doctoral students of biochemistry published between 0 and 19 articles in the last three years
of their studies. A Poisson distribution has a variance equal to its mean; here the variance is
more than twice the mean. The Conway-Maxwell-Poisson distribution, p(y) ∝ λ^y / (y!)^ν, has a tail
parameter: ν = 1 is Poisson, ν = 0 geometric. Z is an infinite series, summed until the rest is
negligible.
"""

import matplotlib.pyplot as plt
import numpy as np
from jax.scipy.special import gammaln

import unnorm as un


@un.density
def counts(y: un.Count, *, log_rate: un.Real = 0.0, nu: un.Positive = 1.0):
    return log_rate * y - nu * gammaln(y + 1.0)


articles = un.models.load("phd_pubs")["articles"].to_numpy()
print(
    f"mean {articles.mean():.2f}, variance {articles.var():.2f}, zeros {np.mean(articles == 0):.0%}"
)
order = np.random.default_rng(0).permutation(len(articles))
train, held_out = articles[order[:600]], articles[order[600:]]
fits = {
    "Conway-Maxwell-Poisson": un.fit(counts, train, seed=0),
    "the same, by score matching": un.fit(counts, train, "score_matching", seed=0),
    "Poisson": un.fit(counts.fix(nu=1.0), train, seed=0),
}
print(fits["Conway-Maxwell-Poisson"].profile().round(3))

# %%
# ν is far below 1, and its interval excludes 1: the counts are overdispersed. Log-likelihoods of
# 315 held-out students:
print(un.compare(fits, held_out).table.round(2).T.to_string())

# %%
# The estimates by ordinal score matching differ from those by maximum likelihood. They would agree
# within their errors if the model were true; where it is not, the two aim at different parameters.
for name, fit in fits.items():
    table = fit.summary()[["estimate", "standard_error"]].round(3)
    print(f"{name:28s}", table.droplevel(["i", "j"]).to_dict("index"))

# %%
# Simulated data sets of 915 students, drawn from the fit to all of them:
whole = un.fit(counts, articles, seed=0)
simulated = un.simulate(whole, replicates=200, seed=0, progress=False)["posterior_predictive"][
    "y"
].to_numpy()[0]
shares = np.array([np.mean(simulated == y, axis=1) for y in range(13)])
print("articles  observed  simulated (90% of data sets)")
for y in (0, 1, 2, 5, 10):
    low, high = np.quantile(shares[y], [0.05, 0.95])
    print(f"{y:8d}  {np.mean(articles == y):8.3f}  {low:.3f} to {high:.3f}")

# %%
# Two parameters describe the whole shape except for its shoulder: two articles are more frequent
# than in nine of ten simulated data sets. A Poisson distribution with the same mean would leave
# .18 of the students without an article.
figure = plt.figure(figsize=(6, 3.8), layout="constrained")
ax = figure.add_subplot()
ax.bar(range(13), [np.mean(articles == y) for y in range(13)], color="#c9d6df", label="observed")
ax.vlines(range(13), *np.quantile(shares, [0.05, 0.95], axis=1), color="#0072B2", linewidth=3,
          label="Conway-Maxwell-Poisson, 90% of data sets")  # fmt: skip
poisson = un.fit(counts.fix(nu=1.0), articles, seed=0)
share = np.exp(np.asarray(poisson.density(np.arange(13.0)), float) - float(poisson.log_z))
ax.plot(range(13), share, "o-", color="#D55E00", linewidth=1, markersize=4, label="Poisson")
ax.set(xlabel="articles", ylabel="share of students", xticks=range(13))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)

# %%
# Data: Long (1990), doi:10.1093/sf/68.4.1297. Model: Shmueli et al. (2005),
# doi:10.1111/j.1467-9876.2005.00474.x.
