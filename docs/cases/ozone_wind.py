"""
Ozone and wind: a Gaussian that must stay positive
==================================================

Ozone and wind speed on 116 days of 1973 in New York cannot be negative, and many days lie near
the axes. The model is a Gaussian restricted to the positive quadrant. Its Z is an integral
without a closed form. Both columns are divided by their standard deviations.
"""

import numpy as np

import unnorm as un


@un.density
def restricted(
    x: un.Positive["d"],
    *,
    eta: un.Real["d"] = 0.0,
    precision: un.Symmetric(diagonal=True)["d"] = 1.0,
):
    return eta @ x - 0.5 * x @ precision @ x


@un.density
def independent(x: un.Positive["d"], *, eta: un.Real["d"] = 0.0, precision: un.Positive["d"] = 1.0):
    return eta @ x - 0.5 * precision @ x**2


raw = un.models.load("ozone_wind")
data = raw / raw.std(ddof=0)
fit = un.fit(restricted, data, "maximum_likelihood", seed=0)
print(fit)

# %%
# The off-diagonal entry answers the question whether windy days have less ozone. Its profile
# likelihood interval, and two estimates that need no Z: score matching with a weight that vanishes
# at the axes, and noise contrastive estimation, which learns log Z with the parameters.
print(fit.profile().round(3).to_string())
scored = un.fit(restricted, data, "score_matching", seed=0)
contrasted = un.fit(restricted, data, un.objectives.NCE(noise_ratio=500), seed=0)
for name, one in (("score matching", scored), ("NCE", contrasted)):
    row = one.summary().loc[("precision", "Ozone", "Wind")]
    print(f"{name:15s} {row['estimate']:.3f} ± {row['standard_error']:.3f}, {one.log_z}")

# %%
# The 116 days, and contours that hold 50, 80 and 95 per cent of the fitted density.
figure = un.plot_density(fit.density, data)

# %%
# Does the dependence improve predictions? Eighty days to fit, thirty-six held out.
order = np.random.default_rng(0).permutation(len(data))
train, held_out = data.iloc[order[:80]], data.iloc[order[80:]]
fits = {
    "likelihood": un.fit(restricted, train, "maximum_likelihood", seed=0),
    "score matching": un.fit(restricted, train, "score_matching", seed=0),
    "independent": un.fit(independent, train, "maximum_likelihood", seed=0),
}
print(un.compare(fits, held_out))

# %%
# Both criteria prefer the dependence, but thirty-six days do not settle it: the log-likelihoods
# differ by little more than one standard error. The interval from all days leaves no doubt. Data:
# Chambers, Cleveland, Kleiner and Tukey (1983), Graphical Methods for Data Analysis. Model:
# Hyvärinen (2007), doi:10.1016/j.csda.2006.09.003.
