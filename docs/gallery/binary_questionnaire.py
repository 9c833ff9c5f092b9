"""
A questionnaire as a network
============================

Eight yes/no answers of 665 households: which go together, given all the others? A pairwise model,
its network by the lasso, and the same numbers by SciPy.
"""

import numpy as np
from scipy.optimize import minimize

import unnorm as un

answers = un.models.load("rochdale")
fit = un.fit(un.models.ising, answers, seed=0)
print(repr(fit))
print(fit.matrix("coupling").round(2).to_string())

# %%
# Beside SciPy: the likelihood by hand, Z as a sum over the 256 states.
states = (np.arange(256)[:, None] >> np.arange(8)) & 1
upper = np.triu_indices(8, 1)


def features(x):
    return np.concatenate([x, x[:, upper[0]] * x[:, upper[1]]], axis=1)


rows, table = features(answers.to_numpy()).mean(0), features(states)


def loss(theta):
    scores = table @ theta
    log_z = np.logaddexp.reduce(scores)
    return log_z - rows @ theta, np.exp(scores - log_z) @ table - rows


by_hand = minimize(loss, np.zeros(36), jac=True, tol=1e-12)
print(f"log-likelihood by SciPy  {-665 * by_hand.fun:.4f}")
print(f"log-likelihood by un.fit {fit.log_likelihood(answers).value:.4f}")
coupling = fit.density.parameters["coupling"][upper]
print(f"largest difference of a coupling {np.abs(coupling - by_hand.x[8:]).max():.1e}")

# %%
# A sparse network: the lasso on the couplings, by pseudo-likelihood, its strength chosen by the
# extended BIC.
path = un.path(un.models.ising, answers, "pseudo_likelihood", penalty={"coupling": un.L1()}, seed=0)
sparse = np.asarray(path.best.density.parameters["coupling"])
print(f"{np.count_nonzero(sparse[upper])} of 28 couplings are kept")

# %%
# The lasso's own conditions, in NumPy: at every kept coupling the slope of the mean loss is minus
# the strength times its sign; at every other it is no larger than the strength.
x, field = answers.to_numpy(), np.asarray(path.best.density.parameters["field"])
residual = x - 1 / (1 + np.exp(-(field + x @ sparse)))
slope = -((residual.T @ x + x.T @ residual) / len(x))[upper]
kept = sparse[upper] != 0
strength = np.abs(slope[kept]).mean()
print(f"strength {strength:.5f}, spread over the kept {np.ptp(np.abs(slope[kept])):.1e}")
print("signs opposed:", bool((np.sign(slope[kept]) == -np.sign(sparse[upper][kept])).all()))
print(f"largest slope elsewhere {np.abs(slope[~kept]).max():.5f}")

# %%
# The path, and the network that the criterion chooses: solid lines are positive couplings, dashed
# lines negative ones, and the wider a line the stronger.
path_figure = un.plot_path(path)

# %%
network = un.plot_network(path.best, "coupling")

# %%
# Would other households give the same network? Resampled households say how far each edge moves,
# subsets of them how few would do. The CS-coefficient is the largest share of the households that
# can be left out so that 95% of the subsets have edges that correlate by .7 or more with those of
# all.
stability = fit.edge_stability("coupling", 60, dropped=[0.2, 0.4, 0.6], seed=0)
print(stability.case_drop().round(3).to_string())
print(f"CS-coefficient {stability.cs_coefficient():.2f}")
stability_figure = stability.plot()


# %%
# Beside SciPy: twenty subsets of its own for each share, by the likelihood above.
def edges_of(chosen):
    def subset_loss(theta):
        scores = table @ theta
        log_z = np.logaddexp.reduce(scores)
        mean = features(answers.to_numpy()[chosen]).mean(0)
        return log_z - mean @ theta, np.exp(scores - log_z) @ table - mean

    return minimize(subset_loss, by_hand.x, jac=True).x[8:]


rng = np.random.default_rng(0)
for share in (0.2, 0.4, 0.6):
    subsets = [rng.choice(665, round((1 - share) * 665), replace=False) for _ in range(20)]
    found = [np.corrcoef(edges_of(one), by_hand.x[8:])[0, 1] for one in subsets]
    print(f"{share:.0%} dropped: mean correlation {np.mean(found):.3f}")
