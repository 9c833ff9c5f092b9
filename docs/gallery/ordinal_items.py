"""
Ordinal items: association of ordered answers
=============================================

944 voters placed themselves, Clinton and Dole on a scale from 1 (liberal) to 7 (conservative).
Three ordinal items, with one association for each pair; and the same model as a log-linear one in
statsmodels.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf

import unnorm as un

voters = sm.datasets.anes96.load_pandas().data
items = ["selfLR", "ClinLR", "DoleLR"]
answers = voters[items].astype(int) - 1  # codes 0 to 6
scores = np.linspace(-1, 1, 7)

# %%
# Each item has a free distribution; two items are associated through the product of their scores
# (Goodman's linear-by-linear association). An item arrives as a one-hot vector, so ``x @ scores``
# is its score. The first level of an item is the reference.


@un.density
def ordinal(
    x: un.Categorical(7)["item"],
    *,
    level: un.Real["item", 6] = 0.0,
    association: un.Symmetric["item"] = 0.0,
    scores: un.Constant[7] = scores,
):
    score = x @ scores
    return (level * x[:, 1:]).sum() + 0.5 * score @ association @ score


fit = un.fit(ordinal, answers, seed=0)
summary = fit.summary()
print(summary.tail(3))

# %%
# The same by statsmodels: a Poisson regression on the 343 cells of the table.
cells = pd.DataFrame(np.indices((7, 7, 7)).reshape(3, -1).T, columns=["self_", "clinton", "dole"])
counts = np.zeros((7, 7, 7))
np.add.at(counts, tuple(answers.to_numpy().T), 1)
cells["n"] = counts.ravel()
for a, b in (("self_", "clinton"), ("self_", "dole"), ("clinton", "dole")):
    cells[f"{a}x{b}"] = scores[cells[a]] * scores[cells[b]]
formula = "n ~ C(self_) + C(clinton) + C(dole) + self_xclinton + self_xdole + clintonxdole"
loglinear = smf.glm(formula, cells, family=sm.families.Poisson()).fit()
print(loglinear.params.tail(3).round(4).to_string())

# %%
# The two agree to the digits printed. Voters who call themselves conservative place Clinton
# further left; those who place Clinton further left place Dole further right.
#
# What does the model make of the pair of Clinton and Dole? Observed and fitted tables:
log_p = fit.density(np.indices((7, 7, 7)).reshape(3, -1).T).reshape(7, 7, 7)
fitted = np.exp(np.asarray(log_p, float) - float(fit.log_z))
figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained", sharey=True)
for ax, table, name in zip(axes, (counts / 944, fitted), ("observed", "fitted"), strict=True):
    image = ax.imshow(table.sum(0), cmap="Blues", origin="lower", vmin=0, vmax=0.12)
    ax.set(title=name, xlabel="Dole", xticks=range(7), xticklabels=range(1, 8))
axes[0].set(ylabel="Clinton", yticks=range(7), yticklabels=range(1, 8))
figure.colorbar(image, ax=axes, label="share of voters")
