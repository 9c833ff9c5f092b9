"""
Non-negative measurements
=========================

Ozone and wind on 116 days cannot be negative: a Gaussian restricted to the positive quadrant,
whose Z has no closed form. Score matching needs no Z, and here it is one linear solve, done again
in NumPy.
"""

import numpy as np
from scipy.integrate import dblquad

import unnorm as un

days = un.models.load("ozone_wind")
x = days / days.std(ddof=0)
fit = un.fit(un.models.truncated_gaussian, x, "score_matching", seed=0)
print(fit)

# %%
# By hand: with h = min(x, 1) the loss is quadratic in the five parameters (two of ``eta``, three
# of the precision), and its minimum solves a linear system.
X = x.to_numpy()
h, dh = np.minimum(X, 1), (X < 1).astype(float)
A, b = np.zeros((5, 5)), np.zeros(5)
for row, weight, slope in zip(X, h, dh, strict=True):
    # the derivatives of log p̃ in x_1 and x_2 are linear in (eta_1, eta_2, K_11, K_22, K_12)
    d1 = np.array([1, 0, -row[0], 0, -row[1]])
    d2 = np.array([0, 1, 0, -row[1], -row[0]])
    A += weight[0] * np.outer(d1, d1) + weight[1] * np.outer(d2, d2)
    b += slope[0] * d1 + slope[1] * d2
    b += weight[0] * np.array([0, 0, -1, 0, 0]) + weight[1] * np.array([0, 0, 0, -1, 0])
print("NumPy ", np.round(np.linalg.solve(A, -b), 4))
K, eta = fit.density.parameters["precision"], fit.density.parameters["eta"]
print("un.fit", np.round([*eta, K[0, 0], K[1, 1], K[0, 1]], 4))

# %%
# log Z of the fit by quadrature, here and in SciPy:
z = un.log_z(fit.density, progress=False)
integral, _ = dblquad(
    lambda b, a: np.exp(eta @ [a, b] - 0.5 * np.array([a, b]) @ K @ [a, b] - z.value),
    0, 12, 0, 12,
)  # fmt: skip
print(f"un.log_z {z.value:.6f}, SciPy {z.value + np.log(integral):.6f}")

# %%
# The days, and the regions of highest density that hold 50, 80 and 95% of the fitted density.
figure = un.plot_density(fit.density, x)
