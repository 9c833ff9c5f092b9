"""
Rochdale: which circumstances go together
=========================================

665 households answered eight yes/no questions: is the wife economically active, is she over 38,
is the husband employed, is there a small child, is she educated, is he, is the family Asian, does
another member of the household work. Which answers go together *given all the others*? The model
is a pairwise graphical model. Its 28 couplings are log odds ratios of two answers at fixed values
of the other six. Z is a sum over 256 states, so the likelihood is exact.
"""

import numpy as np

import unnorm as un


@un.density
def pairwise(
    x: un.Binary["item"], *, coupling: un.Symmetric["item"] = 0.0, field: un.Real["item"] = 0.0
):
    return field @ x + 0.5 * x @ coupling @ x


answers = un.models.load("rochdale")
fit = un.fit(pairwise, answers, seed=0)
print(repr(fit))
print(f"log-likelihood {fit.log_likelihood(answers).value:.2f}, {fit.log_z}")

# %%
# Edges whose 95% profile likelihood interval excludes 0. These intervals need no normal
# approximation: that of Econ and Asian reaches farther down than up, because few Asian wives are
# economically active.
table = fit.profile().loc["coupling"]
edges = table[(table["lower"] > 0) | (table["upper"] < 0)]
order = edges["estimate"].abs().sort_values(ascending=False).index
print(edges.loc[order].round(2).to_string())
asian = answers["Asian"] == 1
print(f"{answers['Econ'][asian].sum()} of {asian.sum()} Asian wives are economically active")

# %%
# The graph of the couplings whose interval excludes 0: solid lines are positive, dashed lines
# negative, and the wider a line the stronger.
figure = un.plot_network(fit, "coupling")

# %%
# Does the model reproduce what it was not fitted to? Pairs match by construction. The number of
# yes answers of a household depends on interactions of all orders. Data sets of the same size are
# drawn from the fit, exactly.
simulated = un.simulate(fit, replicates=200, seed=0)
totals = simulated["posterior_predictive"]["x"].sum("item").to_numpy()[0]
observed = answers.to_numpy().sum(1)
print("yes answers  observed  simulated (90% of data sets)")
for count in range(9):
    low, high = np.quantile((totals == count).sum(1), [0.05, 0.95])
    print(f"{count:11d}  {(observed == count).sum():8d}  {low:.0f} to {high:.0f}")

# %%
# Data and question: Whittaker (1990), Graphical Models in Applied Multivariate Statistics.
