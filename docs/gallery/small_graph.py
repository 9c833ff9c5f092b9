"""
A small random graph
====================

Seventy-eight friendships among the 34 members of a karate club. Do friends of friends become
friends? An exponential random graph with alternating statistics, beside closed forms, and whether
graphs drawn from it look like the club.
"""

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np

import unnorm as un

club = un.models.load("karate")
y = club.to_numpy()[None]  # one graph is one row

# %%
# Ties alone are independent, and the estimate is the log odds of 78 ties among 561 pairs.
alone = un.models.exponential_random_graph("edges")
ties = un.fit(alone, y, un.objectives.PseudoLikelihood(), seed=0)
print(f"un.fit {float(ties.density.parameters['edges']):.5f}, log(78 / 483) {np.log(78 / 483):.5f}")

# %%
# With shared partners Z is a sum over 2⁵⁶¹ graphs. Maximum likelihood by Markov chains: a fifth
# common friend counts for less than the first (gwesp), and so does a fifth tie (gwdegree).
graph = un.models.exponential_random_graph("edges", "gwesp", "gwdegree")
fit = un.fit(graph, y, un.objectives.MaximumLikelihood(draws=5_000), seed=0)
print(fit)
print("Monte Carlo error", fit.monte_carlo_error.round(4).droplevel(["i", "j"]).to_dict())

# %%
# The interval of gwesp is above zero: a tie is likelier between members with a common friend. Do
# graphs drawn from the fit look like the club, also in what it was not fitted to?
check = un.goodness_of_fit(fit, seed=0)
print(check.p_values.round(2).to_dict())
figure = check.plot()

# %%
# The dots are the club, the bars hold 95% of the simulated graphs.
network = nx.from_numpy_array(y[0])
place = nx.kamada_kawai_layout(network)
figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
nx.draw_networkx_edges(network, place, ax=ax, edge_color="#b0b8bf")
nx.draw_networkx_nodes(
    network, place, ax=ax, node_size=[20 + 12 * d for _, d in network.degree], node_color="#0072B2"
)
ax.margins(0.1)
ax.set_axis_off()

# %%
# Data: Zachary (1977), doi:10.1086/jar.33.4.3629752. Model: Hunter and Handcock (2006),
# doi:10.1198/106186006X133069.
