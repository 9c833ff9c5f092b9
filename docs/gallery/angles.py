"""
Angles
======

Longitudes of fifty palaeomagnetic poles are angles: 359° is next to 1°. The von Mises density by
maximum likelihood and by score matching, beside SciPy.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import i0, i1
from scipy.stats import vonmises

import unnorm as un

longitude = np.angle(np.exp(1j * np.radians(un.models.load("polar")["long"].to_numpy())))


@un.density
def mises(angle: un.Circle, *, eta: un.Real["axis"] = 0.0):
    return eta[0] * jnp.cos(angle) + eta[1] * jnp.sin(angle)


mises = mises.with_dimensions(axis=["cosine", "sine"])
fit = un.fit(mises, longitude, "maximum_likelihood", seed=0)
print(fit)

# %%
# The length of η is the concentration κ, its direction the mean.
eta = fit.density.parameters["eta"]
kappa, mean = np.hypot(*eta), np.arctan2(eta[1], eta[0])
scipy_kappa, scipy_mean, _ = vonmises.fit(longitude, fscale=1)
print(f"un.fit: kappa {kappa:.5f}, mean {np.degrees(mean):.3f} degrees")
print(f"SciPy:  kappa {scipy_kappa:.5f}, mean {np.degrees(scipy_mean):.3f} degrees")
print(f"log Z {float(fit.log_z):.8f}, log 2π I₀(κ) = {np.log(2 * np.pi * i0(kappa)):.8f}")

# %%
# Score matching needs no Bessel function, and on the circle it has a closed form. The two
# estimates differ by about one standard error: they weight the angles differently.
scored = un.fit(mises, longitude, "score_matching", seed=0)
print(scored.summary())
c, s = np.cos(longitude), np.sin(longitude)
A = np.array([[np.mean(s**2), -np.mean(s * c)], [-np.mean(s * c), np.mean(c**2)]])
print("closed form in NumPy:", np.round(np.linalg.solve(A, [c.mean(), s.mean()]), 4))
print(
    f"mean resultant length {np.hypot(c.mean(), s.mean()):.5f}, I₁/I₀ {i1(kappa) / i0(kappa):.5f}"
)

# %%
# The density and the angles, around the circle.
turn = np.linspace(-np.pi, np.pi, 361)
density = np.exp(np.asarray(fit.density(turn), float) - float(fit.log_z))
figure, ax = plt.subplots(figsize=(4.4, 4.4), subplot_kw={"projection": "polar"})
ax.plot(turn, 1 + density, color="#0072B2")
ax.plot(turn, np.ones_like(turn), color="#b0b8bf", linewidth=0.8)
ax.plot(longitude, np.ones(50), "o", color="#222222", markersize=4, alpha=0.6)
ax.set(yticks=[], ylim=(0, 1.6))
