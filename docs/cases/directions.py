"""
Poles and longitudes: directions have no beginning
==================================================

Fifty positions of the Earth's magnetic pole, reconstructed from rocks, are points on a sphere.
Averages of their degrees mean nothing. The von Mises-Fisher distribution is the normal
distribution of the sphere: log p̃(x) = η·x, with mean direction η / \|η\| and concentration κ =
\|η\|.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import unnorm as un


@un.density
def fisher(x: un.Sphere["axis"], *, eta: un.Real["axis"] = 0.0):
    return eta @ x


latitude, longitude = np.radians(un.models.load("polar").to_numpy()).T
x = np.stack(
    [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)],
    1,
)
fit = un.fit(fisher.with_dimensions(axis=["x", "y", "z"]), x, "maximum_likelihood", seed=0)
scored = un.fit(fisher, x, "score_matching", seed=0)
print(fit)
for name, one in (("maximum likelihood", fit), ("score matching", scored)):
    eta = one.density.parameters["eta"]
    pole = eta / np.linalg.norm(eta)
    lat, long = np.degrees([np.arcsin(pole[2]), np.arctan2(pole[1], pole[0])])
    kappa = np.linalg.norm(eta)
    place = f"latitude {lat:.1f}, longitude {long % 360:.1f}"
    print(f"{name}: kappa {kappa:.3f}, mean pole at {place}")


# %%
# The longitudes alone are angles on a circle, where the von Mises distribution plays the same
# part. Profile likelihood intervals of the two coordinates of η, and κ:
@un.density
def mises(angle: un.Circle, *, eta: un.Real["axis"] = 0.0):
    return eta[0] * jnp.cos(angle) + eta[1] * jnp.sin(angle)


angles = np.angle(np.exp(1j * longitude))
circular = un.fit(
    mises.with_dimensions(axis=["cosine", "sine"]), angles, "maximum_likelihood", seed=0
)
print(circular.profile().round(3))
cosine, sine = circular.density.parameters["eta"]
mean_longitude = np.degrees(np.arctan2(sine, cosine)) % 360
print(f"kappa {np.hypot(cosine, sine):.3f}, mean longitude {mean_longitude:.1f}")


# %%
# Do one mean and one concentration describe the poles? The angles from the mean direction, for the
# data and for 200 data sets drawn from the fit:
def angles_from_mean(points):
    mean = points.mean(-2, keepdims=True)
    return np.degrees(np.arccos(np.sum(points * mean, -1) / np.linalg.norm(mean, axis=-1)))


simulated = un.simulate(fit, replicates=200, seed=0, progress=False)["posterior_predictive"][
    "x"
].to_numpy()[0]
print("quantile  observed  simulated (90% of data sets)")
for share in (0.1, 0.5, 0.9):
    each = np.quantile(angles_from_mean(simulated), share, axis=1)
    low, high = np.quantile(each, [0.05, 0.95])
    observed = np.quantile(angles_from_mean(x), share)
    print(f"{share:8.0%}  {observed:8.1f}  {low:.1f} to {high:.1f} degrees")

# %%
# They do not. The inner tenth of the poles is closer to the mean, and the outer tenth farther from
# it, than in nine of ten simulated data sets. The poles have a core and a halo, which a single
# concentration averages. The two estimates of κ, which would agree if the model were true, weight
# core and halo differently.
#
# The sphere seen from the south pole in an equal-area projection: regions that hold 50, 80 and 95
# per cent of the fitted distribution, the mean pole, and the fifty poles.
pole = fit.density.parameters["eta"] / np.linalg.norm(fit.density.parameters["eta"])
kappa = np.linalg.norm(fit.density.parameters["eta"])


def on_paper(points):  # Lambert's projection about the south pole
    scale = np.sqrt(2 / (1 - np.clip(points[..., 2], -1, 0.9)))
    return points[..., 0] * scale, points[..., 1] * scale


figure = plt.figure(figsize=(5.4, 5.2), layout="constrained")
ax = figure.add_subplot()
side = np.cross(pole, [1.0, 0.0, 0.0])
side /= np.linalg.norm(side)
turn = np.linspace(0, 2 * np.pi, 400)[:, None]
for mass in (0.5, 0.8, 0.95):  # cos r at which a cap about the mean holds the mass
    cosine = 1 + np.log1p(-mass * (1 - np.exp(-2 * kappa))) / kappa
    ring = cosine * pole + np.sqrt(1 - cosine**2) * (
        np.cos(turn) * side + np.sin(turn) * np.cross(pole, side)
    )
    ax.plot(*on_paper(ring), color="#0072B2", linewidth=1.2)
for lat in (-60, -30, 0):
    radius = np.sqrt(2 * (1 + np.sin(np.radians(lat))))
    ax.plot(radius * np.cos(turn), radius * np.sin(turn), color="#d0d0d0", linewidth=0.7, zorder=0)
    ax.text(
        0,
        radius,
        f"{-lat}° S" if lat else "equator",
        fontsize=8,
        color="#8a8a8a",
        ha="center",
        va="bottom",
    )
ax.plot(*on_paper(x), "o", color="#222222", markersize=4, mec="white", mew=0.5)
ax.plot(*on_paper(pole[None]), "*", color="#D55E00", markersize=13)
ax.set_aspect("equal")
ax.set_axis_off()

# %%
# Data: Fisher, Lewis and Embleton (1987), Statistical Analysis of Spherical Data,
# doi:10.1017/CBO9780511623059.
