"""
The Florentine marriages: is a friend of a friend a friend?
===========================================================

Sixteen families of Renaissance Florence and the twenty marriages between them. One graph is one
observation. An exponential random graph weights ties and triangles. Z is a sum over 2^120 graphs
and out of reach.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import unnorm as un


@un.density
def marriages(y: un.Graph["family"], *, edges: un.Real = 0.0, triangles: un.Real = 0.0):
    return edges * y.sum() / 2 + triangles * jnp.sum(y * (y @ y)) / 6


graph = un.models.load("florentine")
ties = graph.to_numpy()[None]
fit = un.fit(marriages, ties, un.objectives.MaximumLikelihood(draws=5_000), seed=0)
local = un.fit(marriages, ties, "pseudo_likelihood", seed=0)
print(fit)

# %%
# Maximum likelihood by Markov chains, with its Monte Carlo error. Pseudo-likelihood needs no
# chains for the estimate; its standard errors come from 200 graphs drawn from the fit, because one
# graph has no rows whose spread could be measured.
print(fit.monte_carlo_error.round(4).droplevel(["i", "j"]).to_dict())
print(local.summary().round(3).to_string())

# %%
# The odds of a marriage that closes no triangle are e^edges, one to five. Each triangle that a
# marriage closes multiplies them by e^triangles. The interval of triangles contains 0: twenty
# marriages do not show that friends of friends marry. What do such graphs look like? 200 graphs,
# from chains that have forgotten their starts:
simulated = un.simulate(fit, replicates=200, seed=0, progress=False)["posterior_predictive"][
    "y"
].to_numpy()[0, :, 0]


def statistics(y):
    degree = y.sum(-1)
    return {
        "ties": degree.sum(-1) / 2,
        "triangles": np.einsum("...ij,...jk,...ki->...", y, y, y) / 6,
        "isolates": (degree == 0).sum(-1),
        "largest degree": degree.max(-1),
    }


observed, expected = statistics(ties[0]), statistics(simulated)
print("                observed  simulated (90% of graphs)")
for name in observed:
    low, high = np.quantile(expected[name], [0.05, 0.95])
    print(f"{name:14s}  {observed[name]:8.0f}  {low:.0f} to {high:.0f}")

# %%
# In ties, triangles and families without a tie, the observed graph is an ordinary one under the
# model. So is its largest degree, that of the Medici: the best connected of sixteen families often
# has six ties by chance.
from scipy.optimize import minimize
from scipy.sparse.csgraph import shortest_path

steps = shortest_path(ties[0])
tied = ties[0].sum(0) > 0
i, j = np.triu_indices(tied.sum(), 1)
wanted = steps[tied][:, tied][i, j]


def stress(flat):  # families are to lie as far apart as there are marriages between them
    place = flat.reshape(-1, 2)
    return np.sum((np.linalg.norm(place[i] - place[j], axis=1) / wanted - 1) ** 2)


starts = [np.random.default_rng(seed).normal(size=2 * tied.sum()) for seed in range(20)]
best = min((minimize(stress, start) for start in starts), key=lambda found: found.fun)
place = np.full((16, 2), np.nan)
place[tied] = best.x.reshape(-1, 2)
place[~tied] = np.nanmin(place, 0)
figure = plt.figure(figsize=(8.4, 4.6), layout="constrained")
ax, side = figure.subplots(1, 2, width_ratios=[2.4, 1])
for a, b in zip(*np.nonzero(np.triu(ties[0])), strict=True):
    ax.plot(*place[[a, b]].T, color="#b0b8bf", linewidth=1.2, zorder=1)
ax.scatter(*place.T, s=14 * (1 + ties[0].sum(0)), color="#0072B2", zorder=2)
for (a, b), name in zip(place, graph.columns, strict=True):
    ax.annotate(name, (a, b), (0, 6), textcoords="offset points", ha="center", fontsize=9, zorder=3)
ax.margins(0.12)
ax.set_axis_off()
values, counts = np.unique(expected["largest degree"], return_counts=True)
side.bar(values, counts / 200, color="#c9d6df")
side.axvline(observed["largest degree"], color="#D55E00")
side.set(xlabel="largest degree", ylabel="share of simulated graphs")
side.spines[["top", "right"]].set_visible(False)

# %%
# Data: Padgett and Ansell (1993), doi:10.1086/230190. Model: Frank and Strauss (1986),
# doi:10.1080/01621459.1986.10478342.
