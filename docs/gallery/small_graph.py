"""
A small random graph
====================

Twenty marriages between sixteen Florentine families. Do friends of friends marry? An exponential
random graph with ties and triangles, beside closed forms and the published output of R's ergm.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np

import unnorm as un

marriages = un.models.load("florentine")
y = marriages.to_numpy()[None]  # one graph is one row


@un.density
def graph(y: un.Graph["family"], *, edges: un.Real = 0.0, triangles: un.Real = 0.0):
    return edges * y.sum() / 2 + triangles * jnp.sum(y * (y @ y)) / 6


# %%
# Ties alone are independent, and the estimate is the log odds of 20 ties among 120 pairs.
ties = un.fit(graph.fix(triangles=0.0), y, "pseudo_likelihood", seed=0)
print(f"un.fit {float(ties.density.parameters['edges']):.5f}, log(20 / 100) {np.log(0.2):.5f}")

# %%
# With triangles Z is a sum over 2¹²⁰ graphs. Maximum likelihood by Markov chains:
fit = un.fit(graph, y, un.objectives.MaximumLikelihood(draws=5_000), seed=0)
print(fit)
print("Monte Carlo error", fit.monte_carlo_error.round(4).droplevel(["i", "j"]).to_dict())

# %%
# R's ergm prints −1.6773 (.3499) and .1574 (.5831) for this model. The interval of triangles
# contains zero: twenty marriages do not show that friends of friends marry.
network = nx.from_numpy_array(y[0])
names = dict(enumerate(marriages.columns))
print("ties, triangles:", network.number_of_edges(), sum(nx.triangles(network).values()) // 3)
place = nx.kamada_kawai_layout(network.subgraph(max(nx.connected_components(network), key=len)))
figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
nx.draw_networkx_edges(network.subgraph(place), place, ax=ax, edge_color="#b0b8bf")
nx.draw_networkx_nodes(network.subgraph(place), place, ax=ax, node_size=60, node_color="#0072B2")
for node, (a, b) in place.items():
    ax.annotate(names[node], (a, b), (0, 6), textcoords="offset points", ha="center", fontsize=9)
ax.margins(0.1)
ax.set_axis_off()
